"""The page of `make mending` on quantized networks, written and read back, so that what is not measured again is kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

LIMIT_DB = 99.0
CLOSE_DB = 90.0
"""Between results in floating point of which only the last bits are others."""
Cell = dict[str, Any]
_ROUNDED = {"anew": "anew", "otherwise": "scale", "left_out": "gone", "weights": "weights"}
"""Words of the page for what `fix` counts."""


def row(cell: Cell) -> str:
    """The cells of one line behind network and device."""
    if cell.get("fits"):
        return "fits"
    plain, numbers = (f"{c[0]} -> {c[1]}" if (c := cell.get(k)) else "" for k in ("float", "int8"))
    if cell.get("failed"):
        return f"{plain} | {numbers or 'failed'} | | | | {cell['failed'].replace('|', '/')}"
    lag = f"lag: {cell['more']}" if cell.get("more") else "lag"
    marks = " ".join([*([lag] if cell.get("lag") else []), *([f"loses: {cell['wrong']}"] if cell["wrong"] else [])])
    if "roundings" not in cell:
        return f"{plain} | {numbers} | not asked | {cell['steps']:g} | | {marks}"
    if "steps" not in cell:
        return f"{plain} | {numbers} | nothing replaced | 0 | | {marks}"
    moved = f"{cell['steps']:g}" if cell["near"] == LIMIT_DB else f"{cell['steps']:g}, {cell['near']:g} dB"
    moved += f" (alone {cell['alone']:g})" if "alone" in cell else ""
    return f"{plain} | {numbers} | {rounded(cell)} | {moved} | {cell['noise'][0]:g} -> {cell['noise'][1]:g} dB | {marks}"


def rounded(cell: Cell) -> str:
    """Where it is not exact in integers."""
    found = [f"{count} {name}" for key, name in _ROUNDED.items() if (count := (cell.get("roundings") or {}).get(key))]
    return ", ".join(found) or "none"


def within(cell: Cell) -> bool:
    """Whether no result moves by more than a step; in floating point, not by more than the last bits."""
    return "steps" not in cell or (cell["steps"] <= 1.01 and cell.get("near", LIMIT_DB) >= CLOSE_DB)


def as_alone(cell: Cell) -> bool:
    """Whether no result moves by more than a step, or by more than it moves by itself."""
    return within(cell) or cell["steps"] <= cell.get("alone", 0.0)


def older(text: str) -> list[Cell]:
    """The cells of a page that was written before, of no commit: what its lines have."""
    found: list[Cell] = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.strip().strip("|").split("|")]
        if len(parts) != 8 or " -> " not in parts[2] or " -> " not in parts[3]:
            continue
        plain, numbers = ([int(n) for n in part.split(" -> ")] for part in parts[2:4])
        cell: Cell = {"commit": "", "name": parts[0], "device": parts[1], "float": plain, "int8": numbers}
        lag, _, loses = parts[7].partition("loses: ")
        cell |= {"wrong": loses.strip(), "lag": lag.startswith("lag"), "more": lag.removeprefix("lag").removeprefix(": ").strip()}
        if parts[4] not in ("not asked", "nothing replaced"):
            counts = re.findall(r"(\d+) (\w+)", parts[4])
            cell["roundings"] = {key: next((int(n) for n, word in counts if word == name), 0) for key, name in _ROUNDED.items()}
        if parts[4] == "nothing replaced":
            cell["roundings"] = {}
        else:
            steps, near, alone = re.fullmatch(r"([\d.e+]+)(?:, (-?[\d.]+) dB)?(?: \(alone ([\d.]+)\))?", parts[5]).groups()  # type: ignore[union-attr]
            noise = [float(n) for n in re.findall(r"-?[\d.]+(?= |$)", parts[6].replace("->", "").replace("dB", ""))] or [
                LIMIT_DB
            ] * 2
            cell |= {"steps": float(steps), "near": float(near) if near else LIMIT_DB, "noise": noise}
            cell |= {"alone": float(alone)} if alone else {}
        found.append(cell)
    return found


def page(cells: Sequence[Cell], devices: Sequence[str], commit: str, words: str) -> str:
    """The page: sums for each device, and a line for each network with errors."""
    told = words.strip().splitlines()[2:]
    lines = ["# What `fix` mends in quantized networks", "", "Written by `make mending`, as [mending.md](mending.md).", *told, ""]
    return "\n".join([*lines, *tables(cells, devices, commit)]) + "\n"


def tables(cells: Sequence[Cell], devices: Sequence[str], commit: str) -> list[str]:
    """Sums for each device, and a line for each network with errors."""
    kept = sum(cell["commit"] != commit and not cell.get("fits") for cell in cells)
    shown = sum(not cell.get("fits") for cell in cells)
    lines = [f"{kept} of {shown} cells are kept from an older commit, and may be better now.", ""] if kept else []
    lines += [
        "| device | networks with errors | float: errors | after | int8: errors | after | exact in integers | up to one step "
        "| or as alone | others | up to one step | lag | loses | failed |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for device in devices:
        some = [c for c in cells if c["device"] == device and not c.get("fits")]
        ran = [c for c in some if "int8" in c]
        sums = [sum(c[kind][i] for c in ran) for kind in ("float", "int8") for i in (0, 1)]
        exact = [c for c in ran if "roundings" in c and rounded(c) == "none"]
        others = [c for c in ran if c not in exact]
        sums += [len(exact), sum(map(within, exact)), sum(map(as_alone, exact)), len(others), sum(map(within, others))]
        marks = [sum(bool(c.get(key)) for c in some) for key in ("lag", "wrong", "failed")]
        lines.append(f"| {' | '.join(map(str, (device, len(ran), *sums, *marks)))} |")
    lines += [
        "",
        "| network | device | float | int8 | rounded otherwise | steps | to float | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return lines + [f"| {c['name']} | {c['device']} | {row(c)} |" for c in cells if not c.get("fits")]
