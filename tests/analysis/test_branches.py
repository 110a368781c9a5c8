"""Branches of known condition stand in the place of their If, under names that are free there, and compute the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest

from npu_guard.analysis.analyze import analyze
from npu_guard.base.errors import ModelError
from npu_guard.file import load
from npu_guard.file.document import Document

if TYPE_CHECKING:
    from conftest import Cli, Write

TAKEN = {
    "a constant": """g (float[1,2] x) => (float[1,2] y) <bool c = {1}> { r = Relu(x)
        y = If (c) <then_branch = t () => (float[1,2] a) { n = Neg(r)  a = Abs(n) },
                    else_branch = e () => (float[1,2] b) { n = Exp(r)  b = Neg(n) }> }""",
    "a shape": """g (float[1,2] x) => (float[2] y) <int64 one = {1}, int64 i = {0}> {
        s = Shape(x)  d = Gather(s, i)  c = Equal(d, one)
        y = If (c) <then_branch = t () => (float[2] a) <int64[1] k = {0}> { a = Squeeze(x, k) },
                    else_branch = e () => (float[1,2] b) { b = Relu(x) }> }""",
    "names that stand outside as well": """g (float[1,2] x) => (float[1,2] y) <bool c = {1}> {
        p = If (c) <then_branch = t () => (float[1,2] a) <float k = {2.0}> { n = Mul(x, k)  a = Neg(n) },
                    else_branch = e () => (float[1,2] b) { b = Neg(x) }>
        q = If (c) <then_branch = t () => (float[1,2] a) <float k = {3.0}> { n = Mul(p, k)  a = Abs(n) },
                    else_branch = e () => (float[1,2] b) { b = Neg(x) }>
        y = Add(p, q) }""",
    "an If in an If": """g (float[1,2] x) => (float[1,2] y) <bool c = {0}> {
        y = If (c) <then_branch = t () => (float[1,2] a) { a = Exp(x) },
                    else_branch = e () => (float[1,2] b) {
            b = If (c) <then_branch = t2 () => (float[1,2] u) { u = Exp(x) },
                        else_branch = e2 () => (float[1,2] v) { n = Neg(x)  v = Abs(n) }> }> }""",
    "a value from outside, twice": """g (float[1,2] x) => (float[1,2] y) <bool c = {1}> { r = Neg(x)
        p, q = If (c) <then_branch = t () => (float[1,2] a, float[1,2] b) { a = Identity(r)  b = Identity(r) },
                       else_branch = e () => (float[1,2] u, float[1,2] v) { u = Abs(x)  v = Exp(x) }>
        y = Sub(p, q) }""",
}


@pytest.mark.parametrize("text", TAKEN.values(), ids=TAKEN)
def test_what_is_taken_computes_the_same(text: str, save: Callable[..., Path]) -> None:
    path = save(text)
    skeleton = load.load(path)
    document = Document.of(skeleton)
    analysis = analyze(skeleton)
    analysis.write_branches(document.proto)
    assert analysis.has_written
    assert "If" not in {node.op_type for node in document.proto.graph.node}
    assert not analysis.unknown
    onnx.checker.check_model(document.proto)
    feeds = {"x": np.array([[-1.5, 0.5]], np.float32)}
    before, after = (onnxruntime.InferenceSession(m).run(None, feeds)[0] for m in (str(path), document.proto.SerializeToString()))
    np.testing.assert_array_equal(before, after)


def test_what_only_a_condition_has_asked_for_is_gone(save: Callable[..., Path]) -> None:
    """Else these nodes are readers of what a form wants to replace. What the author left without readers stays."""
    analysis = analyze(load.load(save(TAKEN["a shape"].replace("y = If", "m = Neg(d)  y = If"))))
    assert [node.op_type for node in analysis.model.graph.nodes] == ["Shape", "Gather", "Neg", "Squeeze"]
    assert {tensor.name for tensor in analysis.model.skeleton.proto.graph.initializer} == {"i", "k"}


def test_a_condition_that_comes_in_stays(save: Callable[..., Path]) -> None:
    text = TAKEN["a constant"].replace("(float[1,2] x)", "(float[1,2] x, bool c)").replace("<bool c = {1}>", "")
    analysis = analyze(load.load(save(text)))
    assert not analysis.has_written
    assert "If" in {node.op_type for node in analysis.model.graph.nodes}


def test_a_condition_that_a_caller_may_override_stays(save: Callable[..., Path]) -> None:
    model = onnx.load(save(TAKEN["a constant"]))
    model.graph.input.append(onnx.helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []))
    assert not analyze(load.load(save(model))).has_written


def test_weights_of_a_branch_are_weights_in_an_old_file_too(save: Callable[..., Path]) -> None:
    """Before IR version 4 weights are listed as inputs, and a body's are not."""
    model = onnx.load(
        save("""g (float[1,2,4,4] x) => (float[1,2,4,4] y) <bool c = {1}> {
            y = If (c) <then_branch = t () => (float[1,2,4,4] a) <float[2,2,1,1] w = {1,2,3,4}> { a = Conv(x, w) },
                        else_branch = e () => (float[1,2,4,4] b) { b = Relu(x) }> }""")
    )
    model.ir_version = 3
    model.graph.input.append(onnx.helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []))
    analysis = analyze(load.load(save(model)))
    (node,) = analysis.nodes()
    assert (node.op_type, node.output.shape, analysis.is_constant(node.inputs[1])) == ("Conv", (1, 2, 4, 4), True)
    assert [value.name for value in analysis.model.graph.inputs] == ["x"]


NONSENSE = """g (float[1,8,4,4] x) => (float[1,8,4,4] y) <bool c = {1}, int64 i = {0}> {
    y = If (c) <then_branch = t () => (float[1,8,4,4] a) { a = Relu(x) },
                else_branch = e () => (float[1,8,4,4] b) { b = MatMul(x, i) }> }"""


def test_what_never_runs_may_be_nonsense(save: Callable[..., Path]) -> None:
    analysis = analyze(load.load(save(NONSENSE)))
    assert [node.op_type for node in analysis.nodes()] == ["Relu"]


def test_what_runs_may_not(save: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match="MatMul"):
        analyze(load.load(save(NONSENSE.replace("c = {1}", "c = {0}"))))


def test_a_branch_that_only_the_guess_of_the_batch_takes(save: Callable[..., Path]) -> None:
    """With a batch of 1 the model is none; the branch that this took is not written into the model of an open batch."""
    text = """g (float["N",2] x) => (y, z) <int64 one = {1}, int64 i = {0}, int64[2] s = {7, 2}> {
        h = Shape(x)  d = Gather(h, i)  c = Equal(d, one)
        z = If (c) <then_branch = t () => (float["M",2] a) { a = Neg(x) }, else_branch = e () => (float["M",2] b) { b = Abs(x) }>
        y = Reshape(x, s) }"""
    analysis = analyze(load.load(save(text)))
    assert not analysis.has_written
    assert "If" in {node.op_type for node in analysis.nodes()}
    assert any("left open" in note for note in analysis.notes)


@pytest.mark.parametrize(
    ("inputs", "condition", "expected"),
    [
        ("int64 sr", "k = Constant<value_int = 16000>() c = Equal(sr, k)", "sr=16000"),
        ("int64[1] sr", "k = Constant<value_int = 8000>() e = Equal(k, sr) c = Squeeze(e)", "sr=8000"),
        ("int64 sr", "k = Constant<value_int = 16000>() c = Less(sr, k)", "sr=N"),
        ("bool mask", "c = Not(mask)", "mask=1"),
        ("int64 sr", "k = Constant<value_int = 1>() e = Equal(sr, k) m = ReduceMax(x) z = Cast<to = 9>(m) c = And(e, z)", ""),
        ("float sr", "k = Constant<value_float = 1.0>() c = Equal(sr, k)", ""),
        ("int64[4] sr", "k = Constant<value_int = 1>() m = ReduceMax<keepdims = 0>(sr) c = Equal(m, k)", ""),
    ],
)  # fmt: skip
def test_an_input_that_only_chooses_a_branch_is_asked_for_by_its_option(
    cli: Cli, write: Write, inputs: str, condition: str, expected: str
) -> None:
    write(f"""g (float[] x, {inputs}) => (float[] y) {{ {condition}
        y = If(c) <then_branch = t () => (float[] a) {{ a = Relu(x) }}, else_branch = f () => (float[] b) {{ b = Neg(x) }}> }}""")
    told = cli("check", "net.onnx").out
    assert (f" --input-value {expected}\n" in told) is bool(expected), told
    assert ("--input-value" in told) is bool(expected)
    if expected and not expected.endswith("N"):
        assert "If y" not in cli("check", "net.onnx", "--input-value", expected).out
