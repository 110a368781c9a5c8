"""A model as Python has it (a path, an ONNX model, a torch module) becomes a file, and arguments become settings."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor, nn

    from npu_guard.project.config import Config
    from npu_guard.results.findings import ModelReport

FAIL_ON = ("error", "warning")


class ModelFile(NamedTuple):
    """A model that can be read from a file: its name in reports, the file, and the input shapes that are still to be set."""

    name: str
    path: str
    input_shapes: Mapping[str, Sequence[int]]


def call_config(
    profile: str | None = None, fail_on: str | None = None, allow_undecided: bool = False, ignore: Sequence[str] = (),
    input_shapes: Mapping[str, Sequence[int]] | None = None, simplify: bool | None = None,
    max_cost: float | None = None,
) -> Config:  # fmt: skip
    """The project's settings with the arguments on top. Raises UsageError where one of them is wrong."""
    from msgspec.structs import replace

    from npu_guard.base.errors import UsageError
    from npu_guard.checking import registry
    from npu_guard.project.config import Config, expect_max_cost, expect_rule, find_config, read_config
    from npu_guard.project.environment import with_environment

    known = [(rule.code, rule.name) for rule in registry.rules()]
    file = find_config(Path.cwd())
    config = with_environment(read_config(file, known) if file is not None else Config())
    codes = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    for code in codes:
        expect_rule(code, known, "ignore")
    if fail_on is not None and fail_on not in FAIL_ON:
        raise UsageError(f"fail_on={fail_on!r}: choose one of {', '.join(FAIL_ON)}")
    if max_cost is not None:
        expect_max_cost(max_cost, "max_cost")
    return replace(
        config,
        profile=profile or config.profile,
        # A gate that is off would let every test pass; where it is off in the settings, errors still count here.
        fail_on=fail_on or (config.fail_on if config.fail_on in FAIL_ON else "error"),
        allow_undecided=allow_undecided or config.allow_undecided,
        max_cost=config.max_cost if max_cost is None else max_cost,
        ignore=(*config.ignore, *codes),
        input_shapes={name: tuple(shape) for name, shape in (input_shapes or {}).items()},
        simplify=config.simplify if simplify is None else simplify,
    )


@contextlib.contextmanager
def model_file(model: Any, inputs: Any, input_shapes: Mapping[str, Sequence[int]]) -> Iterator[ModelFile]:
    """The file of a model, which is temporary for an ONNX model and for the export of a torch module.

    `inputs` are example tensors for a torch module: a dict by name, a sequence in the order of forward, or one tensor.
    Raises UsageError where there is no such model or where it cannot be exported.
    """
    from npu_guard.base.errors import UsageError

    module = is_module(model)
    if inputs is not None and not module:
        raise UsageError("inputs are for torch modules; for an ONNX model give input_shapes={...}")
    if isinstance(model, str | os.PathLike):
        yield ModelFile(os.fspath(model), os.fspath(model), input_shapes)
        return
    with tempfile.TemporaryDirectory(prefix="npu-guard-", ignore_cleanup_errors=True) as folder:
        file = Path(folder, "model.onnx")
        if module:
            from npu_guard.project.export import export

            export(model, example_inputs(model, inputs, input_shapes), file)
            yield ModelFile(type(model).__name__, str(file), input_shapes if inputs is not None else {})
            return
        import onnx

        if not isinstance(model, onnx.ModelProto):
            kinds = "give the path of an ONNX file, an onnx.ModelProto or a torch.nn.Module"
            raise UsageError(f"{type(model).__name__} is no model; {kinds}")
        try:
            file.write_bytes(model.SerializeToString())
        except Exception as error:  # protobuf has an exception of its own for each of its implementations
            raise UsageError(f"the model cannot be serialized ({error}); save it and give its path") from error
        yield ModelFile(model.graph.name or "model", str(file), input_shapes)


def told_in_program(
    report: ModelReport, model: Any, inputs: Any, input_shapes: Mapping[str, Sequence[int]] | None
) -> ModelReport:
    """The report with how a program names the model, where that is an object and no file: what it suggests is a call then."""
    if isinstance(model, str | os.PathLike):
        return report
    from msgspec.structs import replace

    shapes = {name: tuple(shape) for name, shape in (input_shapes or {}).items()}
    arguments = [*(["inputs=inputs"] if inputs is not None else []), *([f"input_shapes={shapes}"] if shapes else [])]
    return replace(report, command=replace(report.command, python=", ".join(arguments), in_program=True))


def example_inputs(module: nn.Module, inputs: Any, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Example tensors by name, in the order of the module's forward; random ones of these shapes where none are given.

    Raises UsageError where forward takes other inputs.
    """
    import torch

    from npu_guard.base.errors import UsageError
    from npu_guard.device.keys import suggest

    if inputs is None:
        inputs = {name: torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0)) for name, shape in shapes.items()}
    if isinstance(inputs, torch.Tensor):
        inputs = (inputs,)
    parameters = inspect.signature(module.forward).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    called = type(module).__name__
    if not isinstance(inputs, Mapping):
        inputs = {names[i] if i < len(names) else f"input_{i}": tensor for i, tensor in enumerate(inputs)}
    wrong = [name for name, tensor in inputs.items() if not isinstance(tensor, torch.Tensor)]
    if wrong:
        raise UsageError(f"{called}: input {wrong[0]!r} is no tensor")
    missing = [p.name for p in parameters if p.default is p.empty and p.name in names and p.name not in inputs]
    unknown = next((name for name in inputs if name not in names), None)
    if missing and unknown is not None:
        raise UsageError(f"{called}: forward takes {', '.join(names)} and no {unknown!r}{suggest(unknown, names)}")
    if not inputs or missing:
        lacks = f"forward needs {', '.join(missing)}" if missing else "an example input is needed"
        raise UsageError(f"{called}: {lacks}; give inputs=(tensor, ...) or input_shapes={{name: (1, 3, 384, 640)}}")
    ordered = {name: inputs[name] for name in names if name in inputs}
    rest = {name: tensor for name, tensor in inputs.items() if name not in ordered}
    if list(ordered) != names[: len(ordered)] or (rest and len(ordered) < len(names)):
        raise UsageError(f"{called}: forward takes {', '.join(names)}; the inputs given are {', '.join(inputs)}")
    return ordered | rest


def is_module(model: Any) -> bool:
    """Whether this is a torch module; torch is not imported for the answer."""
    torch = sys.modules.get("torch")  # whoever has a module has imported it
    return torch is not None and isinstance(model, torch.nn.Module)
