"""Modules from what was written: the text is run, and weights are put in."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Mapping
from hashlib import blake2b
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from npu_guard.training.layout import module_text
from npu_guard.training.writer import Written


def code_module(text: str, file: str = "") -> ModuleType:
    """The Python module of a text, the same one for the same text; its lines can be looked up, as torch's compiler does."""
    name = f"npu_guard_blocks_{blake2b(text.encode(), digest_size=8).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    file = file or f"<{name}>"
    made = ModuleType(name)
    made.__file__ = file
    made.__dict__["__npu_guard_source__"] = text
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    # As an import does: annotations are types, which torch.jit.script reads.
    code = compile(text, file, "exec", dont_inherit=True)
    exec(code, made.__dict__)  # our own text, or the user's edited blocks.py, which he asks to be run
    sys.modules[name] = made
    return made


def construct(kind: str, code: ModuleType | None, old: nn.Module | None) -> nn.Module:
    """A block: a class of blocks.py, or one of torch's own modules as `nn.Conv2d(8, 16, 1)`."""
    if kind.startswith("nn."):
        made = eval(kind, {"nn": nn, "__builtins__": {}}, {})
    else:
        made = getattr(code, kind)(*([old] if old is not None else []))
    assert isinstance(made, nn.Module)
    return made


def constructed(written: Written, old: nn.Module | None = None) -> nn.Module:
    """The module with its weights, in eval mode."""
    code = None if written.constructor else code_module(module_text([written]))
    module = construct(written.constructor or written.name, code, old if written.kept else None)
    fill(module, {name: torch.from_numpy(p.array.copy()) for name, p in written.state.items()})
    return module.eval()


def fill(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put tensors in by name. Raises KeyError for one that the module does not have, ValueError for another shape or type."""
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    with torch.no_grad():
        for name, tensor in state.items():
            if own[name].shape != tensor.shape:
                raise ValueError(f"{name} has shape {tuple(own[name].shape)}, and its weights have {tuple(tensor.shape)}")
            if own[name].is_floating_point() != tensor.is_floating_point():
                raise ValueError(f"{name} is of {own[name].dtype}, and its weights are of {tensor.dtype}")
            own[name].copy_(tensor)


def outputs_of(module: nn.Module, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """All tensors of the result, without gradients."""
    with torch.no_grad():
        leaves = pytree.tree_leaves(module(*(t.clone() for t in inputs.values())))
    return [t for t in leaves if isinstance(t, Tensor)]
