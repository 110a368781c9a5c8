"""Graphs, types, functions and versions that are wrong, odd or too large."""

# ruff: noqa: E501 - a case is a line, so that the tables can be read
from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import helper

from hostile_classes.case import ACCEPT, RELU, Case, block, edited, graph, header, later, model, node, number, text, value

F = 1
BRANCHES = "y = If(c) <then_branch = t () => (float[1,4] a) {{ {} }}, else_branch = e () => (float[1,4] b) {{ b = Abs(x) }}>"
CX = "bool c, float[1,4] x"


def _branches(count: int) -> bytes:
    """So many Ifs, each of which has two graphs."""

    def body(name: bytes) -> bytes:
        return node(b"Relu", [b"x"], [name]) + block(2, b"b") + block(12, value(name, 1, 4))

    def branch(which: bytes, name: bytes) -> bytes:
        return block(5, block(1, which) + block(6, body(name)) + number(20, 5))

    made = (
        node(b"If", [b"c"], [b"y%d" % i], branch(b"then_branch", b"t%d" % i) + branch(b"else_branch", b"e%d" % i))
        for i in range(count)
    )
    condition = block(11, value(b"c", element=9))
    return model(graph(b"".join(made), condition, y=value(b"y0", 1, 4)))


def raw_type(*extents: int, name: bytes = b"x") -> bytes:
    """A model whose input has these extents."""
    return model(graph(RELU, x=value(name, *extents), y=block(1, b"y")))


def typed(kind: bytes) -> bytes:
    """A model with one more input, of a type given by its bytes."""
    return model(graph(RELU, block(11, block(1, b"other") + block(2, kind))))


def nested(kinds: str, leaf: bytes) -> bytes:
    """Types in types: s(equence), o(ptional) or m(ap)."""
    for kind in kinds:
        leaf = {"s": block(4, block(1, leaf)), "o": block(9, block(1, leaf)), "m": block(5, number(1, 7) + block(2, leaf))}[kind]
    return leaf


def functions(bodies: dict[str, list[tuple[str, str, str]]], call: str, domain: str = "own", **head: int) -> bytes:
    """A model that calls a function; bodies are lists of (operator, input, output); of `domain` where the name is a function's."""

    def made(op: str, given: str, out: str) -> onnx.NodeProto:
        return helper.make_node(op, [given], [out], domain=domain if op in bodies else "")

    proto = helper.make_model(
        helper.make_graph([made(call, "x", "y")], "g", [helper.make_tensor_value_info("x", F, [1, 4])], [helper.make_tensor_value_info("y", F, [1, 4])]),
        opset_imports=[helper.make_opsetid("", 20), *([helper.make_opsetid(domain, 1)] if domain else [])], ir_version=10,
        functions=[helper.make_function(domain, name, ["a"], ["b"], [made(*n) for n in nodes], [helper.make_opsetid("", head.get("opset", 20)), *([helper.make_opsetid(domain, 1)] if domain else [])]) for name, nodes in bodies.items()],
    )  # fmt: skip
    return bytes(proto.SerializeToString())


def deep(levels: int, attribute: bytes = b"then_branch") -> bytes:
    """An If in an If in an If."""
    inner = graph(node(b"Relu", [b"x"], [b"o"]), x=b"", y=value(b"o", 1, 4)).replace(block(11, b""), b"")
    for level in range(levels):
        other = node(b"Abs", [b"x"], [b"p%d" % level]) + block(2, b"e") + block(12, value(b"p%d" % level, 1, 4))
        out = b"q%d" % level
        branches = b"".join(
            block(5, block(1, k) + block(6, g) + number(20, 5)) for k, g in ((attribute, inner), (b"else_branch", other))
        )
        inner = node(b"If", [b"c"], [out], branches) + block(2, b"g") + block(12, value(out, 1, 4))
    return model(inner + block(11, value(b"x", 1, 4)) + block(11, value(b"c", element=9)))


def versions(*entries: tuple[str, int], ir: int = 10) -> bytes:
    """A Relu under these operator sets."""

    def change(m: onnx.ModelProto) -> None:
        del m.opset_import[:]
        m.ir_version = ir
        for domain, version in entries:
            m.opset_import.add(domain=domain, version=version)

    return edited(change)


def cases() -> Iterator[Case]:
    """Structure, then versions, types, functions, sizes, ONNX text."""
    for name, what, data, named in (
        ("cycle-two", "two nodes that read each other", text("a = Add(x, b) b = Relu(a) y = Relu(b)"), "cycle"),
        ("cycle-self", "a node that reads itself", text("y = Add(x, y)"), "cycle"),
        ("cycle-long", "a cycle of 200", text(" ".join(f"v{i} = Add(x, v{(i + 1) % 200})" for i in range(200)) + " y = Relu(v0)"), "cycle"),
        ("cycle-through-body", "a cycle through a branch", text("y = If(c) <then_branch = t () => (float[1,4] a) { a = Relu(y) }, else_branch = e () => (float[1,4] b) { b = Abs(x) }>", CX), "y"),
        ("unsorted", "a node before its input is made", text("y = Relu(h) h = Relu(x)"), "order"),
        ("undefined", "an input nobody makes", text("y = Relu(q)"), "q"),
        ("undefined-in-body", "a branch that reads what nobody makes", text(BRANCHES.format("a = Relu(q)"), CX), "q"),
        ("later-in-body", "a branch that reads what is made after it", text(BRANCHES.format("a = Relu(h)") + " h = Relu(x)", CX), "h"),
        ("sibling-in-body", "a branch that reads what another makes", text("y = If(c) <then_branch = t () => (float[1,4] a) { k = Neg(x) a = Relu(k) }, else_branch = e () => (float[1,4] b) { b = Abs(k) }>", CX), "k"),
        ("output-twice", "one value made twice", text("y = Relu(x) y = Abs(x)"), "y"),
        ("output-twice-one-node", "one node that makes one value twice", text("y, y = Split<axis=1, num_outputs=2>(x)"), "y"),
        ("output-is-input", "a node that makes an input", text("x = Relu(x) y = Relu(x)"), "x"),
        ("output-is-weight", "a node that makes a weight", text("w = Relu(x) y = Relu(w)", values="float[1] w = {1}"), "w"),
        ("output-missing", "a graph output nobody makes", text("h = Relu(x)"), "y"),
        ("output-of-body-missing", "a branch output nobody makes", text(BRANCHES.format("q = Relu(x)"), CX), "a"),
        ("input-listed-twice", "one graph input twice", edited(lambda m: m.graph.input.add().CopyFrom(m.graph.input[0])), "x"),
        ("weight-twice", "two weights of one name", edited(lambda m: m.graph.initializer.extend([helper.make_tensor("w", F, [1], [1.0])] * 2)), "w"),
        ("input-no-name", "a graph input without a name", edited(lambda m: m.graph.input.add().type.CopyFrom(m.graph.input[0].type)), "name"),
        ("output-no-name", "a graph output without a name", edited(lambda m: m.graph.output.add().type.CopyFrom(m.graph.input[0].type)), "output"),
        ("weight-no-name", "a weight without a name", edited(lambda m: m.graph.initializer.append(helper.make_tensor("", F, [1], [1.0]))), "name"),
        ("operator-empty", "no operator", edited(lambda m: setattr(m.graph.node[0], "op_type", "")), "operator"),
        ("inputs-none", "a Relu of nothing", edited(lambda m: m.graph.node[0].ClearField("input")), "Relu"),
        ("inputs-empty", "a Relu of an input left out", edited(lambda m: m.graph.node[0].input.__setitem__(0, "")), "Relu"),
        ("inputs-first-empty", "a Conv without its first input", text("y = Conv(, w)", "float[1,3,8,8] x, float[2,3,3,3] w"), "Conv"),
        ("inputs-many", "a Relu of 10,000 inputs", edited(lambda m: m.graph.node[0].input.extend(["x"] * 9_999)), "10000"),
        ("outputs-many", "a Relu of three outputs", edited(lambda m: m.graph.node[0].output.extend(["p", "q"])), "Relu"),
        ("domain-unknown", "a domain that is not imported", edited(lambda m: setattr(m.graph.node[0], "domain", "com.example")), "com.example"),
        ("domain-ml", "ai.onnx.ml without its import", edited(lambda m: m.graph.node.append(helper.make_node("Scaler", ["x"], ["z"], domain="ai.onnx.ml"))), "ai.onnx.ml"),
        ("domain-default-missing", "only another domain imported", versions(("own", 1)), "opset_import"),
        ("nothing", "neither nodes nor outputs", edited(lambda m: m.graph.Clear()), "nodes"),
        ("type-none", "an input without a type", edited(lambda m: m.graph.input[0].ClearField("type")), "x"),
        ("type-no-element", "an input without an element type", edited(lambda m: m.graph.input[0].type.tensor_type.ClearField("elem_type")), "x"),
        ("type-element-999", "an input of element type 999", edited(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 999)), "x"),
        ("type-element-negative", "an input of element type -1", edited(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", -1)), "x"),
        ("extent-negative", "an extent of -2", raw_type(-2, 4), "-2"),
        ("extent-min", "an extent of -2^63", raw_type(-(2**63), 4), "extent"),
        ("extent-32", "an extent of 2^31", raw_type(2**31, 4), "extent"),
        ("extent-62", "an extent of 2^62", raw_type(2**62), "extent"),
        ("extents-wrap", "extents whose product is 2^64", raw_type(*[2**16] * 4), "elements"),
        ("rank-1000", "rank 1,000", raw_type(*[1] * 1000), "rank"),
        ("rank-100000", "rank 100,000", raw_type(*[1] * 100_000), "rank"),
        ("extent-in-sequence", "an extent of 2^62 in a sequence", typed(nested("ss", block(1, number(1, 1) + block(2, block(1, number(1, 2**62)))))), "other"),
        ("extent-in-map", "an extent of -5 in a map", typed(nested("m", block(1, number(1, 1) + block(2, block(1, number(1, -5)))))), "other"),
        ("extent-in-sparse", "an extent of -5 of a sparse tensor", typed(block(8, number(1, 1) + block(2, block(1, number(1, -5))))), "other"),
        ("sequence-of-nothing", "a sequence of nothing", typed(block(4, b"")), "other"),
        ("function-self", "a function that calls itself", functions({"F": [("F", "a", "b")]}, "F"), "itself"),
        ("function-mutual", "functions that call each other", functions({"F": [("G", "a", "b")], "G": [("F", "a", "b")]}, "F"), "itself"),
        ("function-three", "three functions in a ring", functions({"F": [("G", "a", "b")], "G": [("H", "a", "b")], "H": [("F", "a", "b")]}, "F"), "itself"),
        ("function-unused-cycle", "a ring of functions nobody calls", functions({"F": [("Relu", "a", "b")], "G": [("G", "a", "b")]}, "F"), "itself"),
        ("function-twice", "two functions of one name", edited(lambda m: m.functions.extend(list(m.functions)), functions({"F": [("Relu", "a", "b")]}, "F")), "F"),
        ("function-undefined", "a function that reads what nobody makes", functions({"F": [("Relu", "q", "b")]}, "F"), "q"),
        ("function-no-output", "a function that does not make its output", functions({"F": [("Relu", "a", "c")]}, "F"), "b"),
        ("function-arity", "a call with too many inputs", edited(lambda m: m.graph.node[0].input.extend(["x", "x"]), functions({"F": [("Relu", "a", "b")]}, "F")), "F"),
        ("function-bad-body", "a function with a type error", functions({"F": [("Not", "a", "b")]}, "F"), "Not"),
        ("graph-attribute-none", "an If whose branch is no graph", edited(lambda m: m.graph.node.append(onnx.NodeProto(op_type="If", input=["c"], output=["z"], attribute=[onnx.AttributeProto(name="then_branch", type=5), onnx.AttributeProto(name="else_branch", type=5)])), text("y = Relu(x)", CX)), "branch"),
        ("attribute-no-type", "an attribute without a type", edited(lambda m: m.graph.node[0].attribute.add(name="alpha", f=1.0), text("y = Elu(x)")), "alpha"),
        ("attribute-no-name", "an attribute without a name", edited(lambda m: m.graph.node[0].attribute.add(type=1, f=1.0), text("y = Elu(x)")), "attribute"),
        ("attribute-other-field", "a type of INTS and the value in i", edited(lambda m: m.graph.node[0].attribute.add(name="axes", type=7, i=1), text("y = ReduceMean(x)", opset=13)), "axes"),
        ("attribute-other-field-int", "a type of INT and the value in ints", edited(lambda m: m.graph.node[0].attribute.add(name="axis", type=2, ints=[1]), text("y = Softmax(x)")), "axis"),
        ("attribute-reference", "a reference to a function's attribute, outside of one", edited(lambda m: m.graph.node[0].attribute.add(name="axis", type=2, ref_attr_name="q"), text("y = Softmax(x)")), "axis"),
        ("attribute-foreign-no-type", "an attribute without a type at a foreign operator", edited(lambda m: (m.opset_import.add(domain="own", version=1), setattr(m.graph.node[0], "domain", "own"), m.graph.node[0].attribute.add(name="q", i=3))), "q"),
        ("attribute-unknown", "an attribute that the operator has not", edited(lambda m: m.graph.node[0].attribute.add(name="colour", type=2, i=1)), "colour"),
        ("attribute-twice", "an attribute twice", edited(lambda m: m.graph.node[0].attribute.extend([helper.make_attribute("axis", 1)] * 2), text("y = Softmax(x)")), "axis"),
        ("attribute-axis-40", "an axis of 2^40", text("y = Softmax<axis=1099511627776>(x)"), "axis"),
        ("attribute-min", "an axis of -2^63", text("y = Softmax<axis=-9223372036854775808>(x)"), "axis"),
    ):  # fmt: skip
        yield Case(f"graph-{name}", "graph", what, ("invalid", "limit", "not-onnx"), named, data)

    for name, what, data, kinds, named in (
        ("opset-0", "version 0", versions(("", 0)), ("invalid",), "opset"),
        ("opset-negative", "version -1", versions(("", -1)), ("invalid",), "opset"),
        ("opset-999", "version 999", versions(("", 999)), ("unsupported-version",), "999"),
        ("opset-63", "version 2^63 - 1", versions(("", 2**63 - 1)), ("unsupported-version",), "opset"),
        ("opset-min", "version -2^63", versions(("", -(2**63))), ("invalid",), "opset"),
        ("opset-twice", "two versions", versions(("", 20), ("", 9)), ("invalid",), "two versions"),
        ("opset-alias", "two versions under two names", versions(("", 20), ("ai.onnx", 9)), ("invalid",), "two versions"),
        ("opset-none", "no version", versions(), ("invalid",), "opset"),
        ("ml-999", "version 999 of ai.onnx.ml", versions(("", 20), ("ai.onnx.ml", 999)), (ACCEPT, "unsupported-version", "invalid"), ""),
        ("ir-0", "IR version 0", versions(("", 20), ir=0), ("not-onnx",), "ir_version"),
        ("ir-negative", "IR version -1", versions(("", 20), ir=-1), ("not-onnx",), "ir_version"),
        ("ir-999", "IR version 999", versions(("", 20), ir=999), ("unsupported-version",), "999"),
        ("ir-1", "IR version 1 without operator sets", versions(ir=1), (ACCEPT, "invalid"), ""),
        ("many-domains", "50,000 domains", versions(("", 20), *((f"d{i}", 1) for i in range(50_000))), (ACCEPT,), ""),
        ("function-builtin", "a function that shadows Relu", functions({"Relu": [("Abs", "a", "b")]}, "Relu", ""), (ACCEPT, "invalid"), ""),
        ("function-opset", "a function of another opset", functions({"F": [("Relu", "a", "b")]}, "F", opset=13), (ACCEPT, "invalid"), ""),
        ("function-opset-999", "a function of opset 999", functions({"F": [("Relu", "a", "b")]}, "F", opset=999), ("invalid", "unsupported-version"), ""),
        ("function-laughs", "2^40 nodes once expanded", functions({"F0": [("Relu", "a", "b")], **{f"F{i}": [(f"F{i - 1}", "a", "t"), (f"F{i - 1}", "t", "b")] for i in range(1, 41)}}, "F40"), ("limit",), "nodes"),
        ("function-deep", "3,000 functions in a row", functions({**{f"F{i}": [(f"F{i + 1}", "a", "b")] for i in range(3000)}, "F3000": [("Relu", "a", "b")]}, "F0"), ("limit",), "call"),
        ("function-many", "5,000 functions nobody calls", functions({"F": [("Relu", "a", "b")], **{f"U{i}": [("Relu", "a", "b")] for i in range(5000)}}, "F"), (ACCEPT,), ""),
        ("nested-20", "twenty branches in each other", deep(20), (ACCEPT,), ""),
        ("nested-33", "33 branches in each other", deep(33), ("limit", "not-onnx"), ""),
        ("nested-1000", "a thousand branches in each other", deep(1000), ("limit", "not-onnx"), ""),
        ("types-20", "twenty types in each other", typed(nested("so" * 10, block(1, number(1, 1)))), (ACCEPT, "limit"), ""),
        ("types-45", "45 types in each other", typed(nested("s" * 45, block(1, number(1, 1)))), (ACCEPT, "limit", "invalid"), ""),
        ("types-1000", "a thousand types in each other", typed(nested("s" * 1000, block(1, number(1, 1)))), ("limit", "not-onnx"), ""),
        ("extent-both", "an extent with value and name", typed(block(1, number(1, 1) + block(2, block(1, number(1, 4) + block(2, b"n"))))), (ACCEPT,), ""),
        ("extent-0", "an extent of 0", raw_type(0, 4), (ACCEPT,), ""),
        ("extents-large", "extents of a terabyte that is allowed", raw_type(2**20, 2**19), (ACCEPT, "limit"), ""),
        ("output-is-graph-input", "an output that is an input", text("z = Relu(x)", outputs="float[1,4] x"), (ACCEPT, "invalid"), ""),
        ("output-is-graph-weight", "an output that is a weight", text("z = Relu(x)", outputs="float[1] w", values="float[1] w = {1}"), (ACCEPT, "invalid"), ""),
        ("output-twice", "one graph output listed twice", edited(lambda m: m.graph.output.add().CopyFrom(m.graph.output[0])), (ACCEPT, "invalid"), ""),
        ("no-outputs", "nodes and no outputs", edited(lambda m: m.graph.ClearField("output")), (ACCEPT, "invalid"), ""),
        ("no-graph-name", "a graph without a name", edited(lambda m: m.graph.ClearField("name")), (ACCEPT,), ""),
        ("shadow-in-body", "a branch that makes a value of an outer name", text(BRANCHES.format("x = Neg(c2) a = Relu(x)"), f"{CX}, float[1,4] c2"), (ACCEPT, "invalid"), ""),
        ("names-clash", "values whose names differ in separators alone", edited(lambda m: (m.graph.node[0].output.__setitem__(0, "a/b.c"), m.graph.node.append(helper.make_node("Relu", ["x"], ["a.b/c"])), m.graph.node.append(helper.make_node("Add", ["a/b.c", "a.b/c"], ["y"])))), (ACCEPT,), ""),
        ("names-equal", "nodes of one name", edited(lambda m: (setattr(m.graph.node[0], "name", "n"), m.graph.node.append(helper.make_node("Relu", ["y"], ["z"], name="n")))), (ACCEPT,), ""),
        ("annotation-nowhere", "a quantization annotation of nothing", edited(lambda m: m.graph.quantization_annotation.add(tensor_name="nobody").quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="nobody")), (ACCEPT,), ""),
        ("metadata-many", "100,000 metadata entries", edited(lambda m: m.metadata_props.extend(onnx.StringStringEntryProto(key=f"k{i}", value="v") for i in range(100_000))), (ACCEPT,), ""),
        ("metadata-twice", "one metadata key twice", edited(lambda m: m.metadata_props.extend([onnx.StringStringEntryProto(key="k", value="v")] * 2)), (ACCEPT,), ""),
        ("inputs-20000", "20,000 inputs", edited(lambda m: m.graph.input.extend(helper.make_tensor_value_info(f"i{i}", F, [1]) for i in range(20_000))), (ACCEPT,), ""),
        ("attributes-of-foreign-mod", "numbers that ONNX's Mod could not have, at a foreign one", edited(lambda m: (m.opset_import.add(domain="own", version=1), setattr(m.graph.node[0], "domain", "own"), setattr(m.graph.node[0], "op_type", "Mod"), m.graph.node[0].attribute.extend([helper.make_attribute("fmod", 2), helper.make_attribute("size", -1)]))), (ACCEPT,), ""),
        ("attributes-20000", "20,000 attributes at a foreign operator", edited(lambda m: (m.opset_import.add(domain="own", version=1), setattr(m.graph.node[0], "domain", "own"), m.graph.node[0].attribute.extend(helper.make_attribute(f"a{i}", i + 1) for i in range(20_000)))), (ACCEPT,), ""),
        ("extent-open", "an extent of -1, as some exporters write an open one", raw_type(-1, 4), (ACCEPT,), ""),
        ("weights-50000", "50,000 weights nobody reads", edited(lambda m: m.graph.initializer.extend(helper.make_tensor(f"w{i}", F, [1], [1.0]) for i in range(50_000))), (ACCEPT,), ""),
        ("ladder", "60 additions of a value to itself", text(" ".join(f"v{i + 1} = Add({'x' if not i else f'v{i}'}, {'x' if not i else f'v{i}'})" for i in range(60)) + " y = Relu(v60)"), (ACCEPT,), ""),
        ("concat-doubles", "40 doublings of a constant", text(" ".join(f"v{i + 1} = Concat<axis=0>(v{i}, v{i})" for i in range(40)) + " y = Relu(v40)", values="float[4] v0 = {1,2,3,4}"), (ACCEPT, "limit", "timeout"), ""),
        ("range-bomb", "a Range of 2^50 entries", text("c = Range(a, b, d) y = Identity(c)", values="int64 a = {0}, int64 b = {1125899906842624}, int64 d = {1}"), (ACCEPT, "limit", "invalid"), ""),
        ("tile-bomb", "a Tile of 2^60 entries", text("y = Tile(x, r)", values="int64[2] r = {1073741824,1073741824}"), (ACCEPT, "limit", "invalid"), ""),
        ("pads-huge", "pads of 2^40", text("y = Conv<pads=[1099511627776,0,0,0]>(x, w)", "float[1,3,8,8] x, float[2,3,3,3] w"), (ACCEPT, "limit", "invalid"), ""),
        ("loop-endless", "a Loop of 2^62 turns", text("y = Loop(n, c, x) <body = b (int64 i, bool d, float[1,4] v) => (bool e, float[1,4] w) { e = Identity(d) w = Relu(v) }>", CX, values="int64 n = {4611686018427387904}"), (ACCEPT,), ""),
        ("einsum-long", "an equation of 200,000 letters", edited(lambda m: m.graph.node[0].attribute.append(helper.make_attribute("equation", "i" * 200_000 + "->i")), text("y = Einsum(x)")), ("invalid",), "Einsum"),
        ("nan-attribute", "an alpha that is no number", edited(lambda m: m.graph.node[0].attribute.append(helper.make_attribute("alpha", float("nan"))), text("y = Elu(x)")), (ACCEPT,), ""),
        ("inf-attribute", "an epsilon that is infinite", edited(lambda m: m.graph.node[0].attribute.append(helper.make_attribute("epsilon", float("inf"))), text("y = InstanceNormalization(x, s, s)", "float[1,3,8,8] x, float[3] s")), (ACCEPT,), ""),
    ):  # fmt: skip
        yield Case(f"odd-{name}", "odd", what, kinds, named, data)

    for name, what, build, kinds, named in (  # large ones, each made when it is wanted and not before
        ("chain-100000", "100,000 nodes in a row", lambda: model(graph(b"".join(node(b"Relu", [b"x" if not i else b"t%d" % i], [b"y" if i == 99_999 else b"t%d" % (i + 1)]) for i in range(100_000)))), (ACCEPT,), ""),
        ("fan-50000", "one node that reads 50,000", lambda: model(graph(b"".join(node(b"Relu", [b"x"], [b"t%d" % i]) for i in range(50_000)) + node(b"Sum", [b"t%d" % i for i in range(50_000)], [b"y"]))), (ACCEPT,), ""),
        ("nodes-1200000", "1.2 million nodes", lambda: model(graph(node(b"Relu", [b"x"], [b"t"]) * 1_200_000)), ("limit",), "nodes"),
        ("inputs-500000", "half a million inputs", lambda: model(graph(RELU, b"".join(block(11, value(b"i%d" % i, 1)) for i in range(500_000)))), ("limit",), "values"),
        ("weights-400000", "400,000 weights", lambda: model(graph(RELU, block(5, number(1, 1) + number(2, 1) + block(8, b"w") + block(9, bytes(4))) * 400_000)), ("limit",), "tensors"),
        ("branches-10002", "5,001 Ifs", lambda: _branches(5_001), ("limit",), "graphs"),
        ("attributes-1000000", "10,000 nodes of 100 attributes", lambda: model(graph(node(b"Op", [b"x"], [b"t"], block(7, b"own") + b"".join(block(5, block(1, b"a%d" % i) + number(3, 1) + number(20, 2)) for i in range(100))) * 10_000), block(8, block(1, b"own") + number(2, 1))), ("limit",), "attributes"),
        ("name-2000000", "a name of two million letters", lambda: model(graph(node(b"Relu", [b"x"], [b"y"], block(3, b"n" * 2_000_000)))), ("limit",), "name"),
        ("sequences-50000", "50,000 sequences that no one reads", lambda: model(graph(b"".join(node(b"SequenceConstruct", [b"x"], [b"q%d" % i]) for i in range(50_000)) + RELU)), (ACCEPT,), ""),
        ("names-700-each", "80,000 nodes with names of 700 letters", lambda: model(graph(b"".join(node(b"Relu", [b"x" if not i else b"t%d" % i], [b"y" if i == 79_999 else b"t%d" % (i + 1)], block(3, b"n%d" % i + b"n" * 700)) for i in range(80_000)))), (ACCEPT,), ""),
        ("values-350-each", "80,000 values with names of 350 letters", lambda: model(graph(b"".join(node(b"Relu", [b"x" if not i else b"t%d" % i + b"v" * 350], [b"y" if i == 79_999 else b"t%d" % (i + 1) + b"v" * 350]) for i in range(80_000)))), (ACCEPT,), ""),
        ("doc-60000000", "a doc_string of 60 million letters", lambda: edited(lambda m: setattr(m, "doc_string", "d" * 60_000_000)), (ACCEPT,), ""),
        ("metadata-60", "60 entries of metadata of a million letters", lambda: edited(lambda m: [m.metadata_props.add(key=f"k{i}", value="v" * 1_000_000) for i in range(60)]), (ACCEPT,), ""),
        ("integers-20000000", "a list of 20 million integers", lambda: model(graph(node(b"Op", [b"x"], [b"y"], block(7, b"own") + block(5, block(1, b"a") + block(8, bytes(20_000_000)) + number(20, 7)))), block(8, block(1, b"own") + number(2, 1))), ("limit",), "lists"),
        ("unsorted-50000", "50,000 nodes from last to first", lambda: model(graph(b"".join(node(b"Relu", [b"x" if not i else b"t%d" % i], [b"y" if i == 49_999 else b"t%d" % (i + 1)]) for i in reversed(range(50_000))))), ("invalid",), "order"),
    ):  # fmt: skip
        yield Case(f"odd-{name}", "odd", what, kinds, named, later(build), alone=True)

    plain = f"{header()} g (float[1,4] x) => (float[1,4] y) {{ y = Relu(x) }}"
    for name, what, source, kinds in (
        ("good", "a model as ONNX text", plain, (ACCEPT,)),
        ("space", "space before and after", f"\n\n  {plain}\n\n", (ACCEPT,)),
        ("cut", "text that ends early", plain[:60], ("not-onnx",)),
        ("nested", "100,000 opening brackets", f"{header()} g (float[1,4] x) => (float[1,4] y) {{ y = Relu" + "(" * 100_000, ("not-onnx", "crashed")),
        ("deep", "500 branches in each other", f"{header()} g (bool c, float[1,4] x) => (float[1,4] y) {{ " + "y = If(c) <then_branch = t () => (float[1,4] y) { " * 500, ("not-onnx", "crashed", "limit")),
        ("number", "a number of 10,000 digits", plain.replace("4", "9" * 10_000, 1), ("not-onnx", "invalid", "crashed")),
        ("string", "a string that does not end", plain.replace("Relu(x)", 'Relu<a = "x>(x)'), ("not-onnx",)),
        ("extents", "extents beyond 64 bits", plain.replace("[1,4]", f"[{2**70},4]"), ("not-onnx", "invalid", "crashed")),
        ("nul", "a NUL byte", plain.replace("Relu", "Re\0lu"), ("not-onnx", "invalid", ACCEPT)),
        ("escape", "an escape sequence", plain.replace("Relu", "Re\x1b[31mlu"), ("not-onnx",)),
        ("weights", "a weight of too few numbers", plain.replace("{ y", "<float[9] w = {1}> { y"), ("invalid", "not-onnx")),
    ):  # fmt: skip
        yield Case(f"onnxtxt-{name}", "text", what, kinds, "", source.encode(), alone=len(source) > 50_000)
    yield Case("onnxtxt-latin", "text", "text that is no UTF-8", ("not-onnx",), "", plain.encode().replace(b"Relu", b"Re\xe9lu"))
