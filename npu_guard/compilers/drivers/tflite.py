"""Write small quantized .tflite files, with the schema classes that come with Vela. No TensorFlow is needed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SCALE = 0.05
Operator = tuple[str, Sequence[int], Sequence[int], str, Mapping[str, Any]]
"""Code, inputs, outputs, table of options and its fields."""
_SCHEMA = "ethosu.vela.tflite."
_TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int16": 7, "int8": 9}
_NUMPY = {name: np.dtype(name) for name in _TYPES}


class Tensors:
    """The tensors and operators of one file while it is put together."""

    def __init__(self) -> None:
        self.tensors: list[tuple[str, list[int], str, Any, float | None, int]] = []
        self.operators: list[Operator] = []

    def activation(self, name: str, shape: Sequence[Any], dtype: str = "int8", scale: float = SCALE, zero: int = 0) -> int:
        """A tensor that goes in, comes out, or is in between; its index."""
        return self._add(name, shape, dtype, None, scale if dtype in ("int8", "uint8", "int16") else None, zero)

    def constant(self, name: str, values: Any, dtype: str = "int8", scale: float | None = SCALE) -> int:
        """A tensor with values; indices, axes and shapes have no scale."""
        values = np.ascontiguousarray(values, _NUMPY[dtype])
        return self._add(name, values.shape, dtype, values, scale, 0)

    def operator(self, code: str, inputs: Sequence[int], outputs: Sequence[int], options: str = "", **fields: Any) -> None:
        """An operator by the name of its code, with the table of its options."""
        self.operators.append((code, inputs, outputs, options, fields))

    def _add(self, name: str, shape: Sequence[int], dtype: str, values: Any, scale: float | None, zero: int) -> int:
        self.tensors.append((name, [int(d) for d in shape], dtype, values, scale, zero))
        return len(self.tensors) - 1

    def file(self, outputs: Sequence[int]) -> bytes:
        """The bytes of a file with these outputs; its inputs are what no operator makes."""
        return _Writer(importlib.import_module("flatbuffers").Builder(1 << 16), self).file(outputs)


class _Writer:
    def __init__(self, builder: Any, content: Any) -> None:
        self.b = builder
        self.content = content

    def file(self, outputs: Sequence[int]) -> bytes:
        b, content = self.b, self.content
        buffers = [self.table("Buffer")]
        tensors = [self.tensor(place, entry, buffers) for place, entry in enumerate(content.tensors)]
        codes = list(dict.fromkeys(op[0] for op in content.operators))
        numbers = _schema("BuiltinOperator").BuiltinOperator
        written = []
        for code in codes:
            number = getattr(numbers, code)
            written.append(self.table("OperatorCode", DeprecatedBuiltinCode=min(number, 127), BuiltinCode=number, Version=1))
        operators = [self.operator(op, codes.index(op[0])) for op in content.operators]
        made = {i for op in content.operators for i in op[2]}
        inputs = [i for i, t in enumerate(content.tensors) if t[3] is None and i not in made]
        parts = {
            "Tensors": self.offsets("SubGraph", "Tensors", tensors),
            "Inputs": self.numbers("SubGraph", "Inputs", inputs),
            "Outputs": self.numbers("SubGraph", "Outputs", outputs),
            "Operators": self.offsets("SubGraph", "Operators", operators),
            "Name": b.CreateString("main"),
        }
        graphs = self.offsets("Model", "Subgraphs", [self.table("SubGraph", **parts)])
        whole = {
            "OperatorCodes": self.offsets("Model", "OperatorCodes", written),
            "Subgraphs": graphs,
            "Buffers": self.offsets("Model", "Buffers", buffers),
            "Description": b.CreateString("one operator"),
        }
        b.Finish(self.table("Model", Version=3, **whole), b"TFL3")
        return bytes(b.Output())

    def tensor(self, place: int, entry: Any, buffers: Any) -> int:
        """Called by its place, not by its name: operators that are alike are the same file."""
        _, shape, dtype, values, scale, zero = entry
        index = 0
        if values is not None:
            buffers.append(self.table("Buffer", Data=self.b.CreateByteVector(values.tobytes())))
            index = len(buffers) - 1
        fields = {"Shape": self.numbers("Tensor", "Shape", shape), "Name": self.b.CreateString(str(place))}
        if scale is not None:
            fields["Quantization"] = self.quantization(scale, zero)
        return self.table("Tensor", Type=_TYPES[dtype], Buffer=index, **fields)

    def quantization(self, scale: float, zero: int) -> int:
        module = _schema("QuantizationParameters")
        module.QuantizationParametersStartScaleVector(self.b, 1)
        self.b.PrependFloat32(scale)
        scales = self.b.EndVector()
        module.QuantizationParametersStartZeroPointVector(self.b, 1)
        self.b.PrependInt64(zero)
        return self.table("QuantizationParameters", Scale=scales, ZeroPoint=self.b.EndVector())

    def operator(self, op: Operator, code: int) -> int:
        _, inputs, outputs, options, fields = op
        parts = {"Inputs": self.numbers("Operator", "Inputs", inputs), "Outputs": self.numbers("Operator", "Outputs", outputs)}
        if options:
            vectors = {
                name: self.numbers(options, name, value) if isinstance(value, list) else value for name, value in fields.items()
            }
            kind = getattr(_schema("BuiltinOptions").BuiltinOptions, options)
            parts |= {"BuiltinOptionsType": kind, "BuiltinOptions": self.table(options, **vectors)}
        return self.table("Operator", OpcodeIndex=code, **parts)

    def table(self, kind: Any, **fields: Any) -> int:
        module = _schema(kind)
        getattr(module, f"{kind}Start")(self.b)
        for name, value in fields.items():
            getattr(module, f"{kind}Add{name}")(self.b, value)
        return int(getattr(module, f"{kind}End")(self.b))

    def numbers(self, kind: Any, name: str, values: Sequence[int]) -> int:
        return self._vector(kind, name, values, self.b.PrependInt32)

    def offsets(self, kind: Any, name: str, values: Any) -> int:
        return self._vector(kind, name, values, self.b.PrependUOffsetTRelative)

    def _vector(self, kind: Any, name: str, values: Any, prepend: Any) -> int:
        getattr(_schema(kind), f"{kind}Start{name}Vector")(self.b, len(values))
        for value in reversed(values):
            prepend(int(value))
        return int(self.b.EndVector())


def _schema(name: str) -> Any:
    return importlib.import_module(_SCHEMA + name)
