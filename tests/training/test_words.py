"""Words of written source: lists of tensors are the tensors that they were made of, in that order; names of classes."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import npu_guard.torch
from npu_guard.training.construct import code_module
from npu_guard.training.words import last_name, tensor_list


def read(source: str) -> list[str]:
    """What the source gives where each tensor is its own name."""
    known = {name: name for name in ("x", "y")} | {name: [f"{name}[{i}]" for i in range(40)] for name in ("parts", "parts2")}
    result: list[str] = eval(source, known)
    return result


def lists() -> list[list[str]]:
    drawn = random.Random(0)
    found = [["x"], ["x", "x"], ["x"] * 9, ["x", "x", "x", "y"], [f"parts[{i}]" for i in range(10)]]
    for _ in range(200):
        start, step, skip = drawn.randrange(4), drawn.randrange(4), drawn.randrange(4)
        rows, row = drawn.randrange(1, 5), drawn.randrange(1, 7)
        at = [start + skip * j + step * i for j in range(rows) for i in range(row)]
        found.append([f"parts[{i}]" for i in at])
        found.append([f"parts[{i}]" for i in at[:-1]])  # the last row is short
        found.append([*(f"parts[{i}]" for i in at[:-1]), f"parts2[{at[-1]}]"])
        found.append([f"parts[{drawn.randrange(40)}]" for _ in at])
    return found


def test_a_list_is_what_it_was_made_of() -> None:
    for names in lists():
        assert read(tensor_list(names)) == names


@pytest.mark.parametrize(
    ("at", "source"),
    [
        (range(10), "[parts[i] for i in range(10)]"),
        ([i + j for j in range(4) for i in range(0, 32, 4)], "[parts[i // 8 + 4 * (i % 8)] for i in range(32)]"),
        (range(9, 3, -1), "[parts[9 + -1 * i] for i in range(6)]"),
        ([5] * 6, "[parts[5] for i in range(6)]"),
    ],
)
def test_many_parts_are_written_by_their_index(at: list[int], source: str) -> None:
    names = [f"parts[{i}]" for i in at]
    assert tensor_list(names) == source
    assert read(source) == names


@pytest.mark.parametrize("at", [[i + j for j in range(2) for i in range(0, 6, 2)], [0, 0, 0, 1, 2, 2, 2, 2], [3] * 4])
def test_lists_are_traced_by_fx_and_compiled_by_jit(at: list[int]) -> None:
    """As the quantization of torch does, which cannot go through a slice of a tuple; jit reads neither stars nor two loops."""
    names = [f"parts[{i}]" for i in at]
    net: nn.Module = code_module(
        "import torch\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        parts = torch.split(x, 1, 1)\n"
        f"        return torch.cat({tensor_list(names)}, 1)\n",
    ).Net()
    x = torch.arange(12.0).reshape(2, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, which users have all the same
        compiled = torch.jit.script(net)
    for made in (net, torch.fx.symbolic_trace(net), compiled):
        assert torch.equal(made(x), x[:, at])


@pytest.mark.parametrize(("path", "name"), [("body.1.v", "v"), ("body.1", None), ("", None), ("a.class", None)])
def test_a_number_or_keyword_is_no_name(path: str, name: str | None) -> None:
    assert last_name(path) == name


def test_classes_with_one_text_have_one_name_and_say_where_they_are(tmp_path: Path) -> None:
    """After what their paths have in common; another kernel is another class."""

    class Wide(nn.Module):
        def __init__(self, kernel: int) -> None:
            super().__init__()
            self.dw = nn.Conv2d(8, 8, (1, kernel), padding=(0, kernel // 2), groups=8)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.dw(x))

    torch.manual_seed(0)
    network = nn.Sequential(Wide(19), Wide(19), Wide(21)).eval()
    done = npu_guard.torch.land(network, torch.randn(1, 8, 5, 24), tmp_path / "npu")
    names = {b.path: b.module for b in done.manifest.blocks}
    assert names["0.dw"] == names["1.dw"] == "DwNpu"
    assert names["2.dw"] not in ("", "DwNpu")
    text = (tmp_path / "npu" / "blocks.py").read_text()
    assert text.count("class ") == 2
    assert "Takes the place of Conv2d at `0.dw`, `1.dw` (in eval mode proved)." in text
    assert text.count("Shapes: (B, 8, 5, 24) to (B, 8, 5, 24) on the example.") == 2
