"""Compatibility as a unit test: `assert_npu_compatible` for files, ONNX models and torch modules.

The pytest plugin imports this module in every test run of a project, so it imports nothing that takes time.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

    from npu_guard.project.config import Config

FAIL_ON = ("error", "warning")


def assert_npu_compatible(
    model: str | os.PathLike[str] | onnx.ModelProto | nn.Module,
    *,
    profile: str | None = None,
    inputs: Mapping[str, Tensor] | Sequence[Tensor] | Tensor | None = None,
    fail_on: str | None = None,
    allow_undecided: bool = False,
    ignore: Sequence[str] = (),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """Raise AssertionError, with the report as its text, where a model does not fit the device.

    `model` is the path of an ONNX file, an ONNX model, or a torch module with example `inputs`: a dict by name, a tuple,
    or one tensor. A module is exported in eval mode to a temporary file, and the report names its lines of Python. Without
    `inputs`, `input_shapes` stand for random ones. What is not given comes from the project's settings, as for
    `npu-guard check`: `profile`, `fail_on` ("error" or "warning") and suppressions; `ignore` comes on top.

    A rule that cannot tell fails the test, unless `allow_undecided`; so does a model that cannot be read. Raises
    UsageError where the arguments or the settings are wrong.
    """
    __tracebackhide__ = True
    from msgspec.structs import replace

    from npu_guard.checking import registry
    from npu_guard.pipeline import check as pipeline

    config = _config(profile, fail_on, allow_undecided, ignore, input_shapes)
    with _file(model, inputs, config) as (name, file, shapes):
        report = pipeline.check_models([name], replace(config, input_shapes=shapes), files={name: file})
    if pipeline.exit_code(report) != 0:
        said = [registry.renderer("text")(report, color=False).rstrip()]
        said += [m.error[1] for m in report.models if m.error is not None]
        if any(m.verdict.value == "undecided" for m in report.models):
            said.append("A rule could not tell: give input_shapes={...}, or pass allow_undecided=True.")
        raise AssertionError("\n".join(said))


def _config(
    profile: str | None, fail_on: str | None, allow_undecided: bool, ignore: Sequence[str],
    input_shapes: Mapping[str, Sequence[int]] | None,
) -> Config:  # fmt: skip
    """The project's settings with the arguments on top."""
    from msgspec.structs import replace

    from npu_guard.base.errors import UsageError
    from npu_guard.checking import registry
    from npu_guard.project import config as settings

    known = [(rule.code, rule.name) for rule in registry.rules()]
    file = settings.find(Path.cwd())
    config = settings.read(file, known) if file is not None else settings.Config()
    codes = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    for code in codes:
        settings.expect_rule(code, known, "ignore")
    if fail_on is not None and fail_on not in FAIL_ON:
        raise UsageError(f"fail_on={fail_on!r}: choose one of {', '.join(FAIL_ON)}")
    return replace(
        config,
        profile=profile or config.profile,
        # A test that never fails would say nothing; where only the gate is off, errors still count.
        fail_on=fail_on or (config.fail_on if config.fail_on in FAIL_ON else "error"),
        allow_undecided=allow_undecided or config.allow_undecided,
        ignore=(*config.ignore, *codes),
        input_shapes={name: tuple(shape) for name, shape in (input_shapes or {}).items()},
    )


@contextlib.contextmanager
def _file(model: Any, inputs: Any, config: Config) -> Iterator[tuple[str, str, Mapping[str, Sequence[int]]]]:
    """Name for the report, file to read, and input shapes that are still to be set."""
    from npu_guard.base.errors import UsageError

    shapes = config.input_shapes
    module = _is_module(model)
    if inputs is not None and not module:
        raise UsageError("inputs are for torch modules; for an ONNX model give input_shapes={...}")
    if isinstance(model, str | os.PathLike):
        yield os.fspath(model), os.fspath(model), shapes
        return
    with tempfile.TemporaryDirectory(prefix="npu-guard-", ignore_cleanup_errors=True) as folder:
        file = Path(folder, "model.onnx")
        if module:
            from npu_guard.project.export import export

            export(model, _example(model, inputs, shapes), file)
            yield type(model).__name__, str(file), shapes if inputs is not None else {}
            return
        import onnx

        if not isinstance(model, onnx.ModelProto):
            kinds = "give the path of an ONNX file, an onnx.ModelProto or a torch.nn.Module"
            raise UsageError(f"{type(model).__name__} is no model; {kinds}")
        try:
            file.write_bytes(model.SerializeToString())
        except Exception as error:  # protobuf has an exception of its own for each of its implementations
            raise UsageError(f"the model cannot be serialized ({error}); save it and give its path") from error
        yield model.graph.name or "model", str(file), shapes


def _is_module(model: Any) -> bool:
    torch = sys.modules.get("torch")  # whoever has a module has imported it
    return torch is not None and isinstance(model, torch.nn.Module)


def _example(module: nn.Module, inputs: Any, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Example tensors by name, in the order of the module's forward. Raises UsageError."""
    import torch

    from npu_guard.base.errors import UsageError

    if inputs is None:
        inputs = {name: torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0)) for name, shape in shapes.items()}
    if isinstance(inputs, torch.Tensor):
        inputs = (inputs,)
    parameters = inspect.signature(module.forward).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    called = type(module).__name__
    if not isinstance(inputs, Mapping):
        given = list(inputs)
        inputs = {names[i] if i < len(names) else f"input_{i}": tensor for i, tensor in enumerate(given)}
    wrong = [name for name, tensor in inputs.items() if not isinstance(tensor, torch.Tensor)]
    if wrong:
        raise UsageError(f"{called}: input {wrong[0]!r} is no tensor")
    missing = [p.name for p in parameters if p.default is p.empty and p.name in names and p.name not in inputs]
    if not inputs or missing:
        lacks = f"forward needs {', '.join(missing)}" if missing else "an example input is needed"
        raise UsageError(f"{called}: {lacks}; give inputs=(tensor, ...) or input_shapes={{name: (1, 3, 384, 640)}}")
    ordered = {name: inputs[name] for name in names if name in inputs}
    rest = {name: tensor for name, tensor in inputs.items() if name not in ordered}
    if list(ordered) != names[: len(ordered)] or (rest and len(ordered) < len(names)):
        raise UsageError(f"{called}: forward takes {', '.join(names)}; the inputs given are {', '.join(inputs)}")
    return ordered | rest
