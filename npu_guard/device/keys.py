"""Limits of a device as a whole, one key each, and the checks on what a file says.

Limits of single operators are written with metrics (`metric.py`). Every key here is read by a rule.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from npu_guard.base.errors import UsageError
from npu_guard.base.regex import regex

Consequence = Literal["compile-error", "host", "decomposed", "slow"]
"""What becomes of an operator that does not fit."""

LIMITS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "conv.kernel_max": (int, "longest axis of a convolution kernel, in taps, dilation not counted"),
    "conv.dilated_extent_max": (int, "longest reach of a convolution kernel, (k-1)d+1 pixels"),
    "conv.stride_max": (int, "largest stride of a convolution"),
    "conv.group_max": (int, "largest group count of a convolution that is not depthwise"),
    "conv.group_channels_multiple": (int, "channels per group, in and out, of a convolution that is not depthwise"),
    "conv.rank": (list, "ranks of a convolution's input tensor"),
    "conv.constant_weights": (bool, "whether a convolution's weights must be constant"),
    "pool.window_max": (int, "longest axis of a pooling window that is not global"),
    "pool.stride_max": (int, "largest stride of a pooling window"),
    "pad.max": (int, "largest padding at one side of a convolution or pooling window"),
    "pad.modes": (list, "modes of the Pad operator"),
    "reduce.axes": (list, "sets of axes that may be reduced together; an extent of 1 does not count"),
    "reduce.max_channels": (int, "channels that ReduceMax may reduce"),
    "channels.multiple_of": (int, "output channels of Conv, ConvTranspose and Gemm"),
    "tensor.rank_max": (int, "rank of an activation"),
    "tensor.static_shape": (bool, "whether every extent but the batch must be known at compile time"),
    "tensor.dtypes": (list, "element types of activations"),
    "tensor.bytes_max": (int, "size of one activation in bytes, in the element type of the model"),
    "memory.on_chip_bytes": (int, "bytes of memory on the chip, for what `memory.resident` names"),
    "memory.element_bits": (int, "bits of the smallest element type that the device holds tensors in"),
    "memory.resident": (list, "what of one operator is on the chip at once and whole: inputs, outputs, weights"),
    "layout.rearrange": (bool, "whether the device can move data between channels and space (Reshape, Transpose)"),
    "layout.vectors": (bool, "whether the device runs [B, C] vectors (Flatten and Gemm at the tail)"),
    "matmul.spatial": (bool, "whether the device multiplies activations, or tokens by weights"),
    "attention.node_budget": (int, "operators that may take the place of one attention where it is written out exactly"),
    "quantization.forms": (list, "spellings of quantized operators that are read: qdq, qoperator, integer, dynamic, weights"),
    "quantization.whole": (
        bool,
        "whether operators beside quantized ones must be quantized too, as those in float leave the NPU",
    ),
    "quantization.weight_types": (list, "types of quantized weights"),
    "quantization.weights_symmetric": (list, "types of weights whose zero points must be 0 (of unsigned ones, the middle)"),
    "quantization.weight_scales": (list, "what of a weight may have a scale of its own: tensor, channel, block"),
    "quantization.channel_operators": (list, "operators whose weights may have a scale for each channel"),
    "quantization.activation_types": (list, "types of quantized activations"),
    "quantization.activations_symmetric": (list, "types of activations whose zero points must be 0 (unsigned: the middle)"),
    "quantization.same_scale": (list, "operators whose data and result must share type, scale and zero point"),
    "quantization.same_operands": (list, "operators whose operands must share type, scale and zero point"),
    "quantization.power_of_two": (bool, "whether scales must be powers of two"),
    "quantization.bias_types": (list, "types of quantized biases"),
    "quantization.bias_scale": (bool, "whether the scale of a bias must be that of the data times that of the weight"),
    "quantization.fused": (list, "activations that are computed with the operator before them, if nothing is quantized between"),
    "resize": (list, "forms of Resize: mode, scales (a list, or 'integer'), coordinate transformations"),
}
"""Key: (type of the value, what it limits). A limit that a profile does not set is no limit."""


class ResizeForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One form of Resize that a device has. `scales` are the same in height and width."""

    mode: str
    scales: tuple[float, ...] | Literal["integer"]
    transforms: tuple[str, ...] = ()


def limit_value(where: str, key: str, value: Any) -> Any:
    """A limit as rules read it, from what TOML or an example says; `where` is for messages. Raises UsageError."""
    if key not in LIMITS:
        raise UsageError(f"{where}: unknown limit {key!r}{suggest(key, LIMITS)}")
    wanted: Any = LIMITS[key][0]
    if not isinstance(value, wanted) or (wanted is int and (isinstance(value, bool) or value < 1)):
        words = {int: "a whole number of at least 1", list: "a list", bool: "true or false"}
        raise UsageError(f"{where}: limit {key!r} is {value!r}; it must be {words[wanted]}")
    if key == "resize":
        return tuple(convert(v, ResizeForm, f"{where}, limit 'resize'") for v in value)
    if key == "reduce.axes":
        return tuple(tuple(convert(v, list[int], f"{where}, limit {key!r}")) for v in value)
    if wanted is list:
        return tuple(convert(value, list[int] if key == "conv.rank" else list[str], f"{where}, limit {key!r}"))
    return value


def convert(data: Any, kind: type, where: str) -> Any:
    """msgspec's validation, with one sentence on what it refuses. Raises UsageError."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        from npu_guard.base.conversion import explain

        raise UsageError(f"{where}: {explain(error, data, kind, suggest).message}") from None


def suggest(word: str, known: Any) -> str:
    """`; did you mean 'x'?` or nothing: what is spelled nearly so, else what has the word in it, else what is spelled alike."""
    from difflib import get_close_matches  # for those who mistype; the others start faster without

    names, said = sorted(known) if isinstance(known, frozenset) else list(known), word.lower()
    close = [name for name in names if name.lower() == said] or get_close_matches(word, names, 1, _ALIKE)
    if not close and len(said) >= _TELLS:
        close = [name for name in names if said in name.lower()]
        close = close or [n for n in names if get_close_matches(said, _WORDS.findall(n.lower()), 1, _ALIKE)]
    close = close or get_close_matches(word, names, 1)
    if len(close) > _SUGGESTED:
        return f"; did you mean one of {', '.join(map(repr, close[:_SUGGESTED]))}, ...?"
    first, last = ", ".join(map(repr, close[:-1])), "".join(map(repr, close[-1:]))
    return f"; did you mean {' or '.join(filter(None, (first, last)))}?" if close else ""


_TELLS = 3
"""Letters from which on a part of a name tells something."""
_ALIKE = 0.8
"""How alike words are that may be meant for each other, as `difflib` counts."""
_SUGGESTED = 4
_WORDS = regex(r"[a-z0-9]+")

EVERY = "*"
"""In `Rule.ops`: all operators."""

NOW: Mapping[str, str] = {"Upsample": "Resize"}
"""Operators that ONNX gave another name, and that name. What a device file says of the new one holds for the old one too."""


def with_old_names(ops: Iterable[str]) -> tuple[str, ...]:
    """Operators of a device file, with the old names of each."""
    ops = tuple(ops)
    return (*ops, *(old for old, new in NOW.items() if new in ops and old not in ops))
