"""Rules by what the index of their pack says of them: a rule that has nothing to look at is not loaded."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from npu_guard.checking.registry import members, rule_index, rules
from npu_guard.checking.rule import Draft, Rule
from npu_guard.results.findings import Severity

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_STATED = ("code", "name", "replaces", "ops", "limits", "parametric", "about_settings")
_ASKED = ("needed", "needed_at", "check_input")
"""Methods that most rules have from their base, and that are asked before it is known whether a rule has anything to do."""
_BOUND = ("check", "check_input", "check_settings", "needed", "needed_at", "section")


@functools.cache
def listed_rules() -> tuple[Rule, ...]:
    """As `registry.rules`, for whoever only checks. What the index says of a file is taken for true."""
    known = rule_index()
    if known is None:
        return rules()
    return tuple(sorted([_Listed(stem, facts) for stem in known for facts in known[stem]], key=attrgetter("code")))


def index() -> dict[str, list[dict[str, Any]]]:
    """What `listed_rules` needs to know of each file, by module name."""
    found: dict[str, list[dict[str, Any]]] = {stem: [] for stem in members("rules")}
    for rule in rules():
        kind = type(rule)
        own = [name for name in _ASKED if getattr(kind, name) is not getattr(Rule, name)]
        facts = {"class": kind.__name__, "level": rule.severity.value, "own": own}
        facts |= {key: getattr(rule, key) for key in _STATED}
        found[kind.__module__.rsplit(".", 1)[1]].append({key: value for key, value in facts.items() if value})
    return found


class _Listed(Rule):
    """A rule that is loaded when it has to look at something. It says what the loaded one says."""

    ops = ()
    level: str
    own: Sequence[str] = ()
    """Those of `_ASKED` that the loaded one does not have from its base."""

    def __init__(self, stem: str, facts: Mapping[str, Any]) -> None:
        self._stem = stem
        vars(self).update(facts)

    @functools.cached_property
    def severity(self) -> Severity:  # type: ignore[override]
        return Severity(self.level)

    @functools.cached_property
    def _rule(self) -> Rule:
        rule: Rule = getattr(importlib.import_module(f"npu_guard.rules.{self._stem}"), vars(self)["class"])()
        vars(self).update({name: getattr(rule, name) for name in _BOUND})  # the next call goes there at once
        return rule

    def needed(self, ctx: Context) -> bool:
        return "needed" not in self.own or self._rule.needed(ctx)

    def needed_at(self, node: Node, ctx: Context) -> bool:
        return "needed_at" not in self.own or self._rule.needed_at(node, ctx)

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        return self._rule.check(node, ctx)

    def check_input(self, value: Value, ctx: Context) -> Iterable[Draft]:
        return self._rule.check_input(value, ctx) if "check_input" in self.own else ()

    def check_settings(self, unused: Sequence[Any], findings: Sequence[Any]) -> Iterable[Draft]:
        return self._rule.check_settings(unused, findings)

    def section(self, title: str) -> str:  # type: ignore[override]
        return self._rule.section(title)
