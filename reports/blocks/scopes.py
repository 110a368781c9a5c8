"""Paths of modules in words."""

from __future__ import annotations

from collections.abc import Sequence

from npu_guard.results.summary import plural


def folded(scopes: Sequence[tuple[str, ...]]) -> str:
    """Several module paths in one: `encoder.stages.*.eca`."""
    different = list(dict.fromkeys(scopes))
    if len({len(scope) for scope in different}) > 1:
        return f"{'.'.join(different[0]) or '(top level)'} and {plural(len(different) - 1, 'other module')}"
    return ".".join(p[0] if len(set(p)) == 1 else "*" for p in zip(*different, strict=True)) or "(top level)"
