"""The lowering to maps, part by part, against numpy: random tensors of odd sizes in random arrangements, on random devices."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from npu_guard.rewriting.maps.algebra import Maps, both, fixed, reduced
from npu_guard.rewriting.maps.factors import Abilities
from npu_guard.rewriting.maps.linear import linear
from npu_guard.rewriting.maps.products import contracted
from npu_guard.rewriting.maps.program import Constant, Program, Tensor
from npu_guard.rewriting.maps.regroup import reshaped
from npu_guard.rewriting.maps.route import by_hand, estimate, route
from npu_guard.rewriting.maps.slices import selected
from npu_guard.rewriting.maps.softmax import softmax
from npu_guard.rewriting.maps.tensors import Laid, Stored, laid
from npu_guard.rewriting.substitution import Array, Refused
from npu_guard.rewriting.views import Atom, Axis, atoms, size

OPSET = 18
AXES = {"ReduceSum": np.sum, "ReduceMean": np.mean, "ReduceMax": np.max, "ReduceMin": np.min}


@dataclass
class Draw:
    """Random tensors, and the numbers in them."""

    seed: int

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.numbers = np.random.default_rng(self.seed)
        self.fed: dict[Tensor, Array] = {}

    def maps(self) -> Maps:
        rng = self.rng
        can = Abilities(
            rng.choice([3, 7, 17]),
            rng.choice([1, 1, 8]),
            rng.random() < 0.8,
            rng.random() < 0.8,
            rng.choice([3, 17]),
            rng.random() < 0.9,
        )
        return Maps(Program(OPSET, rng.random() < 0.2), can, rng.choice([None, ((1,), (2, 3))]), rng.choice([None, 6]))

    def atoms(self, count: int) -> list[Atom]:
        return [Atom(self.rng.choice([2, 3, 4, 5, 7])) for _ in range(count)]

    def arrangement(self, factors: Sequence[Atom]) -> Stored:
        axes: list[list[Atom]] = [[], [], [], []]
        for atom in self.rng.sample(list(factors), len(factors)):
            axes[self.rng.choice([1, 1, 2, 3])].append(atom)
        b, c, h, w = map(tuple, axes)
        return b, c, h, w

    def tensor(self, axes: Sequence[Axis]) -> tuple[Laid, Array]:
        """A tensor in some arrangement, and its elements with an axis for each factor."""
        factors = list(atoms(axes))
        stored = self.arrangement(factors)
        held = Tensor(tuple(map(size, stored)), onnx.TensorProto.FLOAT)
        whole = self.numbers.standard_normal([a.extent for a in factors]).astype(np.float32)
        order = [factors.index(a) for a in atoms(stored)]
        self.fed[held] = whole.transpose(order).reshape(held.shape)
        return Laid(tuple(axes), stored, held), whole


def evaluated(program: Program, x: Laid, fed: Mapping[Tensor, Array]) -> Array:
    """What the program makes of a tensor, by ONNX Runtime, with an axis for each factor of the tensor's axes."""
    assert isinstance(x.name, Tensor)
    names: dict[object, str] = {t: f"x{i}" for i, t in enumerate(fed)}
    graph = onnx.GraphProto(name="g")
    for tensor, array in fed.items():
        graph.input.append(onnx.helper.make_tensor_value_info(names[tensor], onnx.TensorProto.FLOAT, array.shape))
    for line in program.lines:
        given = []
        for operand in line.inputs:
            if isinstance(operand, Constant) and operand not in names:
                names[operand] = f"c{len(names)}"
                array = np.asarray(operand.make(None), operand.dtype).reshape(operand.shape)  # type: ignore[arg-type]
                graph.initializer.append(
                    onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(operand.shape), names[operand])
                )
            given.append("" if operand is None else names[operand])
        names.update({o: f"t{len(names)}_{i}" for i, o in enumerate(line.outputs)})
        graph.node.append(onnx.helper.make_node(line.op_type, given, [names[o] for o in line.outputs], **line.attributes))
    held = fed.get(x.name)
    if held is None:
        graph.output.append(onnx.helper.make_tensor_value_info(names[x.name], onnx.TensorProto.FLOAT, x.name.shape))
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=9)
        onnx.checker.check_model(onnx.shape_inference.infer_shapes(model, strict_mode=True))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        (held,) = session.run(None, {names[t]: a for t, a in fed.items()})
    inside, outside = list(atoms(x.stored)), list(atoms(x.axes))
    missing = [a for a in outside if a not in inside]
    array = held.reshape([a.extent for a in inside] + [1] * len(missing))
    array = np.broadcast_to(array, [a.extent for a in (*inside, *missing)])
    return array.transpose([(inside + missing).index(a) for a in outside])


@pytest.mark.parametrize("sliced", [False, True])
def test_copies_are_split_by_joining_fewer_of_them(sliced: bool) -> None:
    # A product over all pairs of positions joins a map as often as there are positions, and is made in pieces.
    program, x = Program(OPSET, sliced), Tensor((1, 4, 2, 2), onnx.TensorProto.FLOAT)
    whole = program.concat([x] * 6, 1)
    pieces = program.split(whole, 1, [8, 8, 8])
    assert pieces[0] is pieces[1] is pieces[2]
    assert pieces[0].shape == (1, 8, 2, 2)
    assert program.split(whole, 1, [4, 20])[0] is x
    assert [line.op_type for line in program.lines] == ["Concat"] * 3


def test_what_was_joined_is_split_where_a_piece_ends_within_a_part() -> None:
    draw = Draw(0)
    program, x = Program(OPSET), Tensor((1, 4, 2, 2), onnx.TensorProto.FLOAT)
    draw.fed[x] = draw.numbers.standard_normal(x.shape).astype(np.float32)
    _, piece = program.split(program.concat([x, x], 1), 1, [3, 5])
    assert [line.op_type for line in program.lines] == ["Concat", "Split"]
    atom = tuple(map(Atom, (5, 2, 2)))
    found = evaluated(program, Laid(tuple((a,) for a in atom), ((), *((a,) for a in atom)), piece), draw.fed)
    assert np.array_equal(found, np.concatenate([draw.fed[x]] * 2, 1)[0, 3:])


def same(found: Array, wanted: Array) -> None:
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=5e-5, atol=5e-5 * float(np.abs(wanted).max(initial=0)))


@pytest.mark.parametrize("seed", range(40))
def test_any_rearrangement_copies_exactly(seed: int) -> None:
    draw = Draw(seed)
    factors, new = draw.atoms(draw.rng.randint(2, 5)), draw.atoms(draw.rng.choice([0, 0, 1]))
    x, whole = draw.tensor([(a,) for a in factors])
    maps = draw.maps()
    moved = laid(maps.program, x, draw.arrangement([*factors, *new]), maps.can)
    wanted = np.broadcast_to(whole.reshape(*whole.shape, *(1 for _ in new)), (*whole.shape, *(a.extent for a in new)))
    found = evaluated(maps.program, Laid(tuple((a,) for a in (*factors, *new)), moved.stored, moved.name), draw.fed)
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("seed", range(40))
def test_reduction_over_any_factors(seed: int) -> None:
    draw = Draw(seed)
    factors = draw.atoms(draw.rng.randint(1, 4))
    x, whole = draw.tensor([(a,) for a in factors])
    gone = draw.rng.sample(factors, draw.rng.randint(1, len(factors)))
    maps, op_type = draw.maps(), draw.rng.choice(sorted(AXES))
    made = reduced(maps, op_type, x, frozenset(gone))
    same(evaluated(maps.program, made, draw.fed), AXES[op_type](whole, axis=tuple(factors.index(a) for a in gone)))


@pytest.mark.parametrize("seed", range(30))
def test_softmax_over_any_factors(seed: int) -> None:
    draw = Draw(seed)
    factors = draw.atoms(draw.rng.randint(1, 4))
    x, whole = draw.tensor([(a,) for a in factors])
    over = draw.rng.sample(factors, min(2, len(factors)))
    maps = draw.maps()
    axes = tuple(factors.index(a) for a in over)
    powers = np.exp(whole - whole.max(axis=axes, keepdims=True))
    same(evaluated(maps.program, softmax(maps, x, frozenset(over)), draw.fed), powers / powers.sum(axis=axes, keepdims=True))


@pytest.mark.parametrize("seed", range(40))
def test_matrix_on_any_axis(seed: int) -> None:
    draw = Draw(seed)
    factors = draw.atoms(draw.rng.randint(1, 4))
    inner = factors[-draw.rng.randint(1, len(factors)) :]
    outer = factors[: len(factors) - len(inner)]
    apart = outer[: draw.rng.choice([0, 0, 1])]
    x, whole = draw.tensor([*((a,) for a in outer), tuple(inner)])
    maps, outputs = draw.maps(), draw.rng.choice([8, 16, 3])
    weight = draw.numbers.standard_normal((*(a.extent for a in apart), outputs, size(inner))).astype(np.float32)
    bias = draw.numbers.standard_normal(outputs).astype(np.float32)
    try:
        made = linear(maps, x, len(outer), outputs, lambda _: weight, 1, lambda _: bias, tuple(apart))
    except Refused:
        assert not maps.can.grouped or not maps.can.convolved
        return
    rows = whole.reshape(*(a.extent for a in outer), size(inner))
    by = weight.reshape(*weight.shape[: len(apart)], *(1 for _ in outer[len(apart) :]), outputs, size(inner))
    wanted = np.einsum("...k,...ok->...o", rows, by)
    same(evaluated(maps.program, made, draw.fed), wanted + bias)


@pytest.mark.parametrize("seed", range(60))
def test_product_of_two_activations(seed: int) -> None:
    draw = Draw(seed)
    rng = draw.rng
    batch, left, right = (draw.atoms(rng.randint(0, 2)) for _ in range(3))
    summed = draw.atoms(rng.randint(1, 2))
    mine, theirs, result = batch + left + summed, batch + right + summed, batch + left + right
    x, a = draw.tensor([(f,) for f in mine])
    y, b = draw.tensor([(f,) for f in theirs])
    maps = draw.maps()
    made = contracted(maps, x, y, frozenset(summed), tuple((f,) for f in result))
    letter = {f: chr(97 + i) for i, f in enumerate((*result, *summed))}
    equation = f"{''.join(letter[f] for f in mine)},{''.join(letter[f] for f in theirs)}->{''.join(letter[f] for f in result)}"
    same(evaluated(maps.program, made, draw.fed), np.einsum(equation, a, b))


@pytest.mark.parametrize("seed", range(40))
def test_two_tensors_and_constants_broadcast(seed: int) -> None:
    draw = Draw(seed)
    extents = [draw.rng.choice([2, 3, 4, 6]) for _ in range(3)]

    def side() -> tuple[Laid, Array]:
        axes: list[Axis] = []
        for n in extents:
            parts: Axis = (Atom(2), Atom(3)) if n == 6 and draw.rng.random() < 0.5 else (Atom(n),)
            axes.append(parts if draw.rng.random() < 0.7 else ())
        x, whole = draw.tensor(axes)
        return x, whole.reshape([size(a) for a in axes])

    (x, a), (y, b), maps = side(), side(), draw.maps()
    shape = [n if draw.rng.random() < 0.6 else 1 for n in extents]
    constant = draw.numbers.standard_normal(shape).astype(np.float32)
    made, operand = fixed(maps, both(maps, "Sub", x, y), tuple(shape), lambda _: constant, 1)
    total = Laid(made.axes, made.stored, maps.program.two("Add", made.name, operand))
    same(evaluated(maps.program, total, draw.fed), a - b + constant)


@pytest.mark.parametrize("seed", range(40))
def test_reshape_across_factors_and_a_selection(seed: int) -> None:
    draw = Draw(seed)
    extents = draw.rng.choice([(4, 6), (6, 4, 3), (2, 9, 5), (12, 5)])
    shape = draw.rng.choice(
        [s for s in ((3, 8), (8, 3), (9, 8), (12, 6), (5, 18), (15, 6), (4, 15), (10, 6)) if np.prod(s) == np.prod(extents)]
    )
    x, whole = draw.tensor([(Atom(n),) for n in extents])
    maps = draw.maps()
    made, wanted = reshaped(maps, x, shape), whole.reshape(shape)
    axis = draw.rng.randrange(2)
    by = draw.rng.choice([1, 1, 2, 3])
    indices = draw.rng.choice([range(1, shape[axis], by), range(0, shape[axis], by), [0, 0, 2, 1]])
    picked = selected(maps, made, axis, indices)
    same(evaluated(maps.program, picked, draw.fed), wanted.take(list(indices), axis=axis))


def test_the_cheapest_route_is_the_one_that_engineers_write() -> None:
    def kinds(source: Any, target: Any, sizes: tuple[int, ...], can: Abilities) -> list[str]:
        found = route(source, target, sizes, can)
        assert found is not None
        return [f.kind for f in found]

    can = Abilities(17, 8)
    windows = ((), (0,), (1, 2), (3, 4)), ((), (0, 2, 4), (1,), (3,)), (96, 8, 7, 8, 7)
    assert kinds(*windows, can) == ["folded"]
    shuffle = ((), (0, 1, 2), (3,), (4,)), ((), (0,), (3, 1), (4, 2)), (8, 3, 3, 96, 96)
    assert kinds(*shuffle, can) == ["unfolded"]
    assert "unfolded" not in kinds(*shuffle, Abilities(17, 8, transposed=False))
    repeat = ((), (0,), (1,), (2,)), ((), (0, 3), (1,), (2,)), (64, 14, 14, 196)
    assert kinds(*repeat, can) == ["spread"]
    flat = ((), (0,), (1,), (2,)), ((), (0,), (), (1, 2)), (192, 14, 14)
    assert kinds(*flat, can) == ["dealt"]
    assert estimate(*flat, can) < estimate(*windows, can)


def test_there_is_always_a_way() -> None:
    rng = random.Random(1)
    for _ in range(200):
        units = list(range(rng.randint(1, 7)))
        sizes = tuple(rng.choice([2, 3, 5]) for _ in units)

        def place(some: Sequence[int]) -> Any:
            axes: list[list[int]] = [[], [], [], []]
            for unit in rng.sample(list(some), len(some)):
                axes[rng.randrange(4)].append(unit)
            return tuple(map(tuple, axes))

        source, target = place(units[: rng.randint(1, len(units))]), place(units)
        found = by_hand(source, target, sizes)
        assert found is not None
        assert not found or found[-1].after == target


def test_a_product_that_does_not_fit_is_made_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npu_guard.rewriting.maps.products.PIECE_BYTES", 4000)
    for seed in range(12):
        draw = Draw(seed)
        batch, left, right, summed = (draw.atoms(1) for _ in range(4))
        x, a = draw.tensor([(f,) for f in (*batch, *left, *summed)])
        y, b = draw.tensor([(f,) for f in (*batch, *right, *summed)])
        maps = draw.maps()
        made = contracted(maps, x, y, frozenset(summed), tuple((f,) for f in (*batch, *left, *right)))
        same(evaluated(maps.program, made, draw.fed), np.einsum("bik,bjk->bij", a, b))
