"""Cases at the limits of a profile are made from the profile, so a new limit is swept without more code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from npu_guard.checking import registry
from npu_guard.device import Profile

STUDY = Path(__file__).parents[2] / "bench" / "study"
sys.path.insert(0, str(STUDY))
import boundary  # noqa: E402

sys.path.remove(str(STUDY))
HEAD = 'name = "mine"\ntitle = "Mine"\nsource = "data sheet"\n'


def profile(tmp_path: Path, *limits: str) -> Profile:
    path = tmp_path / "mine.toml"
    path.write_text(HEAD + "".join(f"[[limit]]\n{text}\n" for text in limits))
    return registry.profile(str(path))


@pytest.mark.parametrize(
    ("limit", "keys"),
    [
        ('ops = ["Conv"]\nmetric = "kernel.h"\nmax = 12', ["limit Conv kernel.h 12", "limit Conv kernel.h 13"]),
        ('ops = ["MaxPool"]\nmetric = "stride"\nin = [[1, 2]]', ["limit MaxPool stride 1x2"]),
        (
            'ops = ["ReduceMean"]\nmetric = "reduce_size.product"\nmax = 100',
            ["limit ReduceMean reduce_size.product 100", "limit ReduceMean reduce_size.product 102"],
        ),
        (
            'ops = ["Conv"]\nwhen = { depthwise = true }\nmetric = "dilated_kernel.w"\nmax = 9',
            [
                "limit Conv dilated_kernel.w 9 depthwise",
                "limit Conv dilated_kernel.w 10 depthwise",
                "limit Conv depthwise True",
                "limit Conv depthwise False",
            ],
        ),
        (
            'ops = ["Gather"]\nconstant = ["indices"]',
            ["limit Gather constant.indices True", "limit Gather constant.indices False"],
        ),
    ],
)  # fmt: skip
def test_at_the_limit_and_past_it(tmp_path: Path, limit: str, keys: list[str]) -> None:
    device = profile(tmp_path, limit)
    assert [c.key for c in boundary.cases(device)] == keys
    assert not boundary.unswept(device)


def test_what_cannot_be_swept_is_told(tmp_path: Path) -> None:
    device = profile(tmp_path, 'ops = ["LSTM"]\nmetric = "attr.input_forget"\nis = 0')
    assert not boundary.cases(device)
    assert boundary.unswept(device) == ["LSTM attr.input_forget"]
