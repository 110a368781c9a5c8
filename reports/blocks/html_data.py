"""What the page's script reads: columns instead of records and each text once, so that 10,000 operators stay small."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import msgspec

from npu_guard.base.text import printable
from npu_guard.checking.pairs import at_finding
from npu_guard.fixing import catalog
from npu_guard.project.paths import in_project, where
from npu_guard.reports.blocks.tree import VERDICTS, Group, frontier
from npu_guard.results.findings import Attribute, Dim, Finding, LayerRow, ModelReport, Number, Operand, Remedy
from npu_guard.results.summary import allowed_words, message, percent, word

_NAME = 160
_OPEN_BOXES = 32


def shown_path(path: str) -> str:
    """A model's path as a report may show it: never one that tells how somebody's disk is laid out."""
    return printable(in_project(path))


def shape(dims: tuple[Dim, ...] | None) -> str:
    """A shape, such as 1 x 64 x 48 x 80; a question mark for what is not known."""
    if dims is None:
        return "unknown"
    return "×".join("?" if d is None else printable(str(d), 40) for d in dims) or "scalar"


def number(value: Number) -> str:
    """A measured or allowed value in words."""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return printable(value) if isinstance(value, str) else f"{value:,}"


def rounded(share: float) -> float:
    """A share in percent, in two decimals; as it is where that would read differently: 0.0497 is less than 0.1 %, 0.05 is not."""
    near = round(share, 2)
    return share if percent(near) != percent(share) else near


class _Given(dict[str, int]):
    """Texts as they were given, each made safe to show when it comes for the first time."""

    def __init__(self, shown: dict[str, int]) -> None:
        self._shown = shown

    def __missing__(self, text: str) -> int:
        found = self[text] = self._shown.setdefault(printable(text, _NAME), len(self._shown))
        return found


class Texts:
    """Texts by number."""

    def __init__(self) -> None:
        self.shown: dict[str, int] = {}
        self._longer: dict[tuple[str, int], int] = {}
        self.of = _Given(self.shown).__getitem__
        """The number of a text of usual length: of a large network, asked some hundred thousand times."""
        self("")  # number 0: nothing

    def __call__(self, text: str, limit: int = _NAME) -> int:
        """The number of a text, made safe to show."""
        if limit == _NAME:
            return self.of(text)
        key = (text, limit)
        if key not in self._longer:
            self._longer[key] = self.shown.setdefault(printable(text, limit), len(self.shown))
        return self._longer[key]


def model_data(model: ModelReport, root: Group, names: dict[int, str]) -> dict[str, Any]:
    """One model."""
    texts = Texts()
    groups = list(root.below())
    number_of = {id(group): i for i, group in enumerate(groups)}
    inside = [(item, number_of.get(id(group), -1)) for group in (root, *groups) for item in group.items]
    parents = {id(item): parent for item, parent in inside if isinstance(item, Group)}
    homes = {item.index: parent for item, parent in inside if isinstance(item, LayerRow)}
    opened = frontier(root, _OPEN_BOXES)[1]
    return {
        "path": shown_path(model.path),
        "macs": model.totals.macs,
        "groups": [[texts(g.label), parents[id(g)], int(g.part)] for g in groups],
        "open": [number_of[id(g)] for g in opened],
        "rows": _rows(model.layers, names, homes, texts) | _pieces(model) | _details(model.layers, texts),
        "sides": [] if model.pieces is None else [piece.side for piece in model.pieces.pieces],
        "findings": _findings(model, texts),
        "forms": {name: summary for name in _forms(model) if (summary := catalog_summary(name))},
        "texts": list(texts.shown),
    }


def _rows(layers: Sequence[LayerRow], names: dict[int, str], homes: dict[int, int], texts: Texts) -> dict[str, Any]:
    text = texts.of
    shown = functools.cache(lambda dims: text(shape(dims)))
    return {
        "node": [printable(r.location.node, _NAME) for r in layers],
        "output": [0 if r.location.output == r.location.node else printable(r.location.output, _NAME) for r in layers],
        "op": [text(r.location.op_type) for r in layers],
        "module": [text(".".join(r.scope)) for r in layers],
        "label": [text(names.get(r.index, "")) for r in layers],
        "group": [homes.get(r.index, -2) for r in layers],
        "inputs": [r.inputs for r in layers],
        "shape": [shown(r.shape) for r in layers],
        "dtype": [text(r.dtype or "unknown") for r in layers],
        "macs": [r.macs for r in layers],
        "params": [r.params for r in layers],
        "bytes": [r.output_bytes for r in layers],
        "live": [r.live_bytes for r in layers],
        "waste": [None if r.alignment_waste is None else rounded(r.alignment_waste * 100) for r in layers],
        "verdict": [VERDICTS.index(r.verdict) for r in layers],
        "results": {str(r.index): [printable(name, _NAME) for name in r.results] for r in layers if r.results},
    }


def _pieces(model: ModelReport) -> dict[str, Any]:
    """The piece of each row, -1 where it is in none, if the model was cut."""
    return {} if model.pieces is None else {"piece": [-1 if r.piece is None else r.piece for r in model.layers]}


def _details(layers: Sequence[LayerRow], texts: Texts) -> dict[str, Any]:
    """Of each row its attributes, as a number in a list of sets that many share, its operands and its line of Python.

    An operand is three numbers: what ONNX calls it, its name, and its type with its shape, negative for what is constant.
    """
    text = texts.of
    sets: dict[tuple[Attribute, ...], int] = {}
    types: dict[tuple[str | None, tuple[Dim, ...] | None, str], int] = {}

    def kind(operand: Operand) -> int:
        key = (operand.dtype, operand.shape, operand.encoding)
        found = types.get(key)
        if found is None:
            found = types[key] = texts(f"{operand.dtype or 'unknown'} {shape(operand.shape)} {operand.encoding}".rstrip())
        return -1 - found if operand.constant else found

    def operands(several: tuple[Operand, ...]) -> list[int]:
        return [number for o in several for number in (text(o.formal), text(o.name), kind(o))]

    columns = {
        "attributes": [sets.setdefault(r.attributes, len(sets)) for r in layers],
        "reads": [operands(r.reads) for r in layers],
        "makes": [operands(r.makes) for r in layers],
        "line": [0 if r.source is None else texts(f"{r.source.file}:{r.source.line}") for r in layers],
    }
    shown = [[[texts(a.name), texts(a.value), int(a.default)] for a in attributes] for attributes in sets]
    return {**columns, "sets": shown}


def _forms(model: ModelReport) -> list[str]:
    """Names of all substitutions that some finding would be removed by."""
    return sorted({name for f in model.findings if f.remedy is not None for name in forms_of(f.remedy)})


def forms_of(remedy: Remedy) -> tuple[str, ...]:
    """The substitution that `fix` would try, and those that would follow in its place."""
    return () if remedy.substitution is None else (remedy.substitution, *remedy.chain)


@functools.cache
def catalog_summary(name: str) -> str:
    """The first line of a substitution's documentation, empty for one that is not known."""
    found = next((s for s in catalog.substitutions() if s.name == name), None)
    return (found.__doc__ or "").strip().partition("\n")[0] if found is not None else ""


def _findings(model: ModelReport, texts: Texts) -> list[list[Any]]:
    rows: dict[tuple[tuple[str, ...], str], int] = {}
    for row in model.layers:
        rows.setdefault((row.location.graph, row.location.output), row.index)
    told: dict[tuple[object, ...], list[int]] = {}
    return [_finding(model, f, rows.get((f.location.graph, f.location.output), -1), texts, told) for f in model.findings]


def source_line(model: ModelReport, finding: Finding) -> str:
    """`net/attention.py:29`, or nothing where no line of Python is known."""
    return printable(":".join(map(str, where(model, finding)))) if finding.source else ""


def _finding(
    model: ModelReport, f: Finding, row: int, texts: Texts, told: dict[tuple[object, ...], list[int]]
) -> list[Any]:  # fmt: skip
    """The columns of a finding, as page.js takes them apart; `told` has those that equal findings share."""
    total = model.totals.macs
    text = texts.of
    rule, kind = text(f.rule), text("suppressed" if f.suppressed is not None else word(f))
    place = text(f"{f.location.op_type} {f.location.node}"), text(".".join(f.location.scope) or "/".join(f.location.graph))
    key = (f.rule, id(f.severity), id(f.outcome), f.message, f.evidence, id(f.remedy), f.suppressed, f.location.op_type)
    said = told.get(key)
    if said is None:
        said = told[key] = _said(f, texts)
    words, measured, allowed, limit, suppressed, forms, pair, option = said
    line, function = (texts(source_line(model, f)), texts(f.source.function)) if f.source else (0, 0)
    share = rounded(100 * f.macs / total) if total else 0
    return [
        rule, kind, row, *place, words, measured, allowed, limit, line, function, share, suppressed, forms, pair, option
    ]  # fmt: skip


def _said(f: Finding, texts: Texts) -> list[int]:
    evidence, remedy = f.evidence, f.remedy
    return [
        texts(message(f), 400),
        texts(number(evidence.measured) if evidence else ""),
        texts(allowed_words(evidence) if evidence else ""),
        texts(evidence.limit if evidence else ""),
        texts(f.suppressed or "", 400),
        texts(", ".join(forms_of(remedy)) if remedy is not None else ""),
        texts(pair.name if (pair := at_finding(f)) is not None else ""),
        texts(remedy.option if remedy is not None else ""),
    ]


def script_json(data: Any) -> str:
    """JSON that cannot end the script element it stands in, and that is no surprise to any parser of JavaScript."""
    text = msgspec.json.encode(data).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
