"""What was learned as files: the device file, models that show each limit, and a page of what was asked."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npu_guard.base.errors import UsageError
from npu_guard.base.files import write_atomic
from npu_guard.learning.form import Model, Point, built
from npu_guard.learning.guess import Bound, Guess
from npu_guard.learning.learned import Claim, Learned
from npu_guard.learning.oracle import Oracle
from npu_guard.learning.session import Session

Claims = Sequence[tuple[Learned, Claim, str]]
"""With the operator and the name of each."""
INDEX = "answers.json"
"""In the folder of the reproducers: what the compiler said of each."""


@dataclass(frozen=True)
class Written:
    """What stands in the files."""

    limits: int
    confirmed: int
    supported: int
    refused: int
    unknown: int


def write(session: Session, oracle: Oracle, target: Path, device: str, tool: str, version: str, date: str) -> Written:
    """Write the device file, its reproducers and its page. Raises UsageError where one cannot be written."""
    folder = target.with_name(f"{target.stem}.reproducers")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made ({error.strerror or error})") from None
    claims = [(learned, claim, name) for learned in session.operators for claim, name in _named(learned)]
    index: dict[str, dict[str, Any]] = {}

    def keep(model: Model, name: str, learned: Learned, limit: str, fits: bool) -> None:
        write_atomic(folder / name, [model.data])
        index[name] = {"operator": learned.form.op, "limit": limit, "fits": fits}

    for learned, claim, name in claims:
        if claim.fits is not None:
            keep(claim.fits, f"{name}.fits.onnx", learned, name, True)
        keep(claim.refused, f"{name}.refused.onnx", learned, name, False)
    for learned in session.operators:
        base = built(learned.form, learned.form.base)
        if learned.status != "unknown" and base is not None:
            taken = learned.models(True)
            model = base if learned.answers.get(learned.form.base) is not None or not taken else taken[0][1]
            keep(model, f"{learned.form.op}.onnx", learned, "", learned.status == "supported")
    write_atomic(folder / INDEX, [json.dumps(index, indent=1, sort_keys=True).encode(), b"\n"])
    source = f"measured with {' '.join(filter(None, (tool, version)))} on {date}"
    text = "\n".join(_device_file(session, oracle, claims, device, tool, version, source))
    write_atomic(target, [text.encode()])
    page = "\n".join(_page(session, claims, device, source, folder.name))
    write_atomic(target.with_suffix(".md"), [page.encode()])
    statuses = Counter(learned.status for learned in session.operators)
    return Written(
        len(claims), sum(c.confirmed for _, c, _ in claims), statuses["supported"], statuses["refused"], statuses["unknown"]
    )


def _named(learned: Learned) -> Iterator[tuple[Claim, str]]:
    used: Counter[str] = Counter()
    for claim in learned.claims():
        words = [learned.form.op, claim.guess.bound.metric, claim.guess.bound.name]
        words += [f"{c.metric}-{c.value}" for c in claim.guess.when]
        name = re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")
        used[name] += 1
        yield claim, name if used[name] == 1 else f"{name}-{used[name]}"


def _device_file(
    session: Session,
    oracle: Oracle,
    claims: Claims,
    device: str,
    tool: str,
    version: str,
    source: str,
) -> Iterator[str]:
    yield f"name = {_quoted(device)}"
    yield f"title = {_quoted(f'{oracle.profile}, learned from its compiler')}"
    yield f"source = {_quoted(source)}"
    yield "notes = ["
    yield '    "Learned by `npu-guard profiles learn` from models of one operator; what was not asked is left out.",'
    yield '    "A limit is confirmed where models with other values elsewhere agreed on both sides of it.",'
    if session.stopped:
        yield f"    {_quoted(f'Not complete: {session.stopped}.')},"
    yield "]"
    yield f"\n[toolchain]\nname = {_quoted(tool)}"
    if version:
        yield f"version = {_quoted(version)}"
    for learned, claim, name in claims:
        yield f"\n[[limit]]\nid = {_quoted(name)}\nops = [{_quoted(learned.form.op)}]"
        if claim.guess.when:
            yield f"when = {{ {', '.join(f'{_quoted(c.metric)} = {_condition(c)}' for c in claim.guess.when)} }}"
        yield f"metric = {_quoted(claim.guess.bound.metric)}"
        word = "not_in" if claim.guess.bound.name == "lacks" else claim.guess.bound.name
        yield f"{word} = {_toml(_bound_value(claim.guess.bound))}"
        yield f"consequence = {_quoted(_consequence(oracle, claim.refused))}"
        yield f"certainty = {_quoted('confirmed' if claim.confirmed else 'uncertain')}"
        yield f"note = {_quoted(f'{name}.fits.onnx is taken, {name}.refused.onnx is not')}"
    supported = [learned.form.op for learned in session.operators if learned.status == "supported"]
    if supported:
        yield f'\n[[operators]]\nstatus = "supported"\nnames = {_toml(supported)}'
    for learned in session.operators:
        base = built(learned.form, learned.form.base)
        if learned.status == "refused" and base is not None:
            yield f'\n[[operators]]\nstatus = "refused"\nnames = [{_quoted(learned.form.op)}]'
            yield f"consequence = {_quoted(_consequence(oracle, base))}"
            yield f"reason = {_quoted(oracle.known[base.key].message or 'the compiler does not take it')}"
    yield ""


def _consequence(oracle: Oracle, model: Model) -> str:
    return "host" if oracle.known[model.key].word == "host" else "compile-error"


def _bound_value(bound: Bound) -> Any:
    if bound.name == "lacks":
        return list(bound.value)
    if bound.name != "not_in":
        return bound.value
    whole = bound.metric in ("axes", "perm", "strided_axes") or bound.metric.startswith("varies.")
    return [list(v) if whole or len(v) != 1 else v[0] for v in bound.value]


def _condition(clause: Bound) -> str:
    return _toml(clause.value) if clause.name == "is" else f"{{ {clause.name} = {_toml(_bound_value(clause))} }}"


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    """A string of JSON is one of TOML, but for the characters that only JSON writes as they are."""
    return json.dumps(text.replace("\x7f", " "))


def words(guess: Guess) -> str:
    """A limit on one line."""
    bound = guess.bound
    said = f"{bound.metric} {bound.name.replace('_', ' ')} {_toml(_bound_value(bound))}"
    return said + (f" where {' and '.join(f'{c.metric} {c.name} {_toml(c.value)}' for c in guess.when)}" if guess.when else "")


def _page(session: Session, claims: Claims, device: str, source: str, folder: str) -> Iterator[str]:
    yield f"# {device}: what was asked\n"
    yield f"Limits {source}. Each has two models in `{folder}/`: one at the limit, which the compiler takes, and one past it."
    yield "A limit is *confirmed* where models with other values elsewhere agreed on both sides; `check` warns of the others."
    if session.stopped:
        yield f"\n**Not complete**: {session.stopped}. The same command goes on from here."
    yield "\n| operator | answer | asked | taken | refused | no answer | limits | not explained |"
    yield "|---|---|---|---|---|---|---|---|"
    for learned in session.operators:
        told = Counter(fits for point, fits in learned.answers.items() if built(learned.form, point) is not None)
        own = sum(entry is learned for entry, _, _ in claims)
        done = learned.status if learned.done else f"{learned.status}, unfinished"
        yield (
            f"| {learned.form.op} | {done} | {sum(told.values())} | {told[True]} | {told[False]} | {told[None]} | {own or ''} | "
            f"{len(learned.unexplained) or ''} |"
        )
    for learned in session.operators:
        own_claims = [(claim, name) for entry, claim, name in claims if entry is learned]
        if own_claims or learned.unexplained:
            yield f"\n## {learned.form.op}\n"
        for claim, name in own_claims:
            sure = "confirmed" if claim.confirmed else "not confirmed"
            yield f"- {words(claim.guess)} ({sure}: {claim.inside} taken at it, {claim.outside} refused for it alone) `{name}`"
        if learned.unexplained:
            yield "- refused, and no limit that all answers agree with says why: " + "; ".join(
                _turned(learned, point) for point in learned.unexplained[:8]
            )
    yield ""


def _turned(learned: Learned, point: Point) -> str:
    start: Mapping[str, Any] = dict(learned.form.base)
    return "`" + (", ".join(f"{n} = {v}" for n, v in point if v != start[n]) or "as it starts") + "`"
