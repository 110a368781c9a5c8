"""`[tool.npu-guard.compiler.NAME]`: how a compiler is started and how its result is read."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from npu_guard.base.errors import UsageError
from npu_guard.base.regex import regex

PLACEHOLDERS = ("model", "profile", "out", "python")
_PLACEHOLDER = regex(r"\{(\w*)\}")
GROUPS = ("node", "message", "op_type", "severity")


class LogPattern(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """A regular expression that is looked for in each line of the log; its named groups are those of GROUPS."""

    pattern: str
    means: Literal["refused", "host", "note"] = "refused"
    """What a line says of the node, where there is no group `severity` to say so."""


class CompilerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """One compiler. Without a command, the name is that of a compiler that npu-guard knows."""

    command: tuple[str, ...] = ()
    """Arguments with the placeholders {model}, {profile}, {out} (a folder that is removed afterwards) and
    {python}. What begins with ./ or ../ is a path from the current folder."""
    python: str = ""
    """The interpreter of the compiler's own environment."""
    options: dict[str, str | int] = {}
    """For the compilers that npu-guard knows, such as `accelerator = "ethos-u55-256"`."""
    profiles: tuple[str, ...] = ()
    """Profiles whose compiler this is, as globs."""
    seconds: Annotated[float, msgspec.Meta(ge=1)] = 600.0
    memory_gb: Annotated[float, msgspec.Meta(gt=0)] = 16.0
    """For each of its processes."""
    accepts: tuple[int, ...] = (0,)
    """Exit codes of a compilation that worked."""
    refuses: tuple[int, ...] = (1,)
    """Exit codes of a refusal; any other means that the compiler could not run."""
    findings: tuple[LogPattern, ...] = ()


def validate_settings(compilers: Mapping[str, CompilerSettings], where: str) -> None:
    """Raise UsageError where a command or a pattern cannot work; what is known of names is looked at when one is used."""
    for name, settings in compilers.items():
        at = f"{where}, compiler {name!r}"
        used = [found for argument in settings.command for found in _PLACEHOLDER.findall(argument)]
        for placeholder in used:
            if placeholder not in PLACEHOLDERS:
                raise UsageError(
                    f"{at}: no placeholder {{{placeholder}}}; there are {', '.join(f'{{{p}}}' for p in PLACEHOLDERS)}"
                )
        if settings.command and "model" not in used:
            raise UsageError(f"{at}: no argument of 'command' is {{model}}, so the compiler would not see the model")
        if set(settings.accepts) & set(settings.refuses):
            raise UsageError(f"{at}: an exit code is in 'accepts' and in 'refuses'")
        for entry in settings.findings:
            _validate_pattern(entry.pattern, at)


def _validate_pattern(pattern: str, at: str) -> None:
    try:
        groups = re.compile(pattern).groupindex
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"{at}: the pattern {pattern!r} is no regular expression ({error})") from None
    unknown = sorted(set(groups) - set(GROUPS))
    if unknown:
        raise UsageError(f"{at}: the pattern {pattern!r} has a group {unknown[0]!r}; named groups are {', '.join(GROUPS)}")


def arguments(settings: CompilerSettings, values: Mapping[str, str]) -> list[str]:
    """The command with its placeholders filled in; the compiler runs in a folder of its own, so no path stays relative."""
    whole = (os.path.abspath(a) if a.startswith(("./", "../")) else a for a in settings.command)
    return [_PLACEHOLDER.sub(lambda found: values[found[1]], argument) for argument in whole]


def needs_python(settings: CompilerSettings) -> bool:
    """Whether the command has a place for an interpreter."""
    return any("{python}" in argument for argument in settings.command)
