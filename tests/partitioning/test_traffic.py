"""What is kept up to date while units move is what counting afresh gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npu_guard.device.partition import Settings
from npu_guard.partitioning.levels import assign
from npu_guard.partitioning.traffic import Traffic
from npu_guard.partitioning.units import EITHER, HOST, NPU, Units

if TYPE_CHECKING:
    from conftest import Cut

    Cutting = Callable[..., Cut]


@st.composite
def graphs(draw: st.DrawFn) -> Units:
    """Each unit makes one value; it reads some of those before it."""
    count = draw(st.integers(1, 9))
    reads = [draw(st.sets(st.integers(0, i - 1), max_size=3)) if i else set() for i in range(count)]
    return Units(
        members=[()] * count,
        sides=draw(st.lists(st.sampled_from([NPU, HOST, EITHER]), min_size=count, max_size=count)),
        blocked=[False] * count,
        macs=draw(st.lists(st.sampled_from([0, 0, 10, 1000]), min_size=count, max_size=count)),
        reads=[tuple(sorted(r)) for r in reads],
        makes=[(i,) for i in range(count)],
        values=[],
        producer=list(range(count)),
        readers=[tuple(r for r in range(count) if v in reads[r]) for v in range(count)],
        bytes=draw(st.lists(st.integers(1, 100), min_size=count, max_size=count)),
        copied=frozenset(),
    )


def crossing(units: Units, levels: list[int]) -> int:
    return sum(
        units.bytes[v] * len({levels[r] for r in units.readers[v]} - {levels[units.producer[v]]}) for v in range(len(levels))
    )


@given(graphs(), st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_gain_is_the_difference_that_the_move_makes(units: Units, data: st.DataObject) -> None:
    levels = [data.draw(st.integers(-1, 4)) for _ in units.sides]
    traffic = Traffic(units, levels)
    for _ in range(3):
        here = data.draw(st.sampled_from(levels))
        part = data.draw(
            st.lists(st.sampled_from([u for u, level in enumerate(levels) if level == here]), min_size=1, unique=True)
        )
        there = data.draw(st.integers(-1, 4).filter(lambda level, here=here: level != here))
        before = crossing(units, levels)
        gain, move = traffic.weigh(part, there)
        move()
        assert crossing(units, levels) == before - gain


@given(graphs(), st.sampled_from([0.0, 0.5, 5.0]), st.sampled_from([0.0, 50.0]), st.sampled_from([0, 500]), st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_levels_never_fall_and_fit_their_sides(units: Units, byte: float, launch: float, least: int, most: int) -> None:
    levels = assign(units, Settings(byte_cost=byte, launch_cost=launch, min_macs=least, max_pieces=most))
    assert all(levels[units.producer[v]] <= levels[r] for v in range(len(levels)) for r in units.readers[v])
    assert all(levels[u] % 2 for u, side in enumerate(units.sides) if side == HOST)
    assert len(set(levels)) <= most


def test_what_makes_one_tensor_of_three_stays_with_who_made_them(cut: Cutting) -> None:
    """A Where at the entry of a convolution, and a Concat with itself at the exit of another."""
    found = cut(
        """g (float[1,8,4,4] x) => (z) <float[8,8,3,3] w, float[1,8,4,4] h> {
        a = Erf(x)  b = Erf(a)  m = Greater(a, h)  k = Where(m, a, b)  n = Conv<pads = [1,1,1,1]>(k, w)
        c = Concat<axis = 1>(n, n)  z = Erf(c) }""",
        Settings(launch_cost=0),
        {"Erf": "refused", "Greater": "refused"},
    )
    assert [w.split(": ")[0] for w in found.words()] == ["host", "npu", "host"]
    assert found.words()[1] == "npu: n"
    assert found.crossings() == {"k": (0, (1,)), "n": (1, (2,))}


def test_it_stays_where_it_costs_less(cut: Cutting) -> None:
    """The pooled tensor is a quarter of what it is made of, so pooling belongs to the side that makes the larger one."""
    graph = """g (float[1,8,4,4] x) => (y) <float[8,8,3,3] w> {
        a = Conv<pads = [1,1,1,1]>(x, w)  p = MaxPool<kernel_shape = [2,2], strides = [2,2]>(a)  y = Erf(p) }"""
    assert cut(graph, Settings(launch_cost=0)).words() == ["npu: a p", "host: y"]


@pytest.mark.parametrize("count", [5_000, 20_000])
def test_linear(count: int) -> None:
    """Counted in steps of Python, which no other process disturbs."""
    import sys

    def steps(n: int) -> int:
        reads = [tuple({i - 1, i // 2} - {i}) if i else () for i in range(n)]
        readers: list[list[int]] = [[] for _ in range(n)]
        for i, taken in enumerate(reads):
            for v in taken:
                readers[v].append(i)
        sides = [HOST if i % 50 == 49 else NPU for i in range(n)]
        units = Units([()] * n, sides, [False] * n, [100] * n, reads, [(i,) for i in range(n)], [], range(n),
                      [tuple(r) for r in readers], [64] * n, frozenset())  # fmt: skip
        calls = 0

        def profile(*_: object) -> None:
            nonlocal calls
            calls += 1

        sys.setprofile(profile)
        try:
            assign(units, Settings(byte_cost=0, launch_cost=0, max_pieces=1_000_000))
        finally:
            sys.setprofile(None)
        return calls

    assert steps(count) < 200 * count
