"""The HTML page itself: one for models, and one for a model before and after."""

from __future__ import annotations

import base64
import collections
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_guard.base.text import printable
from npu_guard.checking import manual, registry
from npu_guard.checking.pairs import at_finding, pairs
from npu_guard.project.next_command import device_from_root, steps_from_root
from npu_guard.reports.blocks import charts, html_data, overview, picture, tree
from npu_guard.reports.blocks.manual_html import Manual
from npu_guard.results.findings import LayerRow, ModelReport, Report
from npu_guard.results.groups import ranked_groups
from npu_guard.results.next_steps import filled_in, is_of_operator
from npu_guard.results.runs import headline
from npu_guard.results.summary import Counts, count, known_macs, mending, outcome, plural, si, word

if TYPE_CHECKING:
    from jinja2 import Template

    from npu_guard.reports.blocks.comparison import Compared

SCRIPTS = ("dagre.min.js", "paged_table.js", "modules.js", "about.js", "graph.js", "page.js")
_STILL_FINDINGS = 500  # lines of the table for browsers without scripts
_STILL_NODES = 20
_CROSSINGS = 100
_LONGEST = 4000


def page(report: Report, compared: Compared | None = None) -> str:
    """A page about the models of a report. With `compared` they are two, and what becomes of the one in the other comes first."""
    style = _asset("style.css")
    script = f"/*\n{_asset('dagre.LICENSE').strip()}\n*/\n" + "".join(f"{_asset(name).strip()}\n" for name in SCRIPTS)
    many = len(report.models) > 1
    texts = Manual(_assets())
    models = [_model(report, model, texts, f"model={i + 1}&" if many else "") for i, model in enumerate(report.models)]
    data: dict[str, Any] = {"models": [data for _, data in models], "advice": _advice(report), "pairs": _pairs(report)}
    if compared is not None:
        data["sides"] = [side.lower() if side in ("Before", "After") else side for side in compared.view["sides"]]
        data["changes"] = [printable(name, 120) for name in compared.names]
        for model, change in zip(data["models"], compared.changes, strict=True):
            model["change"] = {str(row): number for row, number in change.items()}
    html = _template().render(
        version=report.version,
        style=_raw(style),
        script=_raw(script),
        style_hash=_digest(style),
        script_hash=_digest(script),
        models=[view for view, _ in models],
        data=_raw(html_data.script_json(data)),
        compared=None if compared is None else compared.view,
        rules=[{**entry, "url": report.rule_url(entry["code"])} for entry in _manual(report, texts)],
        many=many,
    )
    texts.keep()
    return html


@functools.cache
def _template() -> Template:
    import jinja2

    from npu_guard.reports.blocks import compiled  # a process that only compares or prints starts faster without

    environment = compiled.environment(
        _assets(), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_safe
    )
    environment.filters["percent"] = charts.percent
    environment.filters["breaks"] = _breaks
    environment.filters["sides"] = _sides
    return environment.get_template("template.html.j2")


def _breaks(path: str) -> Any:
    """A path that goes on in the next line behind a slash, and not within a name."""
    import markupsafe

    return markupsafe.escape(printable(path, _LONGEST)).replace("/", markupsafe.Markup("/<wbr>"))


def _sides(shape: str) -> Any:
    """A shape that is broken between two extents alone."""
    import markupsafe

    return markupsafe.escape(shape).replace("×", markupsafe.Markup("×<wbr>"))


def _safe(value: Any) -> Any:
    """Whatever the template shows: escapes for HTML come after, and markup of our own is left alone."""
    return printable(value, _LONGEST) if type(value) is str else value


def _assets() -> Path:
    return registry.pack("reports") / "assets"


@functools.cache
def _asset(name: str) -> str:
    return (_assets() / name).read_text(encoding="utf-8")


def _raw(text: str) -> Any:
    import markupsafe

    return markupsafe.Markup(text)


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _model(report: Report, model: ModelReport, texts: Manual, link: str) -> tuple[dict[str, Any], dict[str, Any]]:
    root, names = tree.build(model.layers)
    device = model.device.title if model.device is not None else model.profile
    counts = count(model.findings)
    key = overview.node_keys(model.layers)
    limits = overview.device_limits(model)
    view = {
        "link": link,
        "path": html_data.shown_path(model.path),
        "profile": model.profile,
        "verdict": model.verdict.value,
        "headline": headline(model, device),
        "outcome": "" if model.error else outcome(model),
        "steps": steps_from_root(model),
        "error": _error(model),
        "facts": _facts(model),
        "counts": counts,
        "findings": sum((counts.error, counts.warning, counts.note, counts.undecided)),
        "operators": overview.operator_table(model, key),
        "to_do": overview.to_do(model, lambda text: _raw(texts.line(text))),
        "to_do_title": overview.title_of([f for f in model.findings if f.suppressed is None]),
        "record": overview.record(report, model),
        "groups": _still(model),
        "coverage": charts.coverage(model.layers),
        "bars": charts.module_bars(model, root),
        "bars_of": "module" if any(row.scope for row in model.layers) else "layer",
        "memory": charts.memory(model.layers, key),
        "pieces": _pieces(model, key),
        "picture": picture.draw(root, [] if model.pieces is None else [p.side for p in model.pieces.pieces])
        if model.layers
        else None,
        "device": model.device,
        "device_limits": limits,
        "limits_left": sum(not on_paper for _, on_paper in limits),
        "limits": _open_points(model, counts),
        "silent": [_named(code) for code in model.asked if code not in {f.rule for f in model.findings}],
        "layers": model.totals.nodes,
        "sha256": model.sha256,
        "folded": sum(row.verdict == "folded" for row in model.layers),
    }
    return view, html_data.model_data(model, root, names)


def _advice(report: Report) -> dict[str, str]:
    """What is advised, as plain text: by rule and operator where it is about that operator, else by rule."""
    told: dict[str, str] = {}
    for model in report.models:
        for f in model.findings:
            if f.remedy is not None:
                key = f"{f.rule} {f.location.op_type}" if is_of_operator(f) else f.rule
                told.setdefault(key, filled_in(f.remedy.advice, device_from_root(model)).replace("`", ""))
    return told


def _pairs(report: Report) -> dict[str, list[str]]:
    """Title, before and after in PyTorch, of what findings of the report can be written as."""
    shown = {at_finding(f) for model in report.models for f in model.findings} - {None}
    return {p.name: [p.title, p.before, p.after] for p in pairs() if p in shown}


def _error(model: ModelReport) -> str:
    return "" if model.error is None else printable(model.error[1].replace(model.path, html_data.shown_path(model.path)), 2000)


def _facts(model: ModelReport) -> list[tuple[str, str, str]]:
    """(name, value, unit or remark)."""
    if model.error is not None:
        return []
    t = model.totals
    least = "at least " if t.uncounted else ""
    macs = si(t.macs) if t.macs or not least else "not known"
    _, left = known_macs(t.uncounted)
    return [
        ("Layers", f"{t.nodes:,}", _where_they_run(model) or f"opset {model.opset}"),
        ("Multiply-accumulates", f"{least if t.macs else ''}{macs}", f"MACs for one inference{left}"),
        ("Parameters", si(t.params), "weights and biases"),
        ("Peak activations", f"{least}{si(t.peak_bytes)}B", "in the element types of the model"),
    ]


def _where_they_run(model: ModelReport) -> str:
    """`309 on the NPU, 21 on the host`, where the model was cut into pieces."""
    pieces = () if model.pieces is None else model.pieces.pieces
    counts = collections.Counter(
        pieces[layer.piece].side for layer in model.layers if pieces and layer.piece is not None and layer.verdict != "folded"
    )
    return f"{counts['npu']:,} on the NPU, {counts['host']:,} on the host" if pieces else ""


def _pieces(model: ModelReport, key: Callable[[LayerRow], str]) -> dict[str, Any] | None:
    """Tables of what runs where and of what goes from one piece to another."""
    cut = model.pieces
    if cut is None:
        return None
    total = model.totals.macs
    return {
        "headline": cut.headline,
        "rows": [(p, 100 * p.macs / total if total else 0.0, si(p.bytes)) for p in cut.pieces],
        "crossings": [
            (c, html_data.shape(c.shape), "unknown" if c.bytes is None else f"{si(c.bytes)}B") for c in cut.crossings[:_CROSSINGS]
        ],
        "more": max(0, len(cut.crossings) - _CROSSINGS),
        "breakers": [overview.breaker(model, b, key) for b in cut.breakers],
    }


def _still(model: ModelReport) -> dict[str, Any]:
    """Findings for browsers without scripts: those that say the same together, the most important first."""
    groups = ranked_groups([model])
    lines = [
        {
            "word": word(g.first),
            "rule": g.first.rule,
            "message": printable("; ".join(filter(None, (g.message, mending(g.findings))))),
            "nodes": [printable(f"{f.location.op_type} {f.location.node}", 80) for f in g.findings[:_STILL_NODES]],
            "more": max(0, len(g.findings) - _STILL_NODES),
            "module": printable(".".join(g.first.location.scope)),
            "source": html_data.source_line(model, g.first),
        }
        for g in groups[:_STILL_FINDINGS]
    ]
    return {"lines": lines, "more": max(0, len(groups) - _STILL_FINDINGS)}


def _open_points(model: ModelReport, counts: Counts) -> list[str]:
    """What a reader must not take for a pass."""
    points = [printable(note) for note in model.notes]
    if counts.undecided:
        points.append(f"{plural(counts.undecided, 'finding')} could not be decided; each says why.")
    points += [f"{plural(number, 'finding')} {printable(known)}, which do not count." for known, number in counts.known.items()]
    if accepted := counts.suppressed - sum(counts.known.values()):
        points.append(f"{plural(accepted, 'finding')} suppressed by the project's settings; each says why.")
    if model.unknown:
        points.append(
            f"The shape or type of {plural(len(model.unknown), 'tensor')} is not known, so their cost counts as nothing."
        )
    if model.not_applicable:
        points.append(f"Not checked, because the profile sets no such limit: {', '.join(map(_named, model.not_applicable))}.")
    points += [
        f"Internal error in {c.rule} at {printable(c.node, 80)}: {printable(c.error)}. Please report it." for c in model.crashes
    ]
    return points


def _named(code: str) -> str:
    return next((f"{r.code} {r.name}" for r in registry.rules() if r.code == code), code)


def _manual(report: Report, texts: Manual) -> list[dict[str, Any]]:
    """The rules' manual pages, without their titles, with the limits of the devices at hand; headings two levels further down."""
    devices = {model.device.name: model.device for model in report.models if model.device is not None}
    stated = {name: {row.key: (row.value, row.source) for row in device.limits} for name, device in devices.items()}
    rules = registry.rules()
    return [{"code": r.code, "name": r.name, "page": _raw(texts.page(manual.page(r, stated)))} for r in rules]
