"""This installation of npu-guard: its version, and the folders in which its packs lie."""

import os
from pathlib import Path

VERSION = "0.1.0"

_package = Path(__file__).parent.parent
_checkout = _package.parent
_is_checkout = os.path.isfile(_checkout / "pyproject.toml") and os.path.isdir(_checkout / "rules")

ROOTS = (_package, _checkout) if _is_checkout else (_package,)
"""Where `rules/`, `models/` and `reports/` may lie: in the package, as in a wheel; in a checkout also beside it."""
