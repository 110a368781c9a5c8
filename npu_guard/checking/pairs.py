"""Blocks as they are written in PyTorch, before and after: files in `rules/pytorch/`, read as text and never imported here.

A file has a docstring, SHAPE of an example input, DEVICE and FINDINGS, pairs of a rule and an operator that the first class has
on that device and the second has not, and the classes Before and After. Where both do not come to the same, DIFFERENCE is the
largest, or None. The file is named after the substitution that does the same in a model file, where there is one.
"""

from __future__ import annotations

import functools
from pathlib import Path

from msgspec import Struct

import npu_guard.rules
from npu_guard.results.findings import Finding


class Pair(Struct, frozen=True):
    """A block before and after, as source."""

    name: str
    """Of the substitution, or of what it is about."""
    title: str
    findings: tuple[tuple[str, str], ...]
    device: str
    before: str
    after: str

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
    return Pair(name, title, values["FINDINGS"], values["DEVICE"], before.strip(), f"class After{after.rstrip()}")


def at_finding(finding: Finding) -> Pair | None:
    """What to show at a finding."""
    remedy = finding.remedy
    return pair_for(finding.rule, finding.location.op_type, None if remedy is None else remedy.substitution)


@functools.cache
def pair_for(rule: str, op: str, substitution: str | None) -> Pair | None:
    """The pair of the substitution that would mend it, else one about the rule and operator."""
    about = [pair for pair in pairs() if pair.is_about(rule, op)]
    named = [pair for pair in pairs() if pair.name == substitution and pair.is_about(rule)]
    return next(iter(named or about), None)
