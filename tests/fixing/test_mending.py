"""`make mending`: what counts as wrong, worse and deployable, and cells that are taken up again."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Write

SCRIPT = Path(__file__).parents[2] / "bench" / "mending.py"


@pytest.fixture(scope="module")
def mending() -> Any:
    spec = importlib.util.spec_from_file_location("mending", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_results_are_compared_without_the_verifier(write: Write, tmp_path: Path, mending: Any) -> None:
    graph = "g (float[1,8,4,4] x) => (float[1,8,4,4] y) {{ y = {0}(x) }}"
    before = write(graph.format("Relu")).rename(tmp_path / "before.onnx")
    assert mending.compared(before, before) == ""
    assert mending.compared(before, write(graph.format("Identity"))) == "y on normal inputs"
    assert mending.compared(before, write(graph.format("Softplus"))) == "y on normal inputs"


def test_what_one_bit_of_the_input_moves_as_far_is_not_wrong(write: Write, tmp_path: Path, mending: Any) -> None:
    """A sine of large numbers depends on the last bit of its input; a cosine is another function all the same."""
    graph = "g (float[1,8,4,4] x) => (float[1,8,4,4] y) <float a = {{1e6}}, float b = {{1e3}}> {{ {0} }}"
    before = write(graph.format("s = Mul(x, a) y = Sin(s)")).rename(tmp_path / "before.onnx")
    assert mending.compared(before, write(graph.format("t = Mul(x, b) s = Mul(t, b) y = Sin(s)"))) == ""
    assert mending.compared(before, write(graph.format("t = Mul(x, b) s = Mul(t, b) y = Cos(s)"))) == "y on normal inputs"
    kept = write("g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Sin(x) }").rename(tmp_path / "kept.onnx")
    close = "g (float[1,8,4,4] x) => (float[1,8,4,4] y) <float a = {1.0002}> { s = Mul(x, a) y = Sin(s) }"
    assert mending.compared(kept, write(close)) == "y on normal inputs"


def test_what_divides_by_zero_does_so_in_both(write: Write, tmp_path: Path, mending: Any) -> None:
    """A map less its minimum over its range is nothing at all for a constant map; a twin that gives a number there differs."""
    graph = "g (float[1,8,4,4] x) => (float[1,8,4,4] y) {{ r = ReduceMax<keepdims=1>(x) z = Sub(x, r) {0} }}"
    before = write(graph.format("s = ReduceMin(z) y = Div(z, s)")).rename(tmp_path / "before.onnx")
    assert mending.compared(before, write(graph.format("s = ReduceMin(z) n = Neg(s) m = Neg(z) y = Div(m, n)"))) == ""
    other = "s = ReduceMin(z) q = Div(z, s) n = IsNaN(q) y = Where(n, x, q)"
    assert mending.compared(before, write(graph.format(other))) == "y on zero inputs"


def test_what_is_left_of_numbers_that_cancel_is_rounding(write: Write, tmp_path: Path, mending: Any) -> None:
    """Of zero, three constants leave 1.5e-8 in one order and 0 in another; a constant that is 3e-6 off is another function."""
    graph = """g (float[1,8,4,4] x) => (float[1,8,4,4] y) <float a = {{0.1}}, float b = {{0.2}}, float c = {{{1}}}> {{ {0} }}"""
    before = write(graph.format("s = Add(x, a) t = Add(s, b) y = Sub(t, c)", "0.3")).rename(tmp_path / "before.onnx")
    other = "s = Sub(x, c) t = Add(s, a) y = Add(t, b)"
    assert mending.compared(before, write(graph.format(other, "0.3"))) == ""
    assert mending.compared(before, write(graph.format(other, "0.300003"))) == "y on zero inputs"


def test_cells_are_kept_and_counted(write: Write, tmp_path: Path, mending: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("g (float[1,8,24,24] x) => (float[1,8,24,24] y) <float[8,8,19,3] w> { y = Conv<pads = [9,1,9,1]>(x, w) }")
    monkeypatch.chdir(tmp_path)
    made = []
    real = mending.measured
    monkeypatch.setattr(mending, "measured", lambda *given: made.append(given) or real(*given))
    monkeypatch.setattr(mending.subprocess, "run", _clean(mending.subprocess.run))
    options = ["--no-samples", "--devices", "aimotive-aiware", "--output", "mending.md", str(path)]
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["mending.py", *options])
        assert mending.main() == 0
    assert len(made) == 1, "the second run takes the cell up"
    text = (tmp_path / "mending.md").read_text(encoding="utf-8")
    assert "| net | 1 -> 0 |" in text
    assert "| aimotive-aiware | 1 | 1 | 1 | 1 | 0 | 0 | 0 | 1 | 0 | 0 |" in text, "one site, which is proved"
    monkeypatch.setattr(sys, "argv", ["mending.py", "--kept", "--output", "kept.md"])
    assert mending.main() == 0
    assert len(made) == 1, "nothing is measured for a page of what is kept"
    assert (tmp_path / "kept.md").read_text(encoding="utf-8").count("| net | 1 -> 0 |") == 1
    (kept,) = (tmp_path / ".bench" / "mending.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(kept)["wrong"] == ""


def test_sites_are_counted_by_what_is_known_of_them(mending: Any) -> None:
    def site(name: str, label: str, reason: str = "") -> Any:
        return {"substitution": name, "verification": {"proof": {"label": label, "reason": reason} if label else None}}

    applied = [
        site("elu-to-tanh", "proved"), site("elu-to-tanh", "proved up to rounding"), site("elu-to-tanh", "proved"),
        site("tokens-to-maps", "sampled", "it reads 'a b' 17 times"), site("tokens-to-maps", "sampled", "it reads 'c' 3 times"),
        site("eca-to-se", ""),
    ]  # fmt: skip
    cell = {
        "name": "net", "device": "chip", "commit": "abc", "before": 2, "after": 0, "wrong": "", "seconds": 1.0, "macs": [1, 1],
        "sites": dict(mending.sites(applied)), "sampled": dict(mending.unproved(applied)),
    }  # fmt: skip
    older = {
        "name": "old",
        "device": "chip",
        "commit": "abc",
        "before": 1,
        "after": 0,
        "wrong": "",
        "seconds": 1.0,
        "macs": [1, 1],
    }
    text = mending.page("Title.", [cell, older], ["chip"], "abc")
    assert "Of 6 sites 3 are proved or proved up to rounding: 50.0 %." in text
    assert "| elu-to-tanh | 2 | 1 | 0 |\n| tokens-to-maps | 0 | 0 | 2 |" in text
    assert "| 2 | tokens-to-maps: it reads '...' N times |" in text
    assert "| chip | 2 | 2 | 2 | 3 | 0 | 0 | 0 | 2 | 1 | 3 | 1.00x | 2 |" in text


def _clean(run: Any) -> Any:
    """As `run`, in a checkout where all is committed."""

    def told(command: list[str], **options: Any) -> Any:
        if command[:2] == ["git", "describe"]:
            return type("Done", (), {"stdout": "abc\n"})
        return run(command, **options)

    return told
