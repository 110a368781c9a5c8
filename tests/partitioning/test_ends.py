"""Where nodes that the NPU refuses are: at the ends of a network, or in the middle of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from npu_guard.analysis.analyze import analyze
from npu_guard.file.load import load
from npu_guard.partitioning.ends import refused_ends

if TYPE_CHECKING:
    from conftest import Write

# 64 x 8 x 9 MACs at 8 x 8 each: `a` to `d` in a row, and a branch `e` of one multiplication a channel.
GRAPH = """
g (float[1,8,8,8] x) => (float[1,8,8,8] z, float[1,8,8,8] f) <float[8,8,3,3] w, float[8,1,1,1] v> {
  s = Sigmoid(x) a = Conv<pads = [1,1,1,1]>(s, w) b = Conv<pads = [1,1,1,1]>(a, w) t = Tanh(b) c = Conv<pads = [1,1,1,1]>(t, w)
  d = Conv<pads = [1,1,1,1]>(c, w) z = Erf(d) e = Conv<group = 8>(a, v) f = Elu(e) }
"""


@pytest.mark.parametrize(
    ("refused", "ends"),
    [
        ("", ""), ("s", "head"), ("z", "tail"), ("f", "tail"), ("e", "tail"), ("s z", "head and tail"),
        ("s e z", "head and tail"), ("t", ""), ("a", ""), ("d", ""), ("c", ""), ("s t", ""), ("t z", ""),
    ],
)  # fmt: skip
def test_ends(write: Write, refused: str, ends: str) -> None:
    assert refused_ends(analyze(load(write(GRAPH))), refused.split()) == ends


def test_of_open_sizes_nobody_knows_where_the_work_is(write: Write) -> None:
    assert refused_ends(analyze(load(write(GRAPH.replace("1,8,8,8] x", '1,8,"h",8] x')))), {"z"}) == ""


def test_an_input_that_is_refused_is_refused_where_it_is_read(write: Write) -> None:
    assert refused_ends(analyze(load(write(GRAPH))), {"x"}) == "head"
    two = GRAPH.replace("x)", "x, float[1,8,8,8] q)", 1)
    middle = two.replace("Conv<pads = [1,1,1,1]>(t", "Add(t, q) c0 = Conv<pads = [1,1,1,1]>(t")
    assert refused_ends(analyze(load(write(middle))), {"q"}) == ""


def test_a_body_is_where_its_loop_is(write: Write) -> None:
    graph = """
    g (float[1,8,8,8] x, bool q) => (float[1,8,8,8] y) <float[8,8,3,3] w> {{
      {0}
    }}"""
    then, other = "t () => (float[1,8,8,8] u) { u = Erf(x0) }", "e () => (float[1,8,8,8] v) { v = Neg(x0) }"
    branches = f"If (q) <then_branch = {then}, else_branch = {other}>"
    last = f"x0 = Conv<pads = [1,1,1,1]>(x, w) y = {branches}"
    assert refused_ends(analyze(load(write(graph.format(last)))), {"u"}) == "tail"
    middle = f"x0 = Conv<pads = [1,1,1,1]>(x, w) m = {branches} y = Conv<pads = [1,1,1,1]>(m, w)"
    assert refused_ends(analyze(load(write(graph.format(middle)))), {"u"}) == ""


def test_ways_that_join_again_and_again_take_linear_time(write: Write) -> None:
    """Residual blocks: 2^200 ways lead to the last node."""
    steps = " ".join(f"a{i} = Relu(x{i}) x{i + 1} = Add(a{i}, x{i})" for i in range(200))
    first = "x0 = Conv<pads = [1,1,1,1]>(x, w)"
    path = write(f"g (float[1,8,8,8] x) => (float[1,8,8,8] y) <float[8,8,3,3] w> {{ {first} {steps} y = Erf(x200) }}")
    assert refused_ends(analyze(load(path)), {"y"}) == "tail"
