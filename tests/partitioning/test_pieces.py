"""Small graphs and the pieces that an engineer would draw on paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from npu_guard.device.partition import DEFAULT
from npu_guard.partitioning import alike
from npu_guard.partitioning.partition import Settings
from npu_guard.partitioning.report import headline, operators

if TYPE_CHECKING:
    from conftest import Cut

    from npu_guard.graph.graph import Node

    Cutting = Callable[..., Cut]

FREE = Settings(byte_cost=0, launch_cost=0)
MAP = "float[1,8,4,4]"


def test_one_operator_of_the_host_makes_three_pieces(cut: Cutting) -> None:
    found = cut(f"g ({MAP} x) => ({MAP} y) {{ a = Relu(x)  b = Erf(a)  y = Relu(b) }}")
    assert found.words() == ["npu: a", "host: b", "npu: y"]
    assert found.crossings() == {"a": (0, (1,)), "b": (1, (2,))}
    assert [c.bytes for c in found.partition.crossings] == [512, 512]
    assert [c.shape for c in found.partition.crossings] == [(1, 8, 4, 4)] * 2


def test_all_on_one_side(cut: Cutting) -> None:
    assert cut(f"g ({MAP} x) => ({MAP} y) {{ a = Relu(x)  y = Sigmoid(a) }}").words() == ["npu: a y"]
    found = cut(f"g ({MAP} x) => ({MAP} y) {{ a = Erf(x)  y = Erf(a) }}")
    assert found.words() == ["host: a y"]
    assert (found.partition.crossings, found.partition.npu_macs_percent) == ((), 0.0)


def test_the_host_may_come_first(cut: Cutting) -> None:
    """What the host makes of an input is ready before the NPU starts, so the NPU is not cut there."""
    found = cut(f"g ({MAP} x, {MAP} u) => ({MAP} y) {{ a = Relu(x)  h = Erf(u)  y = Add(a, h) }}")
    assert found.words() == ["host: h", "npu: a y"]


def test_branches_of_one_level_are_one_piece(cut: Cutting) -> None:
    found = cut(
        f"g ({MAP} x) => ({MAP} y, {MAP} z) {{ a = Relu(x)  b = Erf(a)  c = Erf(x)  y = Relu(b)  d = Relu(c)  z = Tanh(d) }}"
    )
    assert found.words() == ["host: c", "npu: a d z", "host: b", "npu: y"]


def test_a_path_through_the_host_keeps_what_is_around_it_apart(cut: Cutting) -> None:
    """a and y are neighbours, but y waits for the host, which waits for a: one piece of both would have to run twice."""
    found = cut(f"g ({MAP} x) => ({MAP} y) {{ a = Relu(x)  b = Erf(a)  y = Add(a, b) }}")
    assert found.words() == ["npu: a", "host: b", "npu: y"]
    assert found.crossings() == {"a": (0, (1, 2)), "b": (1, (2,))}


def test_what_nobody_needs_yet_moves_to_where_less_crosses(cut: Cutting) -> None:
    """Concat doubles what it reads. Behind the host, the half that it needs crosses instead of the whole."""
    found = cut(
        f"g ({MAP} x) => (y) {{ a = Relu(x)  b = Erf(a)  c = Concat<axis = 1>(a, a)  d = Concat<axis = 1>(b, b)  y = Add(c, d) }}"
    )
    assert found.words() == ["npu: a", "host: b", "npu: c d y"]


def test_an_input_of_the_host_that_is_needed_late_makes_no_piece_of_its_own(cut: Cutting) -> None:
    found = cut(f"g ({MAP} x, {MAP} u) => ({MAP} y) {{ h = Erf(u)  a = Relu(x)  b = Erf(a)  y = Add(b, h)  }}", Settings())
    assert found.words() == ["host: h a b y"]  # an element-wise NPU piece costs more than it saves
    conv = "<float[8,8,3,3] w> { h = Erf(u)  a = Conv<pads = [1,1,1,1]>(x, w)  b = Erf(a)  c = Mul(b, h) y = Erf(c) }"
    found = cut(f"g ({MAP} x, {MAP} u) => ({MAP} y) {conv}", Settings(launch_cost=0))
    assert found.words() == ["npu: a", "host: h b c y"]


def test_what_costs_more_to_hand_over_than_it_saves_goes_to_the_host(cut: Cutting) -> None:
    """1x1 over 8 channels: 8*8*16 = 1,024 MACs against 1,024 bytes in and out."""
    graph = f"g ({MAP} x) => ({MAP} y) <float[8,8,1,1] w> {{ a = Erf(x)  b = Conv(a, w)  y = Erf(b) }}"
    assert cut(graph, Settings(launch_cost=0)).words() == ["host: a b y"]
    assert cut(graph, Settings(launch_cost=0, byte_cost=0.97)).words() == ["host: a", "npu: b", "host: y"]
    assert cut(graph, Settings(launch_cost=0, byte_cost=0.99)).words() == ["host: a b y"]  # (1 - 0.02) * 1,024 < 0.99 * 1,024
    assert cut(graph, Settings(launch_cost=20, byte_cost=0.97)).words() == ["host: a b y"]


def test_small_parts_go_to_the_host(cut: Cutting) -> None:
    graph = (
        f"g ({MAP} x) => ({MAP} y) <float[8,8,1,1] w, float[8,8,3,3] v>"
        + """
        { a = Conv<pads = [1,1,1,1]>(x, v)  b = Erf(a)  c = Conv(b, w)  y = Erf(c) }"""
    )
    free = {"byte_cost": 0, "launch_cost": 0}
    assert cut(graph, Settings(min_macs=1024, **free)).words() == ["npu: a", "host: b", "npu: c", "host: y"]
    found = cut(graph, Settings(min_macs=1025, **free))
    assert found.words() == ["npu: a", "host: b c y"]
    assert found.partition.npu_macs_percent == pytest.approx(90.0)  # 9,216 of 10,240
    assert cut(graph, Settings(min_macs=9217, **free)).words() == ["host: a b c y"]


def test_at_most_so_many_pieces(cut: Cutting) -> None:
    graph = (
        f"g ({MAP} x) => ({MAP} y) <float[8,8,1,1] w, float[8,8,3,3] v>"
        + """
        { a = Conv<pads = [1,1,1,1]>(x, v)  b = Erf(a)  c = Conv(b, w)  d = Erf(c)
          e = Conv<pads = [1,1,1,1]>(d, v)  y = Erf(e) }"""
    )
    free = {"byte_cost": 0, "launch_cost": 0}
    assert len(cut(graph, Settings(max_pieces=6, **free)).words()) == 6
    assert cut(graph, Settings(max_pieces=5, **free)).words() == ["npu: a", "host: b c d", "npu: e", "host: y"]
    assert cut(graph, Settings(max_pieces=4, **free)).words() == ["npu: a", "host: b c d", "npu: e", "host: y"]
    assert cut(graph, Settings(max_pieces=3, **free)).words() == ["npu: a", "host: b c d e y"]
    assert cut(graph, Settings(max_pieces=2, **free)).words() == ["npu: a", "host: b c d e y"]
    assert cut(graph, Settings(max_pieces=1, **free)).words() == ["host: a b c d e y"]


def test_what_does_nothing_follows_its_neighbours(cut: Cutting) -> None:
    found = cut(f"g ({MAP} x) => ({MAP} y) {{ i = Identity(x)  a = Relu(i)  j = Identity(a)  b = Erf(j)  y = Identity(b) }}")
    assert [w.split(":")[0] for w in found.words()] == ["npu", "host"]
    assert {n.output.name for p in found.partition.pieces for n in p.nodes} == {"i", "a", "j", "b", "y"}
    assert [v.name for v in found.partition.pieces[1].outputs] == ["y"]


def test_control_flow_is_the_hosts_with_what_it_captures(cut: Cutting) -> None:
    found = cut(
        f"""g ({MAP} x, bool c) => ({MAP} y) {{
            a = Relu(x)  k = Relu(a)
            b = If (c) <then_branch = t () => ({MAP} u) {{ u = Add(a, k) }}, else_branch = e () => ({MAP} v) {{ v = Relu(k) }}>
            y = Relu(b) }}"""
    )
    assert found.words() == ["npu: a k", "host: b", "npu: y"]
    assert {v.name for v in found.partition.pieces[1].inputs} == {"a", "c", "k"}


def test_a_branch_that_only_hands_on_what_it_captures(cut: Cutting) -> None:
    """No node in the body reads it."""
    found = cut(
        f"""g ({MAP} x, bool c) => ({MAP} y) {{ a = Relu(x)  z = Erf(a)
            b = If (c) <then_branch = t () => ({MAP} u) {{ u = Erf(z) }}, else_branch = e () => ({MAP} a) {{ }}>
            y = Relu(b) }}"""
    )
    assert found.words() == ["npu: a", "host: z b", "npu: y"]
    assert {v.name for v in found.partition.pieces[1].inputs} == {"a", "c"}


def test_sequences_cross_nothing(cut: Cutting) -> None:
    """r reads the sequence, and waits for q, which waits for an element of it: q cannot be the NPU's."""
    found = cut(
        f"""g ({MAP} x) => ({MAP} y) <int64 zero = {{0}}, int64 one = {{1}}> {{
            a = Relu(x)  s = SequenceConstruct(a, x)  p = SequenceAt(s, zero)  q = Relu(p)
            t = SequenceInsert(s, q)  r = SequenceAt(t, one)  y = Relu(r) }}"""
    )
    assert found.words() == ["npu: a", "host: s p q t r", "npu: y"]


def test_a_run_of_reshapes_stays_together(cut: Cutting) -> None:
    """Reshape, Transpose and Reshape are one rearrangement, an error at one of them; no half of a view crosses."""
    graph = """g (float[1,8,4,4] x) => (float[1,4,8,4] y) <int64[3] t = {1,8,16}, int64[4] m = {1,4,4,8}> {
        a = Relu(x)  b = Reshape(a, t)  c = Transpose<perm = [0,2,1]>(b)  d = Reshape(c, m)  e = Relu(d)
          y = Transpose<perm = [0,1,3,2]>(e) }"""
    found = cut(graph, limits={"layout.rearrange": False})
    assert found.words() == ["npu: a", "host: b c d", "npu: e", "host: y"]


def test_breakers_are_recomputed(cut: Cutting) -> None:
    """Erf alone is in the way of the two convolutions; what depends on data stays where it is."""
    graph = (
        f"g ({MAP} x) => ({MAP} y) <float[8,8,3,3] w>"
        + """
        { a = Conv<pads = [1,1,1,1]>(x, w)  b = Erf(a)  c = Conv<pads = [1,1,1,1]>(b, w)  d = NonZero(c)  f = Cast<to = 1>(d)
          m = ReduceMax<keepdims = 0>(f)  y = Add(c, m) }"""
    )
    found = cut(graph)
    assert [w.split(":")[0] for w in found.words()][:4] == ["npu", "host", "npu", "host"]
    best = {tuple(n.op_type for n in b.nodes): b.pieces for b in found.partition.breakers}
    assert best[("Erf",)] == len(found.partition.pieces) - 2


def test_modules_that_are_alike_are_one_breaker_and_what_saves_most_is_first(
    cut: Cutting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of three blocks is in the way of the convolutions around it; one alone saves less than all together."""

    def scope(node: Node) -> tuple[str, ...]:
        kind, number = node.output.name[0], node.output.name[1:]
        return ("stages", number, "gate", *(("act",) if kind == "r" else ()))

    monkeypatch.setattr(alike, "scope_of", scope)
    conv = "Conv<pads = [1,1,1,1]>"
    blocks = "".join(f"c{i} = {conv}(x{i}, w) e{i} = Erf(c{i}) r{i} = Erf(e{i}) x{i + 1} = {conv}(r{i}, w) " for i in range(3))
    found = cut(f"g ({MAP} x0) => ({MAP} y) <float[8,8,3,3] w> {{ {blocks} y = {conv}(x3, w) }}", FREE)
    assert len(found.partition.pieces) == 7
    first, *others = found.partition.breakers
    assert (first.module, len(first.nodes), first.pieces) == ("stages.*.gate", 6, 1)
    assert operators(first) == "stages.*.gate compatible (6 operators: Erf)"
    assert others == sorted(others, key=lambda b: b.pieces)
    assert all(b.pieces <= 7 for b in others), "none makes it worse"


def test_a_breaker_says_what_share_moves(cut: Cutting) -> None:
    """The small convolution between two refused ones went to the host with them."""
    graph = (
        f"g ({MAP} x) => ({MAP} y) <float[8,8,3,3] v, float[8,8,1,1] w>"
        + """
        { a = Conv<pads = [1,1,1,1]>(x, v)  b = Erf(a)  c = Conv(b, w)  y = Relu(c) }"""
    )
    found = cut(graph, Settings(min_macs=2000, byte_cost=0, launch_cost=0))
    assert found.words() == ["npu: a", "host: b c y"]
    (breaker,) = found.partition.breakers
    assert [n.op_type for n in breaker.nodes] == ["Erf"]
    assert (breaker.pieces, breaker.npu_macs_percent) == (1, 100.0)


def test_what_the_device_could_run_is_the_number_of_check(cut: Cutting) -> None:
    """A small convolution between two operators of the host is not worth handing over: it stays there."""
    graph = f"""g ({MAP} x) => ({MAP} y) <float[8,8,1,1] w> {{ a = Erf(x)  b = Conv(a, w)  y = Erf(b) }}"""
    found = cut(graph, DEFAULT).partition
    assert (found.npu_macs_percent, found.runnable_macs_percent) == (0.0, 100.0)
    assert "Of the 100.0 % of the MACs that the device could run" in headline(found)
    free = cut(graph).partition
    assert (free.npu_macs_percent, free.runnable_macs_percent) == (100.0, 100.0)
    assert "could run" not in headline(free)
