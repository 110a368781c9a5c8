"""The page of all settings, made from the classes that read them: type, default, environment variable and meaning."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping

import msgspec

from npu_guard.base.limits import Limits
from npu_guard.compilers.settings import CompilerSettings, LogPattern
from npu_guard.device.partition import Given, Settings
from npu_guard.project.config import SettingsFile, Suppression
from npu_guard.project.environment import VARIABLES

_INTRODUCTION = """# Settings

In `pyproject.toml` under `[tool.npu-guard]`, or in `npu-guard.toml` without that prefix. The nearest file upwards from the
current folder counts, up to the root of the repository; `--config FILE` names another one.

What counts more, from the least: the default, the settings file, environment variables, flags. `--select` and `--input-shape`
take the place of what was set, `--ignore` adds to it. An environment variable that is empty counts as not set.

`SOURCE_DATE_EPOCH` puts its date onto HTML pages; `NO_COLOR`, `FORCE_COLOR`, `CLICOLOR` and
`TERM=dumb` decide on colour as they do elsewhere; `NPU_GUARD_CACHE_KEY` is the secret of
the [cache](cache.md), and no setting, as a file in the repository is no place for it.
"""
_TABLES: tuple[tuple[str, str, type[msgspec.Struct], str], ...] = (
    ("`[[tool.npu-guard.suppress]]`", "suppress", Suppression, "A finding that the project accepts, a table each."),
    ("`[tool.npu-guard.limits]`", "limits", Limits, "What a model may claim of the machine; beyond it, it is refused."),
    ("`[tool.npu-guard.partition]`", "partition", Given, "What a cut between NPU and host costs; see `npu-guard partition`."),
    ("`[tool.npu-guard.compiler.NAME]`", "compiler", CompilerSettings, "A vendor's compiler; see [compilers.md](compilers.md)."),
    ("`[[tool.npu-guard.compiler.NAME.findings]]`", "findings", LogPattern, "What is read from its log."),
)  # fmt: skip


def settings_page() -> str:
    """The page, in Markdown."""
    lines = [_INTRODUCTION, "## `[tool.npu-guard]`", "", *_table(SettingsFile, VARIABLES)]
    for title, _, kind, about in _TABLES:
        lines += ["", f"## {title}", "", about, "", *_table(kind)]
    return "\n".join(lines) + "\n"


def _table(kind: type[msgspec.Struct], variables: Mapping[str, str] | None = None) -> Iterator[str]:
    variable = " variable |" if variables is not None else ""
    yield f"| key | type | default |{variable} meaning |"
    yield "|---|---|---|" + ("---|" if variables is not None else "") + "---|"
    told = field_docs(kind) | (field_docs(Settings) if kind is Given else {})
    defaults = {f.name: f.default for f in msgspec.structs.fields(Settings)} if kind is Given else {}
    for field in msgspec.structs.fields(kind):
        key = field.name.replace("_", "-") if kind is Given else field.encode_name
        default = defaults.get(field.name, field.default)
        middle = f" {f'`{variables[key]}`' if key in variables else ''} |" if variables is not None else ""
        yield f"| `{key}` | {_type(field.type)} | {_default(field, default)} |{middle} {told.get(field.name, '')} |"


def field_docs(kind: type) -> dict[str, str]:
    """The docstrings below the fields of a class, on one line each."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    name = ""
    for statement in body.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
        elif name and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            found[name] = " ".join(str(statement.value.value).split()).replace("|", "\\|")
            name = ""
        else:
            name = ""
    return found


def _type(kind: object) -> str:
    """A type as a writer of TOML thinks of it."""
    info = msgspec.inspect.type_info(kind)
    return _words(info)


def _words(info: msgspec.inspect.Type) -> str:
    if isinstance(info, msgspec.inspect.Metadata):
        return _words(info.type)
    if isinstance(info, msgspec.inspect.LiteralType):
        return " or ".join(f'`"{value}"`' for value in info.values)
    if isinstance(info, msgspec.inspect.UnionType):
        return " or ".join(_words(t) for t in info.types if not isinstance(t, msgspec.inspect.NoneType))
    if isinstance(info, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
        return f"list of {_words(info.item_type)}s"
    if isinstance(info, msgspec.inspect.StructType | msgspec.inspect.DictType):
        return "table"
    return {"StrType": "text", "IntType": "whole number", "FloatType": "number", "BoolType": "true or false"}[type(info).__name__]


def _default(field: msgspec.structs.FieldInfo, default: object) -> str:
    if default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT:
        return "required"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, str) and default:
        return f'`"{default}"`'
    return f"`{default:,}`".replace(",", "_") if isinstance(default, int | float) else ""
