"""What lies around a block that is looked at alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.analysis.border import Border
from npu_guard.analysis.ends import border_of, enters, is_shared, leaves, leaves_as_is
from npu_guard.file.load import load
from npu_guard.fixing.blocks import price_key
from npu_guard.rewriting.substitution import Match

GRAPH = """g (float[1,4,6] x) => (y, z)
    { a = Relu(x)  b = Tanh(a)  c = Sigmoid(b)  y = Abs(c)  d = Transpose<perm = [0,2,1]>(b)
      z = Transpose<perm = [0,2,1]>(d) }"""


@pytest.fixture
def analysis(write: Callable[..., Path]) -> Analysis:
    return analyze(load(write(GRAPH)))


@pytest.mark.parametrize(
    ("name", "enter", "leave", "as_is", "shared"),
    [
        ("x", True, False, False, False),
        ("b", False, False, False, True),
        ("c", False, False, True, False),
        ("y", False, True, True, False),
    ],
)
def test_of_a_model(analysis: Analysis, name: str, enter: bool, leave: bool, as_is: bool, shared: bool) -> None:
    value = analysis.model.graph.values[name]
    found = enters(analysis, value), leaves(analysis, value), leaves_as_is(analysis, value), is_shared(analysis, value)
    assert found == (enter, leave, as_is, shared)


def test_of_a_block_of_it(analysis: Analysis) -> None:
    values = analysis.model.graph.values
    sigmoid = values["c"].producer
    assert sigmoid is not None
    border = border_of(analysis, {sigmoid}, [values["b"]], {values["c"]: "new"})
    assert border == Border(frozenset({"b"}), frozenset({"b"}), {"new": True})
    first = values["a"].producer
    assert first is not None
    assert border_of(analysis, {first}, [values["x"]], {values["a"]: "new"}) == Border(read={"new": False})
    last = values["z"].producer
    assert last is not None
    assert border_of(analysis, {last}, [values["d"]], {values["z"]: "new"}) == Border(frozenset({"d"}))


def test_a_block_alone_answers_by_its_border(write: Callable[..., Path]) -> None:
    skeleton = load(write("g (float[1,4] b) => (float[1,4] new) { new = Sigmoid(b) }"))
    for border, expected in (
        (Border(), (True, True, True, False)),
        (Border(frozenset({"b"}), frozenset({"b"}), {"new": True}), (False, False, True, True)),
        (Border(read={"new": False}), (True, False, False, False)),
    ):
        block = analyze(skeleton, border=border)
        b, new = block.model.graph.values["b"], block.model.graph.values["new"]
        assert (enters(block, b), leaves(block, new), leaves_as_is(block, new), is_shared(block, b)) == expected


def test_equal_blocks_have_one_price_where_no_device_asks(write: Callable[..., Path]) -> None:
    analysis = analyze(load(write("g (float[1,4] x) => (float[1,4] y) { a = Tanh(x)  b = Tanh(a)  c = Tanh(b)  y = Tanh(c) }")))
    nodes = [n for n in analysis.model.graph.nodes if n.op_type == "Tanh"]
    form = type("Form", (), {"name": "form"})()
    matches = [Match(form, n, (n,), (n.output,)) for n in nodes]
    assert len({price_key(analysis, m) for m in matches}) == 1
    assert len({price_key(analysis, m, bordered=True) for m in matches}) == 3  # the first, the last, and those between
