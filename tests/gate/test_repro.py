"""Each finding as a model of its own: whole, runnable, and found again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from npu_guard.analysis.analyze import analyze
from npu_guard.base import sandbox
from npu_guard.base.limits import Limits
from npu_guard.checking import registry
from npu_guard.checking.engine import check
from npu_guard.checking.examples import analyze_case, case_model, profile_for
from npu_guard.checking.rule import Case, Rule
from npu_guard.file.load import load
from npu_guard.gate import repro
from npu_guard.pipeline.check import analysis_of, check_models
from npu_guard.project.config import Config
from npu_guard.results.findings import Finding, Outcome

BAD = [(rule, case) for rule in registry.rules() for case in rule.bad]
SIX = "samples/six_problems.onnxtxt"
SAMPLE = "samples/sample_net.onnx"
Cli = Callable[..., Any]


def what(finding: Finding) -> object:
    return finding.rule, finding.outcome, finding.severity, finding.location.op_type, finding.evidence


@pytest.mark.parametrize(("rule", "case"), BAD, ids=[f"{r.code}-{i}" for i, (r, _) in enumerate(BAD)])
def test_every_bad_case_is_found_again(rule: Rule, case: Case, tmp_path: Path) -> None:
    analysis, profile = analyze_case(case, tmp_path), profile_for(case)
    untyped = []
    for finding in check(analysis, profile, [rule], Config()).findings:
        again: list[object] = []
        try:
            for model in repro.extract(analysis, finding):
                (tmp_path / "repro.onnx").write_bytes(model.SerializeToString())
                again = [what(f) for f in check(analyze(load(tmp_path / "repro.onnx")), profile, [rule], Config()).findings]
                if what(finding) in again:
                    break
        except repro.ExtractError:
            untyped.append(finding)
            continue
        assert what(finding) in again
        typed = all(o.type.tensor_type.HasField("shape") for o in model.graph.output)
        if finding.outcome is Outcome.FAIL and typed and "no operator of ONNX" not in finding.message:
            onnx.checker.check_model(model, full_check=True)
    assert {f.outcome for f in untyped} <= {Outcome.UNDECIDED}


@pytest.mark.parametrize("path", [SIX, SAMPLE])
def test_findings_of_a_model_run_alone(path: str, root: Path) -> None:
    analysis = analysis_of(str(root / path), Config())
    for finding in check_models([path], Config()).models[0].findings:
        model = next(repro.extract(analysis, finding))
        onnx.checker.check_model(model, full_check=True)
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
        outcome = sandbox.run(lambda model=model: run(model), memory=8 << 30)  # type: ignore[misc]
        assert outcome.status == "ok", outcome.text
        assert outcome.data == b"1" or finding.location.op_type == "NonZero"


def run(model: onnx.ModelProto) -> bytes:
    """Whether ONNX Runtime's results are finite."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(0)
    feeds = {i.name: draw.standard_normal(i.shape).astype(np.float32) for i in session.get_inputs()}
    return b"%d" % all(np.isfinite(result).all() for result in session.run(None, feeds))


CASE = """g (float[1,8,6,6] x, bool c) => (y) <float[8,8,19,19] w, float[1] one = {1.0}> {
    s = Add(x, one)
    y = If(c) <then_branch = a () => (float[1,8,6,6] p) { p = Conv<pads = [9,9,9,9]>(s, w) },
               else_branch = b () => (float[1,8,6,6] q) { q = Identity(s) }> }"""


def test_nodes_in_bodies_and_nodes_with_bodies(tmp_path: Path) -> None:
    case = Case(CASE, limits={"conv.kernel_max": 17}, operators={"If": "refused"})
    analysis = analyze_case(case, tmp_path)
    rules = [registry.rule("NPU101"), registry.rule("NPU201")]
    found = check(analysis, profile_for(case), rules, Config()).findings
    made = {f.location.op_type: next(repro.extract(analysis, f)) for f in found if f.location.op_type in ("If", "Conv")}
    assert [i.name for i in made["If"].graph.input] == ["c", "s"]
    assert [i.name for i in made["Conv"].graph.input] == ["s"]
    for model in made.values():
        onnx.checker.check_model(model, full_check=True)
        assert [t.name for t in model.graph.initializer] == ["w"]


def test_weights_are_random_and_no_larger_than_what_a_mail_takes(tmp_path: Path) -> None:
    case = Case(
        "g (float[1,8,32,32] x) => (y) <float[8,8,19,19] w, float[8] b> { y = Conv<pads = [9,9,9,9]>(x, w, b) }",
        limits={"conv.kernel_max": 17},
    )
    original = {t.name: onnx.numpy_helper.to_array(t) for t in case_model(case).graph.initializer}
    analysis = analyze_case(case, tmp_path)
    (finding,) = check(analysis, profile_for(case), [registry.rule("NPU201")], Config()).findings
    one, two = next(repro.extract(analysis, finding)), next(repro.extract(analysis, finding))
    assert one.SerializeToString(deterministic=True) == two.SerializeToString(deterministic=True)
    weight = onnx.numpy_helper.to_array(one.graph.initializer[0])
    assert weight.shape == original["w"].shape
    assert not np.array_equal(weight, original["w"])

    path = tmp_path / "large.onnx"
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], pads=[1024] * 4)
    x, y = (onnx.helper.make_tensor_value_info(n, 1, [1, 64, 1, 1]) for n in "xy")
    big = onnx.TensorProto(name="w", data_type=1, dims=[64, 64, 2049, 2049], data_location=onnx.TensorProto.EXTERNAL)
    big.external_data.add(key="location", value="w.bin")
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y], [big]), ir_version=10)
    path.write_bytes(model.SerializeToString())
    config = Config(limits=Limits(external_data="unchecked"))
    analysis = analysis_of(str(path), config)
    finding = next(f for f in check_models([str(path)], config).models[0].findings if f.rule == "NPU201")
    with pytest.raises(repro.ExtractError, match="larger than 64 MiB"):
        next(repro.extract(analysis, finding))


def test_the_folder(root: Path, tmp_path: Path, program: Cli) -> None:
    folder = tmp_path / "repros" / "new"
    done = program(root, "check", SIX, SAMPLE, "--save-repro", folder)
    assert done.code == 1
    index = (folder / "README.md").read_text(encoding="utf-8")
    files = sorted(f.name for f in folder.glob("*.onnx"))
    findings = [f for m in check_models([SIX, SAMPLE], Config()).models for f in m.findings]
    assert len(files) == len(findings)
    assert all(f"]({name})" in index for name in files)
    assert "1-NPU201-large.onnx" in files
    assert "does not show" not in index
    assert str(root) not in index
    assert str(tmp_path) not in index

    assert program(root, "check", SIX, "--select", "NPU201", "--save-repro", folder).code == 1
    assert [f.name for f in folder.glob("*.onnx")] == ["1-NPU201-large.onnx"], "our own folder is written anew"


def test_a_folder_of_somebody_else_is_left_alone(root: Path, tmp_path: Path, program: Cli) -> None:
    (tmp_path / "README.md").write_text("mine", encoding="utf-8")
    done = program(root, "check", SIX, "--save-repro", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "did not write" in done.err
    assert [f.name for f in tmp_path.iterdir()] == ["README.md"]
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert program(root, "check", SIX, "--save-repro", tmp_path / "file").code == 2


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "a\x00b\n", "x" * 300, "", "|`](http://x)", "ü"])
def test_names_of_files_are_ours(name: str, tmp_path: Path, program: Cli) -> None:
    graph = "g (float[1,8,32,32] x) => (float[1,8,32,32] y) <float[8,8,19,19] w> { y = Conv<pads = [9,9,9,9]>(x, w) }"
    model = case_model(Case(graph))
    model.graph.node[0].name = name
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert program(tmp_path, "check", "m.onnx", "--save-repro", "out").code == 1
    (file,) = (tmp_path / "out").glob("*.onnx")
    assert file.name.startswith("1-NPU201-")
    assert len(file.name) < 90
    assert {f.name for f in tmp_path.iterdir()} == {"m.onnx", "out"}
