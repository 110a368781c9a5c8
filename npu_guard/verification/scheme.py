"""How a network is to be quantized: what a device states, in the words of onnxruntime.quantization."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from npu_guard.base.errors import UsageError

if TYPE_CHECKING:
    from npu_guard.device import Profile

WIDE = {"int8": "int16", "uint8": "uint16"}
"""The type of 16 bits in the place of one of 8."""


class Scheme(Struct, frozen=True):
    """Types, symmetry and granularity, for all operators but those that are kept.

    The default is what `fix --int8` and `verify --int8` compare in: signed, QDQ, a scale for each channel of a weight.
    """

    form: str = "qdq"
    """`qdq` or `qoperator`."""
    activation: str = "int8"
    weight: str = "int8"
    activation_symmetric: bool = False
    weight_symmetric: bool = True
    per_channel: bool = True
    channel_operators: tuple[str, ...] | None = None
    """Operators whose weights may have a scale for each channel; None where all may."""
    power_of_two: bool = False
    same_scale: tuple[str, ...] = ()
    """Operators whose data and result share a scale."""
    same_operands: tuple[str, ...] = ()
    """Operators whose operands share a scale."""
    whole: bool = False
    """Whether operators are quantized too that onnxruntime leaves out unless it is told."""
    in_float: tuple[str, ...] = ()
    """Names of nodes that are left in floating point."""
    in_wide: tuple[str, ...] = ()
    """Names of nodes whose activations have 16 bits."""


def scheme_of(profile: Profile) -> Scheme:
    """The scheme that a device states; of what it leaves open, the first that it allows or the default.

    Raises UsageError where its compiler reads no network with static quantization.
    """
    forms = profile.limit("quantization.forms")
    form = next((f for f in ("qdq", "qoperator") if forms is None or f in forms), None)
    if form is None:
        raise UsageError(
            f"quantize: the compiler of {profile.name} reads no quantized network; give it the one in floating point"
        )
    granularity = profile.limit("quantization.weight_scales")
    activation = _first(profile, "quantization.activation_types", Scheme().activation)
    weight = "int8" if "int8" in (profile.limit("quantization.weight_types") or ("int8",)) else "uint8"
    return Scheme(
        form,
        activation,
        weight,
        activation in (profile.limit("quantization.activations_symmetric") or ()),
        True,
        granularity is None or "channel" in granularity,
        profile.limit("quantization.channel_operators"),
        bool(profile.limit("quantization.power_of_two")),
        tuple(profile.limit("quantization.same_scale") or ()),
        tuple(profile.limit("quantization.same_operands") or ()),
        bool(profile.limit("quantization.whole")),
    )


def runs_wide(profile: Profile, scheme: Scheme) -> bool:
    """Whether the device holds activations in 16 bits."""
    return WIDE[scheme.activation] in (profile.limit("quantization.activation_types") or ())


def _first(profile: Profile, key: str, default: str) -> str:
    allowed = profile.limit(key)
    return next((name for name in allowed if name in WIDE), default) if allowed else default
