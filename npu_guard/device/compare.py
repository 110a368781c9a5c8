"""What differs between two devices, or two versions of one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from npu_guard.device.device import Profile
from npu_guard.device.requirement import Requirement
from npu_guard.device.words import show_value


def differences(before: Profile, after: Profile) -> list[str]:
    """One line for each limit and each group of operators: `+` added, `-` removed, `~` changed."""
    limits = _pairs(_limits(before), _limits(after))
    operators: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in sorted({*before.operators, *after.operators}):
        change = (_status(before, name), _status(after, name))
        if change[0] != change[1]:
            operators[change].append(name)
    lines = [f"~ {old} -> {new}: {', '.join(names)}" for (old, new), names in sorted(operators.items())]
    groups = [
        {f"takes {p.words()} as": p.name for p in profile.patterns}
        | {f"fails on {p.words()}": p.consequence for p in profile.faults}
        for profile in (before, after)
    ]
    return [*limits, *_pairs(*groups), *lines]


def recall(before: Profile, after: Profile) -> str:
    """How many limits of the first device, on operators that the second names, the second states too; "" where it has none."""
    known, there = _each(before), _each(after)
    asked = {key: value for key, value in known.items() if key[0] == "*" or after.operator(key[0]) is not None}
    if not asked:
        return ""
    same = sum(there.get(key) == value for key, value in asked.items())
    other = sum(key in there and there[key] != value for key, value in asked.items())
    return (
        f"recall: {after.name} states {same} of {len(asked)} limits of {before.name} with the same bound "
        f"({100 * same / len(asked):.0f} %), {other} with another"
    )


def _each(profile: Profile) -> dict[tuple[str, str], str]:
    """(operator, metric with its conditions) of each limit, and what it says."""
    found: dict[tuple[str, str], str] = {}
    for requirement in profile.requirements:
        for op in requirement.ops:
            found[op, _key(op, requirement)] = requirement.allowed
    return found


def _status(profile: Profile, name: str) -> str:
    operator = profile.operators.get(name)
    if operator is None:
        return "not documented" if profile.unlisted is None else "refused"
    return (
        operator.status + (f", only over {operator.only}" if operator.only else "") + ("" if operator.certain else " (uncertain)")
    )


def _limits(profile: Profile) -> dict[str, str]:
    """What each limit says, by what it is on. Several on the same are told apart by their order."""
    said = {f"{key}:": show_value(limit.value) for key, limit in profile.limits.items()}
    for requirement in profile.requirements:
        for op in requirement.ops:
            key = _key(op, requirement)
            said[key] = f"{said[key]}; {_says(requirement)}" if key in said else _says(requirement)
    return said


def _key(op: str, requirement: Requirement) -> str:
    where = f" where {' and '.join(clause.words() for clause in requirement.when)}" if requirement.when else ""
    return f"{'every operator' if op == '*' else op}: {requirement.clause.metric.text}{where}:"


def _says(requirement: Requirement) -> str:
    words = requirement.allowed
    if not requirement.alternatives:
        words = words.removeprefix(requirement.clause.metric.text).strip() or "required"
    return f"{words} ({requirement.consequence}{'' if requirement.certain else ', uncertain'})"


def _pairs(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    lines = []
    for key in sorted({*before, *after}):
        if key not in after:
            lines.append(f"- {key} {before[key]}")
        elif key not in before:
            lines.append(f"+ {key} {after[key]}")
        elif before[key] != after[key]:
            lines.append(f"~ {key} {before[key]} -> {after[key]}")
    return lines
