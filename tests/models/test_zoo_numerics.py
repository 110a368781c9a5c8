"""Every zoo system: keeps its contract, has no silent branch, and means the same in torch and in both exports."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from npu_guard.analysis.analyze import analyze
from npu_guard.file.load import load
from npu_guard.models.blocks.seeding import signed
from npu_guard.zoo.system import Expect

Exported = Callable[[str, str], Path]

# One float32 layer errs by about 6e-8 * sqrt(fan-in), 4e-6 at the widest (4608 products). Some 60 layers in a row
# add up to 3e-5 where errors are independent and 2e-4 where they are not; a wrong operator shows from 1e-2.
TOLERANCE = 1e-4

# Of the output's norm, to first order, when each entry of a parameter moves by one. A silent parameter has float
# noise, below 1e-6.
AUDIBLE = 1e-4

# Operators that rules speak about. The spellings that differ are equal to a rule: one finding either way.
SAME = {"Flatten": "Reshape", "Erf": "Gelu"}
INTERESTING = frozenset(
    {"Conv", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "MatMul", "Gemm", "Softmax", "Elu", "Gelu", "Resize"}
    | {"LayerNormalization", "DeformConv", "ReduceMax", "ReduceSum", "Concat"}
)

# Fused attention is taken apart by each exporter in its own way, with more or fewer reshapes that undo each other.
SPELLED_APART = frozenset({"vit_block"})
# More than 50 GMACs, and run in full by `make zoo` alone.
HEAVY = frozenset({"deeplabv3_drn", "deeplabv3_drn_segmenter", "mask_rcnn"})


def test_pack_is_found(systems: dict[str, ModuleType]) -> None:
    assert len(systems) >= 18
    assert max(Counter(system.ID for system in systems.values()).values()) == 1


def test_contract(system: ModuleType) -> None:
    assert system.__doc__
    first, second, *_ = system.__doc__.splitlines()
    assert first.endswith(".")
    assert second == ""
    assert "Verdict:" in system.__doc__
    tree = ast.parse(Path(str(system.__file__)).read_text(encoding="utf-8"))
    public = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert public == {"build", "inputs"}
    for expectations in system.EXPECTED.values():
        assert all(isinstance(expect, Expect) and expect.count > 0 for expect in expectations)
    assert "aimotive-aiware" in system.EXPECTED
    parameters = list(system.build("tiny").forward.__code__.co_varnames)
    assert parameters[1 : 1 + len(system.inputs("tiny"))] == list(system.inputs("tiny"))


def test_scopes_name_modules(system: ModuleType) -> None:
    modules = dict(system.build("tiny").named_modules())
    assert all(expect.scope in modules for expectations in system.EXPECTED.values() for expect in expectations)


@pytest.mark.parametrize("size", ["tiny", "full"])
def test_runs(name: str, system: ModuleType, size: str) -> None:
    if size == "full" and name in HEAVY:
        pytest.skip("takes too long")
    module = system.build(size)
    assert not any(child.training for child in module.modules())
    for output in run_torch(module, system.inputs(size)):
        assert torch.isfinite(output).all()
        assert output.std() > 1e-2


def test_seeded_without_global_state(system: ModuleType) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = system.build("tiny").state_dict() | system.inputs("tiny")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = system.build("tiny").state_dict() | system.inputs("tiny")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_no_branch_is_silent(system: ModuleType) -> None:
    assert silent(system.build("tiny"), system.inputs("tiny")) == []


def test_batch_norm_statistics_are_drawn(system: ModuleType) -> None:
    for child in system.build("tiny").modules():
        if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d):
            for statistic in (child.running_mean, child.running_var):
                assert statistic is not None
                assert statistic.std() > 0


def test_silent_branches_are_noticed(systems: dict[str, ModuleType]) -> None:
    system = systems["self_attention"]
    module = system.build("tiny")
    with torch.no_grad():
        module.gamma.zero_()
    assert {"query.weight", "key.weight", "value.weight"} <= set(silent(module, system.inputs("tiny")))


def test_export_computes_the_same(name: str, system: ModuleType, exporter: str, exported: Exported) -> None:
    path = exported(name, exporter)
    onnx.checker.check_model(path, full_check=True)
    # A second set of inputs, so that nothing of the example can have been baked in.
    for shift in (0, 1000):
        inputs = {
            key: signed(tuple(value.shape), seed=shift + index) if shift else value
            for index, (key, value) in enumerate(system.inputs("tiny").items())
        }
        expected = run_torch(system.build("tiny"), inputs)
        actual = run_onnx(path, inputs)
        assert len(actual) == len(expected)
        for left, right in zip(actual, expected, strict=True):
            assert left.shape == tuple(right.shape)
            assert np.abs(left - right.numpy()).max() <= TOLERANCE * right.abs().max().item()


def test_exporters_spell_alike(name: str, exported: Exported) -> None:
    spellings = []
    for exporter in ("dynamo", "legacy"):
        # What a device runs: the older exporter computes pads and sizes in the graph, where the other writes constants.
        nodes = analyze(load(exported(name, exporter))).nodes()
        spellings.append(Counter(SAME.get(node.op_type, node.op_type) for node in nodes))
    first, second = ({key: count[key] for key in sorted(count) if key in INTERESTING} for count in spellings)
    assert (first == second) == (name not in SPELLED_APART)


def run_torch(module: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """Outputs as a tuple, without gradients."""
    with torch.no_grad():
        result = module(*inputs.values())
    return result if isinstance(result, tuple) else (result,)


def run_onnx(path: Path, inputs: Mapping[str, Tensor]) -> list[np.ndarray]:
    """Outputs by ONNX Runtime with its optimiser off: what is run is what was exported."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {key: value.numpy() for key, value in inputs.items()}))


def silent(module: nn.Module, inputs: Mapping[str, Tensor]) -> list[str]:
    """Names of the parameters that the outputs do not depend on, by the gradient of a random sum of each output.

    The sum's weights have mean one, lest a bias, which shifts a whole map, cancel by chance.
    """
    result = module(*inputs.values())
    outputs = result if isinstance(result, tuple) else (result,)
    loss = torch.zeros(())
    for output in outputs:
        loss = loss + (output * (1 + signed(tuple(output.shape), seed=99))).sum() / output.detach().norm()
    loss.backward()  # type: ignore[no-untyped-call]
    return [
        name
        for name, parameter in module.named_parameters()
        if parameter.grad is None or parameter.grad.norm() * parameter.numel() ** 0.5 < AUDIBLE
    ]
