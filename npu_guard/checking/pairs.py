"""Blocks as they are written in PyTorch, before and after: files in `rules/pytorch/`, read as text and never imported here.

A file has a docstring, SHAPE of an example input, DEVICE and FINDINGS, pairs of a rule and an operator that the first class has
on that device and the second has not, and the classes Before and After. Where both do not come to the same, DIFFERENCE is the
largest, or None. The file is named after the substitution that does the same in a model file, where there is one. OPERATORS are
those of the block, where a finding at one of them does not tell what block it is; SAYS is part of the finding's message.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from msgspec import Struct

import npu_guard.rules
from npu_guard.results.findings import Finding

_OPERATOR = "NPU101"
"""The rule whose findings are about the operator itself."""


class Pair(Struct, frozen=True):
    """A block before and after, as source."""

    name: str
    """Of the substitution, or of what it is about."""
    title: str
    findings: tuple[tuple[str, str], ...]
    device: str
    before: str
    after: str
    operators: tuple[str, ...] = ()
    """Of the block that it is about; empty where the finding's operator tells that."""
    says: str = ""
    """Part of the message of a finding that it is about."""
    guess: bool = True
    """Whether a finding's rule and operator tell enough to show it, where no form would mend the finding."""
    substitution: bool = True
    """Whether a substitution does the same in a model file."""

    def is_about(self, rule: str, op: str = "") -> bool:
        """Whether it removes findings of the rule, at that operator where one is named."""
        return any(code == rule and op in ("", kind) for code, kind in self.findings)


@functools.cache
def pairs() -> tuple[Pair, ...]:
    """All of them, by name."""
    folder = Path(next(iter(npu_guard.rules.__path__)), "pytorch")
    return tuple(read(path) for path in sorted(folder.glob("*.py")))


def read(path: Path) -> Pair:
    """The pair in a file."""
    import ast  # only where pairs are shown

    text = path.read_text(encoding="utf-8")
    head, _, classes = text.partition("\nclass Before")
    tree = ast.parse(head)
    values = {ast.unparse(s.targets[0]): ast.literal_eval(s.value) for s in tree.body if isinstance(s, ast.Assign)}
    before, _, after = f"class Before{classes}".partition("\nclass After")
    name = path.stem.replace("_", "-")
    title = " ".join((ast.get_docstring(tree) or "").split())
    findings, operators = values["FINDINGS"], values.get("OPERATORS", ())
    known = os.path.isfile(path.parents[1] / "substitutions" / path.name)
    one = len(findings) == 1 and findings[0][0] == _OPERATOR and not operators and values.get("DIFFERENCE", 0) is not None
    sources = before.strip(), f"class After{after.rstrip()}"
    return Pair(name, title, findings, values["DEVICE"], *sources, operators, values.get("SAYS", ""), one or not known, known)


def at_finding(finding: Finding) -> Pair | None:
    """What to show at a finding: what is about its block, or nothing."""
    remedy, message = finding.remedy, finding.message
    name, operators = (None, ()) if remedy is None else (remedy.substitution, remedy.operators)
    found = pair_for(finding.rule, finding.location.op_type, name, operators)
    return found if found is not None and found.says in message else None


@functools.cache
def pair_for(rule: str, op: str, substitution: str | None, operators: tuple[str, ...] = ()) -> Pair | None:
    """The pair of the substitution that would mend the finding, if its block has these operators; where none would, one that
    the rule and operator alone are enough for."""
    about = [pair for pair in pairs() if pair.is_about(rule, op)]
    if substitution is not None:
        about = [p for p in about if p.name == substitution and (not p.operators or set(p.operators) == set(operators))]
    else:
        about = sorted((pair for pair in about if pair.guess), key=lambda pair: pair.substitution)  # none would mend it
    return next(iter(about), None)
