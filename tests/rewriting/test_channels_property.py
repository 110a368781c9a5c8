"""Random small networks of odd widths, and a bottleneck ResNet: afterwards every width is whole, and the numbers are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.checking import registry
from npu_guard.checking.engine import Checked, check
from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case
from npu_guard.file.document import Document
from npu_guard.file.load import load
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.fixing.driver import Settings, fix_document
from npu_guard.fixing.search import Search
from npu_guard.project.config import Config
from npu_guard.results.findings import Outcome, Severity
from npu_guard.verification.compare import accumulated_terms, compare_documents
from npu_guard.verification.feeds import Feed, input_specs, seeded_feeds
from npu_guard.verification.runtime import Runtime

PROFILE = registry.profile("aimotive-aiware")
ALIGNMENT = registry.rule("NPU401")
SUBSTITUTION = next(s for s in catalog.substitutions() if s.name == "channels-to-aligned")


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime() as running:
        yield running


@dataclass
class Net:
    """A network in the making. Maps are (name, channels, size)."""

    rng: np.random.Generator
    opset: int = 20
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    maps: list[tuple[str, int, int]] = field(default_factory=list)

    def op(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        made = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op_type, list(inputs), made, name=f"n{len(self.nodes)}", **attributes))
        return made[0]

    def constant(self, array: Any, dtype: Any = np.float32) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(array, dtype), f"w{len(self.weights)}"))
        return self.weights[-1].name

    def weight(self, *shape: int) -> str:
        return self.constant(self.rng.standard_normal(shape) / np.sqrt(max(1, int(np.prod(shape[1:])))))

    def positive(self, *shape: int) -> str:
        return self.constant(self.rng.uniform(0.5, 2.0, shape))

    def conv(self, x: str, channels: int, width: int, kernel: int = 1, group: int = 1, **attributes: Any) -> str:
        return self.op(
            "Conv", x, self.weight(width, channels // group, kernel, kernel), self.weight(width), group=group,
            pads=[kernel // 2] * 4, **attributes,
        )  # fmt: skip

    def model(self, outputs: Sequence[str], inputs: Sequence[tuple[str, int, int]]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes, "g",
            [helper.make_tensor_value_info(n, 1, [2, c, s, s]) for n, c, s in inputs],
            [helper.make_tensor_value_info(n, 1, None) for n in outputs],
            self.weights,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)


Map = tuple[str, int, int]


def _conv(net: Net, x: Map, a: int, b: int) -> Map:
    width, kernel = 1 + a % 21, (1, 3)[b % 2]
    if b % 5 == 4 and x[2] > 3:
        return net.conv(x[0], x[1], width, kernel, strides=[2, 2]), width, (x[2] + 1) // 2
    return net.conv(x[0], x[1], width, kernel), width, x[2]


def _norm(net: Net, x: Map, a: int, b: int) -> Map:
    c = x[1]
    if b % 4 == 0:
        return net.op("InstanceNormalization", x[0], net.weight(c), net.weight(c), epsilon=0.5), c, x[2]
    return net.op("BatchNormalization", x[0], net.weight(c), net.weight(c), net.weight(c), net.positive(c)), c, x[2]


UNARY = (
    "Relu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "LeakyRelu", "Softplus", "Abs", "Elu", "Identity", "Cos", "Mish",
)  # fmt: skip


def _unary(net: Net, x: Map, a: int, b: int) -> Map:
    if a % 7 == 0:
        low = net.constant((0.25, 0.0, -1.0)[b % 3])
        return net.op("Clip", x[0], low, net.constant(6.0)), x[1], x[2]
    if a % 7 == 1:
        return net.op("Exp", net.op("Tanh", x[0])), x[1], x[2]
    return net.op(UNARY[b % len(UNARY)], x[0]), x[1], x[2]


def _residual(net: Net, x: Map, a: int, b: int) -> Map:
    inner = 1 + a % 13
    branch = net.op("Relu", net.conv(x[0], x[1], inner))
    return net.op(("Add", "Sub", "Max")[b % 3], net.conv(branch, inner, x[1], 3), x[0]), x[1], x[2]


def _join(net: Net, x: Map, a: int, b: int) -> Map:
    others = [m for m in net.maps if m[2] == x[2] and m[1] + x[1] < 60]
    chosen = [x, *([others[a % len(others)]] if others else []), *([others[b % len(others)]] if others and b % 3 == 0 else [])]
    return net.op("Concat", *(m[0] for m in chosen), axis=1), sum(m[1] for m in chosen), x[2]


def _add(net: Net, x: Map, a: int, b: int) -> Map:
    others = [m for m in net.maps if m[1:] == x[1:]]
    if not others:
        return x
    other = others[a % len(others)][0]
    if b % 3 == 0:  # squares of squares would leave nothing of the precision
        return net.op("Mul", x[0], net.op("Tanh", other)), x[1], x[2]
    return net.op(("Add", "Min")[b % 2], x[0], other), x[1], x[2]


def _depthwise(net: Net, x: Map, a: int, b: int) -> Map:
    times = 2 if b % 5 == 0 else 1
    return net.conv(x[0], x[1], x[1] * times, 3, group=x[1]), x[1] * times, x[2]


def _grouped(net: Net, x: Map, a: int, b: int) -> Map:
    counts = [g for g in range(2, x[1]) if x[1] % g == 0] or [1]
    group = counts[a % len(counts)]
    width = group * (1 + b % 4)
    return net.conv(x[0], x[1], width, 3, group=group), width, x[2]


def _transposed(net: Net, x: Map, a: int, b: int) -> Map:
    counts = [g for g in range(1, x[1] + 1) if x[1] % g == 0]
    group, size = counts[a % len(counts)], x[2]
    each = 1 + b % max(1, 20 // group)
    made = net.op("ConvTranspose", x[0], net.weight(x[1], each, 2, 2), net.weight(group * each), group=group, strides=[2, 2])
    return net.op("MaxPool", made, kernel_shape=[2, 2], strides=[2, 2]), group * each, size


def _gate(net: Net, x: Map, a: int, b: int) -> Map:
    inner = 1 + a % 6
    pooled = net.op(("GlobalAveragePool", "GlobalMaxPool")[b % 2], x[0])
    gate = net.conv(net.op("Relu", net.conv(pooled, x[1], inner)), inner, x[1])
    return net.op("Mul", x[0], net.op(("Sigmoid", "HardSigmoid")[a % 2], gate)), x[1], x[2]


def _spatial_gate(net: Net, x: Map, a: int, b: int) -> Map:
    mean = net.op("ReduceMean", x[0], net.constant([1], np.int64))
    peak = net.op("ReduceMax", x[0], net.constant([1], np.int64))
    gate = net.op("Sigmoid", net.conv(net.op("Concat", mean, peak, axis=1), 2, 1, 3))
    if b % 2:
        gate = net.op("Expand", gate, net.op("Shape", x[0]))
    return net.op("Mul", x[0], gate), x[1], x[2]


def _space(net: Net, x: Map, a: int, b: int) -> Map:
    name, c, size = x
    kind = a % 6
    if kind == 0 and size < 12:
        return net.op("Resize", name, "", net.constant([1, 1, 2, 2]), mode="nearest"), c, size * 2
    if kind == 1 and size < 12:
        sizes = net.constant([2, c, size * 2, size * 2], np.int64)
        return net.op("Resize", name, "", "", sizes, mode="linear"), c, size * 2
    if kind == 2:
        pads = net.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
        padded = net.op("Pad", name, pads, net.constant(float(b % 3)), mode="constant")
        return net.op("AveragePool", padded, kernel_shape=[3, 3]), c, size
    if kind == 3 and size > 3:
        return net.op("MaxPool", name, kernel_shape=[2, 2], strides=[2, 2]), c, size // 2
    if kind == 4:
        flat = net.op("Reshape", name, net.constant([2, c, size * size], np.int64))
        back = net.op("Softmax", flat, axis=-1) if b % 2 else flat
        return net.op("Reshape", back, net.constant([0, c, size, size], np.int64)), c, size
    return net.op("AveragePool", name, kernel_shape=[3, 3], pads=[1] * 4), c, size


def _constants(net: Net, x: Map, a: int, b: int) -> Map:
    op = ("Add", "Mul", "Sub", "Div", "PRelu", "Max")[a % 6]
    shape = ((x[1], 1, 1), (1, x[1], 1, 1), ())[b % 3]
    return net.op(op, x[0], net.positive(*shape)), x[1], x[2]


def _part(net: Net, x: Map, a: int, b: int) -> Map:
    if x[1] < 2:
        return x
    cut = 1 + a % (x[1] - 1)
    if b % 3 == 0:
        start = net.constant([cut if b % 2 else -cut], np.int64)
        rest = x[1] - cut if b % 2 else cut
        return net.op("Slice", x[0], start, net.constant([2**40], np.int64), net.constant([1], np.int64)), rest, x[2]
    first = net.op("Split", x[0], net.constant([cut, x[1] - cut], np.int64), outputs=2, axis=1)
    net.maps.append((first.replace("_0", "_1"), x[1] - cut, x[2]))
    return first, cut, x[2]


def _normalized(net: Net, x: Map, a: int, b: int) -> Map:
    return net.op("Softmax", x[0], axis=1), x[1], x[2]


STEPS: tuple[Callable[[Net, Map, int, int], Map], ...] = (
    _conv, _conv, _conv, _norm, _unary, _unary, _residual, _residual, _join, _join, _add, _depthwise, _grouped, _transposed,
    _gate, _spatial_gate, _space, _space, _constants, _part, _normalized,
)  # fmt: skip
TAILS = ("map", "pooled", "flat", "matmul")


@st.composite
def networks(draw: st.DrawFn) -> onnx.ModelProto:
    net = Net(np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    inputs = [("x", draw(st.sampled_from([3, 4, 8])), 8), ("z", draw(st.sampled_from([5, 12])), 8)]
    net.maps = [_conv(net, inputs[0], draw(st.integers(1, 20)), 1), inputs[1]]
    small = st.integers(0, 59)
    steps = st.tuples(st.sampled_from(STEPS), st.integers(0, 2), small, small)
    for step, at, a, b in draw(st.lists(steps, min_size=3, max_size=14)):
        x = net.maps[-1 - at % len(net.maps)]
        net.maps.append(step(net, x, a, b))
    name, channels, size = net.maps[-1]
    tail = draw(st.sampled_from(TAILS))
    classes = draw(st.sampled_from([1, 7, 10, 16]))
    pooled = net.op("GlobalAveragePool", name) if tail in ("pooled", "matmul") else name
    if tail == "pooled":
        name = net.op("Gemm", net.op("Flatten", pooled), net.weight(classes, channels), net.weight(classes), transB=1)
    elif tail == "matmul":
        flat = net.op("Reshape", pooled, net.constant([2, -1], np.int64))
        name = net.op("Add", net.op("MatMul", flat, net.weight(channels, classes)), net.weight(classes))
    elif tail == "flat":
        name = net.op("Gemm", net.op("Flatten", name), net.weight(channels * size * size, classes))
    made = {output for node in net.nodes for output in node.output}
    read = {i for node in net.nodes for i in node.input}
    middle = net.maps[draw(st.integers(0, len(net.maps) - 1))][0]  # may be read by others too
    outputs = dict.fromkeys([name, *([middle] if middle in made else []), *sorted(made - read)])
    used = [i for i in inputs if i[0] in read]
    return net.model([o for o in outputs if o not in ("x", "z")], used)


def fix_and_prove(model: onnx.ModelProto, folder: Path, runtime: Runtime) -> onnx.ModelProto:
    """The fixed model; everything that is promised of it is asserted here."""
    source, target = folder / "model.onnx", folder / "fixed.onnx"
    onnx.save(model, source)
    skeleton = load(source)
    document, analysis = Document.of(skeleton), analyze(skeleton)
    feeds = seeded_feeds(input_specs(analysis.model.graph.inputs), 0)

    def checker(current: Analysis) -> Checked:
        return check(current, PROFILE, [ALIGNMENT], Config())

    options = Settings([SUBSTITUTION], feeds, feeds, (0,), "test", {})
    fixed = fix_document(document, analysis, checker, PROFILE, options, runtime)
    assert not fixed.refused
    assert not [f for f in fixed.checked.findings if f.severity is Severity.ERROR or f.outcome is not Outcome.FAIL]
    assert not fixed.checked.crashes
    assert {a.verification.verdict for a in fixed.applied} <= {"equal"}

    save_document(fixed.document, target)
    onnx.checker.check_model(str(target), full_check=True)
    terms = 2 * accumulated_terms(fixed.analysis)
    others = seeded_feeds(input_specs(analysis.model.graph.inputs), 1)
    outcome = compare_documents(runtime, document, Document.of(load(target)), others, terms, exact=True, seeds=(1,), kinds="test")
    assert outcome.verdict == "equal", outcome
    # A random network may amplify rounding; then float64, on another evaluator, tells rounding from an error.
    assert min(o.snr_db for o in outcome.outputs) >= 100 or exact_in_double(model, onnx.load(target), others[0]), outcome
    search = Search(fixed.analysis, fixed.checked.findings, PROFILE)
    assert (search.all([SUBSTITUTION]), search.almost) == ([], [])
    return onnx.load(target)


def exact_in_double(before: onnx.ModelProto, after: onnx.ModelProto, feed: Feed) -> bool:
    results = []
    for model in (before, after):
        wide = onnx.ModelProto()
        wide.CopyFrom(model)
        for tensor in wide.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
        for value in (*wide.graph.input, *wide.graph.output):
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
        del wide.graph.value_info[:]
        results.append(ReferenceEvaluator(wide).run(None, {name: x.astype(np.float64) for name, x in feed.items()}))
    return all(np.allclose(a, b, rtol=0, atol=1e-9 * max(1.0, np.abs(a).max())) for a, b in zip(*results, strict=True))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(model=networks())
def test_random_networks(model: onnx.ModelProto, runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> None:
    fix_and_prove(model, tmp_path_factory.mktemp("net"), runtime)


def bottlenecks(widths: Sequence[int], *, norm: bool) -> onnx.ModelProto:
    net = Net(np.random.default_rng(0), opset=17)

    def layer(x: str, channels: int, width: int, kernel: int, stride: int = 1) -> str:
        made = net.conv(x, channels, width, kernel, strides=[stride, stride])
        return _norm(net, (made, width, 0), 0, 1)[0] if norm else made

    x = net.op("Relu", layer("x", 3, 20, 7, 2))
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 20
    for stage, width in enumerate(widths):
        for block in range(3):
            stride = 2 if stage and not block else 1
            y = net.op("Relu", layer(x, channels, width, 1))
            y = net.op("Relu", layer(y, width, width, 3, stride))
            y = layer(y, width, 4 * width + 1, 1)
            shortcut = x if block else layer(x, channels, 4 * width + 1, 1, stride)
            x, channels = net.op("Relu", net.op("Add", y, shortcut)), 4 * width + 1
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    y = net.op("Gemm", x, net.weight(10, channels), net.weight(10), transB=1)
    return net.model([y], [("x", 3, 64)])


@pytest.mark.parametrize("norm", [True, False], ids=["norm", "folded"])
@pytest.mark.parametrize("widths", [(12, 20), (20, 12, 12), (1, 12, 20)], ids=str)
def test_bottleneck_resnet(widths: Sequence[int], norm: bool, tmp_path: Path, runtime: Runtime) -> None:
    model = bottlenecks(widths, norm=norm)
    fixed = fix_and_prove(model, tmp_path, runtime)
    before, after = ([n.op_type for n in m.graph.node] for m in (model, fixed))
    assert after == [*before, "Slice"], "all is carried up to the output"


CORNERS = {
    "old spellings": (
        9,
        """g (float[1,3,8,8] x) => (y, p)
        <float[12,3,1,1] w, float[4] scales = {1, 1, 2, 2}, float[9,10,1,1] v>
        {
            a = Conv(x, w)  u = Upsample<mode = "nearest">(a, scales)  b = Pad<pads = [0,0,1,1,0,0,1,1], value = 2.0>(u)
            c = Clip<min = 0.5>(b)  p, q = Split<axis = 1, split = [5,7]>(c)
            s = Slice<axes = [1], starts = [-6], ends = [6]>(q)  j = Concat<axis = 1>(p, s)  y = Conv(j, v)
        }""",
        {"Conv": 2, "Upsample": 1, "Pad": 1, "Clip": 1, "Split": 1, "Slice": 4, "Concat": 1},
    ),
    "halves of a map that is only partly widened": (
        20,
        """g (float[1,6,8,8] x) => (y)
        <float[6,6,1,1] w, float[12,6,1,1] v>
        {
            a = Conv(x, w)  j = Concat<axis = 1>(x, a)
            p, q = Split<axis = 1, num_outputs = 2>(j)  s = Add(p, q)  y = Conv(s, v)
        }""",
        None,
    ),
    "one weight in two convolutions": (
        20,
        """g (float[1,12,8,8] x) => (y)
        <float[12,12,1,1] w> { a = Conv(x, w)  r = Relu(a)  b = Conv(r, w)  y = Add(a, b) }""",
        {"Conv": 2, "Relu": 1, "Add": 1, "Slice": 1},
    ),
    "read in a subgraph too": (
        20,
        """g (float[1,8,8,8] x) => (y)
        <float[12,8,1,1] w, float[8,12,1,1] v, bool c = {1}>
        {
            a = Conv(x, w)  b = Conv(a, v)
            z = If (c) <
                then_branch = yes () => (float[1,12,8,8] p) { p = Relu(a) },
                else_branch = no () => (float[1,12,8,8] q) { q = Neg(a) }
            >
            s = ReduceSum<keepdims = 1>(z)  y = Add(b, s)
        }""",
        None,
    ),
    "sums over channels do not see zeros": (
        20,
        """g (float[1,8,8,8] x) => (y, z)
        <float[12,8,1,1] w, int64[1] axes = {1}>
        { a = Conv(x, w)  r = Relu(a)  y = ReduceSum(r, axes)  q = Sqrt(r)  z = ReduceL2(q, axes) }""",
        {"Conv": 1, "Relu": 1, "ReduceSum": 1, "Sqrt": 1, "ReduceL2": 1},
    ),
    "a value of which one reader wants the original": (
        20,
        """g (float[1,8,8,8] x) => (y, s)
        <float[12,8,1,1] w, float[8,12,1,1] v>
        { a = Conv(x, w)  r = Relu(a)  s = Softmax<axis = 1>(r)  m = Mul(r, s)  y = Conv(m, v) }""",
        {"Conv": 2, "Relu": 1, "Slice": 1, "Softmax": 1, "Mul": 1},
    ),
    "quantized maps": (
        20,
        """g (float[1,8,8,8] x) => (y)
        <float[12,8,1,1] w, float scale = {0.05}, uint8 zero = {7}, float[8,12,1,1] v>
        { a = Conv(x, w)  q = QuantizeLinear(a, scale, zero)  d = DequantizeLinear(q, scale, zero)  y = Conv(d, v) }""",
        {"Conv": 2, "QuantizeLinear": 1, "DequantizeLinear": 1},
    ),
    "a gate of one channel out of a wide map": (
        20,
        """g (float[1,8,8,8] x) => (y)
        <float[9,8,1,1] w, int64[2] parts = {8, 1}, float[8,8,1,1] v>
        { a = Conv(x, w)  p, q = Split<axis = 1>(a, parts)  g = Sigmoid(q)  m = Mul(p, g)  y = Conv(m, v) }""",
        {"Conv": 2, "Split": 1, "Sigmoid": 1, "Slice": 1, "Mul": 1},
    ),
}


@pytest.mark.parametrize("name", CORNERS)
def test_corner(name: str, tmp_path: Path, runtime: Runtime) -> None:
    opset, text, expected = CORNERS[name]
    fixed = fix_and_prove(onnx.shape_inference.infer_shapes(case_model(Case(text, opset=opset))), tmp_path, runtime)
    if expected is not None:
        assert Counter(n.op_type for n in fixed.graph.node) == expected
