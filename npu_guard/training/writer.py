"""Source of one module: operators of the fixed model become the body of a forward, constants become its parameters and buffers.

What each operator becomes is in `operators/`; the layout of the text is in `layout.py`.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from npu_guard.rewriting import roles
from npu_guard.rewriting.roles import Role
from npu_guard.training.graph import Graph, Op
from npu_guard.training.words import last_name, literal, tail

Array = NDArray[Any]
MOST_PARTS = 4
"""Parts of a split that get a name each."""
NUMPY_NAMES = {"float32": "", "int64": ", dtype=torch.int64", "bool": ", dtype=torch.bool"}
EXPORTERS = re.compile(r"val_\d+")
"""Names that torch's exporter gives to constants of its own, and trips over where the network has them: a tensor that comes from
one has another name."""
ONLY = "only"
"""The function that leaves out of a child what nothing calls."""
FRAMES = "FramesBatchNorm"
"""The class of a norm over frames that lie in the channels."""
OPERATOR = "as_operator"
"""The function around what torch's exporter writes in several operators, or in others."""
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that can have a norm folded into them: their second input is the weight."""
Write = Callable[["Writer", Op], None]
"""Writes one operator into the forward."""


class CannotWrite(Exception):
    """Something that has no source here: the reason, for the reader of the report."""


@dataclass(slots=True, eq=False)
class Child:
    """A call of a module that stays, or of one that is replaced itself, in the place of operators.

    `modules` are paths below the module that is written; two where the exporter has fused them into one operator.
    """

    modules: tuple[str, ...]
    inputs: list[str]
    outputs: list[str]
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class Norm:
    """A BatchNorm behind an operator into which the exporter has folded it: it changes nothing in eval mode."""

    path: str
    name: str
    constructor: str
    state: Mapping[str, Parameter]
    helper: str = ""
    """The class that has to be written for it, where torch has none."""


@dataclass(slots=True)
class Parameter:
    """A tensor of the new module: its elements, what it is for, and whether it is trained."""

    array: Array
    role: Role
    trained: bool


@dataclass(slots=True)
class Written:
    """A class that is written: lines of `__init__` and forward, tensors by name, and children that it keeps."""

    name: str
    doc: str = ""
    arguments: list[str] = field(default_factory=list)
    unpack: list[str] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    body: list[str] = field(default_factory=list)
    result: str = ""
    result_type: str = "Tensor"
    state: dict[str, Parameter] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    called: list[str] = field(default_factory=list)
    """Paths of modules that stay and that the forward calls, below the module."""
    parts: dict[str, list[str]] = field(default_factory=dict)
    """Of children that stay for modules inside of them alone: what is kept, as the rest has weights that nothing calls."""
    constructor: str = ""
    """Where the module is one of torch's own, how it is made; no class is written then."""
    helpers: set[str] = field(default_factory=set)
    norms: list[str] = field(default_factory=list)
    """Paths of norms that the exporter had folded, and that are back."""
    attributes: dict[str, str] = field(default_factory=dict)
    """Attributes of the modules that were made: by the operator's first output, those of norms by the path that they had."""
    ops: int = 0
    emitted: set[str] = field(default_factory=set)
    """First outputs of the operators that became source."""

    def same(self, other: Written) -> bool:
        """Whether both have the same text, names and documentation aside."""
        mine, its = ((w.arguments, w.unpack, w.fields, w.body, w.result, w.kept, w.parts, w.constructor) for w in (self, other))
        return mine == its


class Writer:
    """Writes one module of the fixed graph. `trained` tells whether a weight of the original is one that is trained.

    `own` are parameters that the module itself has, by the name of the initializer: they keep their names.
    """

    def __init__(
        self, graph: Graph, name: str, trained: Callable[[str], bool], own: Mapping[str, str], taken: Sequence[str] = (),
        norm_of: Callable[[Op], Norm | None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.graph, self.written = graph, Written(name)
        self._trained, self._own, self._norm_of = trained, own, norm_of
        self._names: dict[str, str] = {}
        self._used = {"self", "torch", "F", "nn", "old", "Tensor"}
        self._fields = set(taken)
        self._made: dict[tuple[object, ...], str] = {}

    def write(
        self, ops: Sequence[Op], inputs: Mapping[str, str], children: Mapping[Op, Child], writers: Mapping[str, Write]
    ) -> None:
        """The body; `inputs` are names of arguments by value, `writers` functions by operator. Raises CannotWrite."""
        self._names.update(inputs)
        self._used.update(inputs.values())
        called: set[Child] = set()
        for op in ops:
            if (child := children.get(op)) is not None:
                if child not in called:
                    called.add(child)
                    self._call(child)
                continue
            if op.proto.domain not in ("", "ai.onnx") or op.type not in writers:
                raise CannotWrite(f"npu-guard does not write operator {op.type} of {op.place} in PyTorch")
            if any(a.HasField("g") or a.graphs for a in op.proto.attribute):
                raise CannotWrite(f"operator {op.type} of {op.place} has a graph inside")
            try:
                writers[op.type](self, op)
            except CannotWrite as error:
                raise CannotWrite(f"{error}: operator {op.type} of {op.place}") from None
            self._normalize(op)
            self.written.ops += 1
            self.written.emitted.add(op.outputs[0])

    def value(self, name: str, number: bool = True) -> str:
        """The expression for a value; with `number`, a constant of one element that nobody trains is written as a literal."""
        if name in self._names:
            return self._names[name]
        if name not in self.graph.constants:
            raise CannotWrite(f"value {name!r} is not available here")
        array = self.graph.array(name)
        trained = self.is_trained(name)
        if number and array.size == 1 and not trained and name not in self._own:
            return literal(array)
        return self.tensor(name, trained)

    def tensor(self, name: str, trained: bool, hint: str = "") -> str:
        """A parameter or buffer of the module itself."""
        if name in self._names:
            return self._names[name]
        array = self.graph.array(name)
        field_name = self.field(self._own.get(name) or hint or self._name_of(name))
        shape = tuple(array.shape)
        if trained and array.dtype.kind == "f":
            self.written.fields.append(f"self.{field_name} = nn.Parameter(torch.empty({shape}))")
        else:
            kind = NUMPY_NAMES.get(str(array.dtype), f", dtype=torch.{array.dtype}")
            self.written.fields.append(f"self.{field_name}: Tensor")
            self.written.fields.append(f'self.register_buffer("{field_name}", torch.empty({shape}{kind}))')
        self.written.state[field_name] = Parameter(array, self.role(name), trained)
        self._names[name] = f"self.{field_name}"
        return self._names[name]

    def _name_of(self, name: str) -> str:
        """The name of a tensor: that of the weight that it comes from, with the module that it was in."""
        sources = self.role(name).sources
        if len(sources) != 1 or "." not in sources[0]:
            return tail(name)
        return "_".join(part for part in sources[0].split(".")[-2:] if not part.isdigit())

    def role(self, name: str) -> Role:
        """What `fix` says of a constant; one of the original is a weight of its own."""
        return roles.read(self.graph.constants[name]) or Role(roles.TRAINED, (name,))

    def is_trained(self, name: str) -> bool:
        """Whether a constant is computed from something that is trained."""
        role = self.role(name)
        return role.kind == roles.TRAINED and any(self._trained(source) for source in role.sources)

    def module(self, op: Op, hint: str, constructor: str, names: Mapping[str, str | None]) -> str:
        """A module with these constants as its tensors; one alone for calls that share their weights."""
        key = (constructor, *sorted((k, v) for k, v in names.items() if v))
        if key in self._made:
            return self.written.attributes.setdefault(op.outputs[0], self._made[key])
        attribute = self.written.attributes[op.outputs[0]] = self.field(hint)
        masked = [n for n in names.values() if n and self.role(n).structure and self.is_trained(n)]
        if masked and "(" in constructor:
            self.written.helpers.add("Masked" + constructor.split(".")[1].split("(", maxsplit=1)[0])
            constructor = constructor.replace("nn.", "Masked", 1)
        self.written.fields.append(f"self.{attribute} = {constructor}")
        for part, name in names.items():
            if name:
                role = self.role(name)
                self.written.state[f"{attribute}.{part}"] = Parameter(self.graph.array(name), role, self.is_trained(name))
                if name in masked and part == "weight":
                    mask = Parameter(~role.fixed(self.graph.shape(name)), Role(roles.FIXED), False)
                    self.written.state[f"{attribute}.mask"] = mask
        self._made[key] = attribute
        return attribute

    def ints(self, name: str) -> list[int]:
        """A constant as integers. Raises CannotWrite where it is computed."""
        if name not in self.graph.constants:
            raise CannotWrite(f"{name!r} is computed, and has to be a constant")
        return [int(i) for i in self.graph.array(name).reshape(-1)]

    def shape(self, name: str) -> tuple[int, ...]:
        """Extents on the example."""
        return self.graph.shape(name)

    def assign(self, op: Op, hint: str, expression: str, output: int = 0) -> None:
        """A line of the forward: the name of one of the operator's outputs, and what it is."""
        name = self.fresh(hint)
        self._names[op.outputs[output]] = name
        self.written.body.append(f"{name} = {expression}")

    def rename(self, op: Op, expression: str) -> None:
        """Let an output be another name for what is there."""
        self._names[op.outputs[0]] = expression

    def split(self, op: Op, expression: str) -> None:
        """A line that gives all outputs of the operator: a name for each, or one for all of many."""
        if len(op.outputs) > MOST_PARTS:
            name = self.fresh("parts")
            self._names.update((output, f"{name}[{i}]") for i, output in enumerate(op.outputs))
            self.written.body.append(f"{name} = {expression}")
            return
        names = [self.fresh("part") for _ in op.outputs]
        self._names.update(zip(op.outputs, names, strict=True))
        self.written.body.append(f"{', '.join(names)}{',' if len(names) == 1 else ''} = {expression}")

    def hint(self, op: Op, default: str) -> str:
        """A name from the module whose weight the operator has, else from that in whose place it is, where it has one.

        An operator into which a norm was folded is in the place of the norm.
        """
        weight = op.inputs[1] if op.type in WEIGHTED else ""
        sources = self.role(weight).sources if weight in self.graph.constants else ()
        path = sources[0].rpartition(".")[0] if len(sources) == 1 else ""
        return last_name(path or op.scope) or default

    def fresh(self, hint: str) -> str:
        """A local name that is free."""
        name, number = hint, 2
        while name in self._used:
            name, number = f"{hint}{number}", number + 1
        self._used.add(name)
        return name

    def field(self, hint: str) -> str:
        """An attribute's name that is free."""
        base = re.sub(r"\W+", "_", hint).strip("_").lower() or "constant"
        base = f"c_{base}" if base[0].isdigit() or keyword.iskeyword(base) else base
        base = "constant" if EXPORTERS.fullmatch(base) else base
        name, number = base, 2
        while name in self._fields or name in _RESERVED:
            name, number = f"{base}_{number}", number + 1
        self._fields.add(name)
        return name

    def replaced_norm(self, op: Op) -> bool:
        """Write a norm of another kind in the place of a BatchNormalization, where there is one."""
        norm = self._norm_of(op)
        if norm is not None:
            self.assign(op, self.hint(op, "y"), f"self.{self._norm(norm)}({self.value(op.inputs[0], False)})")
        return norm is not None

    def _normalize(self, op: Op) -> None:
        """Put the norm back that the exporter has folded into the operator."""
        norm = None if op.type == "BatchNormalization" else self._norm_of(op)
        if norm is not None:
            name = self._names[op.outputs[0]]
            self.written.body.append(f"{name} = self.{self._norm(norm)}({name})")

    def _norm(self, norm: Norm) -> str:
        attribute = self.written.attributes[norm.path] = self.field(norm.name)
        self.written.fields.append(f"self.{attribute} = {norm.constructor}")
        self.written.norms.append(norm.path)
        self.written.helpers.update([norm.helper] if norm.helper else [])
        self.written.state.update((f"{attribute}.{part}", parameter) for part, parameter in norm.state.items())
        return attribute

    def _call(self, child: Child) -> None:
        given = ", ".join(self.value(name) for name in child.inputs)
        expression = given
        for path in child.modules:
            expression = f"self.{path}({expression})" if path.isidentifier() else f'self.get_submodule("{path}")({expression})'
            self.written.called.append(path)
            top = path.split(".")[0]
            if top not in self.written.kept:
                self.written.kept.append(top)
        word = re.sub(r"\W+", "_", child.modules[-1]).split("_")[-1]
        names = [self.fresh(word if word.isidentifier() and not keyword.iskeyword(word) else "y") for _ in child.outputs]
        self._names.update(zip(child.outputs, names, strict=True))
        self.written.body.append(f"{', '.join(names)} = {expression}{'  # replaced too' if child.replaced else ''}")


_RESERVED = {
    "training", "forward", "children", "modules", "parameters", "buffers", "state_dict", "train", "eval", "to", "type", "mask",
}  # fmt: skip
