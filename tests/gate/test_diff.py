"""`diff`: simplified and re-exported models are the same, formats, and sides that cannot be compared."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import pytest

from npu_guard.project.export import export
from npu_guard.zoo import samples

SIX = "samples/six_problems.onnxtxt"
SAMPLE = "samples/sample_net.onnx"
ROOT = Path(__file__).parents[2]
Cli = Callable[..., Any]
Models = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """(system, spelling) -> a tiny sample network: exported by dynamo, by the older exporter, or simplified."""
    import onnxsim

    folder = tmp_path_factory.mktemp("spellings")

    def make(name: str, spelling: str) -> Path:
        path = folder / f"{name}.{spelling}.onnx"
        if not path.exists() and spelling == "simplified":
            simplified, ok = onnxsim.simplify(onnx.load(make(name, "dynamo")))
            assert ok
            onnx.save(simplified, path)
        elif not path.exists():
            system: ModuleType = samples.system(name)
            export(system.build("tiny"), system.inputs("tiny"), path, exporter=spelling, root=ROOT)
        return path

    return make


@pytest.mark.parametrize("name", ["self-attention", "eca-conv1d"])
@pytest.mark.parametrize("spelling", ["legacy", "simplified"])
def test_another_spelling_is_the_same_model(name: str, spelling: str, root: Path, models: Models, program: Cli) -> None:
    dynamo, other = models(name, "dynamo"), models(name, spelling)
    for base, head in ((dynamo, other), (other, dynamo)):
        done = program(root, "diff", base, head)
        assert "0 new, 0 fixed" in done.out
        assert done.code == 0


def rename(model: onnx.ModelProto) -> None:
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"


def add_layer(model: onnx.ModelProto) -> None:
    """A 19-wide convolution before everything else, in a module of its own; all names change."""
    rename(model)
    image = model.graph.input[0].name
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    node = onnx.helper.make_node("Conv", [image, "extra.weight"], ["extra"], "node_conv2d", pads=[9] * 4)
    node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'extra', 'conv2d']")
    for other in model.graph.node:
        other.input[:] = ["extra" if name == image else name for name in other.input]
    model.graph.node.insert(0, node)
    weight = onnx.helper.make_tensor("extra.weight", 1, [shape[1], shape[1], 19, 19], [0.0] * (shape[1] * shape[1] * 361))
    model.graph.initializer.append(weight)


def test_renamed_nodes_and_a_layer_put_in_early(root: Path, tmp_path: Path, program: Cli) -> None:
    for change, count in ((rename, 0), (add_layer, 1)):
        model = onnx.load(root / SAMPLE)
        change(model)
        onnx.save(model, tmp_path / "changed.onnx")
        document = json.loads(program(root, "diff", SAMPLE, tmp_path / "changed.onnx", "--format", "json").out)
        new = [f for f in document["new"] if f["rule"] == "NPU201"]
        assert (len(new), document["fixed"]) == (count, [])
        assert {tuple(f["scope"]) for f in document["new"]} <= {("extra",)}


def longer(root: Path, path: Path) -> Path:
    """The sample network with 21 taps in the place of 19."""
    model = onnx.load(root / SAMPLE)
    for node in model.graph.node:
        for value in node.attribute:
            if value.name in ("kernel_shape", "pads"):
                value.ints[:] = [{19: 21, 9: 10}.get(n, n) for n in value.ints]
    for weight in model.graph.initializer:
        if 19 in weight.dims:
            extents = [21 if d == 19 else d for d in weight.dims]
            weight.CopyFrom(onnx.numpy_helper.from_array(np.zeros(extents, np.float32), weight.name))
    onnx.save(model, path)
    return path


def test_another_number_at_the_same_place_is_one_changed_finding(root: Path, tmp_path: Path, program: Cli) -> None:
    head = longer(root, tmp_path / "longer.onnx")
    done = program(root, "diff", SAMPLE, head)
    assert "0 new, 2 changed, 0 fixed, 9 unchanged" in done.out
    assert "changed  NPU201  kernel 21x1 is longer than 17, and it was: kernel 19x1 is longer than 17 (Conv in " in done.out
    assert "  fixed  " not in done.out
    assert done.code == 1  # it still does not fit
    told = json.loads(program(root, "diff", SAMPLE, head, "--format", "json").out)
    assert told["summary"] == {"new": 2, "fixed": 2, "changed": 2, "unchanged": 9}
    names = {f["fingerprint"]: f["message"] for f in (*told["new"], *told["fixed"])}
    assert [(names[pair["fixed"]], names[pair["new"]]) for pair in told["changed"]] == [
        (f"kernel {a} is longer than 17", f"kernel {b} is longer than 17") for a, b in (("19x1", "21x1"), ("1x19", "1x21"))
    ]
    page = program(root, "diff", SAMPLE, head, "--format", "html").out
    assert "New findings: 0" in page
    assert "Changed findings: 2" in page
    assert "before: kernel 19x1 is longer than 17" in page
    program(root, "check", SAMPLE, "--write-baseline", tmp_path / "known.json")
    since = program(root, "check", head, "--baseline", tmp_path / "known.json")
    assert "changed since the baseline: NPU201 kernel 19x1 is longer than 17" in since.err
    assert "fixed since" not in since.err


def test_another_number_in_another_module_is_new(root: Path, tmp_path: Path, program: Cli) -> None:
    model = onnx.load(longer(root, tmp_path / "longer.onnx"))
    for node in model.graph.node:
        for prop in node.metadata_props:
            prop.value = prop.value.replace("context", "other")
    onnx.save(model, tmp_path / "longer.onnx")
    assert "2 new, 2 fixed" in program(root, "diff", SAMPLE, tmp_path / "longer.onnx").out


def test_formats(root: Path, program: Cli) -> None:
    done = program(root, "diff", SAMPLE, SIX)
    assert done.code == 1
    assert re.match(r"Compared with samples/sample_net.onnx: \d+ new, \d+ fixed", done.out)
    fixed = [line for line in done.out.splitlines() if line.startswith("  fixed  ")]
    assert len(fixed) == len(set(fixed)) > 0
    page = program(root, "diff", SAMPLE, SIX, "--format", "markdown").out
    assert "| | before | after |" in page
    assert "findings fixed</summary>" in page
    document = json.loads(program(root, "diff", SAMPLE, SIX, "--format", "json").out)
    assert document["summary"] == {key: len(document[key]) for key in ("new", "fixed", "changed", "unchanged")}
    assert document["verdict"] == "fail"
    whole = json.loads(program(root, "check", SIX, "--format", "json").out)["models"][0]["findings"]
    assert sorted(f["fingerprint"] for f in document["new"] + document["unchanged"]) == sorted(f["fingerprint"] for f in whole)


def test_what_is_new_has_its_remedy_as_in_check(root: Path, tmp_path: Path, program: Cli) -> None:
    """Between a model without findings and the sample, all that `check` says of the sample is new."""
    empty = tmp_path / "empty.onnx"
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[1,8,4,4] x) => (y) { y = Relu(x) }'
    empty.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    new = program(root, "diff", empty, SAMPLE).out
    assert "fixable" in new
    assert f"npu-guard fix {SAMPLE} -o " in new
    alone = json.loads(program(root, "check", SAMPLE, "--format", "json").out)["models"][0]["findings"]
    target = tmp_path / "diff.json"
    done = program(root, "diff", empty, SAMPLE, "--format", "json", "-o", target)
    assert (done.code, done.out, f"wrote {target}" in done.err) == (1, "", True)
    found = json.loads(target.read_text(encoding="utf-8"))["new"]
    assert {f["fingerprint"]: f["remedy"] for f in found} == {f["fingerprint"]: f["remedy"] for f in alone}
    done = program(root, "diff", empty, SAMPLE, "-o", empty)
    assert (done.code, "is the input itself" in done.err) == (2, True)


def test_what_counts(root: Path, program: Cli) -> None:
    assert program(root, "diff", SAMPLE, SIX, "--fail-on", "never").code == 0
    assert program(root, "diff", SIX, SIX, "--fail-on", "warning").code == 0
    assert program(root, "diff", SAMPLE, "none.onnx").code == 3
    done = program(root, "diff", "none.onnx", SAMPLE)
    assert (done.code, done.out, "no such file" in done.err) == (3, "", True)


def test_baselines_as_sides(root: Path, tmp_path: Path, program: Cli) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    program(root, "check", SAMPLE, "--write-baseline", one)
    program(root, "check", SIX, "--write-baseline", two)
    assert program(root, "diff", one, SAMPLE).code == 0
    assert program(root, "diff", one, SIX).code == 1
    assert program(root, "diff", SAMPLE, two).code == 1
    assert program(root, "diff", one, two).code == 1
    assert "0 new" in program(root, "diff", two, two).out


def test_sides_of_two_devices(root: Path, tmp_path: Path, program: Cli) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    program(root, "check", SAMPLE, "--write-baseline", one)
    two.write_text(one.read_text(encoding="utf-8").replace("aimotive-aiware", "toaster"), encoding="utf-8")
    done = program(root, "diff", one, two)
    assert done.code == 2
    assert "'aimotive-aiware'" in done.err
    assert "compare baselines of one profile" in done.err
    done = program(root, "diff", two, SAMPLE)
    assert (done.code, "--profile toaster" in done.err) == (2, True)
    assert "0 new" in program(root, "diff", two, two).out
