"""Ways to write new tensors of a network in integers: with how many bits, from which ranges, and with whose scales."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from npu_guard.analysis.quantized.held import Held
from npu_guard.analysis.types import DTYPE_NAMES
from npu_guard.device import Profile
from npu_guard.fixing.counterparts import Range
from npu_guard.rewriting.integers.grid import Style, widened
from npu_guard.rewriting.integers.restore import ROOM
from npu_guard.rewriting.integers.scheme import of_other_sign

TYPES = {name: number for number, name in DTYPE_NAMES.items()}
"""Numbers of element types by the names that device files have."""


class Way(NamedTuple):
    """One way to write integers."""

    measured: Mapping[str, Range]
    """Ranges of new sums that become integers."""
    wide: bool
    """Whether these have 16 bits."""
    tied: bool
    """Whether scales that are known are given up for shared ones."""
    room: float = 1.5
    """Times by which a range of 16 bits is wider than what was seen, as a variance may be smaller than on all inputs."""


def ways(ranges: Mapping[str, Range], profile: Profile, style: Style, *, wide: bool) -> list[Way]:
    """Each way to be tried.

    New sums become integers where the device wants that or has 16 bits, and stay in floating point where it takes that beside
    integers.
    """
    if _is_free(profile):
        sums: list[tuple[Mapping[str, Range], bool]] = [*([(ranges, True)] if wide else []), ({}, False)]
    else:
        sums = [(ranges, False), *([(ranges, True)] if _takes_wide(profile, style) else [])]
        sums += [] if profile.limit("quantization.whole") else [({}, False)]
    shares = profile.limit("quantization.same_operands") or profile.limit("quantization.same_scale")
    return [Way(one, fine, tied) for one, fine in sums for tied in ((True, False) if shares else (False,))]


def narrower(way: Way, usual: Mapping[str, Range]) -> list[Way]:
    """The way, and the same with ranges of the usual inputs alone, which leave more steps to these."""
    return [way, way._replace(measured=usual, room=ROOM)] if way.measured else [way]


def _is_free(profile: Profile) -> bool:
    """Whether new sums need not have the type of all others: the device's file neither names types nor wants integers alone."""
    return not profile.limit("quantization.activation_types") and not profile.limit("quantization.whole")


def _takes_wide(profile: Profile, style: Style) -> bool:
    """Whether the device names 16 bits among the types of activations, where the network has 8."""
    own = Held(style.activation, np.ones((), np.float32), 0)
    wider = widened(own)
    types = {TYPES.get(name) for name in profile.limit("quantization.activation_types") or ()}
    return wider is not own and not types.isdisjoint({wider.dtype, of_other_sign(wider).dtype})
