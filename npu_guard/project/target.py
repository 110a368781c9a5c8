"""Models that are named as Python code, `package.module:callable`: import it, call it, export what it returns.

This is the only place where code that the user names is run. Torch is imported by that code, or on export.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from npu_guard.base.address import is_url
from npu_guard.base.errors import ModelError, NpuGuardError, UsageError
from npu_guard.base.regex import regex
from npu_guard.device import suggest
from npu_guard.project import revision
from npu_guard.project.example import Input, example_of, required
from npu_guard.project.failures import failed, where
from npu_guard.project.old_code import export_at_revision
from npu_guard.project.revision import Revision

if TYPE_CHECKING:
    from torch import Tensor, nn

_TARGET = regex(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")
_FILE = regex(r"(.+\.py):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")
_FEW = 3
"""Names that a message lists."""
_MODEL_FILE = regex(r"\.(onnx\w*|textproto|json)$", re.IGNORECASE)


def of_revision(text: str) -> Revision | None:
    """`REV:package.module:callable` or `REV:package/module.py:callable`: Python code as it is at a revision of git."""
    name, _, rest = text.partition(":")
    if len(name) < 2 or is_url(text) or os.path.lexists(text) or _MODEL_FILE.search(rest):  # one letter is a drive
        return None
    file = _FILE.fullmatch(rest)
    named = file is not None and not os.path.lexists(f"{name}:{file.group(1)}")
    return Revision(name, rest) if named or _TARGET.fullmatch(rest) else None


def is_target(text: str) -> bool:
    """Whether an argument names Python code and no file: `package.module:callable`, or `package/module.py:callable`."""
    if of_revision(text) is not None:
        return False
    if _FILE.fullmatch(text) and not os.path.lexists(text):
        return True
    found = _TARGET.fullmatch(text)
    if found is None or _MODEL_FILE.search(text) or os.path.lexists(text):
        return False
    name = found.group(1)
    # One letter before the colon is a drive, unless there is such a module.
    return len(name) > 1 or os.path.isfile(f"{name}.py") or os.path.isfile(f"{name}/__init__.py")


def export_target(
    target: str,
    path: Path,
    inputs: Sequence[Input] = (),
    *,
    exporter: str = "dynamo",
    opset: int | None = None,
    option: str = "--input",
) -> None:
    """Import and call what `target` names, and export it.

    Raises ModelError where there is nothing of that name, and UsageError with one sentence for whatever else goes wrong.
    """
    export_loaded(target, load_target(target, inputs, option=option), path, exporter=exporter, opset=opset)


def export_loaded(
    target: str,
    loaded: tuple[nn.Module, dict[str, Tensor]],
    path: Path,
    *,
    exporter: str = "dynamo",
    opset: int | None = None,
    root: Path | None = None,
) -> None:
    """Export what `load_target` gave; lines of Python are kept of files below `root`. Raises UsageError."""
    from npu_guard.project.export import export

    try:
        export(*loaded, path, exporter=exporter, opset=opset, root=root)
    except UsageError as error:
        place = where(error)
        raise UsageError(f"{target}: {error}{f' ({place})' if place else ''}") from error


def load_target(target: str, inputs: Sequence[Input] = (), *, option: str = "--input") -> tuple[nn.Module, dict[str, Tensor]]:
    """Import and call what `target` names: the module, and example tensors by input name in the order of its forward.

    `option` is the one by which the user may give inputs. Raises ModelError where there is nothing of that name, and
    UsageError with one sentence for whatever else goes wrong.
    """
    folder, module, name = _parts(target)
    # What the code prints is no result.
    with _on_path(Path.cwd()), _on_path(folder), contextlib.redirect_stdout(sys.stderr), _same_weights():
        code = _import(module, target)
        model = _build(_attribute(code, module, name), target)
        return model, example_of(model, inputs, code, target, option)


@contextlib.contextmanager
def _same_weights() -> Iterator[None]:
    """A network without training gets the same random weights each time that it is named, so that it equals itself."""
    try:
        import torch
    except ImportError:  # which is told where the module is made
        yield
        return
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    try:
        yield
    finally:
        torch.random.set_rng_state(state)


def load_metric(target: str) -> Callable[[Any], float]:
    """The user's function by which models are measured: imports what `target` names. Raises UsageError, also when called."""
    try:
        folder, module, name = _parts(target)
        with _on_path(Path.cwd()), _on_path(folder), contextlib.redirect_stdout(sys.stderr):
            function = _attribute(_import(module, target), module, name)
    except ModelError as error:  # the function is no model
        raise UsageError(f"--metric {error}") from error

    def measure(model: Any) -> float:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                return float(function(model))
        except UsageError:
            raise
        except BaseException as error:
            raise failed(error, f"--metric: {target} failed") from error

    return measure


def _parts(target: str) -> tuple[Path, str, str]:
    """Folder to import from, name of the module, and what in it. A file is imported as a part of the packages around it."""
    if (found := _FILE.fullmatch(target)) is not None:
        file, name = Path(found.group(1)), found.group(2)
        if not os.path.isfile(file):
            raise ModelError("missing", f"{target}: there is no file {file}")
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

    `shapes` are example inputs where the code has no `inputs()` of its own. Raises UsageError, and ModelError where there is
    nothing of a name.
    """
    old = {name: found for name in models if (found := of_revision(name)) is not None}
    targets = [name for name in dict.fromkeys(models) if is_target(name)]
    others = (name for name in models if name not in targets and name not in old)
    revisions = {name: found for name in others if (found := revision.parse(name)) is not None}
    if not targets and not revisions and not old:
        yield {name: name for name in models}
        return
    inputs = example_inputs(shapes)
    with tempfile.TemporaryDirectory(prefix="npu-guard-", ignore_cleanup_errors=True) as folder:
        files = {target: str(Path(folder, f"{number}.onnx")) for number, target in enumerate(targets)}
        for number, found in enumerate(old.values()):
            own = Path(folder, f"code{number}")
            own.mkdir()
            files[f"{found.name}:{found.path}"] = str(export_at_revision(found, own, inputs))
        for target in targets:
            export_target(target, Path(files[target]), inputs, option="--input-shape")
        for number, (name, found) in enumerate(revisions.items()):
            own = Path(folder, f"revision{number}")
            own.mkdir()
            files[name] = str(revision.write(found, own))
        with named_as(files):
            yield {name: files.get(name, name) for name in models}


def example_inputs(shapes: Mapping[str, Sequence[int]]) -> list[Input]:
    """Example inputs of float32 with these shapes, by name."""
    return [Input(name, tuple(shape)) for name, shape in shapes.items()]


@contextlib.contextmanager
def named_as(files: Mapping[str, str]) -> Iterator[None]:
    """Errors about temporary files name the models in their place."""
    try:
        yield
    except NpuGuardError as error:
        said = str(error)
        for name, file in files.items():
            said = said.replace(file, name)
        error.args = (said,)
        raise


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
            hint = _near(module) or "; run npu-guard in the folder that python -m would be run in"
            raise ModelError("missing", f"{target}: there is no module {error.name!r}{hint}") from error
        raise failed(error, f"{target}: importing {module} failed") from error
    except BaseException as error:
        raise failed(error, f"{target}: importing {module} failed") from error


def _near(module: str) -> str:
    """The module that may have been meant: `net.modle` is near to `net.model`, as its first part is there."""
    folder, known = Path.cwd(), ""
    for part in module.split("."):
        if not os.path.isdir(folder / part):
            here = {name.removesuffix(".py") for name in os.listdir(folder) if name.endswith(".py") or "." not in name}
            return suggest(f"{known}{part}", {f"{known}{name}" for name in here})
        folder, known = folder / part, f"{known}{part}."
    return ""


def _attribute(code: ModuleType, module: str, name: str) -> Any:
    found: Any = code
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            known = [n for n in dir(found) if not n.startswith("_")]
            raise ModelError("missing", f"{module} has no {name!r}{suggest(part, known) or _there(found)}") from error
    return found


def _there(found: Any) -> str:
    """What a module makes itself and might be meant: `; it has Twice and build`. Nothing for one that makes many things."""
    owner = getattr(found, "__name__", None)
    own = [n for n, v in vars(found).items() if not n.startswith("_") and getattr(v, "__module__", None) == owner and callable(v)]
    return f"; it has {', '.join(own)}" if isinstance(found, ModuleType) and 0 < len(own) <= _FEW else ""


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
        needed = required(named)
        if needed:
            raise UsageError(f"{target}: needs {', '.join(needed)}; name a function without parameters that returns the module")
        try:
            result = named()
        except BaseException as error:
            raise failed(error, f"{target}: calling it failed") from error
    if not isinstance(result, nn.Module):
        raise UsageError(f"{target}: returns {type(result).__name__}, which is no torch.nn.Module")
    return result
