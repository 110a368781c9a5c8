"""What a change adds to a folder of models, as JSON version 1: of each model what `diff` says of two files."""

from __future__ import annotations

import json

from npu_guard.base.json import json_text
from npu_guard.checking import registry
from npu_guard.gate.diff_folders import FolderDiff

VERSION = 1


def render(diff: FolderDiff, *, color: bool = False) -> str:
    """The whole document."""
    one = registry.renderer("json", "diff")
    models = []
    for name, compared in diff.models.items():
        document = json.loads(one(compared, color=False))
        base = None if name in diff.added or name in diff.unread else document["base"]
        models.append({"name": name, **{key: document[key] for key in _KEYS}, "base": base})
    new, fixed, unchanged = diff.totals()
    altered = sum(len(compared.altered) for compared in diff.models.values())
    tool = json.loads(registry.renderer("json")(diff.report, color=False))["tool"]
    data = {
        "schema_version": VERSION,
        "tool": tool,
        "base": {"path": diff.base},
        "head": {"path": diff.head},
        "summary": {
            "new": new,
            "fixed": fixed,
            "changed": altered,
            "unchanged": unchanged,
        },
        "models": models,
        "added": list(diff.added),
        "removed": list(diff.removed),
        "unread": list(diff.unread),
        "renamed": dict(diff.renamed),
    }
    return json_text(data)


_KEYS = ("profile", "verdict", "head", "summary", "new", "fixed", "unchanged", "changed")
