"""A device's limits as data: TOML files in `rules/profiles/`, or of the user's own.

Every limit has a source. Limits of the whole device have a key each (`keys.py`), which a rule reads; limits of single
operators bound a metric (`metric.py`), which says what rule reports them.
"""

from npu_guard.profile.device import Limit, Operator, Profile, load_profile, requirements
from npu_guard.profile.keys import LIMITS, ResizeForm, convert, limit_value, suggest
from npu_guard.profile.requirement import CONSEQUENCES, Requirement

__all__ = [
    "CONSEQUENCES",
    "LIMITS",
    "Limit",
    "Operator",
    "Profile",
    "Requirement",
    "ResizeForm",
    "convert",
    "limit_value",
    "load_profile",
    "requirements",
    "suggest",
]
