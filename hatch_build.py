"""Build hook: an editable install gets no copies of the packs.

They lie beside the package there. Copies would go stale, and pytest, which lists the files of a distribution that brings
a plugin, would take `reports/json.py` among them for the standard library's `json`.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PacksHook(BuildHookInterface[Any]):
    """Replaces `force-include` of pyproject.toml where the install is editable."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Include one file that is no Python: with nothing at all, hatchling falls back to `force-include`."""
        if version == "editable":
            build_data["force_include_editable"] = {"npu_guard/py.typed": "npu_guard/py.typed"}
