"""A run over a fleet of models, as a page."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from pathlib import Path

import jinja2
from markupsafe import Markup

from npu_guard.base.installation import VERSION
from npu_guard.base.text import printable
from npu_guard.fleet.report import Fleet
from npu_guard.fleet.work import VERDICTS
from npu_guard.reports.blocks import compiled

_LISTED = 500
"""Models that the page names; Parquet has all."""


def render(fleet: Fleet, *, color: bool = False) -> str:
    """One page that needs nothing else."""
    folder = Path(__file__).parents[1] / "assets"
    environment = compiled.environment(folder, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["shown"] = lambda value: printable(str(value), 300)
    style = (folder / "scan.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    worst = sorted(fleet.rows, key=lambda r: (VERDICTS.index(r[2].verdict) in (0, 2), -r[2].counts[0], -r[2].counts[2], r[0]))
    return environment.get_template("scan.html.j2").render(
        version=VERSION, fleet=fleet, verdicts=fleet.verdicts, affected=fleet.affected(),
        names=[n for n in VERDICTS if any(p.verdicts[n] for p in fleet.trend)], changes=fleet.changes[:_LISTED],
        kinds=Counter(change.kind for change in fleet.changes),
        worst=[r for r in worst if r[2].verdict != "pass"][:_LISTED], most=max([p.total for p in fleet.trend], default=1) or 1,
        style=Markup(style), style_hash=f"sha256-{digest}",
    )  # fmt: skip
