"""Words in limits on the whole device: element types, operators, spellings. One that nothing has would limit nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from npu_guard.device import kinds
from npu_guard.device.keys import LIMITS, suggest

_TYPES = ("tensor.dtypes", *(key for key in LIMITS if key.endswith(("_types", "_symmetric"))))
_OPERATORS = ("quantization.channel_operators", "quantization.same_scale", "quantization.same_operands", "quantization.fused")
_WORDS = {
    "memory.resident": ("inputs", "outputs", "weights"),
    "quantization.forms": ("qdq", "qoperator", "integer", "dynamic", "weights"),
    "quantization.weight_scales": ("tensor", "channel", "block"),
}


def words_of(key: str, value: Any, operators: Collection[str]) -> Iterator[str]:
    """What is wrong with the words of a limit; `operators` are those that ONNX has or had."""
    if key in _OPERATORS:
        for name in value:
            if "::" not in name and name not in operators:
                yield f"{name!r} is no ONNX operator{suggest(name, operators)}"
    elif key in _TYPES:
        yield from kinds.unknown_words(value, kinds.DTYPES, repr(key))
    elif key == "pad.modes":
        yield from kinds.unknown_words(value, kinds.words_of("Pad", "mode"), "'pad.modes'")
    elif key in _WORDS:
        yield from kinds.unknown_words(value, _WORDS[key], repr(key))
    elif key == "resize":
        for form in value:
            yield from kinds.unknown_words([form["mode"]], kinds.words_of("Resize", "mode"), "'mode' of 'resize'")
            known = kinds.words_of("Resize", "coordinate_transformation_mode")
            yield from kinds.unknown_words(form.get("transforms", ()), known, "'transforms' of 'resize'")
