"""Example inputs of a network that is named as Python code: from options, or from the code's own `inputs()`."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from npu_guard.base.errors import UsageError
from npu_guard.device import suggest
from npu_guard.project.failures import failed

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_DTYPES = ("float32", "float16", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool")
MAX_ELEMENTS = 1 << 30


@dataclass(frozen=True, slots=True)
class Input:
    """An example input, as `--input` names it."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


def parse_input(text: str) -> Input:
    """`x:1,3,384,640` or `x:int64:1,16`. Raises UsageError."""
    name, *kind, dims = text.split(":") if ":" in text else ("", "")
    with contextlib.suppress(ValueError):
        shape = tuple(int(part) for part in dims.split(",")) if dims.strip() else ()
        dtype = kind[0].strip() if kind else "float32"
        if name and len(kind) < 2 and shape and min(shape) > 0:
            if dtype not in _DTYPES:
                known = f"; there are {', '.join(_DTYPES)}{suggest(dtype, _DTYPES)}"
                raise UsageError(f"--input {text!r}: no element type {dtype!r}{known}")
            elements = 1
            for extent in shape:
                elements *= extent
            if elements > MAX_ELEMENTS:
                raise UsageError(f"--input {text!r}: {elements} elements are more than an example needs; give a smaller shape")
            return Input(name, shape, dtype)
    raise UsageError(f"--input {text!r}: write it as NAME:1,3,384,640 or NAME:int64:1,16")


def example_of(model: nn.Module, inputs: Sequence[Input], code: ModuleType, target: str, option: str) -> dict[str, Tensor]:
    """Example tensors by name, in forward's order."""
    given: Any = {i.name: _random(i) for i in inputs}
    _expect_inputs(model, list(given), target)
    own = getattr(code, "inputs", None)
    if not given and callable(own):
        try:
            given = own()
        except BaseException as error:
            raise failed(error, f"{code.__name__}:inputs: calling it failed") from error
    return _in_order(model, given, target, option)


def _expect_inputs(model: nn.Module, given: Sequence[str], target: str) -> None:
    """Raise UsageError where forward has no parameter that an option names. What the code itself returns may have other names."""
    parameters = inspect.signature(model.forward).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    unknown = next((name for name in given if name not in names), None)
    if unknown is not None and not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        takes = f"forward takes {', '.join(names) or 'nothing'}"
        raise UsageError(f"{target}: {takes} and no {unknown!r}{suggest(unknown, names)}")


def _in_order(model: nn.Module, given: Any, target: str, option: str) -> dict[str, Tensor]:
    import torch

    parameters = inspect.signature(model.forward).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = required(model.forward)
    if isinstance(given, torch.Tensor):
        given = (given,)
    if isinstance(given, (tuple, list)):
        given = {names[i] if i < len(names) else f"input_{i}": tensor for i, tensor in enumerate(given)}
    if not isinstance(given, dict) or not all(isinstance(v, torch.Tensor) for v in given.values()):
        raise UsageError(f"{target}: inputs() must return tensors: a dict by input name, a tuple, or one tensor")
    if len(given) < len(needed):
        missing = [n for n in needed if n not in given] or needed
        raise UsageError(
            f"{target}: forward needs {', '.join(missing)}; give the shape of each with {option} {missing[0]}:1,3,384,640,"
            " or write a function inputs() beside it that returns example tensors"
        )
    if set(given) <= set(names):
        given = {n: given[n] for n in names if n in given}
        if list(given) != names[: len(given)]:
            raise UsageError(f"{target}: forward takes {', '.join(names)}; inputs before the last one given cannot be left out")
    return dict(given)


def _random(given: Input) -> Tensor:
    import torch

    generator = torch.Generator().manual_seed(0)
    dtype: torch.dtype = getattr(torch, given.dtype)
    if dtype.is_floating_point:
        return torch.randn(given.shape, generator=generator).to(dtype)
    # Indices, mostly: 0 and 1 are within every table.
    return torch.randint(0, 2, given.shape, generator=generator).to(dtype)


def required(function: Callable[..., Any]) -> list[str]:
    """Names of the parameters that a call must give."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
