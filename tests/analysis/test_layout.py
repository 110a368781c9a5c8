"""Runs of reshaping operators on tensors that lack the batch in front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.layout import rearrangements
from npu_guard.checking import registry
from npu_guard.pipeline.check import check_model
from npu_guard.project.config import Config
from npu_guard.results.findings import Finding

Analyse = Callable[..., Analysis]
Check = Callable[[str], Sequence[Finding]]


@pytest.fixture
def check(save: Callable[..., Path]) -> Check:
    """Findings of a graph in ONNX text."""
    profile = registry.profile("aimotive-aiware")
    return lambda text: check_model(str(save(text)), profile, Config()).findings


def test_a_transpose_of_flat_tokens(analysis: Analyse) -> None:
    """[N,C] stands for [1,N,C]; its permutation has an axis less."""
    for perm in ("<perm = [1, 0]>", ""):
        found = rearrangements(
            analysis(f"g (float[1,4] x, float[20,4] w) => (float[4,20] y) {{ e = Mul(x, w) y = Transpose{perm}(e) }}")
        )
        assert len(found) == 1


VIEW = """g (float[1,8,4,4] x) => (y) <int64[1] flat = {-1}, int64[EXTENTS] table = {TABLE}> {
    r = Relu(x)  v = Reshape(r, flat)  z = Gather<axis = 0>(v, table)  y = Neg(z) }"""


def test_a_strided_view_is_judged_by_what_it_gives(analysis: Analyse) -> None:
    """A Gather that counts up is the second half of the Reshape before it: of the same extents, nothing is rearranged."""
    text = VIEW.replace("TABLE", ",".join(map(str, range(128))))
    assert rearrangements(analysis(text.replace("EXTENTS", "1,8,4,4"))) == {}
    found = rearrangements(analysis(text.replace("EXTENTS", "1,16,8")))
    assert [node.op_type for node in found] == ["Reshape"]
    assert rearrangements(analysis(text.replace("EXTENTS", "1,4,4,8")))


def test_a_view_that_regroups_by_its_table_alone(analysis: Analyse) -> None:
    """The Reshape drops axes of extent 1 only; both are one step, and the Reshape answers for it."""
    text = """g (float[1,16,1,1] x) => (y) <int64[1] flat = {-1}, int64[1,4,4] table = {0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}> {
        r = Relu(x)  v = Reshape(r, flat)  z = Gather<axis = 0>(v, table)  y = Neg(z) }"""
    ((node, what),) = rearrangements(analysis(text)).items()
    assert (node.op_type, what) == ("Reshape", "splits into 4 x 4 (channels and space)")


def test_a_view_before_a_transpose(analysis: Analyse) -> None:
    """As behind a pool in front of a LayerNormalization: the Transpose is what moves the channels."""
    text = """g (float[1,4,1,1] x) => (y) <int64[1] flat = {-1}, int64[1,4,1,1] table = {0,1,2,3}> {
        r = Relu(x)  v = Reshape(r, flat)  z = Gather<axis = 0>(v, table)  t = Transpose<perm = [0,2,3,1]>(z)  y = Neg(t) }"""
    ((node, what),) = rearrangements(analysis(text)).items()
    assert (node.op_type, what) == ("Transpose", "moves channels (4) to space")


def test_a_view_between_two_reshapes(analysis: Analyse) -> None:
    """As the older exporter spells it: no view at all."""
    text = VIEW.replace("TABLE", ",".join(map(str, range(128)))).replace("EXTENTS", "1,8,4,4")
    back = text.replace("y = Neg(z)", "w = Reshape(z, shape)  y = Neg(w)").replace("> {", ", int64[3] shape = {1, 8, 16}> {")
    plain = back.replace("v = Reshape(r, flat)  z = Gather<axis = 0>(v, table)  w = Reshape(z, shape)", "w = Reshape(r, shape)")
    assert list(rearrangements(analysis(back)).values()) == list(rearrangements(analysis(plain)).values()) != []


@pytest.mark.parametrize("side", [1, 2])
def test_such_a_gather_is_no_operator_that_a_device_has_to_have(check: Check, side: int) -> None:
    text = "g (float[1,8,H,H] x) => (y, w) <int64[1] flat = {-1}, int64[1,8,H,H] table = {TABLE}> { BODY  w = Relu(r) }".replace(
        "H", str(side)
    )
    body = "r = Relu(x)  v = Reshape(r, flat)  z = Gather<axis = 0>(v, table)  y = Relu(z)"
    counting = list(range(8 * side * side))

    def refused(body: str, table: Sequence[int]) -> list[str]:
        graph = text.replace("BODY", body).replace("TABLE", ",".join(map(str, table)))
        return [f.location.op_type for f in check(graph) if f.rule == "NPU101"]

    assert refused(body, counting) == []
    assert refused(body, [1, 0, *counting[2:]]) == ["Gather"]
    assert refused(body, [*counting[:-1], 0]) == ["Gather"]
    # Nothing else would answer for the extents that it gives.
    assert refused(body.replace("y = Relu(z)", "y = Relu(z)  u = Relu(v)"), counting) == ["Gather"]


def test_what_is_undone_counts_where_it_leaves_the_model(analysis: Analyse) -> None:
    """Through an Identity, too: the flat map is an output."""
    text = """g (float[1,8,4,4] x) => (OUT float[1,8,4,4] y) <int64[3] flat = {1,8,16}, int64[4] back = {1,8,4,4}> {
        r = Relu(x)  a = Reshape(r, flat)  i = Identity(a)  y = Reshape(a, back) }"""
    assert rearrangements(analysis(text.replace("OUT", ""))) == {}
    assert len(rearrangements(analysis(text.replace("OUT", "float[1,8,16] i,")))) == 2
