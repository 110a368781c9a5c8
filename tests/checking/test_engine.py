"""Rules meet graphs: findings, fingerprints, suppression, crashes, verdicts and exit codes, with rules made for the purpose."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from npu_guard.analysis.analyze import Analysis
from npu_guard.base.errors import ModelError, Undecidable, UsageError
from npu_guard.base.limits import Limits
from npu_guard.checking.context import Context
from npu_guard.checking.engine import Checked, check, macs_share
from npu_guard.checking.rule import Draft, Rule
from npu_guard.device import Limit, Profile
from npu_guard.device.keys import EVERY
from npu_guard.file.load import load
from npu_guard.graph.graph import Node, Value
from npu_guard.pipeline.check import check_models
from npu_guard.project.config import Config, Suppression
from npu_guard.results import summary
from npu_guard.results.findings import Finding, Location, ModelReport, Outcome, Report, RuleCrash, Severity, Verdict
from npu_guard.results.summary import exit_code

Analyse = Callable[..., Analysis]


class _Test(Rule):
    good = ()
    bad = ()


class Relus(_Test):
    """Reports every Relu."""

    code, name, ops = "NPU901", "relu", ("Relu",)
    message = "a Relu"

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        yield Draft(self.message, measured=3, limit="conv.kernel_max")


class Anything(_Test):
    """A note on every node."""

    code, name, ops, severity = "NPU902", "anything", (EVERY,), Severity.NOTE

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        yield Draft("something")


class Unsure(_Test):
    """Cannot tell."""

    code, name, ops, limits = "NPU903", "unsure", ("Relu",), ("conv.stride_max",)

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        raise Undecidable("the shape is not known")


class Broken(_Test):
    """Crashes, after saying something."""

    code, name, ops = "NPU904", "broken", ("Relu",)

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        yield Draft("before the crash")
        raise ZeroDivisionError("oops\nnew line")


class Inputs(_Test):
    """Looks at inputs."""

    code, name, ops = "NPU905", "inputs", ()

    def check_input(self, value: Value, ctx: Context) -> Iterable[Draft]:
        yield Draft("an input", severity=Severity.WARNING)


class Warned(Relus):
    """A warning."""

    code, name, severity = "NPU906", "warned", Severity.WARNING


CHAIN = "g (float[1,4] x) => (float[1,4] y) { a = Relu(x) b = Neg(a) c = Relu(b) d = Identity(c) y = Relu(d) }"
PROFILE = Profile("p", "P", "s", (), {"conv.kernel_max": Limit("conv.kernel_max", 2, "s")}, {}, {})


def asked(analysis: Analysis, *rules: type[Rule], config: Config | None = None, profile: Profile = PROFILE) -> Checked:
    return check(analysis, profile, [rule() for rule in rules], config or Config())


def test_findings_in_graph_order_and_rules_by_code(analysis: Analyse) -> None:
    found = asked(analysis(CHAIN), Anything, Relus)
    assert [(f.location.output, f.rule) for f in found.findings] == [
        ("a", "NPU901"), ("a", "NPU902"), ("b", "NPU902"), ("c", "NPU901"), ("c", "NPU902"), ("y", "NPU901"), ("y", "NPU902")
    ]  # fmt: skip
    first = found.findings[0]
    assert first.evidence is not None
    assert (first.evidence.limit, first.evidence.measured, first.evidence.allowed) == ("conv.kernel_max", 3, 2)
    assert first.tensor is not None
    assert first.tensor.shape == (1, 4)
    assert first.tensor.dtype == "float32"


def test_inputs_are_asked_about(analysis: Analyse) -> None:
    found = asked(analysis("g (float[1,4] x, float[4] w = {1,2,3,4}) => (float[1,4] y) { y = Add(x, w) }"), Inputs)
    assert [(f.location.node, f.severity) for f in found.findings] == [("x", Severity.WARNING)]


def test_limits_that_the_profile_does_not_set(analysis: Analyse) -> None:
    found = asked(analysis(CHAIN), Unsure, Relus)
    assert found.not_applicable == ("NPU903",)
    assert {f.rule for f in found.findings} == {"NPU901"}


def with_stride() -> Profile:
    return Profile("p", "P", "s", (), {"conv.stride_max": Limit("conv.stride_max", 2, "s")}, {}, {})


def test_undecided(analysis: Analyse) -> None:
    found = asked(analysis(CHAIN), Unsure, profile=with_stride())
    assert len(found.findings) == 3
    for finding in found.findings:
        assert finding.outcome is Outcome.UNDECIDED
        assert finding.severity is Severity.ERROR
        assert "the shape is not known" in finding.message
        assert finding.evidence is None


def test_a_crash_leaves_the_rest(analysis: Analyse) -> None:
    found = asked(analysis(CHAIN), Broken, Relus)
    assert [c.node for c in found.crashes] == ["a", "c", "y"]
    assert {c.error for c in found.crashes} == {"ZeroDivisionError: oops\nnew line"}
    assert [f.rule for f in found.findings].count("NPU901") == 3
    assert [f.rule for f in found.findings].count("NPU904") == 3


def test_selection(analysis: Analyse) -> None:
    model = analysis(CHAIN)
    for config, rules in (
        (Config(select=("NPU901",)), {"NPU901"}),
        (Config(select=("NPU90",), ignore=("relu",)), {"NPU902"}),
        (Config(ignore=("npu9",)), set()),
    ):
        assert {f.rule for f in asked(model, Relus, Anything, config=config).findings} == rules


def test_severities(analysis: Analyse) -> None:
    """Project over profile over the rule's word on the place over the rule."""
    model = analysis(CHAIN)
    by_profile = replace_severity(PROFILE, NPU901=Severity.NOTE, NPU905=Severity.NOTE)

    def severity(rule: type[Rule], profile: Profile = PROFILE, **project: Severity) -> Severity:
        return asked(model, rule, profile=profile, config=Config(severity=project)).findings[0].severity

    assert severity(Relus) is Severity.ERROR
    assert severity(Inputs) is Severity.WARNING
    assert severity(Relus, by_profile) is Severity.NOTE
    assert severity(Inputs, by_profile) is Severity.NOTE
    assert severity(Relus, by_profile, NPU901=Severity.WARNING) is Severity.WARNING


def replace_severity(profile: Profile, **severity: Severity) -> Profile:
    return Profile(profile.name, profile.title, profile.source, (), profile.limits, profile.operators, severity)


def test_suppression_keeps_the_finding(analysis: Analyse) -> None:
    config = Config(suppress=(Suppression("NPU901", "known", "a"),))
    found = asked(analysis(CHAIN), Relus, config=config)
    assert [f.suppressed for f in found.findings] == ["known", None, None]
    assert len(found.blocked) == 2
    everything = Config(suppress=(Suppression("NPU901", "known"),))
    found = asked(analysis(CHAIN), Relus, config=everything)
    assert len(found.findings) == 3
    assert summary.verdict(found.findings, "error") is Verdict.PASS
    assert not found.blocked


# --- fingerprints ----------------------------------------------------------------------------------------------------


def scoped(prefix: str, body: str = "{0}a = Relu(x) {0}c = Relu({0}a) y = Neg({0}c)") -> str:
    return f"g (float[1,4] x) => (float[1,4] y) {{ {body.format(prefix)} }}"


def marks(found: Checked) -> list[str]:
    return [f.fingerprint for f in found.findings]


def named(analysis: Analyse, save: Callable[..., Path], names: list[str], extra: str = "") -> list[str]:
    import onnx.parser

    text = "g (float[1,4] x) => (float[1,4] y) { a = Relu(x) c = Relu(a) y = Neg(c) }"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {text}')
    for node, name in zip(model.graph.node, names, strict=False):
        node.name = name
        for index, output in enumerate(node.output):
            if output != "y":
                node.output[index] = f"{output}{extra}"
        for index, given in enumerate(node.input):
            if given != "x":
                node.input[index] = f"{given}{extra}"
    return marks(asked(analysis(model), Relus))


def test_fingerprints(analysis: Analyse, save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    old = named(analysis, save, ["/enc/l1/Relu", "/enc/l1/Relu_1", "/enc/Neg"])
    assert len(set(old)) == 2, "equal findings of one module are told apart"
    assert named(analysis, save, ["/enc/l1/Relu_7", "/enc/l1/Relu_8", "/enc/Neg_9"], "_renamed") == old
    assert set(named(analysis, save, ["/dec/l1/Relu", "/dec/l1/Relu_1", "/dec/Neg"])).isdisjoint(old)
    one = named(analysis, save, ["/enc/l1/Relu", "/enc/l2/Relu", "/enc/Neg"])
    assert one[0] == old[0], "the first of two is as before"
    assert one[1] not in old
    monkeypatch.setattr(Relus, "message", "other words")
    assert named(analysis, save, ["/enc/l1/Relu", "/enc/l1/Relu_1", "/enc/Neg"]) == old
    assert all(len(mark) == 16 for mark in old)


def test_fingerprints_of_rules_differ(analysis: Analyse) -> None:
    found = asked(analysis(CHAIN), Relus, Warned, Anything)
    assert len(set(marks(found))) == len(found.findings)


# --- verdicts and exit codes -----------------------------------------------------------------------------------------


def finding(severity: str, outcome: str = "fail", suppressed: str | None = None) -> Finding:
    return Finding("NPU901", "relu", Severity(severity), Outcome(outcome), Location("n", "Relu", "n"), "m", suppressed=suppressed)


ERROR, WARNING, NOTE = finding("error"), finding("warning"), finding("note")
OPEN, OPEN_WARNING = finding("error", "undecided"), finding("warning", "undecided")
SUPPRESSED = finding("error", suppressed="known")


@pytest.mark.parametrize(
    ("findings", "fail_on", "verdict", "code", "lenient"),
    [
        ([], "error", "pass", 0, 0),
        ([NOTE, WARNING], "error", "pass", 0, 0),
        ([WARNING], "warning", "fail", 1, 1),
        ([NOTE], "warning", "pass", 0, 0),
        ([ERROR], "error", "fail", 1, 1),
        ([ERROR], "never", "fail", 0, 0),
        ([OPEN], "error", "undecided", 1, 0),
        ([OPEN], "never", "undecided", 0, 0),
        ([OPEN, ERROR], "error", "fail", 1, 1),
        ([OPEN_WARNING], "error", "pass", 0, 0),
        ([OPEN_WARNING], "warning", "undecided", 1, 0),
        ([SUPPRESSED], "error", "pass", 0, 0),
        ([SUPPRESSED, OPEN], "error", "undecided", 1, 0),
    ],
)
def test_verdicts(findings: list[Finding], fail_on: str, verdict: str, code: int, lenient: int) -> None:
    assert summary.verdict(findings, fail_on).value == verdict
    model = ModelReport("m", "p", Verdict(verdict), tuple(findings))
    assert exit_code(Report("1", (model,), fail_on)) == code
    assert exit_code(Report("1", (model,), fail_on, allow_undecided=True)) == lenient


def test_the_highest_code_of_several() -> None:
    crash = (RuleCrash("NPU901", "n", "oops"),)
    models = {
        0: ModelReport("m", "p", Verdict.PASS),
        1: ModelReport("m", "p", Verdict.FAIL, (ERROR,)),
        3: ModelReport("m", "p", Verdict.UNREADABLE, error=("missing", "m: no such file")),
        4: ModelReport("m", "p", Verdict.PASS, crashes=crash),
    }
    for codes in itertools.chain.from_iterable(itertools.permutations(models, n) for n in range(5)):
        assert exit_code(Report("1", tuple(models[c] for c in codes))) == max(codes, default=0)
    never = Report("1", tuple(models.values()), "never", allow_undecided=True)
    assert exit_code(never) == 4, "no setting hides an unreadable model or a crash"
    assert exit_code(replace(never, models=(models[1], models[3]))) == 3


def test_macs_share(analysis: Analyse) -> None:
    model = analysis("g (float[1,4] x, float[4,4] w) => (float[1,4] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }")
    nodes = model.model.graph.nodes
    assert macs_share(model, frozenset()) == 100
    assert macs_share(model, frozenset(nodes[:1])) == 50
    assert macs_share(model, frozenset(nodes)) == 0


# --- the whole flow --------------------------------------------------------------------------------------------------


def test_several_models_with_one_unreadable(save: Callable[..., Path], tmp_path: Path) -> None:
    good, absent = save(CHAIN), tmp_path / "absent.onnx"
    broken = save("g (float[1,4] x) => (float[1,4] y) { y = Relu(nowhere) }")
    report = check_models([str(p) for p in (good, absent, broken)], Config(), hashes=True)
    first, second, third = report.models
    assert first.error is None
    assert len(first.sha256) == 64
    assert first.opset == 20
    assert first.totals.nodes == 4
    assert second.verdict is third.verdict is Verdict.UNREADABLE
    assert second.error is not None
    assert second.error[0] == "missing"
    assert third.error is not None
    assert third.error[0] == "invalid"
    assert exit_code(report) == 3


def test_a_rule_that_crashes_gives_4_and_the_findings_of_the_others(
    save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("npu_guard.pipeline.check.listed_rules", lambda: (Relus(), Broken()))
    report = check_models([str(save(CHAIN))], Config())
    assert exit_code(report) == 4
    assert {f.rule for f in report.models[0].findings} == {"NPU901", "NPU904"}


def test_a_file_that_goes_away_between_reading_and_hashing(save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(CHAIN)

    def load_and_remove(name: str, limits: Limits, **_: bool) -> Any:
        skeleton = load(name, limits)
        path.unlink()
        return skeleton

    monkeypatch.setattr("npu_guard.file.load.load", load_and_remove)
    (model,) = check_models([str(path)], Config(), hashes=True).models
    assert model.verdict is Verdict.UNREADABLE


def test_a_model_in_floating_point_is_told_that_integers_run(save: Callable[..., Path]) -> None:
    text = "g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Relu(x) }"
    (model,) = check_models([str(save(text))], Config(profile="ethos-u55")).models
    assert model.verdict is Verdict.PASS
    assert [note for note in model.notes if "in floating point" in note and "npu-guard quantize" in note]
    text = """g (float[1,8,4,4] x) => (float[1,8,4,4] y) <float s = {0.1}, int8 z = {0}> {
        q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  r = Relu(d)
        p = QuantizeLinear(r, s, z)  y = DequantizeLinear(p, s, z) }"""
    (model,) = check_models([str(save(text))], Config(profile="ethos-u55")).models
    assert not [note for note in model.notes if "in floating point" in note]


def test_notes_and_unknown_values_reach_the_report(save: Callable[..., Path]) -> None:
    text = "g (float[n,4,h] x) => (float[n,4,h] y) { y = Relu(x) }"
    (model,) = check_models([str(save(text))], Config()).models
    assert model.notes == ("dynamic batch 'n' of input 'x' taken as 1",)
    assert model.unknown["y"] == "input 'x' has dynamic dimensions (h)"
    (model,) = check_models([str(save(text))], Config(input_shapes={"x": (1, 4, 7)})).models
    assert model.notes == ()
    assert not model.unknown


def test_an_unknown_profile(save: Callable[..., Path]) -> None:
    with pytest.raises(UsageError):
        check_models([str(save(CHAIN))], Config(profile="nope"))


def test_more_findings_than_allowed_refuse_the_model(analysis: Analyse) -> None:
    rules = [Anything()]
    found = check(analysis(CHAIN), PROFILE, rules, Config()).findings
    assert check(analysis(CHAIN), PROFILE, rules, Config(limits=Limits(findings=len(found)))).findings == found
    with pytest.raises(ModelError, match=f"findings: more than {len(found) - 1}; the limit is"):
        check(analysis(CHAIN), PROFILE, rules, Config(limits=Limits(findings=len(found) - 1)))
