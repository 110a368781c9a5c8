"""Which rules and limits the settings and a device leave, worked out once for all models that are asked about in turn."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence

from npu_guard.checking.rule import Rule
from npu_guard.device import Profile, Requirement
from npu_guard.device.keys import with_old_names
from npu_guard.graph.plain import SAME
from npu_guard.graph.plain_names import PLAIN
from npu_guard.project.config import Config

Selected = tuple[list[Rule], list[Rule], Mapping[str, list[tuple[Rule, Requirement]]], set[str]]
_last: list[tuple[Profile, Sequence[Rule], Config, Selected]] = []


def selected_rules(profile: Profile, rules: Sequence[Rule], config: Config) -> Selected:
    """Rules that the settings select, those of them with a check and a limit of their own here, the device's limits on operators,
    and the codes of the rules that report these. Kept for the next model: `fix` and remedies ask dozens of times."""
    if not _last or not all(a is b for a, b in zip(_last[0], (profile, rules, config), strict=False)):
        chooses = config.select or config.ignore
        selected = [r for r in rules if config.selects(r.code, r.name)] if chooses else list(rules)
        wanted = _requirements(profile, {r.code: r for r in selected})
        spoken = {rule.code for found in wanted.values() for rule, _ in found}
        known = profile.limits.keys()
        own = [r for r in selected if not r.parametric and (not r.limits or not known.isdisjoint(r.limits))]
        _last[:] = [(profile, rules, config, (selected, own, wanted, spoken))]
    return _last[0][3]


def _requirements(profile: Profile, rules: Mapping[str, Rule]) -> dict[str, list[tuple[Rule, Requirement]]]:
    """The device's limits on single operators, by operator, with the rule that reports each."""
    wanted: dict[str, list[tuple[Rule, Requirement]]] = collections.defaultdict(list)
    for requirement in profile.requirements:
        for op in with_old_names(requirement.ops):
            rule = rules.get(requirement.code(op))
            if rule is not None:
                wanted[op].append((rule, requirement))
    return dict(wanted)


def of_plain(wanted: Mapping[str, list[tuple[Rule, Requirement]]], op: str) -> list[tuple[Rule, Requirement]]:
    """Limits of the operator that another is in other words; those of element types are its own unless the two are the same."""
    if op not in PLAIN:
        return []
    own = [r for _, r in wanted.get(op, ())]
    found = [(rule, r) for rule, r in wanted.get(PLAIN[op], ()) if r not in own]
    return [(rule, r) for rule, r in found if op in SAME or all(term.key != "dtype" for term in r.clause.metric.terms)]
