"""Torch module -> ONNX file that names its lines of Python and nothing else of the machine it was made on.

Torch and onnx are imported inside the functions: checking a model needs no torch.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_guard.base.errors import UsageError
from npu_guard.base.regex import regex
from npu_guard.project.decisions import decision_in

if TYPE_CHECKING:
    import onnx
    import torch
    from torch import Tensor, nn

INLINE_LIMIT = 1_900_000_000
"""Bytes of weights beyond which they go to `<name>.data`; protobuf ends at 2 GiB."""

IR_VERSION = 10
"""The newest ONNX IR version that every onnxruntime since 1.18 loads."""

LEGACY_OPSET = 17
"""Opset of the legacy exporter where none is asked for; the first one with LayerNormalization."""

MANY_PAIRS = 2_000_000
"""Operators times Slices, as torch writes them, beyond which constants are folded first."""

EXPORT_FORM = "_npu_guard_export_form"
"""Attribute of a module: a function that returns what is exported in its place, as `npu_guard.torch.apply` may leave it."""
STACK_TRACE = "pkg.torch.onnx.stack_trace"
BULKY = frozenset({"namespace", "pkg.torch.onnx.fx_node", "pkg.torch.export.ExportedProgram.graph_signature"})
"""Metadata that repeats what the graph, the scopes and the class hierarchy say."""

_FRAME = regex(r'File "([^"\n]+)", line (\d+), in ([^\n]+)(?:\n {4}([^\n]*))?')
_PART = r"""[^\s"'`<>|:;,()\[\]{}]"""
_ABSOLUTE = regex(rf"(?<![\w.~/\\-])(?:file://)?(?:/(?!/)|[A-Za-z]:[/\\]){_PART}*[/\\]{_PART}+")
_ADDED_IN = regex(r"added in version (\d+)")


def export(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    path: Path,
    *,
    exporter: str = "dynamo",
    root: Path | None = None,
    opset: int | None = None,
) -> None:
    """Write `module`, in eval mode, to `path`; `inputs` are example tensors by input name, in forward's order.

    `exporter` is "dynamo" or "legacy" (tracing; opset 17, or the first one that has all operators). Source lines are
    kept, by the dynamo exporter, for files inside `root` (default: the enclosing git checkout, or else the current
    folder) and relative to it. The same module gives the same bytes. Raises `UsageError` where torch cannot export.

    A module that uses operators of its own says in a method `onnx_translations()` how they are written in ONNX: torch
    operator -> onnxscript function, for the dynamo exporter (the other one reads the operator's `symbolic`).
    """
    if exporter not in ("dynamo", "legacy"):
        raise UsageError(f"unknown exporter {exporter!r}: choose dynamo or legacy")
    try:
        import onnx
        import torch
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    module = _in_export_form(module)
    root = (root or _project_root()).resolve()
    path = Path(path)
    weights = [*module.parameters(), *module.buffers()]
    external = sum(tensor.numel() * tensor.element_size() for tensor in weights) > INLINE_LIMIT
    try:
        # A folder beside the target: os.replace is atomic only within one file system.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".npu-guard-") as folder:
            raw = Path(folder) / "raw.onnx"
            with _eval_mode(module), _quiet(), torch.no_grad():
                _run_exporter(module, inputs, raw, exporter, opset, external, root)
            model = onnx.load(raw)
            model.ir_version = min(model.ir_version, IR_VERSION)
            scrub(model, root)
            _save(model, Path(folder), path, external)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def _in_export_form(module: nn.Module) -> nn.Module:
    """The module with what is exported in the place of itself and of modules inside, as a copy where there is such."""
    while (form := module.__dict__.get(EXPORT_FORM)) is not None and (other := form(module)) is not module:
        module = other
    inside = [path for path, inner in module.named_modules(remove_duplicate=False) if path and EXPORT_FORM in inner.__dict__]
    if not inside:
        return module
    module = copy.deepcopy(module)
    made: dict[int, nn.Module] = {}
    for path in inside:
        if any(path.startswith(f"{outer}.") for outer in inside):
            continue
        inner = module.get_submodule(path)
        if id(inner) not in made:
            made[id(inner)] = _in_export_form(inner)
        module.set_submodule(path, made[id(inner)])
    return module


def scrub(model: onnx.ModelProto, root: Path) -> None:
    """Rewrite metadata and doc strings of every part of `model`: paths relative to `root`, or none at all."""
    for message in _parts(model):
        if getattr(message, "doc_string", ""):
            message.doc_string = _relative_text(message.doc_string, root)
        if not hasattr(message, "metadata_props"):
            continue
        kept = []
        for entry in message.metadata_props:
            value = _relative_frames(entry.value, root) if entry.key == STACK_TRACE else entry.value
            if entry.key not in BULKY and value:
                kept.append((entry.key, _relative_text(value, root)))
        del message.metadata_props[:]
        for key, value in sorted(kept):
            message.metadata_props.add(key=key, value=value)


def _run_exporter(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    raw: Path,
    exporter: str,
    opset: int | None,
    external: bool,
    root: Path,
) -> None:
    import torch

    options: dict[str, Any] = {"input_names": list(inputs), "opset_version": opset, "verbose": False}
    try:
        if exporter == "dynamo":
            options |= {"dynamo": True, "optimize": False}
            options["custom_translation_table"] = getattr(module, "onnx_translations", dict)()
            program: Any = torch.onnx.export(module, tuple(inputs.values()), **options)
            _optimize(program)
            program.save(raw, external_data=external)
            return
        options |= {"dynamo": False, "opset_version": opset or LEGACY_OPSET}
        try:
            torch.onnx.export(module, tuple(inputs.values()), raw, **options)
        except torch.onnx.errors.UnsupportedOperatorError as error:
            needed = _ADDED_IN.search(str(error))
            if opset is not None or needed is None:
                raise
            options["opset_version"] = int(needed.group(1))
            torch.onnx.export(module, tuple(inputs.values()), raw, **options)
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    except Exception as error:  # torch's exporters let anything through, the module's own errors included
        name = type(module).__name__
        if place := decision_in(error, lambda file: _inside(file, root)):
            raise UsageError(
                f"cannot export {name}: {place} decides by what a tensor holds, and an exported model computes the same for all; "
                "compute both sides and choose with torch.where, or decide outside of the network"
            ) from error
        cause = _relative_text(_cause(error), root)
        raise UsageError(f"cannot export {name} with the {exporter} exporter: {cause}") from error


def _optimize(program: torch.onnx.ONNXProgram) -> None:
    """What torch's exporter does by itself; of a graph with many Slices, constants are folded first.

    A Slice comes with a dozen operators for its bounds, and one of onnxscript's rules tries every operator with every Slice. With
    2,000 Slices that is minutes, and half of one without these operators.
    """
    nodes = list(program.model.graph)
    if len(nodes) * sum(node.op_type == "Slice" for node in nodes) > MANY_PAIRS:
        from onnx_ir.passes.common import LiftConstantsToInitializersPass
        from onnxscript.optimizer import fold_constants, inline, remove_unused_nodes

        inline(program.model)
        fold_constants(program.model)
        remove_unused_nodes(program.model)
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(program.model)
    program.optimize()


def _save(model: onnx.ModelProto, folder: Path, path: Path, external: bool) -> None:
    import onnx

    final = folder / "final.onnx"
    if external:
        location = f"{path.name}.data"
        # A new folder, because onnx appends to a data file that exists.
        onnx.save_model(model, final, save_as_external_data=True, all_tensors_to_one_file=True, location=location)
        os.replace(folder / location, path.with_name(location))
    else:
        final.write_bytes(model.SerializeToString(deterministic=True))
    os.replace(final, path)


@contextlib.contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode for the time of the export; each submodule gets back its own flag, as some may have been frozen."""
    flags = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, training in flags:
            child.training = training


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Swallow progress lines, log records and warnings of torch's exporters: standard output belongs to results.

    On the level of file descriptors too, because on an error the tracing exporter dumps its graph from native code.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    trace = logging.getLogger("torch.__trace")  # torch overrides its isEnabledFor, so that disable() does not reach it
    traced, trace.disabled = trace.disabled, True
    try:
        with (
            _to_null(1),
            _to_null(2),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        trace.disabled = traced
        logging.disable(disabled)


@contextlib.contextmanager
def _to_null(descriptor: int) -> Iterator[None]:
    try:
        saved = os.dup(descriptor)
    except OSError:  # closed, as in a service: nothing to protect
        yield
        return
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
        yield
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)


def _missing(error: ModuleNotFoundError) -> UsageError:
    return UsageError(f"export needs {error.name or 'torch'}: pip install 'npu-guard[torch]'")


def _cause(error: BaseException) -> str:
    """The first line of what started it: torch wraps the module's error in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def _project_root() -> Path:
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if os.path.exists(folder / ".git")), here)


def _parts(message: Any) -> Iterator[Any]:
    """The message and every message inside it, subgraphs and functions included."""
    pending = [message]
    while pending:
        current = pending.pop()
        yield current
        for descriptor, value in current.ListFields():
            if descriptor.message_type is not None:
                pending.extend(value if isinstance(value, Iterable) else (value,))


def _relative_frames(trace: str, root: Path) -> str:
    """Frames of a stack trace that lie inside the project, outermost first, in Python's own layout."""
    frames = []
    for file, line, function, code in _FRAME.findall(trace):
        inside = _inside(file, root)
        if inside is not None:
            frames.append(f'File "{inside}", line {line}, in {function}' + (f"\n    {code}" if code else ""))
    return "\n  ".join(frames)


def _inside(file: str, root: Path) -> str | None:
    """Path relative to the root, with forward slashes; None for files outside it and for installed packages."""
    path = Path(file)
    if not path.is_absolute() or {"site-packages", "dist-packages"} & set(path.parts):
        return None
    path = path.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else None


def _relative_text(text: str, root: Path) -> str:
    def relative(match: re.Match[str]) -> str:
        found = match.group().removeprefix("file://")
        return _inside(found, root) or re.split(r"[/\\]", found)[-1]

    return _ABSOLUTE.sub(relative, text)
