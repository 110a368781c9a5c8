"""Dropout that a forward calls as a function, taken out while two networks are compared in training mode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode

NAMES = frozenset(("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"))
"""Functions of torch.nn.functional whose second and third argument are the probability and whether it is in training."""
ATTENTION = {"scaled_dot_product_attention": 4, "multi_head_attention_forward": 10}
"""Functions with dropout inside, and where among their arguments its probability, `dropout_p`, is."""


class WithoutDropout(TorchFunctionMode):
    """While it is entered, these functions hand on what they are given; `calls` counts those that would have changed it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = Counter[str]()

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """As torch calls it for each function."""
        named, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name in NAMES:
            given = dict(zip(("input", "p", "training"), args, strict=False)) | named
            if given.get("p", 0.5) and given.get("training", given.get("train", True)):
                self.calls[name] += 1
            return given["input"]
        at = ATTENTION.get(name)
        if at is not None and (len(args) > at or "dropout_p" in named):
            probability = args[at] if len(args) > at else named["dropout_p"]
            self.calls[name] += bool(probability and named.get("training", True))
            named |= {} if len(args) > at else {"dropout_p": 0.0}
            args = (*args[:at], 0.0, *args[at + 1 :]) if len(args) > at else args
        return func(*args, **named)
