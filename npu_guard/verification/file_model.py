"""A model file that is called as a network is, for measurements that users bring."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from npu_guard.base.errors import UsageError
from npu_guard.file.document import Document
from npu_guard.verification.runtime import CannotRun, Runtime


class FileModel:
    """Called with inputs by position or name, as numpy arrays or torch tensors; gives the same kind, a tuple of several outputs.

    A file for one sample at a time takes batches too: samples run one by one. `eval`, `train` and `to` are there for code that
    expects a torch module, and do nothing.
    """

    def __init__(self, document: Document, runtime: Runtime) -> None:
        graph = document.proto.graph
        defaults = {tensor.name for tensor in graph.initializer}
        self._inputs = {
            value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in graph.input
            if value.name not in defaults
        }
        """Shapes by name, in order; 0 where an extent is open."""
        self._outputs = [value.name for value in graph.output]
        self._model, self._runtime = document.runnable(), runtime

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Outputs for these inputs. Raises UsageError where they do not fit or the model cannot be run."""
        names = list(self._inputs)
        if len(args) > len(names) or any(name not in names for name in kwargs):
            raise UsageError(f"--metric: the function gives inputs that the model has not; it has {', '.join(names)}")
        given = dict(zip(names, args, strict=False)) | kwargs
        torch = sys.modules.get("torch")
        tensors = torch is not None and any(isinstance(v, torch.Tensor) for v in given.values())
        arrays = {name: np.asarray(v.detach().cpu() if hasattr(v, "detach") else v) for name, v in given.items()}
        try:
            found = self._runtime.run(*self._model, self._split(arrays), self._outputs)
        except CannotRun as error:
            raise UsageError(f"--metric: the model cannot be run on what the function gives it ({error})") from None
        joined: list[Any] = [
            found[0][name] if len(found) == 1 else np.concatenate([one[name] for one in found]) for name in self._outputs
        ]
        if tensors:
            assert torch is not None
            joined = [torch.from_numpy(array) for array in joined]
        return joined[0] if len(joined) == 1 else tuple(joined)

    def _split(self, arrays: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Feeds of the batch that the file states, which is 1 mostly; one feed where nothing has to be cut."""
        sizes = {(len(a), shape[0]) for name, a in arrays.items() if (shape := self._inputs[name]) and a.ndim == len(shape)}
        if len(sizes) != 1:
            return [dict(arrays)]
        ((given, own),) = sizes
        if not own or given == own or given % own:
            return [dict(arrays)]
        return [{name: a[i : i + own] for name, a in arrays.items()} for i in range(0, given, own)]

    def eval(self) -> FileModel:
        """Itself."""
        return self

    def train(self, mode: bool = True) -> FileModel:
        """Itself."""
        return self

    def to(self, *_: Any, **__: Any) -> FileModel:
        """Itself."""
        return self
