"""The skeleton reader against protobuf's own parser, on models that hypothesis makes and on broken ones."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from npu_guard.analysis.analyze import analyze
from npu_guard.base.errors import ModelError
from npu_guard.base.limits import Limits
from npu_guard.file import parsed_size, wire
from npu_guard.file.load import load

KEEP = 64
NAMES = st.text(st.characters(codec="utf-8"), max_size=6)


def raw(name: str, count: int, dtype: int = TensorProto.FLOAT) -> TensorProto:
    values = np.arange(count).astype(helper.tensor_dtype_to_np_dtype(dtype))
    return onnx.numpy_helper.from_array(values, name)


@st.composite
def tensors(draw: st.DrawFn) -> TensorProto:
    """Small and big, in every field that may hold data."""
    name, count = draw(NAMES), draw(st.sampled_from([0, 1, 3, 40, 200]))
    kind = draw(st.sampled_from(["raw", "float", "int32", "int64", "double", "uint64", "string", "bare"]))
    if kind == "raw":
        tensor = raw(name, count, draw(st.sampled_from([TensorProto.FLOAT, TensorProto.INT64, TensorProto.FLOAT16])))
    elif kind == "string":
        tensor = helper.make_tensor(name, TensorProto.STRING, [count], [draw(st.binary(max_size=9))] * count)
    elif kind == "bare":
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[count])
    else:
        dtype = {"float": TensorProto.FLOAT, "int32": TensorProto.INT32, "int64": TensorProto.INT64,
                 "double": TensorProto.DOUBLE, "uint64": TensorProto.UINT64}[kind]  # fmt: skip
        values = [draw(st.sampled_from([0, 1, 127, 128, 2**31 - 1]))] * count
        tensor = helper.make_tensor(name, dtype, [count], values)
    if draw(st.booleans()):
        tensor.doc_string = draw(NAMES)
    return tensor


@st.composite
def sparse_tensors(draw: st.DrawFn) -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(draw(tensors()), raw("indices", draw(st.sampled_from([2, 30])), TensorProto.INT64), [100])


@st.composite
def graphs(draw: st.DrawFn, depth: int = 0) -> onnx.GraphProto:
    nodes = []
    for _ in range(draw(st.integers(0, 3))):
        attributes: dict[str, object] = {"value": draw(tensors())} if draw(st.booleans()) else {}
        if depth < 3 and draw(st.booleans()):
            attributes |= {"then_branch": draw(graphs(depth + 1)), "else_branch": draw(graphs(depth + 1))}
        node = helper.make_node("Any", ["x"], [draw(NAMES)], name=draw(NAMES), alpha=draw(st.floats(width=32, allow_nan=False)))
        node.attribute.extend(helper.make_attribute(key, content) for key, content in attributes.items())
        if draw(st.booleans()):
            node.attribute.append(helper.make_attribute("more", [draw(tensors()), draw(tensors())]))
        nodes.append(node)
    graph = helper.make_graph(nodes, draw(NAMES), [], [], draw(st.lists(tensors(), max_size=3)), doc_string=draw(NAMES))
    graph.sparse_initializer.extend(draw(st.lists(sparse_tensors(), max_size=1)))
    return graph


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    model = helper.make_model(draw(graphs()), producer_name=draw(NAMES))
    if draw(st.booleans()):
        body = draw(graphs(1))
        model.functions.append(helper.make_function("f", "F", ["x"], ["y"], list(body.node), [helper.make_opsetid("", 20)]))
    if draw(st.booleans()):
        model.training_info.add(algorithm=draw(graphs(2)))
    return model


def in_graph(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from in_nodes(graph.node)


def in_nodes(nodes: object) -> Iterator[TensorProto]:
    for node in nodes:  # type: ignore[attr-defined]
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from in_graph(graph)


def every_tensor(model: onnx.ModelProto) -> list[TensorProto]:
    found = list(in_graph(model.graph))
    for function in model.functions:
        found += in_nodes(function.node)
    for training in model.training_info:
        found += in_graph(training.algorithm)
    return found


def original(data: bytes, tensor: TensorProto, payload: wire.Payload) -> TensorProto:
    """The tensor put together again from the skeleton and the bytes in the file."""
    whole = TensorProto()
    whole.CopyFrom(tensor)
    whole.ClearField("data_location")
    del whole.external_data[:]
    piece = data[payload.offset : payload.offset + payload.length]
    if payload.field == 0:
        full = TensorProto()
        full.ParseFromString(piece)
        return full
    whole.MergeFromString(bytes([payload.field << 3 | 2]) + wire.varint(len(piece)) + piece)
    return whole


@given(models())
@settings(max_examples=40, deadline=None)
def test_skeleton_is_the_model_but_for_payloads(model: onnx.ModelProto) -> None:
    data = model.SerializeToString()
    content, cut = wire.strip(data, "m", KEEP)
    skeleton = onnx.ModelProto()
    skeleton.ParseFromString(content)
    used = set()
    for tensor, whole in zip(every_tensor(skeleton), every_tensor(model), strict=True):
        if tensor == whole:
            continue
        entries = {e.key: e.value for e in tensor.external_data}
        assert entries["location"] == wire.INLINE
        payload = cut[int(entries["offset"])]
        used.add(payload.offset)
        assert payload.length == int(entries["length"]) > KEEP
        if payload.field == 9:
            assert data[payload.offset : payload.offset + payload.length] == whole.raw_data
        assert original(data, tensor, payload) == whole
        tensor.CopyFrom(whole)
    assert used == set(cut)
    assert skeleton == model


@given(models())
@settings(max_examples=30, deadline=None)
def test_everything_is_kept_under_the_threshold(model: onnx.ModelProto) -> None:
    data = model.SerializeToString()
    assert wire.strip(data, "m", 1 << 20) == (data, {})


@given(tensors(), st.integers(0, 300))
@settings(max_examples=40, deadline=None)
def test_threshold_is_exact(tensor: TensorProto, keep: int) -> None:
    data = helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString()
    _, cut = wire.strip(data, "m", keep)
    assert all(p.length > keep for p in cut.values())
    if len(tensor.raw_data) > keep:
        assert [p.length for p in cut.values()] == [len(tensor.raw_data)]


@given(tensors(), st.integers(0, 100), st.integers(0, 300))
@settings(max_examples=40, deadline=None)
def test_whole_numbers_have_a_threshold_of_their_own(tensor: TensorProto, keep: int, indices: int) -> None:
    data = helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString()
    _, cut = wire.strip(data, "m", keep, indices)
    least = max(keep, indices) if tensor.data_type == TensorProto.INT64 else keep
    assert all(p.length > least for p in cut.values())
    if len(tensor.raw_data) > least:
        assert [p.length for p in cut.values()] == [len(tensor.raw_data)]


@pytest.mark.parametrize("count", [wire.KEEP_INDICES // 8, wire.KEEP_INDICES // 8 + 1])
@pytest.mark.parametrize("dtype", [TensorProto.INT64, TensorProto.DOUBLE])
def test_tables_of_indices_stay(dtype: int, count: int) -> None:
    tensor = TensorProto(name="t", data_type=dtype, dims=[count], raw_data=bytes(8 * count))
    data = helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString()
    _, cut = wire.strip(data, "m", indices=wire.KEEP_INDICES)
    assert len(cut) == (dtype == TensorProto.DOUBLE or 8 * count > wire.KEEP_INDICES)


def big_model() -> bytes:
    body = helper.make_graph([helper.make_node("Relu", ["w"], ["r"])], "then", [], [], [raw("inner", 40)])
    nodes = [
        helper.make_node("Constant", [], ["k"], value=raw("k", 40)),
        helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body),
    ]
    return bytes(helper.make_model(helper.make_graph(nodes, "g", [], [], [raw("w", 100)])).SerializeToString())


def parses(data: bytes) -> str:
    """ "" for a skeleton that protobuf reads, else the kind of the error."""
    try:
        content, _ = wire.strip(data, "m", KEEP)
    except ModelError as error:
        message, kind = str(error), error.kind
    else:
        try:
            onnx.ModelProto().ParseFromString(content)
        except DecodeError:
            return "protobuf"
        return ""
    assert message.startswith("m: ")
    assert "\n" not in message
    return kind


def test_truncated_at_every_byte() -> None:
    data = big_model()
    kinds = {parses(data[:end]) for end in range(1, len(data))}
    # Where a top-level field ends, the rest is a message too; `load` finds that it has no graph.
    assert kinds <= {"truncated", ""}
    assert "truncated" in kinds
    whole = {end for end in range(1, len(data)) if not parses(data[:end])}
    assert len(whole) < 10


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_flipped_bytes_are_an_error_or_a_message(data: st.DataObject) -> None:
    broken = bytearray(big_model())
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    assert parses(bytes(broken)) in {"", "truncated", "not-onnx", "limit", "protobuf"}


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_noise_is_an_error_or_a_message(noise: bytes) -> None:
    assert parses(noise) in {"", "truncated", "not-onnx", "protobuf"}


def test_strip_accepts_what_protobuf_accepts() -> None:
    """Every single-byte change of a small model: whoever refuses, both refuse, but for the fields that `strip` does not enter."""
    data = helper.make_model(helper.make_graph([], "g", [], [], [raw("w", 4)])).SerializeToString()
    for position in range(len(data)):
        for byte in (0, 1, 0x7F, 0x80, 0xFF, data[position] ^ 1):
            broken = data[:position] + bytes([byte]) + data[position + 1 :]
            try:
                onnx.ModelProto().ParseFromString(broken)
            except Exception:
                continue
            # Groups are protobuf's, but in no ONNX file.
            assert parses(broken) in {"", "not-onnx"}, (position, byte)


@pytest.mark.parametrize("levels", [2, 20, 30, 40, 200, 5000])
def test_nesting(levels: int) -> None:
    """Deep graphs are a ModelError whoever notices, never a RecursionError."""
    body = helper.make_graph([], "innermost", [], [], [raw("w", 40)]).SerializeToString()
    for _ in range(levels):
        attribute = b"\x0a\x01g\x32" + wire.varint(len(body)) + body + b"\xa0\x01\x05"
        node = b"\x22\x02If\x2a" + wire.varint(len(attribute)) + attribute
        body = b"\x0a" + wire.varint(len(node)) + node
    data = b"\x08\x0a\x3a" + wire.varint(len(body)) + body
    assert (parses(data) == "") == (levels <= 30)


def test_a_graph_in_two_pieces_is_merged() -> None:
    first = helper.make_model(helper.make_graph([], "a", [], [], [raw("w", 100)]))
    second = onnx.ModelProto(graph=helper.make_graph([helper.make_node("Relu", ["w"], ["y"])], "b", [], [], [raw("v", 100)]))
    data = first.SerializeToString() + second.SerializeToString()
    content, cut = wire.strip(data, "m", KEEP)
    merged, skeleton = onnx.ModelProto(), onnx.ModelProto()
    merged.ParseFromString(data)
    skeleton.ParseFromString(content)
    assert [t.name for t in skeleton.graph.initializer] == [t.name for t in merged.graph.initializer] == ["w", "v"]
    assert skeleton.graph.name == merged.graph.name == "b"
    pieces = [data[p.offset : p.offset + p.length] for p in cut.values()]
    assert pieces == [t.raw_data for t in merged.graph.initializer]


def test_a_payload_in_two_pieces_is_the_whole_tensor() -> None:
    half = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[40], float_data=[1.0] * 20)
    body = half.SerializeToString() + TensorProto(float_data=[2.0] * 20).SerializeToString()
    graph = b"\x2a" + wire.varint(len(body)) + body
    data = b"\x08\x0a\x3a" + wire.varint(len(graph)) + graph
    _, cut = wire.strip(data, "m", KEEP)
    (payload,) = cut.values()
    assert payload.field == 0
    assert original(data, TensorProto(), payload).float_data == [1.0] * 20 + [2.0] * 20


def test_no_more_than_the_structure_is_read() -> None:
    """A gigabyte of weights that is not there costs nothing: the payload's bytes are never touched."""

    class Sparse(bytes):
        """Bytes that refuse to hand out the payload."""

        def __getitem__(self, key: object) -> object:  # type: ignore[override]
            part = super().__getitem__(key)  # type: ignore[call-overload]
            assert not (isinstance(part, bytes) and b"\xaa" * 100 in part)
            return part

    tensor = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[4096], raw_data=b"\xaa" * 4096)
    data = Sparse(helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString())
    _, cut = wire.strip(data, "m", KEEP)
    assert [p.length for p in cut.values()] == [4096]


def test_costs_are_known_for_all_that_onnx_can_say() -> None:
    """A message or list that a later onnx brings would else be free."""
    stack, seen = [(onnx.ModelProto.DESCRIPTOR, parsed_size._by_tag())], set()
    while stack:
        message, known = stack.pop()
        if message.full_name in seen:
            continue
        seen.add(message.full_name)
        for field in message.fields:
            part = known.get(field.number << 3 | 2)
            if field.message_type is not None:
                assert part is not None, field.full_name
                assert part[1] is not None, field.full_name
                stack.append((field.message_type, part[1]))
            elif field.is_repeated and field.cpp_type not in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
                assert part is not None, field.full_name
                assert part[1] is None, field.full_name
    assert len(seen) > 20


@given(models())
@settings(max_examples=40, deadline=None)
def test_no_model_costs_more_than_is_looked_for(model: onnx.ModelProto) -> None:
    data = model.SerializeToString()
    assert len(data) <= parsed_size._parsed(data, 1 << 60) <= parsed_size._WORST * len(data)


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_costs_of_noise(noise: bytes) -> None:
    """Every byte is looked at; what is no message is a ModelError."""
    with contextlib.suppress(ModelError):
        parsed_size.bound(noise, "m", Limits(parsed_bytes=max(1, parsed_size._WORST * len(noise) - 1)))


@pytest.mark.parametrize("name", ["meta", "wide"])
def test_fields_are_counted_over_the_whole_file(name: str) -> None:
    node = b"\x4a\x00" * 4_000 if name == "meta" else b"\x0a\x01x" * 3_000
    graph = b"".join(b"\x0a" + wire.varint(len(node)) + node for _ in range(3))
    data = b"\x08\x0a\x3a" + wire.varint(len(graph)) + graph
    steps = 2 + 3 + 3 * (4_000 if name == "meta" else 3_000)
    wire.strip(data, "m", limits=Limits(fields=steps))
    with pytest.raises(ModelError, match=f"fields: {steps}; the limit is {steps - 1} .'fields'"):
        wire.strip(data, "m", limits=Limits(fields=steps - 1))


def test_zeros_end_at_the_first_byte() -> None:
    with pytest.raises(ModelError, match="byte 0"):
        wire.strip(bytes(1 << 20), "m")


@pytest.mark.parametrize("kind", ["absent", "fifo", "directory"])
def test_external_data_is_never_opened(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "weights.bin"
    if kind == "fifo":
        os.mkfifo(target)
    elif kind == "directory":
        target.mkdir()
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[8, 8, 3, 3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    x = helper.make_tensor_value_info("x", 1, [1, 8, 8, 8])
    y = helper.make_tensor_value_info("y", 1, None)
    model = helper.make_model(helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "g", [x], [y], [tensor]))
    model.ir_version = 10
    model.opset_import[0].version = 20
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    found = analyze(load(path, Limits(external_data="unchecked")))
    assert found.model.graph.outputs[0].shape == (1, 8, 6, 6)
