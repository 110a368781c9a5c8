"""What `fix` does for models that ask for too much: counted, so that nothing here depends on how fast the machine is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from npu_guard.analysis.analyze import analyze
from npu_guard.base import sandbox
from npu_guard.checking import registry
from npu_guard.checking.context import Context
from npu_guard.file import unread
from npu_guard.file.document import Document
from npu_guard.file.load import load
from npu_guard.fixing import block_check, catalog, driver
from npu_guard.fixing.driver import FixReport
from npu_guard.fixing.judge import Judge
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.rewriting.rank_lift import Lifter
from npu_guard.rewriting.substitution import Builder, Match, Refused
from npu_guard.rewriting.weights import Budget, Weights

KNOWN = {s.name: s for s in catalog.substitutions()}
PROFILE = registry.profile("aimotive-aiware")
WEIGHT = np.arange(24, dtype=np.float32).reshape(8, 1, 3) / 24
N = helper.make_node
Counted = Callable[[Any, str], list[Any]]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """`counted(module, "name")`: the arguments of each call from now on."""

    def count(where: Any, name: str) -> list[Any]:
        calls: list[Any] = []
        was = getattr(where, name)

        def tell(*arguments: Any, **options: Any) -> Any:
            calls.append(arguments)
            return was(*arguments, **options)

        monkeypatch.setattr(where, name, tell)
        return calls

    return count


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def make(nodes: Sequence[onnx.NodeProto], shape: Sequence[int], out: Sequence[int], **weights: Any) -> Path:
        tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
        ends = (helper.make_tensor_value_info(name, 1, list(dims)) for name, dims in (("x", shape), ("y", out)))
        graph = helper.make_graph(nodes, "g", *([end] for end in ends), tensors)
        path = tmp_path / "net.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
        return path

    return make


def fix(path: Path, *names: str) -> FixReport:
    return fix_model(str(path), PROFILE, Config(), [KNOWN[n] for n in names], seeds=(0,), warnings=True)


def behind(steps: Sequence[onnx.NodeProto], last: str) -> list[onnx.NodeProto]:
    """A Conv1d whose weight is computed."""
    return [*steps, N("Conv", ["x", last], ["y"], group=8, pads=[1, 1])]


def chain(op: str, count: int, inputs: int = 1) -> list[onnx.NodeProto]:
    return [N(op, [f"w{i}"] * inputs, [f"w{i + 1}"]) for i in range(count)]


@pytest.mark.parametrize("steps", [chain("Relu", 1500), chain("Max", 40, inputs=2)], ids=["long", "doubled"])
def test_a_weight_behind_many_nodes(save: Callable[..., Path], steps: list[onnx.NodeProto]) -> None:
    done = fix(save(behind(steps, f"w{len(steps)}"), (1, 8, 8), (1, 8, 8), w0=WEIGHT), "conv1d-to-conv2d")
    assert not done.after.crashes
    assert [a.node for a in done.applied] == ["y"]
    assert done.verification.verdict == "equal"


def test_a_weight_of_one_number(save: Callable[..., Path]) -> None:
    value = numpy_helper.from_array(np.array([0.25], np.float32))
    path = save(
        behind([N("ConstantOfShape", ["dims"], ["w"], value=value)], "w"), (1, 8, 6000), (1, 8, 6000), dims=np.array([8, 1, 3])
    )
    wide = save(
        [N("ConstantOfShape", ["dims"], ["w"], value=value), N("Conv", ["x", "w"], ["y"])],
        (1, 900, 8),
        (1, 9, 8),
        dims=np.array([9, 900, 1]),
    )  # more than what the graph's own integers may have
    for model in (path, wide):
        done = fix(model, "conv1d-to-conv2d")
        assert [a.node for a in done.applied] == ["y"]
        assert done.verification.verdict == "equal"


@pytest.mark.parametrize("rows", [9, 1 << 20])
def test_a_weight_that_fills_the_machine(save: Callable[..., Path], rows: int, counted: Counted) -> None:
    nodes = [N("ConstantOfShape", ["dims"], ["w"]), N("Conv", ["x", "w"], ["y"])]
    path = save(nodes, (1, 1 << 22, 1), (1, rows, 1), dims=np.array([rows, 1 << 22, 1]))
    made = counted(np, "full")
    assert not fix(path, "conv1d-to-conv2d").applied
    assert not made


def match_of(path: Path, name: str) -> tuple[Match, Document]:
    skeleton = load(str(path))
    ctx = Context(analyze(skeleton), PROFILE)
    found = (KNOWN[name].match(n, ctx) for n in ctx.analysis.nodes() if n.op_type in KNOWN[name].roots)
    matched = next(s for s in found if s)
    return matched if isinstance(matched, Match) else matched[0], Document.of(skeleton)


def test_weights_are_computed_within_a_budget(save: Callable[..., Path]) -> None:
    path = save(behind(chain("Relu", 20), "w20"), (1, 8, 8), (1, 8, 8), w0=WEIGHT)
    match, document = match_of(path, "conv1d-to-conv2d")
    build = Builder(match, document, set(), lambda _: [], Weights(document, Budget(elements=10_000)))
    with pytest.raises(Refused, match="its weights take more computing than is done here"):
        match.substitution.rewrite(match, build)


def test_no_intermediate_weight_is_held(save: Callable[..., Path]) -> None:
    path = save(behind(chain("Relu", 30), "w30"), (1, 8, 8), (1, 8, 8), w0=WEIGHT)
    match, document = match_of(path, "conv1d-to-conv2d")
    made: list[Any] = []
    held: list[int] = []

    def evaluate(node: Any, inputs: Any) -> list[Any]:
        result = np.maximum(inputs[0], 0)
        made.append(ref(result))
        held.append(sum(one() is not None for one in made))
        return [result]

    weight = match.root.inputs[1]
    assert weight is not None
    assert Weights(document).get(weight, lambda _: None, evaluate).shape == WEIGHT.shape
    assert len(held) == 30
    assert max(held) <= 3


def test_memory_ends_before_protobuf_meets_its_end(save: Callable[..., Path]) -> None:
    match, document = match_of(save(behind([], "w0"), (1, 8, 8), (1, 8, 8), w0=WEIGHT), "conv1d-to-conv2d")
    build = Builder(match, document, set(), lambda _: [])
    build.most = 1
    for make in (lambda: build.op("Relu", "x"), lambda: build.constant(WEIGHT)):
        with pytest.raises(MemoryError):
            make()


def test_many_readers_of_one_value(save: Callable[..., Path], counted: Counted) -> None:
    nodes = [N("Conv", ["x", "w"], [f"v{i}" if i else "y"], group=8, pads=[1, 1]) for i in range(200)]
    asked = counted(Lifter, "can")
    assert len(match_of(save(nodes, (1, 8, 8), (1, 8, 8), w=WEIGHT), "conv1d-to-conv2d")[0].nodes) == 200
    assert len(asked) <= 600


def test_many_readers_of_one_value_of_rank_5(save: Callable[..., Path], counted: Counted) -> None:
    nodes = [N("Conv", ["x", "w"], [f"v{i}" if i else "y"], group=8, pads=[0, 0, 1, 0, 0, 1]) for i in range(200)]
    shape, name = (1, 8, 1, 4, 4), "rank5-to-rank4"
    asked = counted(sys.modules[type(KNOWN[name]).__module__], "has_form")
    assert len(match_of(save(nodes, shape, shape, w=WEIGHT[:, :, None, None]), name)[0].nodes) == 200
    assert len(asked) <= 600


class Told(list[Any]):
    """A list that counts how often it is read from one end to the other."""

    reads = 0

    def __iter__(self) -> Iterator[Any]:
        self.reads += 1
        return super().__iter__()


def test_many_regions_of_rank_5(save: Callable[..., Path]) -> None:
    nodes = []
    for i in range(40):
        nodes += [
            N("Reshape", ["x", "five"], [f"r{i}"]),
            N("Conv", [f"r{i}", "w"], [f"c{i}"], group=8, pads=[0, 0, 1, 0, 0, 1]),
            N("Reshape", [f"c{i}", "four"], [f"z{i}" if i else "y"]),
        ]
    shapes = {"five": np.array([1, 8, 1, 4, 4]), "four": np.array([1, 8, 4, 4])}
    path = save(nodes, (1, 8, 4, 4), (1, 8, 4, 4), w=WEIGHT[:, :, None, None], **shapes)
    ctx = Context(analyze(load(str(path))), PROFILE)
    graph = ctx.analysis.model.graph
    graph.nodes = told = Told(graph.nodes)
    convs = [n for n in graph.nodes if n.op_type == "Conv"]
    told.reads = 0
    assert all(KNOWN["rank5-to-rank4"].match(n, ctx) for n in convs)
    assert told.reads == 1


def test_a_dead_chain_goes_at_once(save: Callable[..., Path], counted: Counted) -> None:
    nodes = [N("Abs", [f"s{i}"], [f"s{i + 1}"]) for i in range(150)]
    nodes += [N("Expand", ["x", "s150"], ["e"]), N("Sigmoid", ["e"], ["y"])]
    path = save(nodes, (1, 8, 1, 1), (1, 8, 4, 4), s0=np.array([1, 8, 4, 4]))
    read = counted(unread, "reads")
    done = fix(path, "expand-to-broadcast")
    assert [n.op_type for n in done.document.proto.graph.node] == ["Add", "Sigmoid"]
    assert len(read) < 150 * 8


def contested(save: Callable[..., Path], count: int) -> Path:
    nodes = []
    for i in range(count):
        nodes += [N("GlobalAveragePool", [f"r{i}" if i else "x"], [f"p{i}"])]
        nodes += [N("Resize", [f"p{i}", "", "sc"], [f"r{i + 1}" if i < count - 1 else "y"], mode="cubic")]
    return save(nodes, (1, 8, 3, 3), (1, 8, 3, 3), sc=np.array([1, 1, 3, 3], np.float32))


@pytest.mark.parametrize("count", [2, 4, 12])
def test_equal_blocks_are_judged_once(save: Callable[..., Path], counted: Counted, count: int) -> None:
    judged = counted(Judge, "_judged")
    done = fix(contested(save, count), "resize-to-fixed-conv-transpose", "expand-to-broadcast")
    assert len(done.applied) == count
    assert len(judged) == JUDGED


JUDGED = 4
"""The ways in which the two forms may be written, however many blocks there are."""


def activations(save: Callable[..., Path], count: int, name: str = "") -> Path:
    ends = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    nodes = [N("HardSwish", [a], [b], name=name) for a, b in pairwise(ends)]
    return save(nodes, (1, 8, 8, 8), (1, 8, 8, 8))


def test_blocks_are_run_together(save: Callable[..., Path], counted: Counted) -> None:
    ran = counted(block_check, "run_document")
    done = fix(activations(save, 40), "hard-swish-to-clip")
    assert len(done.applied) == 40
    assert len(ran) < 10


def test_a_run_ends_at_so_many_blocks(save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "MATCHES", 5)
    done = fix(activations(save, 12), "hard-swish-to-clip")
    assert len(done.applied) == 5
    (refused,) = done.refused
    assert refused.node == "v5"
    assert refused.reason == "one run replaces 5 blocks at most, so 7 from here on are left; fix the result again"
    assert done.verification.verdict == "equal"


class Asked(set[str]):
    """Names, and how often it was asked for one."""

    count = 0

    def __contains__(self, name: object) -> bool:
        self.count += 1
        return super().__contains__(name)


def test_names_of_many_blocks_of_one_name(save: Callable[..., Path]) -> None:
    match, document = match_of(activations(save, 1, "a"), "hard-swish-to-clip")
    taken, numbers = Asked(), dict[str, int]()
    weights = Weights(document)
    made: list[str] = []
    for _ in range(100):
        build = Builder(match, document, taken, lambda _: [], weights, numbers)
        match.substitution.rewrite(match, build)
        made += build.names
    assert len(set(made)) == len(made)
    assert taken.count <= 3 * len(made)
    build.give_back()
    again = Builder(match, document, taken, lambda _: [], weights, numbers)
    match.substitution.rewrite(match, again)
    assert again.names == build.names


def test_memory_that_a_pass_leaves_behind_is_not_held_against_the_next(
    save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process seldom gives back what it has freed; what counts is the weights that are new in the model."""
    held = [1 << 30]
    run = driver._Driver.one_pass

    def one_pass(self: Any, *arguments: Any) -> bool:
        held[0] += 1 << 40
        return run(self, *arguments)

    monkeypatch.setattr(driver._Driver, "one_pass", one_pass)
    monkeypatch.setattr(sandbox, "used_memory", lambda: held[0])
    nodes = [N("GlobalAveragePool", ["x"], ["p"]), N("Flatten", ["p"], ["f"]), N("Gemm", ["f", "w"], ["y"])]
    path = save(nodes, (1, 16, 4, 4), (1, 10), w=np.ones((16, 10), np.float32))
    done = fix(path, "flattened-head-to-conv", "channels-to-aligned")
    assert {a.number for a in done.applied} >= {1, 2}, "in two passes"
    assert not [r for r in done.refused if "all new weights" in r.reason]
    assert done.verification.verdict == "equal"


def test_new_weights_of_all_passes_count_together(save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [N("GlobalAveragePool", ["x"], ["p"]), N("Flatten", ["p"], ["f"]), N("Gemm", ["f", "w"], ["y"])]
    path = save(nodes, (1, 16, 4, 4), (1, 10), w=np.ones((16, 10), np.float32))
    made: list[int] = []
    run = driver._Driver.one_pass

    def one_pass(self: Any, *arguments: Any) -> bool:
        again = run(self, *arguments)
        made.append(self._made)
        return again

    monkeypatch.setattr(driver._Driver, "one_pass", one_pass)
    done = fix(path, "flattened-head-to-conv", "channels-to-aligned")
    assert len(done.applied) > 1
    assert 0 < made[0] < made[1]
