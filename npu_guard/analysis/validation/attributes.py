"""What a node's attributes must be: of the operator, of its type, each once, with values that some runtime could use."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import onnx
from msgspec import Struct

from npu_guard.base.errors import ModelError
from npu_guard.base.text import short, text
from npu_guard.file import tensors
from npu_guard.graph.graph import Model, Node

_A = onnx.AttributeProto
_OPTION = onnx.defs.OpSchema.FormalParameterOption
MANY = 2**31
_ANY = (-(2**63), 2**63)


class Known:
    """What ONNX's schema says of an operator, asked for once; nothing is known of operators of other domains.

    An operator that is newer than the model's opset, and that runtimes know all the same, is held to its types of attributes
    alone.
    """

    __slots__ = ("attributes", "complete", "inputs", "needed", "outputs", "required", "variadic")

    def __init__(self, schema: onnx.defs.OpSchema | None, newest: onnx.defs.OpSchema | None) -> None:
        self.inputs = (0, MANY) if schema is None else (schema.min_input, schema.max_input)
        self.outputs = MANY if schema is None else max(schema.max_output, 1)
        self.complete = schema is not None
        self.needed = 0
        """How many inputs, from the first, may not be left out."""
        self.variadic = MANY
        """The input from which on there may be any number, none of which may be left out."""
        for index, given in enumerate(() if schema is None else schema.inputs):
            if given.option == _OPTION.Single and self.needed == index:
                self.needed += 1
            if given.option == _OPTION.Variadic:
                self.variadic = index
        declared = schema or newest
        # OpSchema.AttrType and AttributeProto.AttributeType share their numbers.
        self.attributes: Mapping[str, int] = (
            {} if declared is None else {n: int(a.type.value) for n, a in declared.attributes.items()}  # type: ignore[attr-defined]
        )
        self.required = frozenset() if schema is None else frozenset(n for n, a in schema.attributes.items() if a.required)


def missing(node: Node, operator: Known, seen: Collection[str], source: tensors.TensorSource) -> None:
    """Raise ModelError where an attribute that the operator must have is not among those that are there."""
    for name in sorted(operator.required.difference(seen)):
        what = f"node {short(node.label)!r} ({node.op}) has no attribute {name!r}"
        raise ModelError("invalid", f"{source.path}: {what}, which it needs")


class _Place(Struct):
    """An attribute of a node, for messages."""

    node: Node
    name: str
    operator: Known
    source: tensors.TensorSource

    def __call__(self) -> str:
        return f"attribute {short(text(self.name))!r} of node {short(self.node.label)!r} ({self.node.op})"

    def refuse(self, what: str) -> NoReturn:
        """Raise ModelError (`invalid`)."""
        raise ModelError("invalid", f"{self.source.path}: {self()} {what}")


def check(
    model: Model,
    node: Node,
    attributes: Iterable[onnx.AttributeProto],
    operator: Known,
    source: tensors.TensorSource,
) -> None:
    """Raise ModelError (`invalid`) where an attribute is not what its operator asks for."""
    seen: set[str] = set()
    for attribute in attributes:
        name, kind = attribute.name, attribute.type
        place = _Place(node, name, operator, source)
        if name in seen:
            place.refuse("is given twice")
        seen.add(name)
        wanted = operator.attributes.get(name)
        if kind != wanted:
            _refuse_type(place, wanted, model)
        field = _FIELDS.get(kind)
        if field is None:
            place.refuse("has no type")
        value = getattr(attribute, field)
        # Nothing where the type says, or numbers and words that any file may leave out: then it may stand elsewhere.
        if not value or kind in _MESSAGES:
            _stands(place, attribute)
        judge = _JUDGES.get(kind)
        if judge is not None:
            judge(place, value)
    if not operator.required <= seen:
        missing(node, operator, seen, source)


def _refuse_type(place: _Place, wanted: int | None, model: Model) -> None:
    """Raise ModelError for an attribute of another type than the operator has; not where nothing is known of the operator's."""
    if wanted is not None:
        place.refuse(f"has the wrong type; ONNX wants {onnx.AttributeProto.AttributeType.Name(wanted)}")
    if place.operator.complete:
        place.refuse(f"does not exist in opset {model.opsets.get(place.node.domain)}")


def _stands(place: _Place, attribute: onnx.AttributeProto) -> None:
    """Raise ModelError where the value is not in the field that the attribute's type names, or in others besides."""
    wanted = _FIELDS[attribute.type]
    fields = [field.name for field, _ in attribute.ListFields() if field.name not in ("name", "type", "doc_string")]
    if "ref_attr_name" in fields:
        place.refuse("refers to an attribute of a function, and its node is in none")
    if others := [name for name in fields if name != wanted]:
        word = onnx.AttributeProto.AttributeType.Name(attribute.type)
        place.refuse(f"has the type {word} and a value in {others[0]!r}")
    if attribute.type in _MESSAGES and not fields:
        place.refuse("has no value")


def _integer(place: _Place, value: int) -> None:
    name = place.name
    if name in _POSITIVE and not 0 < value <= tensors.MAX_DIM and not (value == 0 and name.endswith("num_heads")):
        place.refuse(f"is {value}; it must be at least 1")
    if name == "axis" and abs(value) > tensors.MAX_RANK:
        place.refuse(f"is {value}, beyond any tensor's rank")
    least, most = _RANGES.get((place.node.op_type, name), _ANY) if place.operator.complete else _ANY
    if not least <= value <= most:
        place.refuse(f"is {value}; it must be {least} {'or' if most == 1 else 'to'} {most}")


def _integers(place: _Place, values: Sequence[int]) -> None:
    if place.name in _WINDOWS and any(not 0 < i <= tensors.MAX_DIM for i in values):
        shown = str(values[:]) if len(values) <= 8 else f"{str(values[:8])[:-1]}, ...]"
        place.refuse(f"is {shown}; every entry must be at least 1")


def _word(place: _Place, value: bytes) -> None:
    node = place.node
    words = words_of(node.op_type, place.name) if place.operator.complete and not node.domain else ()
    word = value.decode("utf-8", "backslashreplace")
    if words and word not in words:
        place.refuse(f"is {short(word)!r}; ONNX knows {', '.join(words)}")


def _tensors(place: _Place, values: Iterable[onnx.TensorProto]) -> None:
    for value in values:
        tensors.tensor(place.source, place, value)


def _sparse_tensors(place: _Place, values: Iterable[onnx.SparseTensorProto]) -> None:
    for value in values:
        tensors.sparse(place.source, place, value)


def _types(place: _Place, values: Iterable[onnx.TypeProto]) -> None:
    for value in values:
        tensors.kind(place.source, place, value)


_JUDGES: Mapping[int, Callable[[_Place, Any], None]] = {
    _A.INT: _integer,
    _A.INTS: _integers,
    _A.STRING: _word,
    _A.TENSOR: lambda place, value: tensors.tensor(place.source, place, value),
    _A.TENSORS: _tensors,
    _A.SPARSE_TENSOR: lambda place, value: tensors.sparse(place.source, place, value),
    _A.SPARSE_TENSORS: _sparse_tensors,
    _A.TYPE_PROTO: lambda place, value: tensors.kind(place.source, place, value),
    _A.TYPE_PROTOS: _types,
}
"""What raises ModelError for a value of a type. Any float may stand; graphs are looked at node by node."""
_FIELDS = {
    _A.INT: "i", _A.FLOAT: "f", _A.STRING: "s", _A.TENSOR: "t", _A.GRAPH: "g", _A.SPARSE_TENSOR: "sparse_tensor",
    _A.TYPE_PROTO: "tp", _A.INTS: "ints", _A.FLOATS: "floats", _A.STRINGS: "strings", _A.TENSORS: "tensors", _A.GRAPHS: "graphs",
    _A.SPARSE_TENSORS: "sparse_tensors", _A.TYPE_PROTOS: "type_protos",
}  # fmt: skip
_MESSAGES = frozenset({_A.TENSOR, _A.GRAPH, _A.SPARSE_TENSOR, _A.TYPE_PROTO})
_POSITIVE = frozenset(
    {"group", "blocksize", "num_heads", "num_groups", "hidden_size", "q_num_heads", "kv_num_heads", "num_outputs", "offset_group"}
)
_WINDOWS = frozenset({"strides", "dilations", "kernel_shape"})
_RANGES = {
    **dict.fromkeys((
        ("Mod", "fmod"), ("NonMaxSuppression", "center_point_box"), ("MaxPool", "storage_order"), ("LSTM", "input_forget"),
        ("GRU", "linear_before_reset"), *((op, "layout") for op in ("LSTM", "GRU", "RNN")),
        *((op, name) for op in ("CumSum", "CumProd") for name in ("exclusive", "reverse")),
    ), (0, 1)),
    ("TreeEnsemble", "post_transform"): (0, 4), ("TreeEnsemble", "aggregate_function"): (0, 3),
    ("LRN", "size"): (1, tensors.MAX_DIM),
}  # fmt: skip
"""Integers that stand for words, no and yes among them, or for a count, and that runtimes refuse where they are anything else."""


_WORDS = (
    ("Conv ConvTranspose ConvInteger QLinearConv MaxPool AveragePool LpPool DeformConv", "auto_pad",
     "NOTSET SAME_UPPER SAME_LOWER VALID"),
    ("DepthToSpace", "mode", "DCR CRD"),
    ("Pad", "mode", "constant reflect edge wrap"),
    ("Resize", "mode", "nearest linear cubic"),
    ("Upsample", "mode", "nearest linear bilinear"),
    ("Resize", "keep_aspect_ratio_policy", "stretch not_larger not_smaller"),
    ("Resize", "nearest_mode", "round_prefer_floor round_prefer_ceil floor ceil simple"),
    ("Resize", "coordinate_transformation_mode",
     "half_pixel half_pixel_symmetric pytorch_half_pixel align_corners asymmetric tf_crop_and_resize tf_half_pixel_for_nn"),
    ("GridSample", "mode", "bilinear linear nearest bicubic cubic"),
    ("GridSample", "padding_mode", "zeros border reflection"),
    ("RoiAlign", "mode", "avg max"),
    ("RoiAlign", "coordinate_transformation_mode", "half_pixel output_half_pixel"),
    ("LSTM GRU RNN", "direction", "forward reverse bidirectional"),
    ("ScatterElements ScatterND", "reduction", "none add mul max min"),
    ("BitShift", "direction", "LEFT RIGHT"),
    ("Gelu", "approximate", "none tanh"),
    ("NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss", "reduction", "none sum mean"),
    ("StringNormalizer", "case_change_action", "LOWER UPPER NONE"),
)  # fmt: skip


@functools.lru_cache(maxsize=1024)
def words_of(op_type: str, attribute: str) -> tuple[str, ...]:
    """Words that may stand in an attribute of an operator of ONNX, sorted; none where any may."""
    known = (words for operators, name, words in _WORDS if name == attribute and op_type in operators.split())
    return tuple(sorted(next(known, "").split()))
