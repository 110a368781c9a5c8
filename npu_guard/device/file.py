"""The TOML file of a device: what may stand in it. The JSON Schema for editors is made from these structures."""

from pathlib import Path
from typing import Any, Literal

import msgspec

from npu_guard.base.errors import UsageError
from npu_guard.base.files import MOST_SETTINGS, read_small, toml
from npu_guard.device.keys import LIMITS, Consequence, convert
from npu_guard.device.partition import Given
from npu_guard.device.pattern import PatternEntry
from npu_guard.device.predicate import PREDICATES, Condition, Predicate
from npu_guard.device.vocabulary import METRICS

Scope = Literal["channels"]
Certainty = Literal["documented", "confirmed", "uncertain"]


class LimitEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key of `[limits]`, which bounds the whole device."""

    value: Any
    source: str = ""
    note: str = ""
    consequence: Consequence | None = None
    certainty: Certainty = "documented"
    variants: tuple[str, ...] = ()


class RequirementEntry(Predicate, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[limit]]`, which bounds a metric of some operators."""

    ops: tuple[str, ...]
    metric: str = ""
    constant: tuple[str, ...] = ()
    """Inputs, by their ONNX names, that must be constant; in the place of `metric`."""
    any_of: tuple[dict[str, Condition], ...] = ()
    """Alternatives, in the place of a bound; one of them must hold."""
    when: dict[str, Condition] = {}
    """Where the limit holds; everywhere if it is left out."""
    variants: tuple[str, ...] = ()
    toolchain: str = ""
    """Versions of the compiler to which it belongs, such as "<5" or ">=4.5, <5"."""
    consequence: Consequence = "compile-error"
    certainty: Certainty = "documented"
    """`confirmed`: seen with the vendor's compiler; `uncertain`: the documents leave it open or disagree."""
    reported: str = ""
    """Versions of the compiler with which users met it, such as ">=2.0, <=2.3.2", where the version of this file takes it: the
    finding is a warning that names them. With `--toolkit` the limit holds where that version is one of them."""
    source: str = ""
    note: str = ""
    id: str = ""
    """A name by which a profile that extends this one can replace the limit, or leave it out with `without`."""
    as_written: bool = False
    """Whether the compiler looks at an attribute even where it changes nothing at the node."""


class OperatorsEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[operators]]`: names of which the documents say the same."""

    status: Literal["supported", "refused", "judged"]
    names: tuple[str, ...]
    source: str = ""
    reason: str = ""
    only: Scope | None = None
    consequence: Consequence = "compile-error"
    certainty: Certainty = "documented"
    variants: tuple[str, ...] = ()
    toolchain: str = ""


class Unlisted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of operators that `[[operators]]` does not name, where the documents say that their list is complete."""

    reason: str
    consequence: Consequence = "host"
    source: str = ""


class Toolchain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The compiler whose limits these are."""

    name: str
    version: str = ""
    opset_max: int | None = None
    """The newest operator set that it reads; a model of a newer one is refused as a whole."""
    simplifies: bool = False
    """Whether it runs onnx-simplifier on a model first, as its documents say; findings then depend on `--simplify`."""
    opset_min: int | None = None
    """The oldest operator set that it reads."""
    ir_max: int | None = None
    """The newest version of the file format (`ir_version`) that it reads."""


class LeftOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Known facts that the profile does not state, and why."""

    facts: tuple[str, ...]
    """Operator and parameter, such as "Conv quant"."""
    reason: str


class Coverage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much of what is known of the device the profile states."""

    sheet: str
    known: int
    left_out: tuple[LeftOut, ...] = ()

    @property
    def taken(self) -> int:
        """Facts that the profile states."""
        return self.known - sum(len(entry.facts) for entry in self.left_out)


class ProfileFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device file."""

    name: str
    title: str
    source: str
    extends: str = ""
    without: tuple[str, ...] = ()
    """Limits of the profile that is extended, by `id` or key, which do not hold here."""
    toolchain: Toolchain | None = None
    notes: tuple[str, ...] = ()
    variants: dict[str, str] = {}
    """Devices that share the file: name and title. One is chosen as `profile:variant`."""
    limits: dict[str, LimitEntry] = {}
    limit: tuple[RequirementEntry, ...] = ()
    pattern: tuple[PatternEntry, ...] = ()
    operators: tuple[OperatorsEntry, ...] = ()
    followers: tuple[str, ...] = ()
    """Operators that leave the device with those that they stand beside, such as QuantizeLinear."""
    unlisted: Unlisted | None = None
    partition: Given | None = None
    """What a partition costs on the device, see `npu-guard partition`."""
    severity: dict[str, Literal["error", "warning", "note"]] = {}
    coverage: Coverage | None = None

    def __post_init__(self) -> None:
        """Raise ValueError, which msgspec makes a message with the place of, for names that could not be chosen."""
        for name in (self.name, *self.variants):
            if problem := name_problem(name):
                raise ValueError(problem)


def name_problem(name: str) -> str:
    """What is wrong with the name of a device or of a variant, which people write as NAME:VARIANT; empty if nothing."""
    if name.isascii() and name[:1].isalnum() and len(name) < 80 and all(c.isalnum() or c in "._+-" for c in name):
        return ""
    return f"a device cannot be called {name[:80]!r}: a name has letters, digits and . _ + - alone, such as 'vendor-chip'"


def read_profile_file(path: Path) -> ProfileFile:
    """Read a device file. Raises UsageError."""
    return shaped(parse_profile_file(path), f"profile {path.name}")


def parse_profile_file(path: Path) -> dict[str, Any]:
    """The file's TOML. Raises UsageError."""
    try:
        return toml(read_small(path, MOST_SETTINGS).decode("utf-8"))
    except FileNotFoundError:
        raise UsageError(f"profile {path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"profile {path}: cannot be read ({error})") from None
    except ValueError as error:
        raise UsageError(f"profile {path.name}: not valid TOML: {error}") from None


def shaped(data: dict[str, Any], where: str) -> ProfileFile:
    """A parsed file with its keys flattened and checked. Raises UsageError."""
    file: ProfileFile = convert(plain(data), ProfileFile, where)
    return file


def plain(data: dict[str, Any]) -> dict[str, Any]:
    """One spelling for each key.

    `[limits.conv] kernel_max = ...` is easier to write than dotted keys, and so is `when = { kernel.h = 3 }`, which TOML
    reads as a table in a table.
    """
    data = dict(data)
    data["limits"] = _flatten(data.get("limits", {}))
    if isinstance(data.get("pattern"), list):
        data["pattern"] = [_flat_where(entry) for entry in data["pattern"]]
    if isinstance(data.get("limit"), list):
        data["limit"] = [flat_conditions(entry) for entry in data["limit"]]
    return data


def flat_conditions(entry: Any) -> Any:
    """A `[[limit]]` with `kernel.h` as one key in its conditions."""
    if not isinstance(entry, dict):
        return entry
    entry = dict(entry)
    if "when" in entry:
        entry["when"] = _flat_metrics(entry["when"])
    if isinstance(entry.get("any_of"), list):
        entry["any_of"] = [_flat_metrics(clauses) for clauses in entry["any_of"]]
    return entry


def _flat_where(entry: Any) -> Any:
    if not isinstance(entry, dict) or not isinstance(entry.get("where"), dict):
        return entry
    return {**entry, "where": {line: _flat_metrics(table) for line, table in entry["where"].items()}}


def _flat_metrics(table: Any) -> Any:
    if not isinstance(table, dict):
        return table
    flat: dict[str, Any] = {}
    for key, value in table.items():
        named = key in METRICS and METRICS[key].named in ("input", "attribute")  # `value.min` is an input and no bound
        if isinstance(value, dict) and value and (named or not set(value) & set(PREDICATES)):
            flat.update({f"{key}.{inner}": bound for inner, bound in _flat_metrics(value).items()})
        else:
            flat[key] = value
    return flat


def _flatten(tree: Any, prefix: str = "") -> Any:
    if not isinstance(tree, dict) or prefix in LIMITS or "value" in tree:
        return tree
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        dotted = f"{prefix}.{key}" if prefix else key
        if isinstance(value, dict) and "value" not in value and dotted not in LIMITS:
            inner = _flatten(value, dotted)
            flat.update(inner if inner else {dotted: value})
        else:
            flat[dotted] = value
    return flat
