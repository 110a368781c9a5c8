"""Which findings of two models are the same, on made-up findings: one place, one number, one story a test."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from npu_guard.graph.ops import other_family
from npu_guard.results.findings import Evidence, Finding, Location, Outcome, Severity, Tensor
from npu_guard.results.fingerprint import mark, pair, with_fingerprints

Row = tuple[str, object, tuple[int, ...]]
"""Dotted module path, measured value, shape."""


def finding(
    module: str, measured: object = None, shape: tuple[int, ...] = (1, 8, 4, 4), op: str = "Conv", rule: str = "NPU201"
) -> Finding:
    scope = tuple(module.split(".")) if module else ()
    evidence = Evidence("conv.kernel_max", measured, 17) if isinstance(measured, int) else None
    location = Location(f"node_{random.random()}", op, "out", scope, (), other_family(op))
    return Finding(rule, "n", Severity.ERROR, Outcome.FAIL, location, "message", Tensor("t", shape, "float32"), evidence)


def compare(before: list[Finding], after: list[Finding]) -> tuple[list[Finding], list[Finding]]:
    """(new, fixed)."""
    old, new = with_fingerprints(before), with_fingerprints(after)
    pairs = pair([mark(f) for f in old], [mark(f) for f in new])
    left, right = {i for i, _ in pairs}, {j for _, j in pairs}
    assert len(left) == len(right) == len(pairs)
    return [f for j, f in enumerate(new) if j not in right], [f for i, f in enumerate(old) if i not in left]


def where(findings: list[Finding]) -> list[tuple[str, object]]:
    return [(".".join(f.location.scope), f.evidence.measured if f.evidence else None) for f in findings]


BASE = [("stem.conv", 21), ("blocks.0.conv", 19), ("blocks.1.conv", 19), ("head", 31)]


def rows(*entries: tuple[str, int]) -> list[Finding]:
    return [finding(*entry) for entry in entries]


def test_nothing_has_changed() -> None:
    assert compare(rows(*BASE), rows(*BASE)) == ([], [])


@pytest.mark.parametrize(
    ("op", "other"),
    [("Conv", "QLinearConv"), ("Conv", "com.microsoft::FusedConv"), ("Gemm", "com.microsoft::QGemm"), ("MatMul", "QLinearMatMul"),
     ("MatMul", "com.microsoft::QGemm"), ("Conv", "com.ms.internal.nhwc::QLinearConv")],
)  # fmt: skip
def test_an_operator_in_integers_or_fused_is_the_same_operator(op: str, other: str) -> None:
    assert compare([finding("a", 19, op=op)], [finding("a", 19, op=other)]) == ([], [])
    assert len(compare([finding("a", 19, op="Add")], [finding("a", 19, op=other)])[0]) == 1


def test_fingerprints_know_rule_and_place_and_no_message_or_name() -> None:
    first, second = with_fingerprints(rows(BASE[0])), with_fingerprints([replace(rows(BASE[0])[0], message="in other words")])
    assert first[0].fingerprint == second[0].fingerprint
    others = [("stem.conv", 23), ("stem.other", 21)]
    assert len({f.fingerprint for f in with_fingerprints(rows(BASE[0], *others))}) == 3
    twice = with_fingerprints(rows(BASE[0], BASE[0]))
    assert twice[0].fingerprint != twice[1].fingerprint
    assert (
        with_fingerprints([finding("a", 19, (1, 8, 4, 4))])[0].fingerprint
        == with_fingerprints([finding("a", 19, (1, 8, 9, 9))])[0].fingerprint
    )


def test_a_number_that_changes_is_new_and_fixed() -> None:
    new, fixed = compare(rows(("a", 19)), rows(("a", 21)))
    assert (where(new), where(fixed)) == ([("a", 21)], [("a", 19)])


def test_another_module_is_new_and_fixed() -> None:
    new, fixed = compare(rows(("encoder.attention", 19)), rows(("decoder.attention", 19)))
    assert (where(new), where(fixed)) == ([("decoder.attention", 19)], [("encoder.attention", 19)])


def test_a_layer_put_in_early_renumbers_the_rest() -> None:
    after = rows(("stem.conv", 21), ("blocks.1.conv", 19), ("blocks.2.conv", 19), ("head", 31))
    assert compare(rows(*BASE), after) == ([], [])


def test_the_new_one_among_renumbered_ones() -> None:
    before = rows(("0.conv", 21), ("1.conv", 19))
    new, fixed = compare(before, rows(("0.conv", 19), ("1.conv", 21), ("2.conv", 19)))
    assert (where(new), fixed) == ([("0.conv", 19)], []), "what explains most wins: everything has moved by one"


def test_a_wrapper_around_the_model() -> None:
    assert compare(rows(*BASE), rows(*((f"_orig_mod.{module}", n) for module, n in BASE))) == ([], [])
    assert compare(rows(*((f"module.{module}", n) for module, n in BASE)), rows(*BASE)) == ([], [])
    new, _ = compare(rows(("0", 19)), rows(("net.0", 19)))
    assert where(new) == [("net.0", 19)], "a number alone says nothing"


def test_a_second_one_in_the_same_module_is_new_at_its_own_shape() -> None:
    before = [finding("a", None, (1, 64, n), "Reshape") for n in (240, 960)]
    after = [finding("a", None, (1, 32, 60), "Reshape"), *before]
    new, fixed = compare(before, after)
    assert ([f.tensor.shape for f in new if f.tensor], fixed) == ([(1, 32, 60)], [])


def test_equal_ones_are_counted() -> None:
    new, fixed = compare(rows(("a", 19), ("a", 19)), rows(("a", 19), ("a", 19), ("a", 19)))
    assert (len(new), len(fixed)) == (1, 0)


@pytest.mark.parametrize(
    ("one", "other"), [("Reshape", "Flatten"), ("MatMul", "Gemm"), ("GlobalMaxPool", "ReduceMax"), ("Gelu", "Erf")]
)
def test_spellings_of_one_operator(one: str, other: str) -> None:
    assert compare([finding("a", op=one)], [finding("a", op=other)]) == ([], [])


def test_a_side_without_modules() -> None:
    before = [finding("a.attention", None, (1, 64, 240), "Reshape"), finding("b.attention", None, (1, 64, 240), "Reshape")]
    simplified = [finding("", None, (1, 1, 64, 240), "Reshape"), finding("", None, (64, 240), "Reshape")]
    assert compare(before, simplified) == ([], [])
    assert compare(simplified, before) == ([], [])
    new, fixed = compare(before, [*simplified, finding("", None, (1, 64, 240), "Reshape")])
    assert (len(new), len(fixed)) == (1, 0)


def test_without_modules_the_shape_is_the_place() -> None:
    new, fixed = compare([finding("", 19, (1, 8, 4, 4))], [finding("", 19, (1, 8, 8, 8))])
    assert (len(new), len(fixed)) == (1, 1)


def test_undecided_and_failed_are_two_things() -> None:
    undecided = replace(finding("a"), outcome=Outcome.UNDECIDED)
    new, fixed = compare([undecided], [finding("a")])
    assert (len(new), len(fixed)) == (1, 1)


@pytest.mark.parametrize("seed", range(20))
def test_pairs_are_symmetrical_and_order_does_not_count_away(seed: int) -> None:
    draw = random.Random(seed)
    modules = ["", "a", "a.0", "a.1", "b.0.c", "net.a", "net.b.0.c"]
    sides = [
        [finding(draw.choice(modules), draw.choice([None, 19, 21]), (1, draw.choice([8, 16]))) for _ in range(30)] for _ in "xy"
    ]
    one, two = ([mark(f) for f in with_fingerprints(side)] for side in sides)
    assert len(pair(one, two)) == len(pair(two, one))
    assert pair(one, one) == [(i, i) for i in range(30)]


def test_large_models_of_equal_findings_take_no_time() -> None:
    side = [mark(f) for f in with_fingerprints([finding(f"blocks.{i}.conv") for i in range(5000)])]
    moved = [mark(f) for f in with_fingerprints([finding(f"blocks.{i + 3}.conv") for i in range(5000)])]
    assert len(pair(side, moved)) == 5000
