"""What a node's attributes must be: of the operator, of its type, each once, with values that some runtime could use."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import onnx

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


def check(
    model: Model,
    node: Node,
    attributes: Iterable[onnx.AttributeProto],
    operator: Known,
    source: tensors.TensorSource,
) -> None:
    """Raise ModelError (`invalid`) where an attribute is not what its operator asks for."""
    path = source.path
    seen: set[str] = set()
    for attribute in attributes:
        name, kind = attribute.name, attribute.type

        def where(name: str = name) -> str:
            return f"attribute {short(text(name))!r} of node {short(node.label)!r} ({node.op})"

        if name in seen:
            raise ModelError("invalid", f"{path}: {where()} is given twice")
        seen.add(name)
        wanted = operator.attributes.get(name)
        if wanted is None:
            if operator.complete:
                raise ModelError("invalid", f"{path}: {where()} does not exist in opset {model.opsets.get(node.domain)}")
        elif kind != wanted:
            word = onnx.AttributeProto.AttributeType.Name(wanted)
            raise ModelError("invalid", f"{path}: {where()} has the wrong type; ONNX wants {word}")
        if kind not in _FIELDS:
            raise ModelError("invalid", f"{path}: {where()} has no type")
        value = getattr(attribute, _FIELDS[kind])
        # Nothing where the type says, or numbers and words that any file may leave out: then it may stand elsewhere.
        if not value or kind in _MESSAGES:
            _stands(path, where, attribute)
        if kind == _A.INT:
            if name in _POSITIVE and not 0 < value <= tensors.MAX_DIM and not (value == 0 and name.endswith("num_heads")):
                raise ModelError("invalid", f"{path}: {where()} is {value}; it must be at least 1")
            if name == "axis" and abs(value) > tensors.MAX_RANK:
                raise ModelError("invalid", f"{path}: {where()} is {value}, beyond any tensor's rank")
            least, most = _RANGES.get((node.op_type, name), _ANY) if operator.complete else _ANY
            if not least <= value <= most:
                raise ModelError(
                    "invalid", f"{path}: {where()} is {value}; it must be {least} {'or' if most == 1 else 'to'} {most}"
                )
        elif kind == _A.INTS:
            if name in ("strides", "dilations", "kernel_shape") and any(not 0 < i <= tensors.MAX_DIM for i in value):
                raise ModelError("invalid", f"{path}: {where()} is {_listed(value)}; every entry must be at least 1")
        elif kind == _A.STRING:
            words = WORDS.get((node.op_type, name)) if operator.complete and not node.domain else None
            if words is not None and value not in words:
                known = ", ".join(sorted(word.decode() for word in words))
                raise ModelError("invalid", f"{path}: {where()} is {short(_word(value))!r}; ONNX knows {known}")
        elif kind == _A.TENSOR:
            tensors.tensor(source, where, value)
        elif kind == _A.TENSORS:
            for tensor in value:
                tensors.tensor(source, where, tensor)
        elif kind == _A.SPARSE_TENSOR:
            tensors.sparse(source, where, value)
        elif kind == _A.SPARSE_TENSORS:
            for sparse in value:
                tensors.sparse(source, where, sparse)
        elif kind == _A.TYPE_PROTO:
            tensors.kind(source, where, value)
        elif kind == _A.TYPE_PROTOS:
            for entry in value:
                tensors.kind(source, where, entry)
    if not operator.required <= seen:
        missing(node, operator, seen, source)


def _stands(path: str, where: Callable[[], str], attribute: onnx.AttributeProto) -> None:
    """Raise ModelError where the value is not in the field that the attribute's type names, or in others besides."""
    wanted = _FIELDS[attribute.type]
    found = [field.name for field, _ in attribute.ListFields() if field.name not in ("name", "type", "doc_string")]
    if "ref_attr_name" in found:
        raise ModelError("invalid", f"{path}: {where()} refers to an attribute of a function, and its node is in none")
    if others := [name for name in found if name != wanted]:
        word = onnx.AttributeProto.AttributeType.Name(attribute.type)
        raise ModelError("invalid", f"{path}: {where()} has the type {word} and a value in {others[0]!r}")
    if attribute.type in _MESSAGES and not found:
        raise ModelError("invalid", f"{path}: {where()} has no value")


def _listed(values: Sequence[int]) -> str:
    return str(values[:]) if len(values) <= 8 else f"{str(values[:8])[:-1]}, ...]"


def _word(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


_FIELDS = {
    _A.INT: "i", _A.FLOAT: "f", _A.STRING: "s", _A.TENSOR: "t", _A.GRAPH: "g", _A.SPARSE_TENSOR: "sparse_tensor",
    _A.TYPE_PROTO: "tp", _A.INTS: "ints", _A.FLOATS: "floats", _A.STRINGS: "strings", _A.TENSORS: "tensors", _A.GRAPHS: "graphs",
    _A.SPARSE_TENSORS: "sparse_tensors", _A.TYPE_PROTOS: "type_protos",
}  # fmt: skip
_MESSAGES = frozenset({_A.TENSOR, _A.GRAPH, _A.SPARSE_TENSOR, _A.TYPE_PROTO})
_POSITIVE = frozenset(
    {"group", "blocksize", "num_heads", "num_groups", "hidden_size", "q_num_heads", "kv_num_heads", "num_outputs", "offset_group"}
)


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


def _words(operators: str, name: str, words: str) -> dict[tuple[str, str], frozenset[bytes]]:
    return {(op, name): frozenset(word.encode() for word in words.split()) for op in operators.split()}


WORDS: Mapping[tuple[str, str], frozenset[bytes]] = {
    **_words(
        "Conv ConvTranspose ConvInteger QLinearConv MaxPool AveragePool LpPool DeformConv", "auto_pad",
        "NOTSET SAME_UPPER SAME_LOWER VALID",
    ),
    **_words("DepthToSpace", "mode", "DCR CRD"),
    **_words("Pad", "mode", "constant reflect edge wrap"),
    **_words("Resize", "mode", "nearest linear cubic"),
    **_words("Upsample", "mode", "nearest linear bilinear"),
    **_words("Resize", "keep_aspect_ratio_policy", "stretch not_larger not_smaller"),
    **_words("Resize", "nearest_mode", "round_prefer_floor round_prefer_ceil floor ceil simple"),
    **_words(
        "Resize", "coordinate_transformation_mode",
        "half_pixel half_pixel_symmetric pytorch_half_pixel align_corners asymmetric tf_crop_and_resize"
        " tf_half_pixel_for_nn",
    ),
    **_words("GridSample", "mode", "bilinear linear nearest bicubic cubic"),
    **_words("GridSample", "padding_mode", "zeros border reflection"),
    **_words("RoiAlign", "mode", "avg max"),
    **_words("RoiAlign", "coordinate_transformation_mode", "half_pixel output_half_pixel"),
    **_words("LSTM GRU RNN", "direction", "forward reverse bidirectional"),
    **_words("ScatterElements ScatterND", "reduction", "none add mul max min"),
    **_words("BitShift", "direction", "LEFT RIGHT"),
    **_words("Gelu", "approximate", "none tanh"),
    **_words("NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss", "reduction", "none sum mean"),
    **_words("StringNormalizer", "case_change_action", "LOWER UPPER NONE"),
}  # fmt: skip
"""What may stand in an attribute that chooses among a few words."""
