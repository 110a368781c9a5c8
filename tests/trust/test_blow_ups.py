"""Small models that cost much: work that grew with a power of what a file says, or worse. Counted, not timed, where it can be."""

from __future__ import annotations

import gc
import os
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from npu_guard.base.checkout import relative_path
from npu_guard.checking import rows
from npu_guard.file.load import load
from npu_guard.graph import origin
from npu_guard.graph.build import build
from npu_guard.graph.graph import Model, Node
from npu_guard.graph.origin import scope_of, source_of
from npu_guard.pipeline.check import check_models
from npu_guard.project.config import Config
from npu_guard.reports import model_explorer  # type: ignore[import-not-found]  # a pack
from npu_guard.results import fingerprint
from npu_guard.results.findings import Location

SCOPES, STACK = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.stack_trace"
View = Callable[..., Model]


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    """What a path is in the project is remembered for a process."""
    relative_path.cache_clear()
    yield
    relative_path.cache_clear()


def saved(path: Path, *nodes: onnx.NodeProto, inputs: dict[str, int], outputs: dict[str, int]) -> Path:
    before, after = ([value(name, kind) for name, kind in side.items()] for side in (inputs, outputs))
    graph = helper.make_graph(nodes, "g", before, after)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    path.write_bytes(model.SerializeToString())
    return path


def value(name: str, kind: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, [1, 4] if kind == 1 else [])


def chain(folder: Path, count: int, mark: Callable[[onnx.NodeProto, int], Any], name: str = "") -> list[Node]:
    """Erf after Erf; `mark` leaves at each what an exporter would."""
    nodes = [helper.make_node("Erf", [f"v{i}"], [f"v{i + 1}"], name) for i in range(count)]
    for i, node in enumerate(nodes):
        mark(node, i)
    path = saved(folder / "m.onnx", *nodes, inputs={"v0": 1}, outputs={f"v{count}": 1})
    return build(load(path)).graph.nodes


def note(node: onnx.NodeProto, key: str, text: str) -> None:
    node.metadata_props.add(key=key, value=text)


def loop(level: int, depth: int, width: int) -> onnx.GraphProto:
    states = [f"l{level}_{k}" for k in range(width)]
    results = [f"{state}_" for state in states]
    inputs = [value(f"l{level}_i", 7), value(f"l{level}_c", 9), *(value(s, 1) for s in states)]
    given = [f"l{level}_i", f"l{level}_c", *states]
    nodes = [helper.make_node("Identity", [f"l{level}_c"], [f"l{level}_c_"])]
    if level == depth:
        nodes += [helper.make_node("Add", [states[0], s], [r]) for s, r in zip(states, results, strict=True)]
    else:
        nodes.append(helper.make_node("Loop", given, results, body=loop(level + 1, depth, width)))
    return helper.make_graph(nodes, "b", inputs, [value(f"l{level}_c_", 9), *(value(r, 1) for r in results)])


def test_loops_in_loops_that_hand_everything_on(tmp_path: Path) -> None:
    node = helper.make_node("Loop", ["m", "c", "x", "x", "x"], ["y", "z", "w"], body=loop(1, 12, 3))
    path = saved(tmp_path / "m.onnx", node, inputs={"m": 7, "c": 9, "x": 1}, outputs=dict.fromkeys("yzw", 1))
    rows = check_models([str(path)], Config(), layers=True).models[0].layers
    inner = [set(row.inputs) - {other.index for other in rows[3:]} for row in rows if row.location.op_type in ("Loop", "Add")]
    assert inner == [{0, 1, 2}] * 15


def test_a_loop_that_is_given_much(tmp_path: Path) -> None:
    """Each node of the body would have all that the operator reads."""
    many = 200
    before = [helper.make_node("Erf", ["x"], [f"r{k}"]) for k in range(many)]
    node = helper.make_node("Loop", ["m", "c", *(f"r{k}" for k in range(many))], [f"y{k}" for k in range(many)],
                            body=loop(1, 1, many))  # fmt: skip
    ends = {f"y{k}": 1 for k in range(many)}
    path = saved(tmp_path / "m.onnx", *before, node, inputs={"m": 7, "c": 9, "x": 1}, outputs=ends)
    rows = check_models([str(path)], Config(), layers=True).models[0].layers
    assert max(len(row.inputs) for row in rows if row.location.op_type == "Loop") > many
    assert 0 < max(len(row.inputs) for row in rows if row.location.op_type == "Add") <= 64


class _Disk:
    """Counts what is looked up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self.isfile = os.path.isfile
        monkeypatch.setattr(os.path, "isfile", self)

    def __call__(self, path: Any) -> bool:
        self.asked += 1
        return self.isfile(path)


def frames(*files: str) -> str:
    return "\n".join(f'File "{file}", line 1, in f' for file in files)


def test_files_that_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "/a" * 450
    nodes = chain(tmp_path, 60, lambda n, i: note(n, STACK, frames(*(f"{deep}/{i}_{j}.py" for j in range(60)))))
    disk = _Disk(monkeypatch)
    asked: origin.Lookups = {}
    source_of(nodes[0], tmp_path, asked)
    assert len(asked) <= 20, "of one node"
    assert disk.asked <= 20 * 20, "at most so many folders deep"
    for node in nodes * 2:
        found = source_of(node, tmp_path, asked)
        assert found is not None
        assert found.file.startswith("a/")
    assert len(asked) <= 1000, "of one model; what was not looked for makes no difference to a kept result"
    assert disk.asked <= 20 * 1000


def test_a_file_of_a_deep_checkout_is_found(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/blocks.py").write_text("")
    (node,) = chain(tmp_path, 1, lambda n, _: note(n, STACK, frames("/ci" * 100 + "/net/blocks.py")))
    found = source_of(node, tmp_path)
    assert found is not None
    assert found.file == "net/blocks.py"


def test_frames_with_many_numbers(tmp_path: Path) -> None:
    """Took 0.2 s a node."""
    text = "\n".join(["(1): " * 200 + "x" * 300] * 50)
    nodes = chain(tmp_path, 50, lambda n, _: setattr(n, "doc_string", text))
    before = time.process_time()
    assert {source_of(node, None) for node in nodes} == {None}
    assert time.process_time() - before < 5
    (node,) = chain(tmp_path, 1, lambda n, _: setattr(n, "doc_string", "net (1): x/a.py(7): forward\n"))
    found = source_of(node, None)
    assert found is not None
    assert (found.file, found.line, found.function) == ("net (1): x/a.py", 7, "forward"), "the last number is the line"


def read(node: Node, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Takes down the keys of metadata that are asked for, of all nodes."""
    keys: list[str] = []
    was = Node.metadata

    def metadata(self: Node, key: str) -> str | None:
        keys.append(key)
        return was(self, key)

    monkeypatch.setattr(type(node), "metadata", metadata)
    return keys


@pytest.mark.parametrize("text", ["['', 'a', 'x']", "[1]", "['', 'a', 'x'" + ", ''" * 62 + "]", "['" + "a" * 4096 + "', 'x']"])
def test_each_node_is_read_once(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that record nothing, or nothing that counts, ask those around them."""
    count = 100
    nodes = chain(tmp_path, count, lambda n, i: note(n, SCOPES, text) if i else None)
    keys = read(nodes[0], monkeypatch)
    scopes = [scope_of(node) for node in nodes * 3]
    sources = [source_of(node, None) for node in nodes * 3]
    assert scopes[count // 2] == (("a",) if text == "['', 'a', 'x']" else ())
    assert set(sources) == {None}
    assert max(keys.count(SCOPES), keys.count(STACK)) <= count


def test_what_is_remembered_goes_with_the_model(tmp_path: Path) -> None:
    nodes = chain(tmp_path, 3, lambda n, _: note(n, SCOPES, "['', 'a', 'x']"))
    model = weakref.ref(nodes[0].graph.model)
    assert scope_of(nodes[0]) == ("a",)
    del nodes
    gc.collect()
    assert model() is None


def test_a_node_with_very_many_around_it(tmp_path: Path) -> None:
    """Whoever asks around must not list all readers of what all of them feed."""
    many = 3000
    nodes = [helper.make_node("Erf", ["x"], [f"a{i}"]) for i in range(many)]
    nodes.append(helper.make_node("Max", [f"a{i}" for i in range(many)], ["p"]))
    nodes += [helper.make_node("Erf", ["p"], [f"b{i}"]) for i in range(many)]
    note(nodes[-1], SCOPES, "['', 'a', 'x']")
    path = saved(tmp_path / "m.onnx", *nodes, inputs={"x": 1}, outputs={f"b{i}": 1 for i in range(many)})
    model = build(load(path))
    before = time.process_time()
    assert {scope_of(node) for node in model.graph.nodes[:-1]} == {()}
    assert time.process_time() - before < 10


@pytest.mark.parametrize(
    "name", ["/a" * 30_000 + "/Erf", "/" + ".".join("a" * 30_000) + "/Erf", "/" + "m" * 60_000 + "/Erf", "/" * 60_000]
)
def test_names_of_very_many_modules(name: str, tmp_path: Path) -> None:
    (node,) = chain(tmp_path, 1, lambda *_: None, name)
    assert len(scope_of(node)) <= 64
    assert sum(map(len, scope_of(node))) <= 512


def test_a_body_in_very_many_modules(tmp_path: Path) -> None:
    """The path at which the picture shows a node goes on from that of the operator around it."""
    inner = [helper.make_node("Erf", ["x" if i == 0 else f"b{i}"], [f"b{i + 1}"], f"/b{i}/Erf") for i in range(50)]
    bodies = {
        "then_branch": helper.make_graph(inner, "t", [], [value("b50", 1)]),
        "else_branch": helper.make_graph([helper.make_node("Abs", ["x"], ["e"])], "e", [], [value("e", 1)]),
    }
    node = helper.make_node("If", ["c"], ["y"], "/a" * 30_000 + "/If", **bodies)
    path = saved(tmp_path / "m.onnx", node, inputs={"x": 1, "c": 9}, outputs={"y": 1})
    walked = list(rows._walk(build(load(path)).graph, ()))
    assert len(walked) == 52
    assert max(len(path) for _, path, _ in walked) == 64


def marks(module: str, kinds: int, each: int, first: int) -> list[fingerprint.Mark]:
    return [
        fingerprint.make_mark(
            "NPU101", "fail", "Conv", ("limit", kind), (*module.split("."), str(first + i * 7919 % 10_007)), (8,)
        )
        for kind in range(kinds)
        for i in range(each)
    ]


def test_findings_of_other_modules_in_many_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each group was small enough to compare all with all."""
    compared = 0
    was = fingerprint._change

    def change(old: Any, new: Any) -> Any:
        nonlocal compared
        compared += 1
        return was(old, new)

    monkeypatch.setattr(fingerprint, "_change", change)
    before, after = marks("blocks", 60, 50, 1000), marks("blocks", 60, 50, 30_000)
    assert len(fingerprint.pair(before, after)) == 3000
    assert compared <= 100_000


def test_parts_of_a_path_that_look_like_numbers() -> None:
    """A number of 5,000 digits is none that Python reads, and `#` is a name like any other."""
    for old, new, same in (
        ("a.9", "a.10", 1), ("a." + "9" * 5000, "a." + "8" * 5000, 0), ("#.a.1", "#.a.2", 1), ("#.a", "1.a", 0), ("", "", 1),
        ("a.\u0663", "a.5", 1), ("1.2", "net.1.2", 0), ("x.1.2", "net.x.1.2", 1), ("x.1.2", "net.x.2.2", 0),
    ):  # fmt: skip
        sides = [[fingerprint.make_mark("R", "fail", "Conv", None, tuple(s.split(".")), (8,))] for s in (old, new)]
        assert len(fingerprint.pair(*sides)) == same, (old[:20], new[:20])


def test_ids_of_nodes_in_many_bodies() -> None:
    """They are as in the viewer as far as it has any, short behind that, and never two alike."""
    key = model_explorer._key
    assert key(Location("n", "Erf", "o", (), ("If.then_branch", "a.b.else_branch"))) == "If/then_branch/a.b/else_branch/n"
    ways = [tuple(f"{'N' * 150}.{side}_branch" for side in sides.split()) for sides in ("then " * 28, "then " * 27 + "else")]
    found = {key(Location(name, "Erf", "o", (), way)) for way in ways for name in ("p", "q")}
    assert len(found) == 4
    assert max(map(len, found)) < 200
