"""What may differ by rounding: an output of few numbers is judged by its size on the other inputs too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from npu_guard.verification.compare import compare_output

if TYPE_CHECKING:
    from conftest import Cli, Write

ROUNDING = np.float32(2e-6)


def outputs(*values: float, count: int = 1) -> list[np.ndarray]:
    return [np.full((1, count), v, np.float32) for v in values]


def test_a_sum_that_cancels_on_one_input_is_judged_by_the_others() -> None:
    before = outputs(0.5, 0.001, 17.0)
    after = [before[0], before[1] + ROUNDING, before[2]]
    assert compare_output("y", before, after, terms=50).ok
    # Of the very same difference where all inputs give so little, or in a map, of which not all can cancel, it is too much.
    assert not compare_output("y", outputs(0.001, 0.001, 0.001), outputs(0.001, 0.001 + 2e-6, 0.001), terms=50).ok
    wide = outputs(0.5, 0.001, 17.0, count=64)
    assert not compare_output("y", wide, [wide[0], wide[1] + ROUNDING, wide[2]], terms=50).ok


def test_what_is_wrong_stays_wrong() -> None:
    before = outputs(0.5, 0.001, 17.0)
    assert not compare_output("y", before, [before[0], before[1] * 1.5, before[2]], terms=50).ok
    assert not compare_output("y", before, [before[0], before[1], before[2] * np.float32(1.001)], terms=50).ok


def test_few_whole_numbers_have_no_tolerance() -> None:
    before = [np.array([3]), np.array([1000])]
    assert compare_output("n", before, before, terms=50).ok
    assert not compare_output("n", before, [np.array([3]), np.array([1001])], terms=50).ok


def test_an_input_on_which_the_model_is_uncertain_is_left_out_but_not_anything_goes() -> None:
    before = outputs(1.0, 1.0, 1.0, count=64)
    noise = [0.0, 0.01, 0.0]

    def ok(*differences: float) -> bool:
        return compare_output("y", before, [b + np.float32(d) for b, d in zip(before, differences, strict=True)], 50, noise).ok

    assert ok(0.0, 0.02, 0.0)  # beyond a thousandth of the peak, but the model's own doing
    assert not ok(0.0, 0.2, 0.0)  # beyond that by far
    assert not ok(0.01, 0.0, 0.0)
    told = compare_output("y", before, [before[0], before[1] + np.float32(0.02), before[2]], 50, noise)
    assert (told.max_abs, told.snr_db) == (0.0, 300.0)  # the measures are of the others


def test_not_everything_can_be_left_out() -> None:
    before = outputs(1.0, 1.0, 1.0, 1.0, count=64)
    after = [b + np.float32(0.02) for b in before]
    assert not compare_output("y", before, after, 50, [0.02] * 4).ok
    assert not compare_output("y", before, [before[0], *after[1:]], 50, [0.0, *[0.02] * 3]).ok
    assert compare_output("y", before, [*before[:2], *after[2:]], 50, [0.0, 0.0, 0.02, 0.02]).ok


SHAKY = """g (float[1,4,6,6] x, float[1,4,6,6] u, float[1,4,6,6] v) => (float[1,4,6,6] y)
{ k = Constant<value = float {300.0}>()  SUM  m = Mul(s, k)  y = Sin(m) }"""
"""One ulp of a number near 1 moves the output by some 1e-5; one of a number near 100, by nearly a hundredth of its peak."""


def test_a_model_that_hangs_on_last_bits_is_judged_where_it_does_not(cli: Cli, write: Write) -> None:
    write(SHAKY.replace("SUM", "a = Add(x, u)  s = Add(a, v)"))
    right = SHAKY.replace("SUM", "a = Add(u, v)  s = Add(x, a)")
    write(right, "right.onnx")
    done = cli("verify", "net.onnx", "right.onnx")
    assert done.code == 0, done
    (line,) = (line for line in done.out.splitlines() if "left out" in line)
    assert "edge of seed 0 (" in line
    assert "normal of seed" not in line
    wrong = (
        right.replace("300.0", "300.5"), right.replace("Sin", "Cos"), right.replace("Add(u, v)", "Sub(u, v)"),
        right.replace("s = Add(x, a)", "b = Add(x, a)  s = Abs(b)"),
        # Wrong only where the model is uncertain of itself.
        right.replace("s = Add(x, a)", """b = Add(x, a)  low = Constant<value = float {-90.0}>()
            high = Constant<value = float {90.0}>()  s = Clip(b, low, high)"""),
    )  # fmt: skip
    for graph in wrong:
        write(graph, "wrong.onnx")
        assert cli("verify", "net.onnx", "wrong.onnx").code == 5, graph


GATE = """g (float[1,2,6,6] x) => (float[1,2,6,6] y)
<float[2,1,1] b = {SHUT, 0.5}> { t = Tanh(x)  s = Add(t, b)  FORM }"""
OPERATOR, WRITTEN = "y = Sigmoid(s)", "n = Neg(s)  e = Exp(n)  k = Constant<value = float {1.0}>()  d = Add(e, k)  y = Div(k, d)"


def test_a_gate_that_never_opens_may_be_shut_in_another_spelling(cli: Cli, write: Write) -> None:
    """ONNX Runtime's sigmoid of -20 is 0, and an LSTM's gate with it; the formula gives 2e-9."""
    kept = write(GATE.replace("SHUT", "-20").replace("FORM", OPERATOR), "kept.onnx")
    assert cli("verify", kept, write(GATE.replace("SHUT", "-20").replace("FORM", WRITTEN), "written.onnx")).code == 0
    near = write(GATE.replace("SHUT", "-12").replace("FORM", OPERATOR), "near.onnx")
    assert cli("verify", near, write(GATE.replace("SHUT", "-11").replace("FORM", WRITTEN), "wider.onnx")).code == 5
    assert cli("verify", kept, write(GATE.replace("SHUT", "-13").replace("FORM", WRITTEN), "wider.onnx")).code == 5
