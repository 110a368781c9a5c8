"""One golden file for each format of the commands besides `check`. Their results are values, made here, so nothing has to run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from markdown_it import MarkdownIt
from msgspec.structs import replace

from npu_guard.analysis.analyze import analyze
from npu_guard.checking import registry
from npu_guard.checking.engine import check
from npu_guard.checking.examples import case_model, profile_for
from npu_guard.checking.rule import Case
from npu_guard.compilers.answers import Answer, NodeAnswer
from npu_guard.compilers.compare import Comparison
from npu_guard.compilers.compare import Row as Operator
from npu_guard.file.document import Document
from npu_guard.file.load import load
from npu_guard.fixing.driver import FixReport
from npu_guard.fixing.report import FixResult
from npu_guard.fleet import matrix as devices
from npu_guard.fleet.report import Change, Fleet, Point
from npu_guard.fleet.scan import Tally
from npu_guard.fleet.store import Run
from npu_guard.fleet.work import Row
from npu_guard.gate.diff import compare_reports
from npu_guard.gate.diff_folders import FolderDiff, compare_folders
from npu_guard.partitioning.partition import partition_model
from npu_guard.partitioning.report import PartitionReport
from npu_guard.pipeline.quantize import Quantization, QuantizeResult, Sensitivity, Shares
from npu_guard.project.config import Config
from npu_guard.results.findings import Applied, RefusedMatch, SourceLine, Work
from npu_guard.results.verification import OutputComparison, Verification, Worst
from npu_guard.verification.bisect import Bisection
from npu_guard.verification.int8 import KEPT, Int8, OutputLoss
from npu_guard.verification.report import VerifyResult
from npu_guard.verification.scheme import Scheme

BAD = "evil|`<b>\x1b[2J @all #1 ![x](http://y)"
"""A name as an adversary would choose it."""
INFINITE = float("inf")
NETWORK = """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] z)
    { a = Relu(x) b = Erf(a) c = Sigmoid(b) y = Tanh(c) z = Neg(a) }"""
Make = Callable[[ModuleType, Path], Any]


WORST = Worst("normal of seed 1", "channel 3", 1.5e-07, 1e-05, 0.25, 0.25000015)


def verification(verdict: str = "equal") -> Verification:
    outputs = (
        OutputComparison("y", 1.5e-07, 2.5e-06, 0.999999, 131.25, 1e-05, 0.0, True, worst=WORST),
        OutputComparison(BAD, INFINITE, INFINITE, 0.0, 0.0, 1e-05, 0.0, False),
    )
    return Verification(verdict, "onnxruntime", (0, 1), "2 random", "", outputs)


def integers() -> Int8:
    return Int8(KEPT, "8 random", "", (OutputLoss(BAD, 31.5, INFINITE, 30.25, 28.0),))


def case(folder: Path) -> tuple[Document, Any, Case]:
    made = Case(NETWORK, operators={"Erf": "refused"})
    path = folder / "net.onnx"
    path.write_bytes(case_model(made).SerializeToString())
    skeleton = load(path)
    return Document.of(skeleton), analyze(skeleton), made


def fix(sample: ModuleType, folder: Path) -> FixResult:
    before, fine, _ = sample.REPORT.models
    applied = Applied(
        "large-kernel-to-phases", "exact", BAD, ("NPU201",), ("stem",), ("stem_a", BAD), verification(), at="s", op_type="Conv",
        source=SourceLine("net.py", 7, "forward", "stem"), before=Work(1, 1000, 4000), after=Work(2, 2000, 8000),
    )  # fmt: skip
    after = replace(fine, crashes=before.crashes)
    refused = RefusedMatch("eca-to-se", BAD, "its kernel is larger than the map")
    report = FixReport(before, after, (applied,), (refused,), verification(), case(folder)[0])
    return FixResult(report, integers(), Path("out.onnx"))


def verify(sample: ModuleType, folder: Path) -> VerifyResult:
    return VerifyResult(verification("differs"), integers(), bisected=True, bisection=Bisection(BAD))


def partition(sample: ModuleType, folder: Path) -> PartitionReport:
    _, analysis, made = case(folder)
    profile = profile_for(made)
    cut = partition_model(analysis, check(analysis, profile, registry.rules(), Config()), profile)
    return PartitionReport(BAD, "0" * 64, cut, verification(), "pieces")


def diff(sample: ModuleType, folder: Path) -> Any:
    base, fine, _ = sample.REPORT.models
    half = len(base.findings) // 2
    return compare_reports(
        replace(base, findings=base.findings[:half]),
        replace(fine, findings=base.findings[1:], asked=base.asked, path=BAD),
        sample.REPORT,
    )


def diff_folders(sample: ModuleType, folder: Path) -> FolderDiff:
    base, fine, unread = sample.REPORT.models
    before = {BAD: replace(base, findings=base.findings[:3]), "gone.onnx": fine, "was broken.onnx": unread, "same.onnx": fine}
    after = {BAD: base, "new.onnx": base, "same.onnx": fine, "was broken.onnx": fine, "is broken.onnx": unread}
    return compare_folders(("main:models/", BAD), (before, after), sample.REPORT)


def two_devices(sample: ModuleType, folder: Path) -> Any:
    base = sample.REPORT.models[0]
    other = replace(base, profile=BAD, findings=base.findings[1:])
    return replace(sample.REPORT, models=(base, other))


def compile_(sample: ModuleType, folder: Path) -> Comparison:
    words = (
        ("refused", "refused", "agreement"), ("fits", "host", "missed"), ("refused", "npu", "false-alarm"),
        ("undecided", "npu", "undecided"), ("fits", "failed", "unknown"), ("fits", "npu", "agreement"),
    )  # fmt: skip
    location = sample.FINDINGS[-1].location
    rows = tuple(Operator(location, rules, ("NPU201",) * (rules == "refused"), word, BAD, told) for rules, word, told in words)
    return Comparison(BAD, "device", Answer("vendor", "refused", BAD), rows, (NodeAnswer(BAD, "Conv", "refused", "no"),))


def matrix(sample: ModuleType, folder: Path) -> devices.Matrix:
    cells = (devices.Cell("one", "fail", 2, 1, 0, 87.5), devices.Cell(BAD, "undecided", 0, 0, 1, 0.0))
    rows = (devices.Row(BAD, cells), devices.Row("gone.onnx", (), f"{BAD}: no such file"))
    return devices.Matrix(("one", BAD), rows, sample.REPORT)


def scan(sample: ModuleType, folder: Path) -> Fleet:
    run = Run(2, "2026-01-02", "2026-01-02", "device", "stamp", ("models",))
    rows = (
        ("a.onnx", 1000, Row("k" * 64, "fail", rules={"NPU201": (2, 1, 0)})),
        (BAD, 10, Row("", "unreadable", error_kind="invalid", error=BAD)),
    )
    counts = {"pass": 0, "fail": 1, "undecided": 0, "unreadable": 1, "internal": 0}
    points = (Point(run, {**counts, "pass": 1}, 3, 0), Point(run, counts, 2, 2))
    changes = (Change("a.onnx", "pass", "fail"), Change(BAD, None, "unreadable"))
    return Fleet(run, rows, points, changes, Tally(2, 1, 1))


def quantize(sample: ModuleType, folder: Path) -> QuantizeResult:
    base, *_ = sample.REPORT.models
    rows = (
        Sensitivity(BAD, "Conv", 12.5, 1000, SourceLine("net.py", 7, "forward", "stem")),
        Sensitivity("plain", "MatMul", 40.0, 10, None),
    )
    done = Quantization(
        BAD, b"", Scheme(activation="uint8", in_wide=(BAD,)), 32, 16, {BAD: 12.25, "y": 38.5}, base,
        Shares(900, 1000, 1, 3), rows, can_be_wide=True,
    )  # fmt: skip
    return QuantizeResult(done, 20.0, Path(BAD))


RESULTS: dict[str, Make] = {
    "fix": fix, "verify": verify, "partition": partition, "diff": diff, "compile": compile_, "matrix": matrix, "scan": scan,
    "quantize": quantize, "diff_folders": diff_folders, "devices": two_devices,
}  # fmt: skip
FORMATS = [(command, form) for command in RESULTS for form in registry.formats(command)]


@pytest.mark.parametrize(("command", "form"), FORMATS, ids=["-".join(f) for f in FORMATS])
def test_format(command: str, form: str, sample: ModuleType, root: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    text = registry.renderer(form, command)(RESULTS[command](sample, tmp_path))
    if (
        form == "html" and "<script" in text
    ):  # style and scripts are files of their own, and what is on the page about one model is tested elsewhere
        text = re.sub(r"(<style[^>]*>|<script(?! type)[^>]*>).*?(</style>|</script>)", r"\1\2", text, flags=re.DOTALL)
        text = re.sub(r"sha256-[^']*", "sha256-", text)
        text = re.sub(r'<section class="models".*</main>|<section class="panel rules".*</main>', "", text, flags=re.DOTALL)
    file = root / "tests" / "reports" / "golden" / command / form
    if request.config.getoption("--update-golden"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), "if that is meant, run `pytest tests/reports --update-golden`"
    assert "\x1b" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize("command", [command for command, form in FORMATS if form == "json"])
def test_json_is_json(command: str, sample: ModuleType, tmp_path: Path) -> None:
    """No Infinity and no NaN, which other parsers refuse."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(registry.renderer("json", command)(RESULTS[command](sample, tmp_path)), parse_constant=refuse)


@pytest.mark.parametrize("command", [command for command, form in FORMATS if form == "markdown"])
def test_nothing_from_the_model_is_markup(command: str, sample: ModuleType, tmp_path: Path) -> None:
    text = registry.renderer("markdown", command)(RESULTS[command](sample, tmp_path))
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert "<b>" not in page
    assert "<img" not in page


def test_each_folder_of_formats_is_a_command(root: Path) -> None:
    assert {file.parent.name for file in (root / "reports").glob("*/*.py")} - {"blocks"} == set(RESULTS)
