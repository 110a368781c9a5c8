"""`check`, `fix`, `verify`, `partition`, `quantize` and `export` as functions. Each imports what it needs when it is called."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_guard.api.model import call_config, example_inputs, is_module, model_file, told_in_program

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

    from npu_guard.api.printed import Partition, Verified
    from npu_guard.api.results import Fix, Quantized, Report

    AnyModel = str | os.PathLike[str] | onnx.ModelProto | nn.Module
    Inputs = Mapping[str, Tensor] | Sequence[Tensor] | Tensor | None
    Shapes = Mapping[str, Sequence[int]] | None


def check(
    model: AnyModel, inputs: Inputs = None, *, profile: str | None = None, input_shapes: Shapes = None,
    fail_on: str | None = None, allow_undecided: bool = False, ignore: Sequence[str] = (), simplify: bool | None = None,
) -> Report:  # fmt: skip
    """Check a model against a device's limits, as `npu-guard check` does.

    `model` is the path of an ONNX file, an `onnx.ModelProto`, or a torch module with example `inputs`: a dict by input name,
    a sequence in the order of forward, or one tensor. `input_shapes` fixes open extents by input name. `simplify` judges
    the model as onnx-simplifier leaves it, which reads weights. `profile` and the rest come from the project's settings where
    they are not given. A model that cannot be read gives the verdict `unreadable`.
    Raises UsageError where an argument or a setting is wrong.
    """
    from msgspec.structs import replace

    from npu_guard.api.results import Report
    from npu_guard.checking.suppressions import with_settings_findings
    from npu_guard.pipeline.check import check_models
    from npu_guard.pipeline.simplify import as_judged

    config = call_config(profile, fail_on, allow_undecided, ignore, input_shapes, simplify)
    with model_file(model, inputs, config.input_shapes) as file:
        settings = replace(config, input_shapes=file.input_shapes)
        with as_judged({file.name: file.path}, settings) as judged:
            report = judged.told(check_models([file.name], judged.config, files=judged.files, remedies=True))
        report = replace(report, models=tuple(told_in_program(m, model, inputs, input_shapes) for m in report.models))
        return Report(with_settings_findings(report, settings))


def fix(
    model: AnyModel, output: str | os.PathLike[str] | None = None, *, profile: str | None = None, inputs: Inputs = None,
    input_shapes: Shapes = None, approximate: bool = False, calibration: str | os.PathLike[str] | None = None,
    prefer: Sequence[str] = (), simplify: bool | None = None, max_cost: float | None = None,
) -> Fix:  # fmt: skip
    """Replace what does not fit by what does, and verify it, as `npu-guard fix` does. The model itself stays as it is.

    The result is written to `output`, or to a temporary file that lives as long as the value that is returned. `approximate`
    allows replacements that only come close; `calibration` names a .npz file or a folder of them; `simplify` mends the model as
    onnx-simplifier leaves it, which is verified too; `max_cost` is how many times the MACs and the activation bytes of the
    original the result may have, and forms beyond that are refused with the reason. Raises ModelError where the model cannot be
    read, NotVerified where it cannot be run or the result differs (nothing is written then), UsageError
    where an argument is wrong.
    """
    from msgspec.structs import replace

    from npu_guard.api.results import Fix, Scratch
    from npu_guard.base.errors import NotVerified
    from npu_guard.checking import registry
    from npu_guard.file.outputs import expect_apart
    from npu_guard.file.save import save_document
    from npu_guard.fixing import catalog
    from npu_guard.pipeline.fix import fix_model
    from npu_guard.pipeline.frozen import with_frozen_weights
    from npu_guard.pipeline.simplify import as_judged
    from npu_guard.rewriting.substitution import EXACT

    known = catalog.substitutions()
    expect_known(prefer)
    chosen = [s for s in known if s.exactness == EXACT or approximate or s.name in prefer]
    config = call_config(profile, input_shapes=input_shapes, simplify=simplify, max_cost=max_cost)
    folder = Scratch() if output is None else None
    target = Path(output) if output is not None else Path(folder.path if folder else "", "fixed.onnx")
    with contextlib.ExitStack() as opened:
        file = opened.enter_context(model_file(model, inputs, config.input_shapes))
        expect_apart([None if output is None else target], [file.path])
        settings, _ = with_frozen_weights(file.path, replace(config, input_shapes=file.input_shapes))
        data = Path(calibration) if calibration is not None else None
        judged = opened.enter_context(as_judged({file.name: file.path}, settings, verify=True))
        judged.expect_simplified(file.name)
        device, path = registry.profile(config.profile), judged.files[file.name]
        report = fix_model(path, device, judged.config, chosen, calibration=data, prefer=tuple(prefer), origin=file.path)
        for why in judged.not_verified().values():
            raise NotVerified(f"{file.name}: what onnxsim leaves was not verified ({why}); nothing was written")
        if report.applied and report.verification.verdict not in ("equal", "close"):
            why = report.verification.reason or report.verification.verdict
            raise NotVerified(f"{file.name}: the fixed model was not verified ({why}); nothing was written")
        save_document(report.document, target)
        before, after = (replace(r, path=file.name) for r in (report.before, report.after))
        before = judged.told_of(before)
    return Fix(before, after, report.applied, report.refused, report.verification, target, folder)


def verify(
    before: AnyModel, after: AnyModel, *, input_shapes: Shapes = None, calibration: str | os.PathLike[str] | None = None,
    inputs: Inputs = None,
) -> Verified:  # fmt: skip
    """Run two models on the same inputs and compare every output, as `npu-guard verify` does.

    Its `verdict` is `equal`, `differs`, or `not_run` with a `reason`. `inputs` are example tensors for torch modules.
    Raises ModelError where a model cannot be read, UsageError where an argument is wrong.
    """
    from npu_guard.api.printed import Verified
    from npu_guard.pipeline.verify import compare_models

    config = call_config(input_shapes=input_shapes)
    data = Path(calibration) if calibration is not None else None
    examples = [inputs if is_module(m) else None for m in (before, after)]
    with (
        model_file(before, examples[0], config.input_shapes) as first,
        model_file(after, examples[1], config.input_shapes) as second,
    ):
        return Verified.of(compare_models(first.path, second.path, config.input_shapes, data, limits=config.limits)[0])


def partition(
    model: AnyModel, output: str | os.PathLike[str] | None = None, *, profile: str | None = None, inputs: Inputs = None,
    input_shapes: Shapes = None, calibration: str | os.PathLike[str] | None = None,
) -> Partition:  # fmt: skip
    """Cut a model into pieces for the NPU and for the host, as `npu-guard partition` does.

    With `output`, each piece is written there as an ONNX file once running them gives what the model gives. Raises ModelError
    where the model cannot be read, NotVerified where the pieces compute something else (nothing is written then), UsageError
    where an argument is wrong.
    """
    from dataclasses import replace as changed

    from msgspec.structs import replace

    from npu_guard.api.printed import Partition
    from npu_guard.base.errors import NotVerified
    from npu_guard.checking import registry
    from npu_guard.device.partition import Given, partition_settings
    from npu_guard.partitioning.files import write_partition
    from npu_guard.partitioning.partition import partition_model
    from npu_guard.pipeline.check import judged
    from npu_guard.pipeline.frozen import with_frozen_weights

    config = call_config(profile, input_shapes=input_shapes)
    device = registry.profile(config.profile)
    with model_file(model, inputs, config.input_shapes) as file:
        settings, _ = with_frozen_weights(file.path, replace(config, input_shapes=file.input_shapes))
        document, analysis, checked = judged(file.path, device, settings)
        costs = partition_settings(device.partition, config.partition, Given())
        report = Partition(file.name, "", partition_model(analysis, checked, device, costs))
        if output is None:
            return report
        data = Path(calibration) if calibration is not None else None
        result = write_partition(document, report.partition, Path(output), calibration=data)
        if result.verdict != "equal":
            why = result.reason or "they compute something else"
            raise NotVerified(f"{file.name}: the pieces were not verified ({why}); nothing was written")
        return changed(report, verification=result, written=os.fspath(output))


def quantize(
    model: AnyModel, output: str | os.PathLike[str] | None = None, *, calibration: str | os.PathLike[str],
    profile: str | None = None, inputs: Inputs = None, input_shapes: Shapes = None, keep: Sequence[str] = (),
    keep_as: str = "float", minimum_snr: float = 10.0,
) -> Quantized:  # fmt: skip
    """Quantize a model in the scheme that the device states, check it and compare it, as `npu-guard quantize` does.

    `calibration` names a .npz file or a folder of them. Operators in `keep`, by the names of their nodes, stay in floating point,
    or have 16 bits with `keep_as="int16"`. The result is written to `output`, or to a temporary file that lives as long as the
    value that is returned. Raises NotVerified where an output keeps less than `minimum_snr` dB against the original or nothing
    could be compared (nothing is written then), ModelError where the model cannot be read, UsageError where an argument is wrong.
    """
    from msgspec.structs import replace

    from npu_guard.api.results import Quantized, Scratch
    from npu_guard.base.errors import NotVerified, UsageError
    from npu_guard.base.files import write_atomic
    from npu_guard.checking import registry
    from npu_guard.file.outputs import expect_apart
    from npu_guard.pipeline.quantize import QuantizeResult, quantize_model

    if keep_as not in ("float", "int16"):
        raise UsageError(f"keep_as={keep_as!r}: choose float or int16")
    config = call_config(profile, input_shapes=input_shapes)
    folder = Scratch() if output is None else None
    target = Path(output) if output is not None else Path(folder.path if folder else "", "quantized.onnx")
    with model_file(model, inputs, config.input_shapes) as file:
        expect_apart([None if output is None else target], [file.path])
        settings, device = replace(config, input_shapes=file.input_shapes), registry.profile(config.profile)
        found = quantize_model(file.path, device, settings, Path(calibration), keep=keep, wide=keep_as == "int16")
        lossy = QuantizeResult(found, minimum_snr, None).lossy
        if lossy or not found.outputs:
            why = f"output {lossy[0]!r} keeps {found.outputs[lossy[0]]:.1f} dB" if lossy else "nothing was compared"
            raise NotVerified(f"{file.name}: {why}, and minimum_snr wants {minimum_snr:g}; nothing was written")
        write_atomic(target, [found.content])
        report = replace(found.report, path=file.name)
    return Quantized(report, dict(found.outputs), target, folder)


def export(
    module: nn.Module, path: str | os.PathLike[str], inputs: Inputs = None, *, input_shapes: Shapes = None,
    exporter: str = "dynamo", opset: int | None = None,
) -> Path:  # fmt: skip
    """Write a torch module as ONNX, with the lines of Python that made each operator, and return the path.

    `inputs` are example tensors, or `input_shapes` the shapes of random ones. `exporter` is `dynamo` or `legacy`. Raises
    UsageError where torch cannot export the module.
    """
    from npu_guard.project.export import export

    example: dict[str, Any] = example_inputs(module, inputs, input_shapes or {})
    export(module, example, Path(path), exporter=exporter, opset=opset)
    return Path(path)


def expect_known(prefer: Sequence[str]) -> None:
    """Refuse names that no substitution has. Raises UsageError."""
    from npu_guard.base.errors import UsageError
    from npu_guard.fixing import catalog

    names = [s.name for s in catalog.substitutions()]
    if unknown := set(prefer) - set(names):
        raise UsageError(f"prefer: no substitution {sorted(unknown)[0]!r}; there are {', '.join(names)}")
