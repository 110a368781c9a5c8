"""The part of docs/agreement.md about whole networks: verdicts by profile and spelling, each network, and each difference."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence

import corpus
import networks
import recorded

SPELLINGS = ("", *list(corpus.EXPORTS)[1:], *corpus.QUANTIZED)
Table = Callable[[Sequence[str], Iterable[Sequence[object]]], list[str]]
Cell = Callable[[str], str]


def split(name: str) -> tuple[str, str]:
    """A recorded name as (network, spelling)."""
    base, bracket, rest = name.partition(" (")
    return base, rest.removesuffix(")") if bracket else ""


def is_told(entry: networks.Entry) -> bool:
    """Whether the compiler had an opinion on the whole."""
    return entry["status"] in ("accepted", "refused")


def is_same(entry: networks.Entry) -> bool:
    """Whether rules and compiler say the same of the whole."""
    return bool((entry["rules"] == "pass") == (entry["status"] == "accepted"))


def by_spelling(found: Mapping[str, networks.Entry]) -> Mapping[str, list[networks.Entry]]:
    """The entries that the compiler had an opinion on."""
    groups: dict[str, list[networks.Entry]] = {spelling: [] for spelling in SPELLINGS}
    for name, entry in found.items():
        if is_told(entry):
            groups[split(name)[1]].append(entry)
    return groups


def nodes(entries: Iterable[networks.Entry]) -> tuple[int, int]:
    """Operators on which the two agree, and all that the compiler answered for."""
    tally: collections.Counter[str] = collections.Counter()
    for entry in entries:
        tally.update(entry["counts"])
    return tally["agreement"], sum(tally.values()) - tally["unknown"]


def differences(
    profile: str, found: Mapping[str, networks.Entry], known: Sequence[recorded.Reason]
) -> list[tuple[str, str, str]]:
    """(network, what differs, reason): of operators, and of verdicts where no operator says why."""
    rows = []
    for name, entry in found.items():
        for outcome, op, codes, said, count in entry["differing"]:
            key = f"{name} {op}"
            what = f"{count} {op} {outcome}" + (f" ({codes})" if codes else "") + (f": {said}" if said else "")
            rows.append((key, what, recorded.reason_for(profile, key, known)))
        if is_told(entry) and not is_same(entry) and not entry["differing"]:
            key = f"{name} verdict"
            rows.append(
                (
                    key,
                    f"rules {entry['rules']}, compiler {entry['status']}: {entry['message']}",
                    recorded.reason_for(profile, key, known),
                )
            )
    return rows


def verdicts(table: Table) -> list[str]:
    """What a user meets: whether a whole network passes, by the rules and by the compiler, and then its operators."""
    rows: list[tuple[object, ...]] = []
    for profile, found in networks.read().items():
        for spelling, entries in by_spelling(found).items():
            if entries:
                agree, told = nodes(entries)
                share = f"{100 * agree / told:.1f} %" if told else ""
                whole = f"{sum(map(is_same, entries))} of {len(entries)}"
                passed = sum(entry["status"] == "accepted" for entry in entries)
                rows.append((f"[{profile}](#{profile}-networks)", spelling or "legacy", whole, passed, told, share))
    head = ("profile", "spelling", "same verdict", "compiled whole", "operators answered", "agreement")
    return ["", *table(head, rows), ""] if rows else []


def each(table: Table, cell: Cell) -> list[str]:
    """Every network, and every difference with its reason."""
    parts = ["## Whole networks", "", NETWORKS]
    known = recorded.reasons()
    for profile, found in networks.read().items():
        shown = [spelling for spelling in SPELLINGS if any(split(name)[1] == spelling for name in found)]
        rows: dict[str, dict[str, str]] = collections.defaultdict(dict)
        for name, entry in found.items():
            base, spelling = split(name)
            agree, told = nodes([entry])
            word = entry["status"] if is_told(entry) else "no answer"
            rows[base][spelling] = f"{word}, {agree} of {told}" if told else word
        lines = [(base, *(row.get(spelling, "") for spelling in shown)) for base, row in sorted(rows.items())]
        parts += ["", f"### {profile}: networks", "", *table(("network", *(s or "legacy" for s in shown)), lines)]
        differing = differences(profile, found, known)
        if differing:
            body = [(key, cell(what), reason or "**unexplained**") for key, what, reason in differing]
            parts += ["", f"### Differences in networks: {profile}", "", *table(("where", "what", "reason"), body)]
        silent = [(name, cell(entry["message"])) for name, entry in found.items() if not is_told(entry)]
        if silent:
            parts += ["", f"### No answer for a network: {profile}", "", *table(("network", "what the compiler said"), silent)]
    return parts


NETWORKS = """Sample networks at test size and networks of timm with drawn weights, by torch's two exporters (`legacy` with
opset 17, `dynamo` with 20, `dynamo 18`) and quantized by onnxruntime.quantization: `int8` with weights per channel and
activations in uint8, `int8 per tensor` with activations in int8, `int16` with activations in uint16. A cell is the
compiler's word on the whole, and on how many of the operators that it answered for the rules say the same; an operator that
it merges with another counts as taken. A toolkit that refuses a file at its door answers for none. Vela is asked about each
operator alone. `bench/study/corpus.py` makes the files."""
