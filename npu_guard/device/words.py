"""Values of limits in words."""

from __future__ import annotations

from typing import Any


def show_value(value: Any) -> str:
    """A limit's value in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return ", ".join(show_value(v) for v in value) if not all(isinstance(v, int) for v in value) else _numbers(value)
    if hasattr(value, "mode"):
        scales = value.scales if isinstance(value.scales, str) else ", ".join(f"{s:g}" for s in value.scales)
        transforms = f" ({', '.join(value.transforms)})" if value.transforms else ""
        return f"{value.mode} x {scales}{transforms}"
    return str(value)


def _numbers(values: Any) -> str:
    return str(values[0]) if len(values) == 1 else f"({', '.join(map(str, values))})"
