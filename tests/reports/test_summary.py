"""Counts, ranking and paths, which all formats share; and several formats from one run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from msgspec.structs import replace

from npu_guard import cli
from npu_guard.checking import registry
from npu_guard.file import load
from npu_guard.file.constant_inputs import Held
from npu_guard.pipeline.check import check_models
from npu_guard.project import paths
from npu_guard.project.config import Config
from npu_guard.project.next_command import command_of, steps_from_root
from npu_guard.results import groups, next_steps, summary
from npu_guard.results.command import Command
from npu_guard.results.findings import Finding, Outcome, Remedy, Severity, SourceLine, Totals
from npu_guard.results.prospect import Prospect


def run(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return ended.value.code


def test_counts(sample: ModuleType) -> None:
    counts = summary.count(sample.FINDINGS)
    assert counts == summary.Counts(error=4, warning=1, note=1, undecided=1, suppressed=1, fixable=3, mended=3)
    assert counts.words() == "4 errors, 1 warning, 1 note, 1 undecided, 1 suppressed"
    assert summary.Counts().words() == "0 errors"


def test_rank_is_severity_then_macs_then_graph_order(sample: ModuleType) -> None:
    base = sample.FINDINGS[1]
    wanted = [
        replace(base, macs=2),
        replace(base, macs=1, fingerprint="first"),
        replace(base, macs=1, fingerprint="second"),
        replace(base, macs=9, outcome=Outcome.UNDECIDED),
        replace(base, macs=9, severity=Severity.WARNING),
        replace(base, macs=99, severity=Severity.NOTE),
        replace(base, macs=99, suppressed="accepted"),
    ]
    shuffled = tuple(wanted[i] for i in (6, 4, 1, 3, 2, 5, 0))
    model = replace(sample.REPORT.models[0], findings=shuffled)
    assert [group.first for group in groups.ranked_findings([model])] == wanted


def test_share_is_of_the_models_own_macs_and_a_node_counts_once(sample: ModuleType) -> None:
    big, small = sample.many(2).models[0], sample.REPORT.models[0]
    first = replace(small.findings[1], macs=10)
    small = replace(small, findings=(first, first), totals=replace(small.totals, macs=20))
    big = replace(big, findings=(replace(first, macs=100),), totals=replace(big.totals, macs=1_000))
    found = groups.ranked_groups([big, small])
    assert [(group.model.path, group.share, len(group.findings)) for group in found] == [
        ("exports/net one.onnx", 0.5, 2),
        ("big.onnx", 0.1, 1),
    ]


def test_rules_are_led_by_their_worst_finding(sample: ModuleType) -> None:
    model = sample.REPORT.models[0]
    shown = [f for f in model.findings if f.suppressed is None]
    assert [group.first.rule for group in groups.by_rule(model, shown)] == ["NPU103", "NPU201", "NPU301", "NPU401", "NPU104"]


def test_message_says_that_nobody_could_tell(sample: ModuleType) -> None:
    undecided = replace(sample.FINDINGS[1], outcome=Outcome.UNDECIDED, message="the kernel is an input")
    assert summary.message(undecided) == "cannot tell: the kernel is an input"
    assert (summary.word(undecided), summary.level(undecided)) == ("undecided", "warning")
    assert summary.level(replace(undecided, severity=Severity.NOTE)) == "note"


def test_what_a_model_claims_of_its_origin_does_not_climb(sample: ModuleType) -> None:
    finding = sample.FINDINGS[1]
    for file, shown in (
        ("a/b.py", "a/b.py"),
        ("./a.py", "a.py"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("//host/share/x.py", "x.py"),
        ("C:/Users/me/x.py", "x.py"),
        ("..", "model"),
        ("", "model"),
    ):
        found = replace(finding, source=replace(finding.source, file=file))
        assert paths.where(sample.REPORT.models[0], found) == (shown, 55), file


def test_macs_of_a_finding_are_its_nodes(root: Path) -> None:
    report = check_models(["samples/sample_net.onnx"], Config())
    (model,) = report.models
    assert "NPU201" in model.asked
    assert not set(model.asked) & set(model.not_applicable)
    held = {f.location.output: f.macs for f in model.findings if f.severity is Severity.ERROR}
    assert sum(held.values()) / model.totals.macs == pytest.approx(1 - model.totals.npu_macs_percent / 100, abs=1e-4)


@pytest.mark.usefixtures("root")
def test_several_outputs_from_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sarif, junit = tmp_path / "out.sarif", tmp_path / "x.xml"
    code = run(
        "check", "samples/sample_net.onnx", "--report", f"sarif:{sarif}", "--report", f"junit:{junit}", "--format", "github"
    )
    assert code == 1
    assert json.loads(sarif.read_text(encoding="utf-8"))["runs"][0]["artifacts"][0]["hashes"]["sha-256"]
    assert ET.fromstring(junit.read_text(encoding="utf-8")).tag == "testsuites"
    assert capsys.readouterr().out.startswith("::error file=samples/sample_net.py,line=")


@pytest.mark.usefixtures("root")
def test_files_are_hashed_only_for_formats_that_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    monkeypatch.setattr(load, "sha256", lambda path: hashed.append(str(path)) or "")
    for form in ("text", "json", "sarif", "github", "gitlab", "junit", "markdown"):
        run("check", "samples/sample_net.onnx", "--output", str(tmp_path / "a"), "--report", f"{form}:{tmp_path / 'b'}")
        assert bool(hashed) == (form in ("json", "sarif")), form
        hashed.clear()


@pytest.mark.parametrize("form", ["sarif", "github", "gitlab", "junit", "markdown"])
@pytest.mark.usefixtures("root")
def test_rendering_is_the_same_each_time(form: str, sample: ModuleType) -> None:
    render: Callable[..., str] = registry.renderer(form)
    assert render(sample.REPORT, color=False) == render(sample.REPORT, color=True)


def test_next_steps_say_what_fix_and_partition_would_do(sample: ModuleType) -> None:
    error = replace(sample.FINDINGS[0], severity=Severity.ERROR, outcome=Outcome.FAIL, suppressed=None, remedy=None)
    exact = replace(error, remedy=Remedy("one", "exact", ""))
    close = replace(error, remedy=Remedy("two", "approximate", ""))
    accepted, warning = replace(exact, suppressed="accepted"), replace(exact, severity=Severity.WARNING)

    def steps(*findings: Finding, ends: str = "", path: str = "a b/net.onnx", **foreseen: int) -> list[str]:
        prospect = Prospect(ends=ends, **foreseen)
        totals = Totals(macs=1000, activation_bytes=4000)
        model = replace(sample.REPORT.models[0], path=path, profile="p", findings=findings, prospect=prospect, totals=totals)
        return [": ".join(step) for step in next_steps.next_steps(model, path)]

    fix = "npu-guard fix 'a b/net.onnx' -o 'a b/net.fixed.onnx' --profile p"
    assert steps(exact, exact, accepted, warning) == [f"2 errors, all fixed exactly by: {fix}"]
    assert steps(exact, close, error) == [f"3 errors, at least 1 fixed exactly by: {fix}"]
    assert steps(exact, error, ends="tail") == [
        f"2 errors, at least 1 fixed exactly by: {fix}",
        "the other one at the end of the network, which the host can run: npu-guard partition 'a b/net.fixed.onnx' --profile p",
    ]
    assert steps(error, error, ends="head and tail", path="n.onnx") == [
        "2 errors at the start and the end of the network, which the host can run: npu-guard partition n.onnx --profile p"
    ]
    assert steps(accepted, warning, ends="tail") == steps(close) == steps(error) == []
    assert steps(exact, macs=500, bytes=-30) == [f"1 error, fixed exactly (+50 % MACs) by: {fix}"]
    assert steps(exact, macs=500) == [f"1 error, fixed exactly by: {fix}"], "of what is half known nothing is told"
    assert steps(exact, macs=500, bytes=-1000) == [f"1 error, fixed exactly (+50 % MACs, -25 % activation bytes) by: {fix}"]
    some = "fixed exactly (check tried some of the forms) by"
    assert steps(exact, error, error, untried=1, ends="tail") == [f"3 errors, at least 1 and perhaps 2 {some}: {fix}"]
    assert steps(error, untried=1) == [f"1 error, perhaps {some}: {fix}"]
    assert steps(error, error, error, untried=2) == [f"3 errors, perhaps 2 {some}: {fix}"]
    (remote,) = steps(exact, path="https://host/n.onnx")
    assert remote == "1 error, fixed exactly, once it is downloaded, by: npu-guard fix n.onnx -o n.fixed.onnx --profile p"
    for named, fixed in (
        ("main:m/net.onnx", "net"),
        ("pkg.mod:Net", "Net"),
        ("m/net.py:A.Net", "Net"),
        ("C:/m/net.onnx", "C:/m/net"),
    ):
        assert f" -o {fixed}.fixed.onnx " in steps(exact, path=named)[0]


def test_open_sizes_of_inputs_are_asked_for_by_the_command_that_gives_them(sample: ModuleType) -> None:
    error = replace(sample.FINDINGS[0], severity=Severity.ERROR, outcome=Outcome.FAIL, suppressed=None, remedy=None)
    mended = replace(error, remedy=Remedy("one", "exact", ""))
    opened = ("x", (1, 3, "h", None)), ("state", (2, None, 128))
    model = replace(
        sample.REPORT.models[0],
        path="n.onnx",
        profile="p",
        findings=(error, mended),
        prospect=Prospect(ends="tail"),
        open_inputs=opened,
    )
    told = ("sizes of inputs are open; fill in those that it runs at",)
    assert next_steps.next_steps(model, "n.onnx") == [
        (*told, "npu-guard check n.onnx --profile p --input-shape x:1,3,H,W --input-shape state:2,D1,128")
    ]
    given = replace(model, command=Command("p", inputs=("--input-shape", "x:1,3,8,8")), open_inputs=opened[1:])
    assert next_steps.next_steps(given, "n.onnx")[0][1].endswith("--input-shape x:1,3,8,8 --input-shape state:2,D1,128")
    inside = replace(model, command=Command("p", in_program=True))
    call = "npu_guard.check(model, profile='p', input_shapes={'x': [1,3,H,W], 'state': [2,D1,128]})"
    assert next_steps.next_steps(inside, "Net") == [(*told, call)]
    unranked = replace(model, open_inputs=(("x", None),))
    assert next_steps.next_steps(unranked, "n.onnx")[0][1].endswith("--input-shape x:N,C,H,W")
    assert next_steps.next_steps(replace(model, findings=()), "n.onnx") == [], "where the device takes any size, nothing is to do"


def test_no_step_is_named_that_open_sizes_make_fail(cli: Any, write: Any) -> None:
    """Without sizes `fix` has nothing to verify with, and what the most work is at is not known."""
    write(
        """g (float[1,8,"h","w"] x) => (float[1,8,"h","w"] y) <float[8,8,33,1] v, float[8,8,3,3] w>
        { a = Conv<pads = [16,0,16,0]>(x, v) b = Conv<pads = [1,1,1,1]>(a, w) y = Erf(b) }"""
    )
    for device in ("aimotive-aiware", "ort-nnapi"):  # the second one has no rule about open sizes
        told = cli("check", "net.onnx", "--profile", device).out
        assert f"npu-guard check net.onnx --profile {device} --input-shape x:1,8,H,W" in told
        assert "npu-guard fix" not in told
        assert "npu-guard partition" not in told
    assert "npu-guard fix" in cli("check", "net.onnx", "--input-shape", "x:1,8,32,32").out


def test_next_steps_take_over_how_the_model_was_named(sample: ModuleType) -> None:
    error = replace(sample.FINDINGS[0], severity=Severity.ERROR, outcome=Outcome.FAIL, suppressed=None, remedy=None)
    exact = replace(error, remedy=Remedy("one", "exact", ""))
    config = Config(
        "hw/mine.toml@tool==1.2", input_shapes={"x": (1, 3, 8, 8)}, held=Held(True, {"mode": (16000.0, 0.1)}), file="ci/own.toml"
    )
    model = replace(
        sample.REPORT.models[0],
        path="n.onnx",
        findings=(exact, error),
        prospect=Prospect(ends="tail"),
        command=command_of(config),
    )
    shapes = "--input-shape x:1,3,8,8 --input-value mode=16000,0.1 --freeze-weights"
    options = f"--profile hw/mine.toml@tool==1.2 {shapes} --config ci/own.toml"
    assert [command for _, command in next_steps.next_steps(model, "n.onnx")] == [
        f"npu-guard fix n.onnx -o n.fixed.onnx {options}",
        f"npu-guard partition n.fixed.onnx {options}",
    ]
    assert next_steps.verify_command(model, "n.fixed.onnx") == f"npu-guard verify n.onnx n.fixed.onnx {shapes}"
    inside = replace(model, path="Net", command=Command("p", python="inputs=inputs", in_program=True))
    assert [call for _, call in next_steps.next_steps(inside, "Net")] == [
        "npu_guard.fix(model, 'Net.fixed.onnx', profile='p', inputs=inputs)",
        "npu_guard.partition('Net.fixed.onnx', profile='p')",
    ]


@pytest.mark.parametrize("name", ["mine.toml", "../hw/mine.toml", "{here}/mine.toml"])
def test_files_in_commands_are_those_that_were_named(
    sample: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As they were named for who reads them in the same folder; from the project's root for who has a report of the project."""
    here = tmp_path / "root" / "hw"
    here.mkdir(parents=True)
    (tmp_path / "root" / ".git").touch()
    name = name.format(here=here)
    monkeypatch.chdir(here)
    error = replace(sample.FINDINGS[0], severity=Severity.ERROR, outcome=Outcome.FAIL, suppressed=None, remedy=None)
    command = command_of(Config(f"{name}@tool==1.2", file=name))
    model = replace(sample.REPORT.models[0], path="n.onnx", findings=(error,), prospect=Prospect(ends="tail"), command=command)
    ((_, shown),) = next_steps.next_steps(model, "n.onnx")
    assert shown == f"npu-guard partition n.onnx --profile {name}@tool==1.2 --config {name}"
    ((_, elsewhere),) = steps_from_root(model)
    assert elsewhere == "npu-guard partition hw/n.onnx --profile hw/mine.toml@tool==1.2 --config hw/mine.toml"


def test_advice_names_the_device_in_use(cli: Any, write: Any) -> None:
    write("g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Erf(x) }")
    assert "`npu-guard profiles ethos-u55` prints" in " ".join(cli("check", "net.onnx", "--profile", "ethos-u55").out.split())
    page = cli("check", "net.onnx", "--profile", "ethos-u55", "--format", "html").out
    assert "<code>npu-guard profiles ethos-u55</code> prints" in page


def test_all_macs_beside_errors_are_not_all_operators(sample: ModuleType) -> None:
    model = sample.REPORT.models[0]
    error = replace(sample.FINDINGS[0], severity=Severity.ERROR, outcome=Outcome.FAIL, suppressed=None, macs=0)
    some = replace(model, findings=(error,), totals=replace(model.totals, macs=100, npu_macs_percent=100.0))
    assert summary.outcome(some) == "1 error; all MACs, but not all operators, run as they are"
    assert summary.outcome(replace(some, findings=())) == "0 errors; 100.0 % of the MACs run as they are"


def test_of_several_findings_as_many_are_marked_as_a_form_removes(sample: ModuleType) -> None:
    bare = replace(sample.FINDINGS[0], remedy=None)
    mended = replace(bare, remedy=Remedy("one", "exact", ""))
    assert summary.mending([bare]) == summary.mending([replace(bare, remedy=Remedy("one", "approximate", ""))]) == ""
    assert summary.mending([mended]) == "fixable"
    assert summary.mending([mended, mended]) == "all fixable"
    assert summary.mending([mended, bare, mended]) == "at least 2 fixable"


@pytest.mark.parametrize(
    ("runs", "suppressed", "said"),
    [
        (100.0, ("accepted", "accepted"), "100.0 % of the MACs run as they are, 40.0 % where a suppression accepts an error"),
        (70.0, ("accepted", None), "70.0 % of the MACs run as they are, 10.0 % where a suppression accepts an error"),
        (60.0, ("in the baseline", "in the baseline"), "60.0 % of the MACs run as they are"),
        (60.0, (None, None), "60.0 % of the MACs run as they are"),
    ],
)
def test_what_only_a_suppression_lets_run_is_said(
    sample: ModuleType, runs: float, suppressed: tuple[str | None, str | None], said: str
) -> None:
    """The settings' suppressions say that the device runs it; a baseline says that it is known not to."""
    base, model = sample.FINDINGS[1], sample.REPORT.models[0]
    places = [replace(base, macs=m, location=replace(base.location, output=f"o{m}"), suppressed=s)
              for m, s in zip((10, 30), suppressed, strict=True)]  # fmt: skip
    model = replace(model, findings=tuple(places), totals=replace(model.totals, macs=100, npu_macs_percent=runs))
    assert summary.outcome(model).partition("; ")[2] == said


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (2.25, "2.3 %"), (2.2501, "2.3 %"), (2.246, "2.3 %"), (2.244, "2.2 %"), (99.94, "99.9 %"), (99.96, ">99.9 %"),
        (100.0, "100.0 %"), (0.04, "<0.1 %"), (0.0, "0.0 %"),
    ],
)  # fmt: skip
def test_a_share_reads_alike_from_the_rounded_and_the_exact_number(share: float, said: str) -> None:
    assert summary.percent(share) == said
    assert 0 < share < 0.05 or share > 99.9 or summary.percent(round(share, 2)) == said


def test_advice_is_of_the_operators_at_hand(cli: Any, write: Any) -> None:
    write("""g (float[1,8,4,4] x, float[1,4,4,2] at, int64[1,8,4,4] index) => (float[1,8,4,4] y) {
        a = GridSample(x, at)  b = GatherElements<axis = 1>(a, index)  c = Erf(b)  y = Relu(c) }""")
    for verbose in ((), ("--verbose",)):
        told = " ".join(cli("check", "net.onnx", *verbose).out.split())
        assert "GridSample: on a grid that is known beforehand" in told
        assert "GatherElements: at indices that are known it is Slice and Concat" in told
        assert ("Write the function with operators of the profile's table" in told) is bool(verbose), "which is for Erf"
    write("g (float[1,8,4,4] x, float[1,4,4,2] at) => (float[1,8,4,4] y) { y = GridSample(x, at) }")
    told = cli("check", "net.onnx").out
    assert "GridSample: on a grid" in " ".join(told.split())
    assert "Write the function with" not in told


def test_operators_of_one_line_are_told_once(sample: ModuleType) -> None:
    model, line = sample.REPORT.models[0], SourceLine("net.py", 7, "forward", "net")

    def at(op: str, source: SourceLine | None = line) -> Finding:
        place = replace(sample.FINDINGS[0].location, op_type=op, node=op, scope=())
        text = f"{op} is not documented for this device"
        return replace(sample.FINDINGS[0], location=place, message=text, source=source, suppressed=None)

    (group,) = groups.alike(model, [at("Exp"), at("Log"), at("Where"), at("Log")])
    assert group.message == "Exp is not documented for this device, and so for Log, Where"
    assert [g.message for g in groups.alike(model, [at("Exp", None), at("Log", None)])] == [at("Exp").message, at("Log").message]
    other = replace(at("Log"), source=replace(line, line=8))
    assert len(groups.alike(model, [at("Exp"), other])) == 2


@pytest.mark.parametrize(
    ("named", "shown"),
    [("../other/n.onnx", "../other/n.onnx"), ("/elsewhere/n.onnx", "n.onnx"), ("n.onnx", "n.onnx")],
)
def test_commands_for_others_lead_to_the_model_and_tell_no_folder(
    sample: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, shown: str
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / ".git").touch()
    monkeypatch.chdir(root)
    error = replace(sample.FINDINGS[0], severity=Severity.ERROR, outcome=Outcome.FAIL, suppressed=None, remedy=None)
    model = replace(sample.REPORT.models[0], path=named, findings=(error,), prospect=Prospect(ends="tail"))
    ((_, command),) = steps_from_root(model)
    assert command.split()[2] == shown
