"""Which constants of a rewrite depend on weights, and in which elements: the rewrite is run again with other weights.

What comes out differently is trained, what stays is fixed, element by element. No substitution states roles, so none is wrong.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Container

import numpy as np
import onnx
from numpy.typing import NDArray

from npu_guard.analysis.constants import Array
from npu_guard.base.errors import NpuGuardError, Undecidable
from npu_guard.graph.graph import Value
from npu_guard.rewriting import roles
from npu_guard.rewriting.edit import Edit
from npu_guard.rewriting.substitution import Refused
from npu_guard.rewriting.weights import Budget, Evaluate, Small, Weights
from npu_guard.verification.runtime import CannotRun

Read = dict[str, tuple[str, ...]]
"""Tensors that a rewrite has read, each with the names of the weights that it comes from."""
LARGEST = 1 << 24
"""Elements of new constants beyond which a rewrite is not run again: the second one would take as much memory."""


def moved(array: Array, name: str, frozen: Array | None = None) -> Array:
    """Other floats of the same sign, up to a fifth larger, zeros a little above zero; where `frozen` holds, as they were."""
    if array.dtype.kind != "f" or not array.size:
        return array
    rng = np.random.default_rng(zlib.crc32(name.encode("utf-8", "replace")))
    draw = 0.01 + np.float32(0.19) * rng.random(array.shape, np.float32)
    other = np.asarray(array * (1 + draw)).astype(array.dtype, copy=False)
    if (zeros := array == 0).any():
        other[zeros] = (draw[zeros] * (float(np.abs(array).max()) or 1.0)).astype(array.dtype)
    return other if frozen is None else np.where(frozen, array, other)


class Moved(Weights):
    """The weights of a document, changed where they are stored; what an earlier rewrite has made and no weight decides stays.

    `names` are tensors of the model: others in the document were made by a rewrite that has seen changed weights already.
    `read` takes the tensors that are read, with the weights that they come from; `only` is the one that changes, "" for all.
    """

    def __init__(self, base: Weights, names: Container[str], read: Read, only: str = "") -> None:
        self._document, self._tensors, self._budget = base._document, base._tensors, Budget()
        self._names, self._changed, self._only = names, read, only

    def get(self, value: Value, small: Small, evaluate: Evaluate) -> Array:
        """The tensor with other elements. Raises Undecidable."""
        try:
            return super().get(value, lambda v: None if self._is_weight(v) else small(v), evaluate)
        except Undecidable:  # floats that follow from extents
            return super().get(value, small, evaluate)

    def _is_weight(self, value: Value) -> bool:
        """Whether it is stored or computed from what is stored, in floats; integers are extents, axes and pads."""
        return value.dtype in roles.FLOATS and (value.initializer is not None or value.producer is not None)

    def _stored(self, value: Value, small: Small) -> Array:
        array = super()._stored(value, small)
        if value.name not in self._names or not self._is_weight(value):
            return array
        tensor = self._tensors.get(value.name)
        role = None if tensor is None else roles.read(tensor)
        if role is not None and role.kind == roles.FIXED:
            return array
        self._changed[value.name] = role.sources if role is not None and role.sources else (value.name,)
        if self._only not in ("", value.name):
            return array
        return moved(array, value.name, None if role is None else role.fixed(array.shape))


def mark(made: Edit, again: Callable[[Read, str], Edit]) -> None:
    """Write the role of each constant that was made; `again` is the rewrite with other weights, all of them or only one.

    None of them is marked where the other run is refused or writes something else: then nobody knows.
    """
    size = sum(int(np.prod(t.dims)) for t in made.builder.initializers)
    read: Read = {}
    changed = _changed(made, again, read, "") if size <= LARGEST else None
    if changed is None:
        return
    sources: list[dict[str, None]] = [{} for _ in changed]
    single = len(read) * size <= LARGEST // 8
    for name in read:
        alone = _changed(made, again, {}, name) if single and len(read) > 1 else None
        for i, found in enumerate(sources):
            if alone is None or alone[i].any():
                found.update(dict.fromkeys(read[name]))
    every = dict.fromkeys(name for names in read.values() for name in names)
    for tensor, elements, found in zip(made.builder.initializers, changed, sources, strict=True):
        roles.write(tensor, roles.role_of(elements, tuple(found or every)))


def _changed(made: Edit, again: Callable[[Read, str], Edit], read: Read, only: str) -> list[NDArray[np.bool_]] | None:
    """For each new constant, the elements that the other run has otherwise; None where it writes something else."""
    try:
        other = again(read, only)
    except (Refused, CannotRun, MemoryError):
        return None
    except NpuGuardError:
        raise
    except Exception:  # a rewrite that fails on weights of another kind is no fault of the model
        return None
    pairs = list(zip(made.builder.initializers, other.builder.initializers, strict=False))
    same = all(list(a.dims) == list(b.dims) and a.data_type == b.data_type for a, b in pairs)
    if not same or len(pairs) != len(made.builder.initializers):
        return None
    return [np.asarray(onnx.numpy_helper.to_array(a) != onnx.numpy_helper.to_array(b)) for a, b in pairs]
