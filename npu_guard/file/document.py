"""The write side: a model that can be edited and saved while its weights stay in the files they came from.

The structure is the skeleton's protobuf. A weight is read when somebody asks for it, and copied when the model is saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from msgspec import Struct
from numpy.typing import NDArray

from npu_guard.base.address import is_url
from npu_guard.base.errors import ModelError, UsageError
from npu_guard.base.limits import DEFAULT, Limits
from npu_guard.base.text import short, text
from npu_guard.file import external_data
from npu_guard.file.bodies import walk_graphs
from npu_guard.file.skeleton import Skeleton
from npu_guard.file.wire import INLINE, Payload, varint

Array = NDArray[Any]
_T = onnx.TensorProto
# Payload fields of TensorProto that are little-endian memory when packed: floats, raw_data, doubles.
_MEMORY_FIELDS = frozenset({4, 9, 10})


class Document(Struct):
    """`proto` may be edited freely; `source` is the file that it was loaded from and `payloads` what was cut out of it."""

    proto: onnx.ModelProto
    source: Path
    payloads: Mapping[int, Payload]
    limits: Limits = DEFAULT

    @staticmethod
    def of(skeleton: Skeleton) -> Document:
        """A document of its own; the skeleton is not touched. Raises UsageError for an object in a store."""
        if is_url(skeleton.path):
            raise UsageError(f"{skeleton.path}: weights are read as well, and of a URL only the structure; download it")
        proto = onnx.ModelProto()
        proto.CopyFrom(skeleton.proto)
        return Document(proto, Path(skeleton.path), skeleton.payloads, skeleton.limits)

    def copy(self) -> Document:
        """The structure again; weights are shared."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        return Document(proto, self.source, self.payloads, self.limits)

    def skeleton(self) -> Skeleton:
        """For another analysis, which may write into its own copy."""
        opset = next((e.version for e in self.proto.opset_import if e.domain in ("", "ai.onnx")), 0)
        return Skeleton(str(self.source), self.copy().proto, self.payloads, opset, self.limits)

    def array(self, tensor: onnx.TensorProto) -> Array:
        """The values of a tensor, read from where they are. Raises ModelError where that is not to be had."""
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        if tensor.data_location != _T.EXTERNAL:
            return onnx.numpy_helper.to_array(tensor)
        path, offset, length = self.extent(tensor)
        whole = self.payload(tensor)
        if whole is not None and whole.field not in _MEMORY_FIELDS:
            return onnx.numpy_helper.to_array(self.original(tensor, whole))
        with open(external_data.open_plain(path), "rb") as file:
            file.seek(offset)
            data = file.read(length)
        return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(tuple(tensor.dims))

    def extent(self, tensor: onnx.TensorProto) -> tuple[Path, int, int]:
        """File, offset and length of an external tensor's bytes, checked to lie where they may. Raises ModelError."""
        entries = {e.key: e.value for e in tensor.external_data}
        name = f"{self.source}: tensor {short(text(tensor.name))!r}"
        if entries.get("location") == INLINE:
            payload = self.payloads[int(entries["offset"])]
            return self.source, payload.offset, payload.length
        location = entries.get("location", "")
        path, size = external_data.locate(self.source.parent, location, name)
        try:
            offset = int(entries.get("offset", 0))
            length = int(entries.get("length", max(size - offset, 0)))
        except ValueError:
            raise ModelError("invalid", f"{name}: offset and length of external data must be numbers") from None
        external_data.inside(offset, length, size, location, name)
        return path, offset, length

    def tensors(self) -> Iterator[onnx.TensorProto]:
        """Every tensor in the model, in its graphs and its nodes' attributes."""
        for graph in walk_graphs(self.proto.graph):
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            for node in graph.node:
                for attribute in node.attribute:
                    if attribute.HasField("t"):
                        yield attribute.t
                    yield from attribute.tensors

    def runnable(self) -> tuple[bytes, Path]:
        """Serialized model whose cut weights point into files of the folder in the second place, for ONNX Runtime."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        document = Document(proto, self.source, self.payloads)
        for tensor in document.tensors():
            if tensor.data_location != _T.EXTERNAL:
                continue
            payload = self.payload(tensor)
            if payload is None:
                self.extent(tensor)  # contained, or the model is refused
            elif payload.field in _MEMORY_FIELDS:
                for entry in tensor.external_data:
                    if entry.key == "location":
                        entry.value = self.source.name
            else:
                tensor.CopyFrom(self.original(tensor, payload))
        proto.ir_version = min(proto.ir_version, RUNTIME_IR)
        return proto.SerializeToString(), self.source.parent

    def payload(self, tensor: onnx.TensorProto) -> Payload | None:
        """What was cut out of the tensor; None where its data is elsewhere."""
        entries = {e.key: e.value for e in tensor.external_data}
        return self.payloads[int(entries["offset"])] if entries.get("location") == INLINE else None

    def original(self, tensor: onnx.TensorProto, payload: Payload) -> onnx.TensorProto:
        """The tensor as it stood in the file, for payloads that are not plain memory."""
        whole = _T()
        with self.source.open("rb") as file:
            file.seek(payload.offset)
            data = file.read(payload.length)
        if payload.field == 0:
            whole.ParseFromString(data)
        else:  # a packed field on its own: give it its tag and length back
            whole.ParseFromString(varint(payload.field << 3 | 2) + varint(len(data)) + data)
        whole.name, whole.data_type = tensor.name, tensor.data_type
        whole.dims[:] = tensor.dims
        return whole


RUNTIME_IR = 10
"""IR version that is written: onnx's newest is ahead of what ONNX Runtime loads, and nothing here needs it."""
