"""Groups of operators that a compiler takes as one: what matches, what is nearly the same and does not, and what follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from npu_guard.analysis.analyze import Analysis
from npu_guard.base.errors import UsageError
from npu_guard.checking import registry
from npu_guard.checking.engine import Checked, check
from npu_guard.device import Operator, Profile
from npu_guard.device.pattern import Pattern, PatternEntry, pattern
from npu_guard.pipeline.check import check_model
from npu_guard.project.config import Config
from npu_guard.results.findings import Finding, Severity

GELU = """
d = Div(x, root)
e = Erf(d)
a = Add(e, one)
m = Mul(x, a)
y = Mul(m, half)
"""
NUMBERS = {"root": 1.41421356, "one": 1.0, "half": 0.5}
CONSTANTS = "<float r = {1.4142135}, float o = {1.0}, float h = {0.5}, float[1] r1 = {1.4142135}, float w = {1.5}>"


def gelu(**more: Any) -> Pattern:
    return pattern(PatternEntry("Gelu", GELU, constants=NUMBERS, **more), "test", "test")


def graph(lines: str, outputs: str = "y") -> str:
    return f"g (float[1,4,6] x) => ({outputs}) {CONSTANTS} {{ {lines} }}"


def ask(
    text: str,
    analysis: Callable[..., Analysis],
    found: Pattern,
    refused: tuple[str, ...] = ("Erf",),
    followers: tuple[str, ...] = (),
) -> list[Finding]:
    return list(judge(text, analysis, found, refused, followers).findings)


def judge(
    text: str, analysis: Callable[..., Analysis], found: Pattern, refused: tuple[str, ...], followers: tuple[str, ...]
) -> Checked:
    operators: Mapping[str, Operator] = {
        **{
            op: Operator("supported", "test") for op in ("Erf", "Div", "Add", "Mul", "Relu", "QuantizeLinear", "DequantizeLinear")
        },
        **{op: Operator("refused", "test", "no such unit") for op in refused},
    }
    profile = Profile("t", "t", "t", (), {}, operators, {}, patterns=(found,), followers=frozenset(followers))
    return check(analysis(text), profile, registry.rules(), Config())


STEPS = ["d = Div(x, r)", "e = Erf(d)", "a = Add(e, o)", "m = Mul(x, a)", "y = Mul(m, h)"]


@pytest.mark.parametrize(
    "steps",
    [
        STEPS,
        [*STEPS[:2], "a = Add(o, e)", "m = Mul(a, x)", "y = Mul(h, m)"],  # operands swapped
        ["d = Div(x, r1)", *STEPS[1:]],  # the constant as a vector of one
        ["p = Relu(x)", "d = Div(p, r)", *STEPS[1:3], "m = Mul(p, a)", STEPS[4]],
    ],
)
def test_the_group_is_taken(steps: list[str], analysis: Callable[..., Analysis]) -> None:
    (finding,) = ask(graph(" ".join(steps)), analysis, gelu())
    assert (finding.rule, finding.severity, finding.message) == ("NPU101", Severity.NOTE, "Erf is taken as part of Gelu")


@pytest.mark.parametrize(
    ("lines", "outputs"),
    [
        (" ".join([*STEPS[:2], "y = Mul(e, x)"]), "y"),  # two lines are missing
        (" ".join([STEPS[0].replace("r)", "w)"), *STEPS[1:]]), "y"),  # another constant
        (" ".join([STEPS[0].replace("Div(x, r)", "Div(r, x)"), *STEPS[1:]]), "y"),  # a quotient has an order
        (" ".join([*STEPS, "z = Relu(e)"]), "y, z"),  # somebody else reads what Erf gives
        (" ".join(STEPS), "y, a"),  # or it leaves the model
        (" ".join([*STEPS[:3], "n = Relu(x)", "m = Mul(n, a)", STEPS[4]]), "y"),  # x here and x there are not the same
        (" ".join([*STEPS[:4], "y = Mul(m, x)"]), "y"),  # no constant
    ],
)
def test_what_is_nearly_the_group_is_not_taken(lines: str, outputs: str, analysis: Callable[..., Analysis]) -> None:
    (finding,) = ask(graph(lines, outputs), analysis, gelu())
    assert (finding.rule, finding.severity) == ("NPU101", Severity.ERROR)


def test_what_may_be_shared(analysis: Callable[..., Analysis]) -> None:
    text = graph(" ".join([*STEPS, "z = Relu(d)"]), "y, z")
    assert [f.severity for f in ask(text, analysis, gelu())] == [Severity.ERROR]
    assert [f.severity for f in ask(text, analysis, gelu(shared=("d",)))] == [Severity.NOTE]


def test_order_ranks_and_conditions(analysis: Callable[..., Analysis]) -> None:
    swapped = graph(" ".join([*STEPS[:2], "a = Add(o, e)", *STEPS[3:]]))
    assert [f.severity for f in ask(swapped, analysis, gelu(ordered=("a",)))] == [Severity.ERROR]
    plain = graph(" ".join(STEPS))
    assert [f.severity for f in ask(plain, analysis, gelu(ranks={"x": 2}))] == [Severity.ERROR]
    assert [f.severity for f in ask(plain, analysis, gelu(ranks={"x": 3}))] == [Severity.NOTE]
    assert [f.severity for f in ask(plain, analysis, gelu(where={"e": {"rank": 4}}))] == [Severity.ERROR]
    assert [f.severity for f in ask(plain, analysis, gelu(where={"e": {"rank": 3}}))] == [Severity.NOTE]


ENDING = "e = Erf(x)\ny = Mul(z, e)"
FAULT = pattern(
    PatternEntry("a product", ENDING, where={"y": {"leaves": True}}, consequence="compile-error"), "a compiler", "test"
)


@pytest.mark.parametrize(
    ("lines", "outputs", "found"),
    [
        ("e = Erf(x) y = Mul(x, e)", "y", True),
        ("e = Erf(x) y = Mul(e, x)", "y", True),
        ("e = Erf(x) m = Mul(x, e) y = Relu(m)", "y", False),  # it does not leave the model
        ("e = Erf(x) n = Relu(e) y = Mul(x, n)", "y", False),  # an operator between the lines
        ("e = Erf(x) y = Mul(x, e)", "y, e", False),  # the inner value has another reader
        ("e = Erf(x) y = Add(x, e)", "y", False),
    ],
)
def test_a_group_that_does_not_fit(lines: str, outputs: str, found: bool, analysis: Callable[..., Analysis]) -> None:
    """Each operator fits, and the compiler ends with an error on all of them."""
    operators = {op: Operator("supported", "test") for op in ("Erf", "Mul", "Add", "Relu")}
    profile = Profile("t", "t", "t", (), {}, operators, {}, faults=(FAULT,))
    findings = check(analysis(graph(lines, outputs)), profile, registry.rules(), Config()).findings
    said = [(f.rule, f.severity, f.consequence, f.location.op_type) for f in findings]
    assert said == ([("NPU101", Severity.ERROR, "compile-error", "Mul")] if found else [])


def test_the_larger_group_comes_first(analysis: Callable[..., Analysis]) -> None:
    """A small group that ends earlier takes nothing of a larger one."""
    small = pattern(PatternEntry("Sum", "d = Div(x, r)\ne = Erf(d)", constants={"r": "any"}), "test", "test")
    operators = {op: Operator("refused" if op == "Erf" else "supported", "test") for op in ("Erf", "Div", "Add", "Mul")}
    profile = Profile("t", "t", "t", (), {}, operators, {}, patterns=(small, gelu()))
    (finding,) = check(analysis(graph(" ".join(STEPS))), profile, registry.rules(), Config()).findings
    assert finding.message == "Erf is taken as part of Gelu"


HELD = "q = QuantizeLinear(e, s, z)  d1 = DequantizeLinear(q, s, z)"


@pytest.mark.parametrize(
    ("between", "reads", "outputs", "allowed", "severity"),
    [
        (HELD, "d1", "y", True, Severity.NOTE),
        (HELD, "d1", "y", False, Severity.ERROR),
        ("", "e", "y", True, Severity.NOTE),
        (HELD.replace("s, z", "c, k"), "d1", "y", True, Severity.ERROR),  # a scale for each channel
        (HELD + "  o1 = Relu(d1)", "d1", "y, o1", True, Severity.ERROR),  # somebody else reads what is held
        (HELD + "  n = Relu(d1)", "n", "y", True, Severity.ERROR),  # an operator beside the pair
        ("q = QuantizeLinear(p, s, z)  d1 = DequantizeLinear(q, s, z)", "d1", "y, e", True, Severity.ERROR),  # of another value
    ],
)
def test_a_group_may_be_held_in_integers(
    between: str, reads: str, outputs: str, allowed: bool, severity: Severity, analysis: Callable[..., Analysis]
) -> None:
    """Where the compiler looks through a pair between two lines, the pair is a part of the group."""
    lines = ["p = Relu(x)", *STEPS[:2], between, STEPS[2].replace("e", reads), *STEPS[3:]]
    text = graph(" ".join(lines), outputs).replace(
        "<float r", "<float s = {0.1}, uint8 z = {0}, float[4] c = {1,1,1,2}, uint8[4] k = {0,0,0,0}, float r"
    )
    refused = [f.severity for f in ask(text, analysis, gelu(quantized=allowed)) if f.rule == "NPU101"]
    assert refused == [severity]


def test_windows_of_a_quantized_network(write: Callable[..., Path]) -> None:
    """onnxruntime-qnn takes a rearrangement of rank 6 as one of rank 5 in quantized networks too."""
    pair = "q{n} = QuantizeLinear({x}, s, z)  d{n} = DequantizeLinear(q{n}, s, z)"
    text = f"""g (float[1,2,4,4,8] x) => (y) <float s = {{0.1}}, uint8 z = {{0}}, int64[6] a = {{1,2,4,2,2,8}},
    int64[5] b = {{1,2,8,2,8}}> {{ r = Reshape(x, a)  {pair.format(n=1, x="r")}
    t = Transpose<perm = [0,1,3,2,4,5]>(d1)  {pair.format(n=2, x="t")}  y = Reshape(d2, b) }}"""
    report = check_model(str(write(text)), registry.profile("qualcomm-htp"), Config())
    told = {(f.rule, f.location.node, f.severity) for f in report.findings if f.rule == "NPU402"}
    assert told == {("NPU402", node, Severity.NOTE) for node in ("r", "t", "y")}


def test_nothing_is_said_where_it_makes_no_difference(analysis: Callable[..., Analysis]) -> None:
    assert ask(graph(" ".join(STEPS)), analysis, gelu(), refused=()) == []


QDQ = """g (float[1,8] x) => (y) <float s = {0.1}, int8 z = {0}> {
    q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) e = %s
    p = QuantizeLinear(e, s, z) y = DequantizeLinear(p, s, z) }"""


BOTH = ("QuantizeLinear", "DequantizeLinear")


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        (QDQ % "Erf(d)", ["d", "p", "q", "y"]),
        (QDQ % "Relu(d)", []),
        # q and f lead to the Relu
        (
            (QDQ % "Erf(d)")
            .replace("=> (y)", "=> (y, r)")
            .replace("e = Erf", "f = DequantizeLinear(q, s, z) r = Relu(f) e = Erf"),
            ["d", "p", "y"],
        ),
    ],
)
def test_what_holds_the_tensors_of_an_operator_goes_where_it_goes(
    text: str, gone: list[str], analysis: Callable[..., Analysis]
) -> None:
    found = judge(text, analysis, gelu(), ("Erf",), BOTH)
    assert [f.location.op_type for f in found.findings] == ["Erf"] * bool(gone)  # which alone has a finding
    assert sorted(n.output.name for n in found.followers) == gone
    assert found.followers <= found.blocked


def test_a_follower_that_is_an_operator_has_a_finding(analysis: Callable[..., Analysis]) -> None:
    text = """g (float[1,8] x) => (y) <float s = {0.1}, int8 z = {0}> { e = Erf(x)
        q = QuantizeLinear(e, s, z) n = BitwiseNot(q) y = Relu(e) }"""
    both = judge(text.replace("=> (y)", "=> (y, n)"), analysis, gelu(), ("Erf", "BitwiseNot"), BOTH)
    assert sorted(f.location.output for f in both.findings) == ["e", "n", "q"]
    assert not both.followers


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        ("d = Div(x, r)", {}, "has 2 to 32 lines, and this 1"),
        ("d = Div(x, r)\ne Erf(d)", {}, "'e Erf(d)' is no line of a graph"),
        ("d = Div(x, r)\nd = Erf(d)", {}, "two lines give 'd'"),
        ("d = Div(e, r)\ne = Erf(d)", {}, "'d' reads 'e', which a later line gives"),
        ("d = Div(d, r)\ne = Erf(d)", {}, "'d' reads itself"),
        ("d = Div(x, r)\ne = Erf(x)", {}, "'d' leads to nothing"),
        (
            "d = Div(x, r)\ne = Erf(d)",
            {"constants": {"rr": 1}},
            "constants names 'rr', which stands in no line; did you mean 'r'?",
        ),
        ("d = Div(x, r)\ne = Erf(d)", {"constants": {"r": "all"}}, 'it must be a number or "any"'),
        ("d = Div(x, r)\ne = Erf(d)", {"shared": ("e",)}, "shared names 'e'"),
        ("d = Div(x, r)\ne = Erf(d)", {"where": {"d": {"rnk": 1}}}, "unknown metric 'rnk'; did you mean 'rank'?"),
    ],
)
def test_what_is_no_pattern(text: str, more: Mapping[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        pattern(PatternEntry("P", text, **more), "test", "test")
    assert words in str(refused.value)


def test_a_file_says_the_line(program: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    text = 'name = "mine"\ntitle = "Mine"\nsource = "s"\n[[pattern]]\nname = "P"\ngraph = """\nd = Divv(x, r)\ne = Erf(d)\n"""\n'
    (tmp_path / "mine.toml").write_text(text)
    code, out, _ = program(tmp_path, "profiles", "validate", "mine.toml")
    assert (code, out) == (2, "mine.toml:6: 'Divv' is no ONNX operator; did you mean 'Div'?\n")


QUANTIZED = [
    ("qualcomm-htp", QDQ % "Neg(d)", True),
    ("qualcomm-htp", (QDQ % "Neg(d)").replace("int8 z", "uint8 z"), False),
    ("qualcomm-htp", "g (float[1,8] x) => (y) { y = Neg(x) }", False),
    ("qualcomm-htp", "g (float[1,2,3,4,5] x) => (y) { y = Tanh(x) }", True),
    ("qualcomm-htp", "g (float[1,3,4,5] x) => (y) { y = Tanh(x) }", False),
    ("qualcomm-htp", graph(" ".join(STEPS)), False),
    ("qualcomm-htp", graph(" ".join([*STEPS, "z = Relu(e)"]), "y, z"), True),
]


@pytest.mark.parametrize(("name", "text", "refused"), QUANTIZED)
def test_types_ranks_and_groups_of_a_device(name: str, text: str, refused: bool, analysis: Callable[..., Analysis]) -> None:
    found = check(analysis(text), registry.profile(name), registry.rules(), Config()).findings
    assert any(f.severity is Severity.ERROR for f in found) is refused
