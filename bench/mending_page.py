"""The page of `make mending`: networks by devices, what is known of the blocks that were replaced, and why the rest is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

LABELS = ("proved", "proved up to rounding", "sampled")
"""What may be known of a replaced block, from the best to the worst."""
SITES = ("sites proved", "up to rounding", "sampled")
"""How the page heads them."""
Cell = dict[str, Any]


def outcome(cell: Cell) -> str:
    """One cell in words: `24 -> 0`, with what is wrong with it."""
    if cell.get("failed"):
        return "failed"
    text = f"{cell['before']} -> {cell['after']}" if cell["before"] else "fits"
    marks = [m for m in ("worse",) if cell.get(m)] + (["WRONG"] if cell["wrong"] else [])
    return " ".join([text, *marks, *(["(deployable)"] if cell.get("deployable") else [])])


def page(words: str, cells: Sequence[Cell], devices: Sequence[str], commit: str) -> str:
    """The page, under these words: a table of networks by devices, sums for each device, and the reasons for what is left."""
    older = sum(cell["commit"] != commit for cell in cells)
    by_name: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        by_name.setdefault(cell["name"], {})[cell["device"]] = cell
    lines = ["# What `fix` mends", "", *(line.strip() for line in words.splitlines()[2:]), ""]
    lines += [f"{older} of {len(cells)} cells are kept from an older commit, and may be better now.", ""] if older else []
    lines += [f"| network | {' | '.join(devices)} |", f"|---|{'---|' * len(devices)}"]
    lines += [f"| {n} | {' | '.join(outcome(row[d]) if d in row else '' for d in devices)} |" for n, row in by_name.items()]
    columns = (
        "device",
        "networks with errors",
        "clean",
        "deployable",
        "errors",
        "after",
        "wrong",
        "worse",
        *SITES,
        "MACs",
        "CPU s",
    )
    lines += ["", "## Devices", "", f"| {' | '.join(columns)} |"]
    lines += ["|---" * len(columns) + "|", *(_sums(d, [c for c in cells if c["device"] == d]) for d in devices)]
    lines += ["", *_known(cells)]
    reasons: Counter[str] = Counter()
    where: dict[str, set[str]] = {}
    for cell in cells:
        reasons.update(cell.get("reasons", {}))
        for reason in cell.get("reasons", {}):
            where.setdefault(reason, set()).add(cell["device"])
    lines += ["", "## Why the rest is left", "", "| errors | devices | reason |", "|---|---|---|"]
    lines += [f"| {n} | {len(where[reason])} | {reason.replace('|', '/')} |" for reason, n in reasons.most_common(60)]
    return "\n".join(lines) + "\n"


def networks(cells: Sequence[Cell], commit: str) -> str:
    """A table of networks alone, for a section of the page."""
    older = sum(cell["commit"] != commit for cell in cells)
    ran = [c for c in cells if not c.get("failed")]
    clean, good = sum(not c["after"] for c in ran), sum(not c["after"] or bool(c.get("deployable")) for c in ran)
    wrong, worse = (sum(bool(c.get(key)) for c in ran) for key in ("wrong", "worse"))
    lines = [f"Of {len(cells)} networks {clean} end clean and {good} deployable; {wrong} are wrong, {worse} worse."]
    lines += ["", f"{older} of {len(cells)} cells are kept from an older commit, and may be better now."] if older else []
    lines += ["", "| network | device | errors | MACs | parameters | blocks replaced | CPU s |", "|---|---|---|---|---|---|---|"]
    for cell in cells:
        costs = ("", "", "") if cell.get("failed") else (_times(*cell["macs"]), _times(*cell["params"]), cell["blocks"])
        row = (cell["name"], cell["device"], outcome(cell), *costs, f"{cell['seconds']:.0f}")
        lines.append(f"| {' | '.join(map(str, row))} |")
    reasons: Counter[str] = sum((Counter(c.get("reasons", {})) for c in cells), Counter())
    if reasons:
        lines += ["", "| errors | reason |", "|---|---|", *(f"| {n} | {r.replace('|', '/')} |" for r, n in reasons.most_common())]
    return "\n".join(lines) + "\n"


def _times(before: float, after: float) -> str:
    return f"{after / before:.2f}x" if before else ""


def _labels(cells: Sequence[Cell]) -> dict[str, Counter[str]]:
    """Sites by label, for each substitution."""
    found: dict[str, Counter[str]] = {}
    for cell in cells:
        for key, count in cell.get("sites", {}).items():
            name, label = key.split(": ")
            found.setdefault(name, Counter())[label] += count
    return found


def _known(cells: Sequence[Cell]) -> Iterator[str]:
    """What is known of the replaced blocks, by substitution, and why some are sampled."""
    by_name = _labels(cells)
    total: Counter[str] = sum(by_name.values(), Counter())
    known = total[LABELS[0]] + total[LABELS[1]]
    yield from ("## What is known of what was replaced", "")
    if not total.total():
        yield "No block was replaced."
        return
    yield f"Of {total.total():,} sites {known:,} are proved or proved up to rounding: {100 * known / total.total():.1f} %."
    yield from ("", f"| substitution | {' | '.join(SITES)} |", "|---" * (len(SITES) + 1) + "|")
    for name in sorted(by_name):
        yield f"| {name} | {' | '.join(str(by_name[name][label]) for label in LABELS)} |"
    reasons: Counter[str] = Counter()
    for cell in cells:
        reasons.update(cell.get("sampled", {}))
    if reasons:
        yield from ("", "| sites | why they are sampled |", "|---|---|")
        yield from (f"| {n} | {reason.replace('|', '/')} |" for reason, n in reasons.most_common())


def _sums(device: str, cells: Sequence[Cell]) -> str:
    ran = [c for c in cells if not c.get("failed") and c["before"]]
    clean = sum(c["after"] == 0 for c in ran)
    good = clean + sum(bool(c.get("deployable")) for c in ran)
    before, after = (sum(c["macs"][i] for c in ran) for i in (0, 1))
    errors = [sum(c[key] for c in ran) for key in ("before", "after")]
    wrong, worse = (sum(bool(c.get(key)) for c in ran) for key in ("wrong", "worse"))
    times = _times(before, after)
    seconds = sum(c["seconds"] for c in cells)
    total: Counter[str] = sum(_labels(cells).values(), Counter())
    row = (device, len(ran), clean, good, *errors, wrong, worse, *(total[label] for label in LABELS), times, f"{seconds:.0f}")
    return f"| {' | '.join(map(str, row))} |"
