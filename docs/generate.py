"""Write everything in the repository that is made from the code: `make docs`.

`tests/test_docs_current.py` compares `pages()` with what is checked in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from json import dumps
from pathlib import Path
from typing import Any

import click
import onnx
from rich.console import Console
from rich.text import Text

from npu_guard import cli
from npu_guard.analysis import cost, evaluate
from npu_guard.analysis.channels import operators as channels
from npu_guard.base.folding import fold_text
from npu_guard.checking import listed, manual, registry
from npu_guard.device.vocabulary import METRICS, VIEWS
from npu_guard.fixing import catalog
from npu_guard.graph.handlers import Handlers
from npu_guard.graph.ops import operators
from npu_guard.pipeline.check import check_models
from npu_guard.project.config import Config
from npu_guard.project.settings_page import settings_page
from npu_guard.reports import json, text
from npu_guard.rewriting import rank_lift
from npu_guard.rewriting.depth import operators as depth
from npu_guard.rewriting.tokens import regions as tokens
from npu_guard.training.files import manifest_schema

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("docs/rules", "docs/profiles")
"""Wholly generated: a file there that no page explains is left over."""
SAMPLE = "samples/sample_net.onnx"
PICTURED = "NPU2,NPU3"
WIDTH = 106
WALKTHROUGH = "docs/adding-a-device.md"


def pages() -> dict[str, str]:
    """Content of every generated file, by its path in the repository."""
    found = {f"docs/rules/{rule.code}.md": manual.page(rule) for rule in registry.rules()}
    found |= {f"docs/profiles/{name}.md": manual.profile_page(registry.device_file(name)) for name in registry.profile_files()}
    found["docs/rules/index.md"] = rule_index()
    found["docs/profiles/index.md"] = device_index()
    found[WALKTHROUGH] = walkthrough((ROOT / WALKTHROUGH).read_text(encoding="utf-8"))
    found["docs/operators.md"] = operator_page()
    found["docs/cli.md"] = command_line()
    found["docs/settings.md"] = settings_page()
    found["docs/check.svg"] = picture()
    found["reports/assets/json-v1.schema.json"] = json.schema()
    found["rules/index.json"] = index_of(listed.index())
    found["rules/substitutions/index.json"] = index_of(catalog.index())
    found["docs/training-manifest.schema.json"] = dumps(manifest_schema(), indent=2) + "\n"
    return found


def index_of(pack: Mapping[str, list[dict[str, Any]]]) -> str:
    """What `check` needs to know of rules or substitutions that it does not load, a line for each file."""
    return "{\n" + ",\n".join(f"{dumps(stem)}: {dumps(facts)}" for stem, facts in pack.items()) + "\n}\n"


def rule_index() -> str:
    """All rules in one table."""
    lines = ["# Rules", "", "| code | name | severity | reported when |", "|---|---|---|---|"]
    for rule in registry.rules():
        lines.append(f"| [{rule.code}]({rule.code}.md) | {rule.name} | {rule.severity.value} | {rule.summary()} |")
    return "\n".join(lines) + "\n"


def device_index() -> str:
    """All devices in one table, with how many of the known facts each file states, and what it leaves out."""
    lines = ["# Devices", "", "| profile | device | toolchain | limits | operators | facts stated |", "|---|---|---|---|---|---|"]
    left = ["", "## What is left out", "", "Facts that are known of a device and that its file does not state.", ""]
    left += ["| profile | fact | why |", "|---|---|---|"]
    for name in registry.profile_files():
        device = registry.device_file(name)
        tool = f"{device.toolchain.name} {device.toolchain.version}".strip() if device.toolchain is not None else ""
        facts = "" if device.coverage is None else f"{device.coverage.taken} of {device.coverage.known}"
        names = "<br>".join(f"`{name}:{variant}`" for variant in device.variants) or f"`{name}`"
        limits = len(device.limits) + len(device.requirements)
        lines.append(f"| {names} | [{device.title}]({name}.md) | {tool} | {limits} | {len(device.operators)} | {facts} |")
        for entry in device.coverage.left_out if device.coverage is not None else ():
            left += [f"| {name} | {fact} | {entry.reason} |" for fact in entry.facts]
    return "\n".join(lines + left) + "\n"


def walkthrough(page: str) -> str:
    """The page on adding a device, with the tables of words that a file may use."""
    metrics = ["| metric | what it measures | rule |", "|---|---|---|"]
    for name, base in METRICS.items():
        code = base.code + "".join(f"; {other} at {', '.join(names)}" for names, other in base.codes)
        suffix = {"input": ".INPUT", "attribute": ".NAME", "input?": "[.INPUT]"}.get(base.named, "")
        metrics.append(f"| `{name}{suffix}` | {base.meaning} | {code} |")
    views = ["| view | |", "|---|---|", *(f"| `.{name}` | {meaning} |" for name, meaning in VIEWS.items())]
    for name, table in (("metrics", metrics), ("views", views)):
        text = "\n".join(["", *table, ""])
        page = re.sub(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda m, t=text: f"{m[1]}{t}\n{m[2]}", page, flags=re.DOTALL)
    return page


CAPABILITIES: dict[str, Handlers[Any]] = {
    "evaluated": evaluate.OPERATORS,
    "cost": cost.MACS,
    "channels": channels.OPERATORS,
    "tokens": tokens.OPERATORS,
    "1-D": rank_lift.FORMS,
    "rank 5": depth.HANDLERS,
}
"""Tables of handlers that the page on operators shows."""


def operator_page() -> str:
    """Every operator of ONNX by what is known of it and done about it, and what is left out with the reason."""
    named: dict[str, list[str]] = {}
    for name in registry.profile_files():
        device = registry.device_file(name)
        for op in sorted({*device.operators, *(op for limit in device.requirements for op in limit.ops)}):
            named.setdefault(op, []).append(name)
    lines = [
        "# Operators", "", "What is known of each operator of ONNX (`npu_guard/graph/ops.py`), and where it is dealt with:", "",
        "- *shape*: ONNX infers the shape of its output; *evaluated*: on small constants, for shapes and weights;",
        "- *cost*: it has multiply-accumulates; *channels*: widened channels go through it;",
        "- *tokens*, *1-D*, *rank 5*: it has a form on maps where `fix` rewrites such networks (windows and views in",
        "  one dimension by the forms of `conv1d-to-conv2d` itself);",
        "- *family*: the operator that exporters write for the same step, so that findings on both are one;",
        "- *device files*: those that say something of it.", "",
        f"| operator | kind | shape | {' | '.join(CAPABILITIES)} | family | device files |",
        f"|---|---|---|{'---|' * len(CAPABILITIES)}---|---|",
    ]  # fmt: skip
    for record in sorted(operators(domain=""), key=lambda record: record.name):
        schema = onnx.defs.get_schema(record.name) if onnx.defs.has(record.name) else None
        shape = schema is not None and (schema.has_type_and_shape_inference_function or schema.has_function)  # type: ignore[attr-defined]
        known = ["x" if record.name in table else "" for table in CAPABILITIES.values()]
        family = record.family if record.family != record.name else ""
        cells = [f"`{record.name}`", record.kind, "x" if shape else "", *known, family, ", ".join(named.get(record.name, ()))]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## What is left out", "", "Operators of a kind that a table covers, and why it has no form for them.", ""]
    lines += ["| where | operators | why |", "|---|---|---|"]
    lines += [
        f"| {name} | {', '.join(names.split())} | {reason} |"
        for name, table in CAPABILITIES.items()
        for names, reason in table.without.items()
    ]
    lines += ["", "## Operators of ONNX Runtime", "", "Operators of com.microsoft that have a record.", ""]
    lines += ["| operator | kind | data | weights | device files |", "|---|---|---|---|---|"]
    for record in sorted(operators(domain="com.microsoft"), key=lambda record: record.name):
        roles = [", ".join(f"`{record.inputs[i].name}`" for i in record.indices(role)) for role in ("data", "weight")]
        devices = ", ".join(named.get(f"com.microsoft::{record.name}", ()))
        lines.append(f"| `{record.name}` | {record.kind} | {' | '.join(roles)} | {devices} |")
    return "\n".join(lines) + "\n"


def command_line() -> str:
    """The help page of the program and of each command."""
    lines = ["# Command line", ""]
    program = click.Context(cli.cli, info_name="npu-guard", terminal_width=100, **cli.cli.context_settings)
    contexts = [program]
    for name in cli.cli.list_commands(program):
        command = cli.cli.get_command(program, name)
        assert command is not None
        contexts.append(click.Context(command, program, name))
        if isinstance(command, click.Group):
            shown = (c for c in command.commands.values() if not c.hidden)
            contexts += [click.Context(c, contexts[-1], c.name) for c in shown]
    for context in contexts:
        lines += [f"## {context.command_path}", "", "```", context.get_help(), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def picture() -> str:
    """What `npu-guard check` shows in a terminal, as an SVG that loads nothing from the network."""
    before = Path.cwd()
    os.chdir(ROOT)  # a report shows paths as they were given
    try:
        report = check_models([SAMPLE], Config(select=tuple(PICTURED.split(","))), remedies=True)
    finally:
        os.chdir(before)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(
            record=True, file=nowhere, width=WIDTH, force_terminal=True, color_system="truecolor", legacy_windows=False
        )
        shown = fold_text(text.render(report, color=True), WIDTH).rstrip()
        console.print(Text.from_ansi(f"$ npu-guard check {SAMPLE} --select {PICTURED}\n{shown}"))
        svg = console.export_svg(title="npu-guard", unique_id="check")
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace")


def main() -> None:
    """Write the pages that differ; remove those that nothing makes any more."""
    found = pages()
    for folder in FOLDERS:
        for file in (ROOT / folder).glob("*"):
            if file.relative_to(ROOT).as_posix() not in found:
                file.unlink()
                print(f"removed {file.relative_to(ROOT)}")
    for name, content in found.items():
        file = ROOT / name
        if not file.exists() or file.read_text(encoding="utf-8") != content:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
            print(f"wrote {name}")


if __name__ == "__main__":
    main()
