"""A model with all its weights in one message, for a program that takes nothing else."""

from __future__ import annotations

import onnx

from npu_guard.base.errors import ModelError
from npu_guard.file import external_data
from npu_guard.file.document import Document

_MOST = (1 << 31) - (1 << 26)
"""Bytes of a protobuf message, with some room for what is made of it."""
_T = onnx.TensorProto


def weight_bytes(document: Document) -> int:
    """Bytes of weights that lie in files. Raises ModelError where one may not be read."""
    return sum(document.extent(tensor)[2] for tensor in document.tensors() if tensor.data_location == _T.EXTERNAL)


def whole_model(document: Document, size: int) -> onnx.ModelProto:
    """The model with its weights read in, `size` bytes of them. Raises ModelError where they are too many for one message.

    Files beside the model are opened as `document.extent` contains them: plain ones in its folder, behind no link.
    """
    if size > _MOST:
        raise ModelError(
            "limit", f"{document.source}: weights of {size >> 20} MiB do not go into one message of protobuf (2 GiB)"
        )
    made = document.copy()
    for tensor in made.tensors():
        if tensor.data_location != _T.EXTERNAL:
            continue
        payload = made.payload(tensor)
        if payload is not None:
            tensor.CopyFrom(made.original(tensor, payload))
            continue
        path, offset, length = made.extent(tensor)
        with open(external_data.open_plain(path), "rb") as file:
            file.seek(offset)
            tensor.raw_data = file.read(length)
        del tensor.external_data[:]
        tensor.ClearField("data_location")
    return made.proto
