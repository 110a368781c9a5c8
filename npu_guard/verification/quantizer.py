"""Static quantization by onnxruntime.quantization. Runs in the process of `runtime.py`, as calibration runs the model.

Calibration is kept, so that a model is calibrated once however often it is quantized: whole, and each operator alone.
"""

from __future__ import annotations

import hashlib
import logging
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from npu_guard.verification.quantizable import CHANNELS_OPSET, doubles, opset_of, quantizable
from npu_guard.verification.scheme import WIDE, Scheme

Array = NDArray[Any]
_RENAMED = "_QuantizeLinear_Input"
"""What onnxruntime appends to the name of an output of the model whose result it quantizes."""
_NEVER = {"Cast", "CastLike", "Shape", "Size", "Constant", "ConstantOfShape", "Range", "Identity"}
"""Operators that change a type, or say something of a shape, and hold nothing that could be quantized."""
_NORMALIZATIONS = {"LayerNormalization", "InstanceNormalization"}
"""Operators whose Scale is held in the type of the data: QNN takes no other beside a bias in int32 (profile qualcomm-htp)."""
_calibrated: dict[str, tuple[onnx.ModelProto, Any]] = {}
"""The last model with the ranges of its tensors, by a hash of all that they follow from."""


def quantize(
    content: bytes, folder: str, feeds: Sequence[Mapping[str, Array]], scheme: Scheme, alone: Sequence[str] = ()
) -> bytes:
    """The quantized form of a model; of these nodes alone, where any are named. Whatever the library raises goes through.

    Scales that have to be powers of two, or equal, are set in a second pass: each is rounded up to the next power, and
    tensors that share one have the largest of theirs.
    """
    logging.disable(logging.WARNING)
    model, ranges = _calibrate(content, folder, feeds, scheme.per_channel)
    overrides = _overrides(model, scheme)
    made = _quantized(model, ranges, scheme, overrides, alone)
    if scheme.power_of_two or scheme.same_scale or scheme.same_operands:
        made = _quantized(model, ranges, scheme, {**overrides, **_scales(model, made, scheme)}, alone)
    return bytes(made.SerializeToString())


def _calibrate(
    content: bytes, folder: str, feeds: Sequence[Mapping[str, Array]], per_channel: bool
) -> tuple[onnx.ModelProto, Any]:
    from onnxruntime.quantization import CalibrationDataReader, create_calibrator
    from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

    digest = hashlib.sha256(content + bytes([per_channel]))
    for feed in feeds:
        for name, array in sorted(feed.items()):
            digest.update(name.encode() + array.tobytes())
    key = digest.hexdigest()
    if key in _calibrated:
        return _calibrated[key]

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            self._rest: Iterator[Mapping[str, Array]] = iter(feeds)

        def get_next(self) -> dict[str, Array] | None:
            feed = next(self._rest, None)
            return None if feed is None else dict(feed)

    whole = onnx.load_model_from_string(content)
    onnx.external_data_helper.load_external_data_for_model(whole, folder)
    whole = quantizable(whole, per_channel)
    with tempfile.TemporaryDirectory(prefix="npu-guard-") as scratch:
        path = Path(scratch) / "model.onnx"
        onnx.save(whole, path)
        calibrator = create_calibrator(path, None, augmented_model_path=str(Path(scratch) / "augmented.onnx"))
        calibrator.collect_data(Reader())
        ranges = calibrator.compute_data()
        del calibrator
        model = load_model_with_shape_infer(path)
    _calibrated.clear()
    _calibrated[key] = model, ranges
    return model, ranges


def _quantized(
    model: onnx.ModelProto, ranges: Any, scheme: Scheme, overrides: Mapping[str, list[dict[str, Any]]], alone: Sequence[str]
) -> onnx.ModelProto:
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import QuantizationMode, QuantType
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    opset = opset_of(model)
    per_channel = scheme.per_channel and opset >= CHANNELS_OPSET
    options = {
        "ActivationSymmetric": scheme.activation_symmetric,
        "WeightSymmetric": scheme.weight_symmetric,
        "TensorQuantOverrides": _fixed(copy, scheme, overrides),
        "UseQDQContribOps": opset < 21 and bool(scheme.in_wide),
        # data movers too whose data nobody else has quantized
        "ForceQuantizeNoInputCheck": scheme.whole and scheme.form == "qdq",
    }
    kinds = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
    known = {*QLinearOpsRegistry, *QDQRegistry} if scheme.form == "qdq" else {*QLinearOpsRegistry}
    others = {node.op_type for node in model.graph.node} - _NEVER if scheme.whole and scheme.form == "qdq" else set()
    operators = sorted(known | others)
    left = [*scheme.in_float, *doubles(model), *_endless(model, ranges)]
    given = (kinds[scheme.weight], kinds[scheme.activation], ranges, list(alone), left, operators, options)
    if scheme.form == "qdq":
        quantizer = QDQQuantizer(copy, per_channel, False, *given)
    else:
        del options["TensorQuantOverrides"], options["UseQDQContribOps"]
        quantizer = ONNXQuantizer(copy, per_channel, False, QuantizationMode.QLinearOps, True, *given)
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    return quantizer.model.model  # type: ignore[no-any-return]


def _endless(model: onnx.ModelProto, ranges: Any) -> list[str]:
    """Names of nodes beside tensors that are not finite, such as a mask of minus infinity: no scale holds them."""
    found = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and not _is_finite(t)}
    found |= {name for name, data in ranges.items() if not all(np.isfinite(end).all() for end in data.range_value)}
    return [node.name for node in model.graph.node if found.intersection((*node.input, *node.output))] if found else []


def _is_finite(tensor: onnx.TensorProto) -> bool:
    return bool(np.isfinite(onnx.numpy_helper.to_array(tensor)).all())


def _overrides(model: onnx.ModelProto, scheme: Scheme) -> dict[str, list[dict[str, Any]]]:
    """What single tensors have that is not the scheme's default: one scale for the weights of some operators, 16 bits."""
    from onnxruntime.quantization.quant_utils import QuantType

    kinds = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8, "int16": QuantType.QInt16, "uint16": QuantType.QUInt16}
    constant = {tensor.name for tensor in model.graph.initializer}
    found: dict[str, list[dict[str, Any]]] = {}
    for node in model.graph.node:
        allowed = scheme.channel_operators
        if scheme.per_channel and allowed is not None and node.op_type in ("MatMul", "Gemm", "Conv", "ConvTranspose"):
            for name in node.input[:2] if node.op_type not in allowed else ():
                if name in constant:
                    found[name] = [{"quant_type": kinds[scheme.weight], "symmetric": scheme.weight_symmetric}]
        if node.op_type in _NORMALIZATIONS and scheme.activation != scheme.weight:
            for name in node.input[1:2]:
                if name in constant:
                    found[name] = [{"quant_type": kinds[scheme.activation]}]
        if node.name in scheme.in_wide:
            for name in node.output[:1]:
                found[name] = [{"quant_type": kinds[WIDE[scheme.activation]]}]
    return found


def _fixed(
    model: onnx.ModelProto, scheme: Scheme, overrides: Mapping[str, list[dict[str, Any]]]
) -> dict[str, list[dict[str, Any]]]:
    """The same with conversions where types of 8 and 16 bits meet, as onnxruntime puts them in for QNN."""
    own = {name: [dict(entry) for entry in entries] for name, entries in overrides.items()}
    if not scheme.in_wide:
        return own
    from onnxruntime.quantization.execution_providers.qnn.mixed_precision_overrides_utils import (
        MixedPrecisionTensorQuantOverridesFixer,
    )
    from onnxruntime.quantization.quant_utils import QuantType
    from onnxruntime.quantization.tensor_quant_overrides import TensorQuantOverridesHelper

    helper = TensorQuantOverridesHelper(own)
    default = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}[scheme.activation]
    MixedPrecisionTensorQuantOverridesFixer.create_from_model(helper, model, default).apply(default, scheme.activation_symmetric)
    return dict(helper.get_dict())


def _scales(model: onnx.ModelProto, made: onnx.ModelProto, scheme: Scheme) -> dict[str, list[dict[str, Any]]]:
    """Scales and zero points to set, by the tensor of the original model that has them."""
    own = {name for node in model.graph.node for name in (*node.input, *node.output)}
    numbers = {t.name: t for t in made.graph.initializer if t.name.endswith(("_scale", "_zero_point"))}
    scales: dict[str, float] = {}
    zeros: dict[str, Array] = {}
    for name, tensor in numbers.items():
        plain = name.removesuffix("_scale").removesuffix(_RENAMED)
        zero = numbers.get(name.removesuffix("_scale") + "_zero_point")
        if name.endswith("_scale") and plain in own and zero is not None and math.prod(tensor.dims) == 1:
            scales[plain] = float(onnx.numpy_helper.to_array(tensor).reshape(-1)[0])
            zeros[plain] = onnx.numpy_helper.to_array(zero).reshape(-1)
    group = {name: name for name in scales}

    def root(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    owner = {name: name for name in scales}  # data movers have the scale of what they read
    for node in made.graph.node:
        held_by = node.input[1].removesuffix("_scale").removesuffix(_RENAMED) if node.op_type == "QuantizeLinear" else ""
        if held_by in scales:
            owner[node.input[0].removesuffix(_RENAMED)] = held_by
    constant = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        same = [*node.input, *node.output] if node.op_type in scheme.same_scale else []
        same += list(node.input) if node.op_type in scheme.same_operands else []
        held = [owner[name] for name in same if name in owner and name not in constant]
        for name in held[1:]:
            group[root(name)] = root(held[0])
    largest: dict[str, str] = {}
    for name, own_scale in scales.items():
        other = largest.get(root(name))
        if other is None or own_scale > scales[other]:
            largest[root(name)] = name
    found = {}
    for name, own_scale in scales.items():
        chosen = largest[root(name)]
        scale, zero = scales[chosen], zeros[chosen]
        if scheme.power_of_two:
            scale = 2.0 ** math.ceil(math.log2(scale))
        if scale != own_scale or zero[0] != zeros[name][0]:
            found[name] = [{"scale": np.array(scale, np.float32), "zero_point": np.array(zero[0])}]
    return found
