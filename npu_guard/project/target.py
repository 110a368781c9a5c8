"""Models that are named as Python code, `package.module:callable`: import it, call it, export what it returns.

This is the only place where code that the user names is run. Torch is imported by that code, or on export.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from npu_guard.base.errors import UsageError
from npu_guard.base.regex import regex
from npu_guard.device import suggest
from npu_guard.project import revision
from npu_guard.project.config import project_root

if TYPE_CHECKING:
    from torch import Tensor, nn

_TARGET = regex(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")
_FILE = regex(r"(.+\.py):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")
_MODEL_FILE = regex(r"\.(onnx\w*|textproto|json)$", re.IGNORECASE)
_DTYPES = ("float32", "float16", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool")
MAX_ELEMENTS = 1 << 30


@dataclass(frozen=True, slots=True)
class Input:
    """An example input, as `--input` names it."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


def is_target(text: str) -> bool:
    """Whether an argument names Python code and no file: `package.module:callable`, or `package/module.py:callable`."""
    if _FILE.fullmatch(text) and not os.path.lexists(text):
        return True
    found = _TARGET.fullmatch(text)
    if found is None or _MODEL_FILE.search(text) or os.path.lexists(text):
        return False
    name = found.group(1)
    # One letter before the colon is a drive, unless there is such a module.
    return len(name) > 1 or os.path.isfile(f"{name}.py") or os.path.isfile(f"{name}/__init__.py")


def parse_input(text: str) -> Input:
    """`x:1,3,384,640` or `x:int64:1,16`. Raises UsageError."""
    name, *kind, dims = text.split(":") if ":" in text else ("", "")
    with contextlib.suppress(ValueError):
        shape = tuple(int(part) for part in dims.split(",")) if dims.strip() else ()
        dtype = kind[0].strip() if kind else "float32"
        if name and len(kind) < 2 and shape and min(shape) > 0:
            if dtype not in _DTYPES:
                known = f"{suggest(dtype, _DTYPES)}; there are {', '.join(_DTYPES)}"
                raise UsageError(f"--input {text!r}: no element type {dtype!r}{known}")
            elements = 1
            for extent in shape:
                elements *= extent
            if elements > MAX_ELEMENTS:
                raise UsageError(f"--input {text!r}: {elements} elements are more than an example needs; give a smaller shape")
            return Input(name, shape, dtype)
    raise UsageError(f"--input {text!r}: write it as NAME:1,3,384,640 or NAME:int64:1,16")


def export_target(
    target: str,
    path: Path,
    inputs: Sequence[Input] = (),
    *,
    exporter: str = "dynamo",
    opset: int | None = None,
    option: str = "--input",
) -> None:
    """Import and call what `target` names, and export it. Raises UsageError with one sentence for whatever goes wrong."""
    model, example = load_target(target, inputs, option=option)
    from npu_guard.project.export import export

    try:
        export(model, example, path, exporter=exporter, opset=opset)
    except UsageError as error:
        where = _where(error)
        raise UsageError(f"{target}: {error}{f' ({where})' if where else ''}") from error


def load_target(target: str, inputs: Sequence[Input] = (), *, option: str = "--input") -> tuple[nn.Module, dict[str, Tensor]]:
    """Import and call what `target` names: the module, and example tensors by input name in the order of its forward.

    `option` is the one by which the user may give inputs. Raises UsageError with one sentence for whatever goes wrong.
    """
    folder, module, name = _parts(target)
    with _on_path(Path.cwd()), _on_path(folder), contextlib.redirect_stdout(sys.stderr):  # what the code prints is no result
        code = _import(module, target)
        model = _build(_attribute(code, module, name), target)
        return model, _example(model, inputs, code, target, option)


def load_metric(target: str) -> Callable[[Any], float]:
    """The user's function by which models are measured: imports what `target` names. Raises UsageError, also when called."""
    folder, module, name = _parts(target)
    with _on_path(Path.cwd()), _on_path(folder), contextlib.redirect_stdout(sys.stderr):
        function = _attribute(_import(module, target), module, name)

    def measure(model: Any) -> float:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                return float(function(model))
        except UsageError:
            raise
        except BaseException as error:
            raise _failed(error, f"--metric: {target} failed") from error

    return measure


def _parts(target: str) -> tuple[Path, str, str]:
    """Folder to import from, name of the module, and what in it. A file is imported as a part of the packages around it."""
    if (found := _FILE.fullmatch(target)) is not None:
        file, name = Path(found.group(1)), found.group(2)
        if not os.path.isfile(file):
            raise UsageError(f"{target}: there is no file {file}")
        folder, parts = file.absolute().parent, [] if file.stem == "__init__" else [file.stem]
        while os.path.isfile(folder / "__init__.py"):
            folder, parts = folder.parent, [folder.name, *parts]
        if not parts or not all(part.isidentifier() for part in parts):
            raise UsageError(f"{target}: {file} cannot be imported under that name; letters, digits and _ make a module's name")
        return folder, ".".join(parts), name
    found = _TARGET.fullmatch(target)
    if found is None:
        raise UsageError(f"{target!r} names no Python code; write it as package.module:callable or folder/file.py:callable")
    module, name = found.groups()
    return Path.cwd(), module, name


@contextlib.contextmanager
def exported(models: Sequence[str], shapes: Mapping[str, Sequence[int]]) -> Iterator[dict[str, str]]:
    """Files to read for models as they are named: temporary ones for Python code and for revisions of git, the others themselves.

    `shapes` are example inputs where the code has no `inputs()` of its own. Raises UsageError.
    """
    targets = [name for name in dict.fromkeys(models) if is_target(name)]
    revisions = {name: found for name in models if (found := revision.parse(name)) is not None and name not in targets}
    if not targets and not revisions:
        yield {name: name for name in models}
        return
    inputs = [Input(name, tuple(shape)) for name, shape in shapes.items()]
    with tempfile.TemporaryDirectory(prefix="npu-guard-", ignore_cleanup_errors=True) as folder:
        files = {target: str(Path(folder, f"{number}.onnx")) for number, target in enumerate(targets)}
        for target, file in files.items():
            export_target(target, Path(file), inputs, option="--input-shape")
        for number, (name, found) in enumerate(revisions.items()):
            own = Path(folder, f"revision{number}")
            own.mkdir()
            files[name] = str(revision.write(found, own))
        yield {name: files.get(name, name) for name in models}


@contextlib.contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    """The current folder first on sys.path, as `python -m` has it; modules that were imported stay imported."""
    entry = str(folder)
    sys.path.insert(0, entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)


def _import(module: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            near = {f.stem for f in Path.cwd().glob("*.py")} | {f.parent.name for f in Path.cwd().glob("*/__init__.py")}
            hint = suggest(module, near) or "; run npu-guard in the folder that python -m would be run in"
            raise UsageError(f"{target}: there is no module {error.name!r}{hint}") from error
        raise _failed(error, f"{target}: importing {module} failed") from error
    except BaseException as error:
        raise _failed(error, f"{target}: importing {module} failed") from error


def _attribute(code: ModuleType, module: str, name: str) -> Any:
    found: Any = code
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            known = [n for n in dir(found) if not n.startswith("_")]
            raise UsageError(f"{module} has no {name!r}{suggest(part, known)}") from error
    return found


def _build(named: Any, target: str) -> nn.Module:
    """The module that a class, a factory or an instance stands for."""
    try:
        from torch import nn
    except ModuleNotFoundError as error:
        raise UsageError(f"exporting Python code needs {error.name}: pip install 'npu-guard[torch]'") from error
    result = named
    if not isinstance(named, nn.Module):
        if not callable(named):
            kinds = "name an nn.Module, its class, or a function that returns one"
            raise UsageError(f"{target}: is of type {type(named).__name__}; {kinds}")
        needed = _required(named)
        if needed:
            raise UsageError(f"{target}: needs {', '.join(needed)}; name a function without parameters that returns the module")
        try:
            result = named()
        except BaseException as error:
            raise _failed(error, f"{target}: calling it failed") from error
    if not isinstance(result, nn.Module):
        raise UsageError(f"{target}: returns {type(result).__name__}, which is no torch.nn.Module")
    return result


def _required(function: Callable[..., Any]) -> list[str]:
    """Names of the parameters that a call must give."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _example(model: nn.Module, inputs: Sequence[Input], code: ModuleType, target: str, option: str) -> dict[str, Tensor]:
    """Example tensors by name, in forward's order."""
    given: Any = {i.name: _random(i) for i in inputs}
    own = getattr(code, "inputs", None)
    if not given and callable(own):
        try:
            given = own()
        except BaseException as error:
            raise _failed(error, f"{code.__name__}:inputs: calling it failed") from error
    return _in_order(model, given, target, option)


def _in_order(model: nn.Module, given: Any, target: str, option: str) -> dict[str, Tensor]:
    import torch

    parameters = inspect.signature(model.forward).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = _required(model.forward)
    if isinstance(given, torch.Tensor):
        given = (given,)
    if isinstance(given, (tuple, list)):
        given = {names[i] if i < len(names) else f"input_{i}": tensor for i, tensor in enumerate(given)}
    if not isinstance(given, dict) or not all(isinstance(v, torch.Tensor) for v in given.values()):
        raise UsageError(f"{target}: inputs() must return tensors: a dict by input name, a tuple, or one tensor")
    if len(given) < len(needed):
        missing = [n for n in needed if n not in given] or needed
        raise UsageError(
            f"{target}: forward needs {', '.join(missing)}; give the shape of each with {option} {missing[0]}:1,3,384,640,"
            " or write a function inputs() beside it that returns example tensors"
        )
    if set(given) <= set(names):
        given = {n: given[n] for n in names if n in given}
        if list(given) != names[: len(given)]:
            raise UsageError(f"{target}: forward takes {', '.join(names)}; inputs before the last one given cannot be left out")
    return dict(given)


def _random(given: Input) -> Tensor:
    import torch

    generator = torch.Generator().manual_seed(0)
    dtype: torch.dtype = getattr(torch, given.dtype)
    if dtype.is_floating_point:
        return torch.randn(given.shape, generator=generator).to(dtype)
    # Indices, mostly: 0 and 1 are within every table.
    return torch.randint(0, 2, given.shape, generator=generator).to(dtype)


def _failed(error: BaseException, what: str) -> UsageError:
    """The user's error in one line, with the line of their code. An interrupt goes on being one."""
    if isinstance(error, KeyboardInterrupt):
        raise error
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    text = type(error).__name__ + (f": {lines[0][:300]}" if lines else "")
    where = _where(error)
    return UsageError(f"{what}: {text}{f' ({where})' if where else ''}")


def _where(error: BaseException) -> str:
    """`file:line` of the innermost frame inside the project, of the error or of what caused it."""
    root = project_root(Path.cwd()).resolve()
    own = Path(__file__).parents[1].resolve()
    current: BaseException | None = error
    found = ""
    for _ in range(32):
        if current is None:
            break
        places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(current.__traceback__)]
        if isinstance(current, SyntaxError) and current.filename:
            places.append((current.filename, current.lineno))
        for name, line in places:
            file = Path(name)
            if file.is_absolute() and file.resolve().is_relative_to(root) and not _installed(file, own):
                found = f"{file.resolve().relative_to(root).as_posix()}:{line}"
        current = current.__cause__ or current.__context__
    return found


def _installed(file: Path, own: Path) -> bool:
    return bool({"site-packages", "dist-packages"} & set(file.parts)) or file.resolve().is_relative_to(own)
