"""What ONNX's checker lets through or dies of, each with a neighbour that is fine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from npu_guard.analysis.analyze import Analysis
from npu_guard.base.errors import ModelError
from npu_guard.file import load, wire

F = TensorProto.FLOAT
Analyse = Callable[..., Analysis]


def model(
    op: str, inputs: dict[str, list[int]], params: dict[str, list[int]] | None = None, opset: int = 20, **attributes: Any
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in (params or {}).items()]
    return holding(helper.make_node(op, [*inputs, *(params or {})], ["y"], name="n", **attributes), inputs, tensors, opset)


def holding(node: onnx.NodeProto, inputs: dict[str, list[int]], tensors: list[TensorProto], opset: int = 20) -> onnx.ModelProto:
    given = [helper.make_tensor_value_info(name, F, shape) for name, shape in inputs.items()]
    graph = helper.make_graph([node], "g", given, [helper.make_tensor_value_info("y", F, None)], tensors)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", opset)])


def refused(analysis: Analyse, proto: onnx.ModelProto, *words: str, kind: str = "invalid") -> None:
    with pytest.raises(ModelError) as caught:
        analysis(proto)
    assert caught.value.kind == kind
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


X = {"x": [1, 6, 8, 8]}
AGREEMENT = [
    # op, attributes, inputs, right parameters, wrong parameters, words
    ("Conv", {}, X, {"w": [8, 6, 3, 3]}, {"w": [8, 5, 3, 3]}, ("'n' (Conv)", "5 x 1 (group) input channels", "has 6")),
    ("Conv", {"group": 2}, X, {"w": [8, 3, 3, 3]}, {"w": [8, 6, 3, 3]}, ("6 x 2 (group)",)),
    ("Conv", {"group": 3}, X, {"w": [9, 2, 3, 3]}, {"w": [8, 2, 3, 3]}, ("cannot be split into 3 groups",)),
    ("Conv", {}, X, {"w": [8, 6, 3, 3], "b": [8]}, {"w": [8, 6, 3, 3], "b": [7]}, ("bias has shape [7]", "8 output")),
    ("Conv", {"kernel_shape": [3, 3]}, X, {"w": [8, 6, 3, 3]}, {"w": [8, 6, 5, 5]}, ("kernel_shape is [3, 3]", "[5, 5]")),
    ("Conv", {}, X, {"w": [8, 6, 3, 3]}, {"w": [8, 6, 3]}, ("(Conv)",)),
    ("ConvTranspose", {}, X, {"w": [6, 8, 2, 2]}, {"w": [8, 6, 2, 2]}, ("for 8 input channels", "has 6")),
    ("ConvTranspose", {"group": 2}, X, {"w": [6, 4, 2, 2], "b": [8]}, {"w": [6, 4, 2, 2], "b": [4]}, ("bias", "8 output")),
    ("Gemm", {}, {"x": [2, 6]}, {"w": [6, 4]}, {"w": [5, 4]}, ("(Gemm)",)),
    ("Gemm", {"transB": 1}, {"x": [2, 6]}, {"w": [4, 6]}, {"w": [6, 4]}, ("(Gemm)",)),
    ("Gemm", {"transA": 1}, {"x": [6, 2]}, {"w": [6, 4]}, {"w": [2, 4]}, ("(Gemm)",)),
    ("MatMul", {}, {"x": [2, 6]}, {"w": [6, 4]}, {"w": [5, 4]}, ("MatMul",)),
    ("MatMul", {}, {"x": [3, 2, 6]}, {"w": [6]}, {"w": [5]}, ("MatMul",)),
    (
        "BatchNormalization",
        {},
        X,
        {"a": [6], "b": [6], "c": [6], "d": [6]},
        {"a": [6], "b": [6], "c": [6], "d": [1]},
        ("variance", "6"),
    ),
    (
        "BatchNormalization",
        {},
        X,
        {"a": [6], "b": [6], "c": [6], "d": [6]},
        {"a": [3], "b": [6], "c": [6], "d": [6]},
        ("scale", "3 channels"),
    ),
]


@pytest.mark.parametrize(("op", "attributes", "inputs", "right", "wrong", "words"), AGREEMENT)
def test_channels_agree(
    analysis: Analyse, op: str, attributes: dict[str, Any], inputs: dict[str, list[int]], right: dict[str, list[int]],
    wrong: dict[str, list[int]], words: tuple[str, ...],
) -> None:  # fmt: skip
    analysis(model(op, inputs, right, **attributes))
    refused(analysis, model(op, inputs, wrong, **attributes), *words)


def test_permutations(analysis: Analyse) -> None:
    analysis(model("Transpose", X, perm=[0, 2, 3, 1]))
    for perm in ([0, 2, 1], [0, 1, 1, 2], [0, 1, 2, 4], []):
        proto = model("Transpose", X)
        proto.graph.node[0].attribute.add(name="perm", type=AttributeProto.INTS, ints=perm)
        refused(analysis, proto, "Transpose")


def test_channels_agree_in_bodies(analysis: Analyse) -> None:
    text = """g (bool c, float[1,6,8,8] x, float[8,{cin},3,3] w) => (float[1,8,6,6] y) {{
      y = If (c) <then_branch = t () => (float[1,8,6,6] a) {{ a = Conv(x, w) }},
                  else_branch = e () => (float[1,8,6,6] b) {{ b = Conv(x, w) }}> }}"""
    analysis(text.format(cin=6))
    with pytest.raises(ModelError, match="5 x 1"):
        analysis(text.format(cin=5))


@pytest.mark.parametrize(
    ("op", "name", "right", "wrong", "word"),
    [
        ("Conv", "strides", [1, 1], [0, 1], "at least 1"),
        ("Conv", "strides", [1, 1], [1, -1], "at least 1"),
        ("Conv", "dilations", [1, 1], [0, 0], "at least 1"),
        ("Conv", "group", 1, 0, "at least 1"),
        ("Conv", "group", 1, -1, "at least 1"),
        ("Conv", "group", 1, 2**40, "at least 1"),
        ("Conv", "kernel_shape", [3, 3], "3x3", "wrong type; ONNX wants INTS"),
        ("Conv", "group", 1, 1.0, "wrong type; ONNX wants INT"),
        ("Conv", "auto_pad", "NOTSET", 3, "wrong type; ONNX wants STRING"),
        ("MaxPool", "kernel_shape", [2, 2], [2**40, 2], "at least 1"),
        ("Softmax", "axis", 1, 2**40, "beyond any tensor's rank"),
        ("Softmax", "axis", -1, -(2**62), "beyond any tensor's rank"),
        ("DepthToSpace", "blocksize", 1, 0, "at least 1"),
    ],
)
def test_attributes(analysis: Analyse, op: str, name: str, right: Any, wrong: Any, word: str) -> None:
    params = {"w": [8, 6, 3, 3]} if op == "Conv" else {}
    analysis(model(op, X, params, **{name: right}))
    refused(analysis, model(op, X, params, **{name: wrong}), f"attribute {name!r} of node 'n' ({op})", word)


def test_attributes_twice_unknown_and_without_a_type(analysis: Analyse) -> None:
    proto = model("Softmax", X, axis=1)
    node = proto.graph.node[0]
    node.attribute.add(name="axis", type=AttributeProto.INT, i=2)
    refused(analysis, proto, "given twice")
    node.attribute[1].name = "axes"
    refused(analysis, proto, "'axes'", "does not exist in opset 20")
    del node.attribute[1]
    analysis(proto)
    node.attribute[0].type = AttributeProto.UNDEFINED
    refused(analysis, proto, "wrong type")


def test_an_attribute_of_another_opset(analysis: Analyse) -> None:
    refused(analysis, model("Dropout", X, opset=13, ratio=0.5), "'ratio'", "opset 13")
    analysis(model("Dropout", X, opset=11, ratio=0.5))


def test_foreign_operators_have_any_attribute(analysis: Analyse) -> None:
    proto = model("Thing", X, domain="own", whatever=3)
    proto.opset_import.add(domain="own", version=1)
    analysis(proto)


# --- tensors ---------------------------------------------------------------------------------------------------------


def adding(tensor: TensorProto) -> onnx.ModelProto:
    """The tensor as an initializer that a Shape node reads, so that any type will do."""
    tensor.name = "w"
    return holding(helper.make_node("Shape", ["w"], ["s"]), {"y": [1]}, [tensor], 23)


def tensor(dtype: int, dims: list[int], **data: Any) -> TensorProto:
    return TensorProto(data_type=dtype, dims=dims, **data)


FINE = [
    tensor(F, [2, 3], raw_data=bytes(24)),
    tensor(F, [2, 3], float_data=[0.0] * 6),
    tensor(F, [], float_data=[0.0]),
    tensor(F, [0, 3]),
    tensor(F, [0], raw_data=b""),
    tensor(TensorProto.FLOAT16, [3], int32_data=[0] * 3),
    tensor(TensorProto.BOOL, [3], int32_data=[0] * 3),
    tensor(TensorProto.INT4, [5], raw_data=bytes(3)),
    tensor(TensorProto.INT4, [5], int32_data=[0] * 3),
    tensor(TensorProto.COMPLEX64, [2], float_data=[0.0] * 4),
    tensor(TensorProto.UINT32, [2], uint64_data=[0, 0]),
    tensor(TensorProto.STRING, [2], string_data=[b"a", b""]),
    tensor(TensorProto.INT64, [2], int64_data=[0, 2**62]),
    tensor(TensorProto.DOUBLE, [2], double_data=[0.0] * 2),
]
BROKEN = [
    (tensor(F, [2, 3], raw_data=bytes(23)), "needs 24 bytes of data and has 23"),
    (tensor(F, [2, 3], raw_data=bytes(28)), "has 28"),
    (tensor(F, [2, 3], raw_data=b""), "has 0"),
    (tensor(F, [2, 3]), "needs 6 entries in float_data and has 0"),
    (tensor(F, [2, 3], int64_data=[0] * 6), "has 0 and 6 in int64_data"),
    (tensor(F, [2], float_data=[0.0] * 3), "has 3"),
    (tensor(F, [-1], raw_data=b""), "extent -1"),
    (tensor(F, [2**62]), "extent 4611686018427387904"),
    (tensor(F, [2**32, 2**32]), "extent"),
    (tensor(TensorProto.INT4, [5], raw_data=bytes(2)), "needs 3 bytes"),
    (tensor(TensorProto.STRING, [2], raw_data=b"ab"), "keeps them in raw_data"),
    (tensor(TensorProto.STRING, [2], string_data=[b"a"]), "2 entries in string_data"),
    (tensor(0, [1], raw_data=bytes(4)), "unknown element type 0"),
    (tensor(999, [1], raw_data=bytes(4)), "unknown element type 999"),
]


@pytest.mark.parametrize("index", range(len(FINE)))
def test_whole_tensors(analysis: Analyse, index: int) -> None:
    analysis(adding(FINE[index]))


@pytest.mark.parametrize("index", range(len(BROKEN)))
def test_broken_tensors(analysis: Analyse, index: int) -> None:
    refused(analysis, adding(BROKEN[index][0]), "initializer 'w'", BROKEN[index][1])


@pytest.mark.parametrize("dims", [[1] * 65, [2**20, 2**20, 2]])
def test_too_much_of_a_tensor(analysis: Analyse, dims: list[int]) -> None:
    refused(analysis, adding(tensor(F, dims)), kind="limit")


def test_tensors_in_attributes_and_bodies(analysis: Analyse) -> None:
    short = tensor(F, [4], raw_data=bytes(8))
    refused(
        analysis, holding(helper.make_node("Constant", [], ["y"], name="n", value=short), {}, []), "attribute 'value'", "16 bytes"
    )
    short.name = "inner"
    body = helper.make_graph(
        [helper.make_node("Relu", ["inner"], ["r"])], "b", [], [helper.make_tensor_value_info("r", F, [4])], [short]
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    proto = holding(node, {}, [])
    proto.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    refused(analysis, proto, "initializer 'inner'", "16 bytes")


LARGE = [
    tensor(F, [2000], raw_data=bytes(8000)),
    tensor(F, [2000], float_data=[1.0] * 2000),
    tensor(TensorProto.FLOAT16, [3000], int32_data=[0x3C00] * 3000),
    tensor(TensorProto.INT64, [9000], int64_data=[2**40] * 9000),
    tensor(TensorProto.INT32, [3000], int32_data=[-1] * 3000),
    tensor(TensorProto.UINT32, [5000], uint64_data=[7] * 5000),
    tensor(TensorProto.STRING, [1000], string_data=[b"a word"] * 1000),
    tensor(TensorProto.COMPLEX64, [1000], float_data=[1.0] * 2000),
]


@pytest.mark.parametrize("index", range(len(LARGE)))
def test_large_tensors_in_every_field(analysis: Analyse, index: int) -> None:
    """Their payloads are cut out of the skeleton, and the length of a list of varints says nothing of their number."""
    found = analysis(adding(LARGE[index]))
    assert found.model.skeleton.payloads
    assert found.model.graph.values["w"].shape == tuple(LARGE[index].dims)


def test_large_tensors_of_the_wrong_size(analysis: Analyse) -> None:
    for count in (1999, 2001):
        refused(analysis, adding(tensor(F, [2000], raw_data=bytes(4 * count))), f"has {4 * count}")


@pytest.mark.parametrize(
    "location",
    ["../w.bin", "/etc/passwd", "a/../../w.bin", "..", "C:\\w.bin", "\\\\server\\w.bin", "https://host/w.bin", "file:///etc/passwd",
     "a\nb", "w\0.bin", "", "*/_ORT_MEM_ADDR_/*", wire.INLINE],
)  # fmt: skip
def test_external_data_where_no_reader_may_look(analysis: Analyse, location: str) -> None:
    external = tensor(F, [4], data_location=TensorProto.EXTERNAL)
    external.external_data.add(key="location", value=location)
    refused(analysis, adding(external))


@pytest.mark.parametrize(
    "entries",
    [
        [("offset", "-1")],
        [("length", "-16")],
        [("offset", "many")],
        [("length", "15")],
        [("location", "other.bin")],
        [("length", "16"), ("length", "16")],
    ],
)
def test_external_data_that_does_not_fit(analysis: Analyse, entries: list[tuple[str, str]]) -> None:
    external = tensor(F, [4], data_location=TensorProto.EXTERNAL)
    external.external_data.add(key="location", value="w.bin")
    analysis(adding(external))
    for key, value in entries:
        external.external_data.add(key=key, value=value)
    refused(analysis, adding(external), "'w'")


@pytest.mark.parametrize("location", ["w.bin", "sub/w.bin", "odd name.data", "..w.bin", "a..b", "~/w.bin", "%2e%2e"])
def test_external_data_in_the_folder(analysis: Analyse, location: str) -> None:
    external = tensor(F, [4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "4096"), ("length", "16"), ("checksum", "0")):
        external.external_data.add(key=key, value=value)
    analysis(adding(external))


def sparse(count: int, indices: list[list[int]] | list[int], dims: list[int], dtype: int = TensorProto.INT64) -> onnx.ModelProto:
    proto = holding(helper.make_node("Relu", ["w"], ["y"]), {}, [])
    values = helper.make_tensor("w", F, [count], [1.0] * count)
    array = np.array(indices, helper.tensor_dtype_to_np_dtype(dtype))
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, numpy_helper.from_array(array, "i"), dims))
    return proto


def test_sparse_tensors(analysis: Analyse) -> None:
    analysis(sparse(2, [0, 11], [3, 4]))
    analysis(sparse(2, [[0, 0], [2, 3]], [3, 4]))
    refused(analysis, sparse(2, [0, 12], [3, 4]), "sparse initializer 'w'", "index outside")
    refused(analysis, sparse(2, [-1, 0], [3, 4]), "index outside")
    refused(analysis, sparse(2, [[0, 0], [3, 0]], [3, 4]), "index outside")
    refused(analysis, sparse(2, [0, 1, 2], [3, 4]), "2 values")
    refused(analysis, sparse(2, [0, 1], [3, 4], TensorProto.INT32), "int64 indices")
    refused(analysis, sparse(2, [0, 1], [-3, 4]), "extent -3")


def test_dimensions_of_values(analysis: Analyse) -> None:
    analysis(model("Relu", {"x": [1, 0]}))
    refused(analysis, model("Relu", {"x": [1, -2]}), "value 'x'", "extent -2")
    refused(analysis, model("Relu", {"x": [1, 2**62]}), "value 'x'")
    refused(analysis, model("Relu", {"x": [2**30, 2**30]}), kind="limit")


def test_invalid_utf8_in_a_bad_name(analysis: Analyse, save: Callable[..., Any]) -> None:
    path = save(adding(tensor(F, [4], raw_data=bytes(8))))
    path.write_bytes(path.read_bytes().replace(b"\x01w", b"\x01\xff"))
    try:
        load.load(path)
    except ModelError:
        return  # protobuf refuses the name already
    with pytest.raises(ModelError):
        analysis(onnx.load(path))


@pytest.mark.parametrize("scale", ["1.8", "1.6"])
def test_extents_that_inference_rounds_otherwise_are_not_held_against_a_model(analysis: Analyse, scale: str) -> None:
    """5 x 1.8 is 9 for runtimes and 8 for ONNX's inference; 5 x 1.6 is 8 for both, so 81 elements are wrong there."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 13]> g (float[1,8,5,5] x) => (float[1,8,81] y)
        <float[4] s = {{1,1,{scale},{scale}}}, int64[3] t = {{1,8,81}}> {{ r = Resize(x, , s)  y = Reshape(r, t) }}"""
    )
    if scale == "1.8":
        analysis(model)
    else:
        refused(analysis, model, "another number of elements")
