"""export.py: what the file says of its origin, that it is reproducible, and that failures are clear and leave no trace."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import onnx
import pytest
import torch
from torch import Tensor, nn

from npu_guard.base.errors import UsageError
from npu_guard.project.export import BULKY, STACK_TRACE, _project_root, export, scrub

ROOT = Path(__file__).parents[2]
REFUSED = "models/blocks/refused.py"

Exported = Callable[[str, str], Path]


class Mixed(nn.Module):
    """Small, with parts in different training modes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.train()
        self.norm.eval()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.norm(self.conv(x))
        return result


class Broken(Mixed):
    """Raises in forward."""

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError(f"heads must divide channels\nsee {ROOT}")


class DataDependent(Mixed):
    """Branches on a value."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class Unsupported(Mixed):
    """Uses an operator that ONNX does not have."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = torch.special.bessel_j0(x)
        return result


INPUTS = {"x": torch.ones(1, 8, 4, 4)}


def line_of(code: str) -> int:
    lines = (ROOT / REFUSED).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if code in line)


def metadata(node: onnx.NodeProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in node.metadata_props}


@pytest.mark.parametrize("name", ["self_attention", "deformable_conv", "resnetsan01"])
def test_no_path_of_this_machine(name: str, exporter: str, exported: Exported) -> None:
    content = exported(name, exporter).read_bytes()
    strangers = {str(ROOT), str(Path(torch.__file__).parent), sys.prefix, str(Path.home()), str(exported(name, exporter).parent)}
    assert not [path for path in strangers if path.encode() in content]
    assert b"site-packages" not in content
    assert b".npu-guard-" not in content
    assert onnx.load(exported(name, exporter)).ir_version <= 10


def test_source_lines(exported: Exported) -> None:
    nodes = onnx.load(exported("self_attention", "dynamo")).graph.node
    products = [metadata(node) for node in nodes if node.op_type == "MatMul"]
    code = ("torch.matmul(query, key)", "torch.matmul(value, attention")
    for product, text in zip(products, code, strict=True):
        assert product[STACK_TRACE].startswith(f'File "{REFUSED}", line {line_of(text)}, in forward\n    ')
        assert product["pkg.torch.onnx.name_scopes"].startswith("['', ")
        assert "SelfAttention" in product["pkg.torch.onnx.class_hierarchy"]
    convolutions = [metadata(node)[STACK_TRACE] for node in nodes if node.op_type == "Conv"]
    assert [trace.count("File ") for trace in convolutions] == [1, 1, 1], "frames inside torch are dropped"
    assert not any(BULKY & metadata(node).keys() for node in nodes)


def test_frames_outside_the_root_are_dropped(tmp_path: Path, systems: dict[str, ModuleType]) -> None:
    system = systems["se"]
    export(system.build("tiny"), system.inputs("tiny"), tmp_path / "se.onnx", root=tmp_path)
    assert not any(STACK_TRACE in metadata(node) for node in onnx.load(tmp_path / "se.onnx").graph.node)


def test_root_is_the_checkout_around_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    (tmp_path / "a" / ".git").mkdir()
    assert _project_root() == tmp_path / "a"


def test_scrub_reaches_every_part(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (bool c, float[2] x) => (float[2] y) {
            y = If (c) <
                then_branch = t () => (float[2] a) { a = Relu (x) },
                else_branch = e () => (float[2] b) { b = Neg (x) }> }"""
    )
    inner = model.graph.node[0].attribute[0].g.node[0]
    project, elsewhere = tmp_path / "net.py", tmp_path.parent / "secret" / "lib.py"
    inner.doc_string = f"from {project}, C:\\Users\\me\\x.py and '{elsewhere}'"
    inner.metadata_props.add(
        key=STACK_TRACE, value=f'File "{elsewhere}", line 3, in f\n    g()\n  File "{project}", line 7, in g'
    )
    inner.metadata_props.add(key="pkg.torch.onnx.fx_node", value="%x")
    model.graph.input[0].doc_string = f"{elsewhere} file://{elsewhere}"
    model.metadata_props.add(key="weights", value=f"loaded from {elsewhere}; 3/4 of them, see https://a.org/b/c")
    scrub(model, tmp_path)
    assert inner.doc_string == "from net.py, x.py and 'lib.py'"
    assert metadata(inner) == {STACK_TRACE: 'File "net.py", line 7, in g'}
    assert model.graph.input[0].doc_string == "lib.py lib.py"
    assert model.metadata_props[0].value == "loaded from lib.py; 3/4 of them, see https://a.org/b/c"


def test_same_bytes_in_another_process(tmp_path: Path, exporter: str, exported: Exported) -> None:
    first = exported("cbam", exporter).read_bytes()
    script = (
        "import torch; torch.manual_seed(5); from pathlib import Path; from npu_guard.project.export import export; "
        "from npu_guard.models import cbam, se; "
        f"export(se.build('tiny'), se.inputs('tiny'), Path('se.onnx'), exporter={exporter!r}); "
        f"export(cbam.build('tiny'), cbam.inputs('tiny'), Path('cbam.onnx'), exporter={exporter!r}, root=Path({str(ROOT)!r}))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
    assert (tmp_path / "cbam.onnx").read_bytes() == first


def test_needs_no_torch_to_be_imported() -> None:
    script = "import sys, npu_guard.project.export; print(*({'torch', 'onnx', 'onnx_ir', 'numpy'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_training_flags_are_restored(tmp_path: Path, exporter: str) -> None:
    module = Mixed()
    export(module, INPUTS, tmp_path / "m.onnx", exporter=exporter)
    assert (module.training, module.conv.training, module.norm.training) == (True, True, False)
    nodes = onnx.load(tmp_path / "m.onnx").graph.node
    assert [len(node.output) for node in nodes] == [1], "batch norm was in eval mode, and folded"
    with pytest.raises(UsageError):
        export(Broken(), INPUTS, tmp_path / "m.onnx", exporter=exporter)
    broken = Broken()
    with pytest.raises(UsageError):
        export(broken, INPUTS, tmp_path / "m.onnx", exporter=exporter)
    assert (broken.training, broken.norm.training) == (True, False)


@pytest.mark.parametrize(
    ("module", "exporters", "cause"),
    [
        (Broken, "dynamo legacy", "ValueError: heads must divide channels"),
        (Unsupported, "dynamo legacy", "bessel_j0"),
    ],
)
def test_errors_name_the_cause(
    module: type[Mixed], exporters: str, cause: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "m.onnx"
    target.write_bytes(b"older")
    for exporter in exporters.split():
        with pytest.raises(
            UsageError, match=rf"cannot export {module.__name__} with the {exporter} exporter: .*{cause}"
        ) as caught:
            export(module(), INPUTS, target, exporter=exporter)
        assert "\n" not in str(caught.value)
        assert str(ROOT) not in str(caught.value)
    assert target.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [target], "nothing temporary is left"
    assert capfd.readouterr() == ("", "")


def test_code_that_decides_by_what_a_tensor_holds_is_named_with_its_line(tmp_path: Path) -> None:
    line = 1 + Path(__file__).read_text().splitlines().index("        return x * 2 if x.sum() > 0 else x")
    with pytest.raises(
        UsageError, match=rf"^cannot export DataDependent: \S*test_export.py:{line} in forward .`return x"
    ) as caught:
        export(DataDependent(), INPUTS, tmp_path / "m.onnx")
    assert "torch.where" in str(caught.value)


def test_usage_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="unknown exporter 'tracing'"):
        export(Mixed(), INPUTS, tmp_path / "m.onnx", exporter="tracing")
    with pytest.raises(UsageError, match=r"cannot write .*: No such file"):
        export(Mixed(), INPUTS, tmp_path / "none" / "m.onnx")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UsageError, match=r"needs torch: pip install 'npu-guard\[torch\]'"):
        export(Mixed(), INPUTS, tmp_path / "m.onnx")


def test_no_noise(tmp_path: Path, exporter: str, capfd: pytest.CaptureFixture[str]) -> None:
    export(Mixed(), INPUTS, tmp_path / "m.onnx", exporter=exporter)
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_opset(tmp_path: Path, exported: Exported, systems: dict[str, ModuleType]) -> None:
    export(Mixed(), INPUTS, tmp_path / "m.onnx", exporter="legacy", opset=13)
    assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == 13
    export(Mixed(), INPUTS, tmp_path / "m.onnx", exporter="legacy")
    assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == 17
    assert onnx.load(exported("deformable_conv", "legacy")).opset_import[0].version == 19, "the first that has DeformConv"
    system = systems["deformable_conv"]
    with pytest.raises(UsageError, match="DeformConv"):
        export(system.build("tiny"), system.inputs("tiny"), tmp_path / "m.onnx", exporter="legacy", opset=17)


def test_large_weights_go_beside_the_model(tmp_path: Path, exporter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inline, target = tmp_path / "inline.onnx", tmp_path / "m.onnx"
    module = nn.Conv2d(64, 64, 3)
    inputs = {"x": torch.ones(1, 64, 4, 4)}
    export(module, inputs, inline, exporter=exporter)
    monkeypatch.setattr("npu_guard.project.export.INLINE_LIMIT", 0)
    sizes = []
    for _ in range(2):
        export(module, inputs, target, exporter=exporter)
        sizes.append((tmp_path / "m.onnx.data").stat().st_size)
    assert sizes[0] == sizes[1]
    onnx.checker.check_model(target)
    expected, actual = (
        {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
        for path in (inline, target)
    )
    assert expected.keys() == actual.keys()
    assert all((expected[key] == actual[key]).all() for key in expected)
