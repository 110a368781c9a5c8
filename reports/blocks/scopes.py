"""Paths of modules in words."""

from __future__ import annotations

from collections.abc import Sequence

from npu_guard.results.summary import plural


def folded(scopes: Sequence[tuple[str, ...]], top: str = "(top level)") -> str:
    """Several module paths in one: `encoder.stages.*.eca`; the first of them where they have nothing in common."""
    different = list(dict.fromkeys(scopes))
    parts = [p[0] if len(set(p)) == 1 else "*" for p in zip(*different, strict=False)]
    if len({len(scope) for scope in different}) > 1 or (len(different) > 1 and set(parts) <= {"*"}):
        return f"{'.'.join(different[0]) or top} and {plural(len(different) - 1, 'other module')}"
    return ".".join(parts) or top
