"""Pages about rules and profiles, made from what the rules and profiles themselves say. Shown and checked in as docs."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import msgspec

from npu_guard.checking import pairs, registry
from npu_guard.checking.rule import Case, Rule
from npu_guard.device import CONSEQUENCES, LIMITS, Profile, Requirement
from npu_guard.device.keys import EVERY
from npu_guard.device.metric import number
from npu_guard.device.vocabulary import METRICS
from npu_guard.device.words import show_value


def rule_list(beginning: str = "", width: int | None = None) -> str:
    """One line a rule, of those whose code or name begins so; `width` is that of a terminal. Empty where there is none."""
    found = [r for r in registry.rules() if r.code.startswith(beginning.upper()) or r.name.startswith(beginning)]
    longest = max((len(r.name) for r in found), default=0)
    lines = [f"{r.code}  {r.name:<{longest}}  {r.severity.value:<7}  {r.summary()}" for r in found]
    return _listed(lines, width, len("NPU101") + longest + len("  warning") + 4)


Stated = Mapping[str, Mapping[str, tuple[str, str]]]
"""Limits by the device that states them: value and source, in words, by key."""


def page(rule: Rule, stated: Stated | None = None) -> str:
    """The manual page of a rule, in Markdown, with the limits of all devices or those that are `stated`."""
    lines = [f"# {rule.code} {rule.name}", "", rule.summary(), ""]
    lines += [f"Severity: {rule.severity.value}. Operators: {_operators(rule)}.", ""]
    for title in ("What it does", "Why it matters", "What to do"):
        lines += [f"## {title}", "", rule.section(title), ""]
    if rule.limits:
        lines += ["## Limits", ""]
        for key in rule.limits:
            lines.append(f"- `{key}`: {LIMITS[key][1]}.")
            limits = [(name, found[key]) for name, found in (stated or _all_stated()).items() if key in found]
            lines += [f"  - {name}: {value} ({source})" for name, (value, source) in limits]
        lines.append("")
    if metrics := [name for name, base in METRICS.items() if rule.code in (base.code, *(code for _, code in base.codes))]:
        words = ", ".join(f"`{name}`" for name in metrics)
        lines += ["## Metrics", "", f"Reports the limits that a profile sets for single operators on {words}.", ""]
    lines += ["## Examples", ""]
    for word, cases in (
        ("Reported", [c for c in rule.bad if c.expect]),
        ("Fine", rule.good),
        ("Cannot tell", [c for c in rule.bad if c.undecided]),
    ):
        if cases:
            lines += _example(word, cases[0])
    if found := [pair for pair in pairs.pairs() if pair.is_about(rule.code)]:
        lines += ["## In PyTorch", ""]
        for pair in found:
            where = ", ".join(op for code, op in pair.findings if code == rule.code)
            lines += [f"{pair.title}", "", f"{where} on {pair.device}:", "", "```python", pair.before, "```", ""]
            lines += ["Instead:", "", "```python", pair.after, "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _operators(rule: Rule) -> str:
    if rule.about_settings:
        return "none, it is about the settings"
    return "all" if rule.ops == (EVERY,) else ", ".join(rule.ops)


def _example(word: str, case: Case) -> list[str]:
    title = f" ({case.title})" if case.title else ""
    limits = ", ".join(
        [f"{key} = {show_value(value)}" for key, value in case.limits.items()]
        + [f"{code} suppressed at {node}" for code, node in case.suppress]
        + [" ".join(f"{key} = {number(value)}" for key, value in entry.items() if key != "ops") for entry in case.require]
    )
    graph = "\n".join(line.strip() if index == 0 else f"    {line.strip()}" for index, line in enumerate(case.graph.splitlines()))
    said = [f"{output}: {measured}" for output, measured in case.expect if measured is not None]
    head = f"{word}{title}" + (f", with {limits}" if limits else "") + (f"; measured {', '.join(said)}" if said else "")
    return [f"{head}:", "", "```", graph, "```", ""]


def profile_list(width: int | None = None) -> str:
    """One line a device; those that share a file are named with it. `width` is that of a terminal."""
    found = [registry.profile(name) for name in registry.profile_names()]
    longest = max(len(p.name) for p in found)
    lines = [
        f"{p.name:<{longest}}  {p.title}: {len(p.limits) + len(p.requirements)} limits, {len(p.operators)} operators"
        for p in found
    ]
    return _listed(lines, width, longest + 2)


def _listed(lines: list[str], width: int | None, hang: int) -> str:
    """The lines, in a terminal with what is folded of them below their last column."""
    if width is not None:
        from npu_guard.base.folding import fold  # where a terminal reads

        lines = [part for line in lines for part in fold(line, width, hang)]
    return "".join(f"{line}\n" for line in lines)


def profile_page(profile: Profile) -> str:
    """A profile as a page: every limit and every operator with its source."""
    lines = [f"# {profile.name}", "", f"{profile.title}. Source: {profile.source}.", ""]
    if profile.toolchain is not None:
        tool = profile.toolchain
        reads = [f"from {tool.opset_min} on"] if tool.opset_min is not None else []
        reads += [f"up to {tool.opset_max}"] if tool.opset_max is not None else []
        read = f"; it reads operator sets {' and '.join(reads)}" if reads else ""
        read += f"; it reads files of format version up to {tool.ir_max}" if tool.ir_max is not None else ""
        read += "; it runs onnx-simplifier first, see --simplify" if tool.simplifies else ""
        lines += [f"Toolchain: {tool.name} {tool.version}".rstrip() + f"{read}.", ""]
    lines += [f"{note}\n" for note in profile.notes]
    if profile.variants:
        lines += ["## Devices", "", "| profile | device |", "|---|---|"]
        lines += [f"| `{profile.name}:{name}` | {title} |" for name, title in profile.variants.items()]
        lines.append("")
    lines += ["## Limits", "", "| limit | value | source | note |", "|---|---|---|---|"]
    lines += [
        f"| {key} | {show_value(limit.value)} | {limit.source} | {limit.note} |" for key, limit in sorted(profile.limits.items())
    ]
    if profile.requirements:
        lines += ["", "## Limits of single operators", ""]
        lines += ["| operators | limit | beyond it | rule | source | note |", "|---|---|---|---|---|---|"]
        lines += [_requirement(r) for r in profile.requirements]
    if profile.patterns:
        lines += ["", "## Groups that the compiler takes as one", "", "| group | taken as | source | note |", "|---|---|---|---|"]
        lines += [f"| `{p.words()}` | {p.name} | {p.source} | {p.note} |" for p in profile.patterns]
    if profile.faults:
        lines += ["", "## Groups that do not fit together", "", "| group | what it is | what becomes of it | source | note |"]
        lines += ["|---|---|---|---|---|"]
        lines += [
            f"| `{p.words()}` | {p.name} | {CONSEQUENCES[p.consequence][0]} | {p.source} | {p.note} |" for p in profile.faults
        ]
    if profile.followers:
        lines += ["", f"{', '.join(sorted(profile.followers))} leave the device with the operators that they stand beside."]
    lines += ["", "## Operators", "", "| operators | status | source |", "|---|---|---|"]
    groups: dict[tuple[str, str], list[str]] = {}
    for name, op in profile.operators.items():
        detail = op.status + (f": {op.reason}" if op.reason else "") + (f", only over {op.only}" if op.only else "")
        detail += "" if op.certain else " (uncertain)"
        groups.setdefault((detail, op.source), []).append(name)
    lines += [f"| {', '.join(names)} | {detail} | {source} |" for (detail, source), names in groups.items()]
    if profile.partition is not None:
        costs = {k: v for k, v in msgspec.structs.asdict(profile.partition).items() if v is not None}
        lines += ["", "Partitions are judged with " + ", ".join(f"{key} = {value:g}" for key, value in costs.items()) + "."]
    lines += ["", f"Operators that are not in the table are {profile.unlisted_words}."]
    return "\n".join(lines) + "\n"


def _requirement(requirement: Requirement) -> str:
    certainty = f"reported with {requirement.reported}" if requirement.reported else requirement.certainty
    beyond = requirement.consequence + ("" if certainty == "documented" else f" ({certainty})")
    code = "/".join(dict.fromkeys(requirement.code(op) for op in requirement.ops))
    note = "; ".join(filter(None, (f"{', '.join(requirement.variants)} only" if requirement.variants else "", requirement.note)))
    return f"| {requirement.applies_to} | {requirement.allowed} | {beyond} | {code} | {requirement.source} | {note} |"


@functools.cache
def _all_stated() -> Stated:
    devices = [registry.device_file(name) for name in registry.profile_files()]
    return {d.name: {key: (show_value(limit.value), limit.source) for key, limit in d.limits.items()} for d in devices}
