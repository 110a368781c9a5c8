"""Put a model to a compiler: by its own command line, or by way of one of our drivers."""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from npu_guard.base.errors import UsageError
from npu_guard.base.text import printable
from npu_guard.compilers import process
from npu_guard.compilers.answers import Answer, NodeAnswer
from npu_guard.compilers.builtin import BUILTINS, DRIVERS, Builtin
from npu_guard.compilers.log import answer_of_log, last_line
from npu_guard.compilers.settings import CompilerSettings, arguments, needs_python
from npu_guard.device import suggest


def choose(
    name: str | None, profile: str, configured: Mapping[str, CompilerSettings], python: str | None
) -> tuple[str, CompilerSettings]:
    """The compiler to ask: the one that was named, else the one of the profile. Raises UsageError."""
    known = [*configured, *(b for b in BUILTINS if b not in configured)]
    if name is None:
        mine = [c for c in known if any(fnmatch.fnmatchcase(profile, glob) for glob in _globs(c, configured))]
        if not mine:
            raise UsageError(
                f"no compiler is known for the profile {profile!r}; name one with --compiler ({', '.join(known)}), "
                "or describe yours in [tool.npu-guard.compiler.NAME]"
            )
        name = mine[0]
    if name not in known:
        raise UsageError(f"no compiler {name!r}; known are {', '.join(known)}{suggest(name, known)}")
    settings = configured.get(name, CompilerSettings())
    if python:
        settings = msgspec.structs.replace(settings, python=python)
    if needs_python(settings) and not settings.python:
        raise UsageError(
            f"the command of the compiler {name!r} has {{python}}: name the interpreter with --compiler-python PATH or "
            f"'python' in [tool.npu-guard.compiler.{name}]"
        )
    if settings.command:
        return name, settings
    if name not in BUILTINS:
        raise UsageError(f"the compiler {name!r} has no 'command' in the configuration")
    if not settings.python:
        raise UsageError(
            f"the compiler {name!r} runs in an environment of its own: name its interpreter with --compiler-python PATH or "
            f"'python' in [tool.npu-guard.compiler.{name}]; 'npu-guard compile --recipe {name}' prints how to make one"
        )
    return name, settings


def _globs(name: str, configured: Mapping[str, CompilerSettings]) -> tuple[str, ...]:
    own = configured[name].profiles if name in configured else ()
    return own or (tuple(glob for glob, _ in BUILTINS[name].profiles) if name in BUILTINS else ())


def ask(name: str, settings: CompilerSettings, model: str, profile: str) -> Answer:
    """What a compiler says of a model file. Raises UsageError where it cannot be started."""
    with tempfile.TemporaryDirectory(prefix="npu-guard-compile-", ignore_cleanup_errors=True) as folder:
        out = Path(folder) / "out"
        out.mkdir()
        if settings.command:
            values = {"model": os.path.abspath(model), "profile": profile, "out": str(out), "python": _absolute(settings.python)}
            command = arguments(settings, values)
            command[0] = _absolute(command[0])
            ended = process.run(command, Path(folder), settings.seconds, int(settings.memory_gb * 2**30))
            return answer_of_log(name, settings, ended)
        return _driven(BUILTINS[name], settings, [model], profile, Path(folder))[0]


def ask_all(name: str, settings: CompilerSettings, models: Sequence[str], profile: str) -> list[Answer]:
    """What a compiler says of each of several model files; a driver is started once for all. Raises UsageError as `ask` does."""
    if settings.command:
        return [ask(name, settings, model, profile) for model in models]
    with tempfile.TemporaryDirectory(prefix="npu-guard-compile-", ignore_cleanup_errors=True) as folder:
        return _driven(BUILTINS[name], settings, models, profile, Path(folder))


def _driven(builtin: Builtin, settings: CompilerSettings, models: Sequence[str], profile: str, folder: Path) -> list[Answer]:
    """By way of a driver, which runs in the compiler's environment and writes a line of JSON for each model."""
    options = {**(builtin.options(profile) or {}), **{k: str(v) for k, v in settings.options.items()}}
    answers = folder / "answers"
    command = [_absolute(settings.python), "-E", "-s", "-B", str(DRIVERS / builtin.driver), "--out", str(answers)]
    command += ["--seconds", str(settings.seconds)]
    command += [part for key, value in options.items() for part in ("--option", f"{key}={value}")]
    # The driver ends a compilation in time and can say so; the limit on itself is for the case that it cannot.
    seconds = settings.seconds * len(models) + 30
    ended = process.run([*command, *map(os.path.abspath, models)], folder, seconds, int(settings.memory_gb * 2**30))
    found = _lines(answers)
    if len(found) == len(models):
        return [_answer(builtin, entry) for entry in found]
    said = printable(last_line(ended.log)) or f"exit code {ended.code}"
    if "ModuleNotFoundError" in said:
        raise UsageError(
            f"the interpreter {settings.python} does not have the compiler {builtin.name!r}: {said}; "
            f"'npu-guard compile --recipe {builtin.name}' prints how to make its environment"
        )
    rest = Answer(builtin.name, "failed", "did not end in time" if ended.code is None else f"its driver ended with {said}")
    return [*(_answer(builtin, entry) for entry in found), *(rest for _ in models[len(found) :])]


def _lines(answers: Path) -> list[_DriverAnswer]:
    """The answers that a driver wrote whole."""
    found = []
    try:
        with answers.open(encoding="utf-8") as file:
            while line := file.readline(1 << 26):
                found.append(msgspec.convert(json.loads(line), _DriverAnswer))
    except (OSError, ValueError, RecursionError):
        pass
    return found


def _answer(builtin: Builtin, found: _DriverAnswer) -> Answer:
    nodes = tuple(NodeAnswer(n.output, n.op_type, n.word, n.message) for n in found.nodes)
    return Answer(builtin.name, found.status, found.message, nodes)


def version(name: str, settings: CompilerSettings) -> str:
    """The version of a compiler that npu-guard knows, as its environment has it; empty where that is not told."""
    if name not in BUILTINS or settings.command:
        return ""
    code = f"import importlib.metadata as m; print('version', m.version({BUILTINS[name].package!r}))"
    with tempfile.TemporaryDirectory(prefix="npu-guard-compile-") as folder:
        ended = process.run([_absolute(settings.python), "-I", "-c", code], Path(folder), 60, 4 << 30)
    words = last_line(ended.log).split()
    return words[1] if ended.code == 0 and len(words) == 2 and words[0] == "version" else ""


class _DriverNode(msgspec.Struct):
    output: str
    op_type: str
    word: str
    message: str = ""


class _DriverAnswer(msgspec.Struct):
    status: str
    message: str = ""
    nodes: tuple[_DriverNode, ...] = ()


def _absolute(program: str) -> str:
    """A program's path as it is from here; the compiler runs in a folder of its own."""
    if not program:
        return ""
    return os.path.abspath(program) if os.sep in program else shutil.which(program) or program
