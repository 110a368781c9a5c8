"""Names and other text that would move a cursor, forge a line or a tag, or fill a screen: in every place that holds text."""

# ruff: noqa: E501 - a case is a line, so that the tables can be read
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from hostile_classes.case import ACCEPT, Case, block, edited, graph, model, node, text, value

TEXTS: dict[str, str] = {
    "escape": "\x1b[2J\x1b[31mred\x1b]0;title\x07", "c1": "\x9b31mred\x85next\x90dcs\x9c", "return": "fine\rnpu-guard: 0 findings", "newline": "fine\nmodel.onnx: no findings\n",
    "bidi": "\u202egnp.exe\u2066x\u2069", "invisible": "a\u200bb\u2060c\ufeffd\u00ade", "separators": "a\u2028b\u2029c\x0bd\x0ce", "tags": "a\U000e0041\U000e007fb",
    "github": "x\n::error file=x::forged\n::add-mask::x", "github-start": "::set-output name=x::y", "azure": "##vso[task.complete result=Failed;]", "teamcity": "##teamcity[buildStatus text='ok']",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>", "attribute": '" onmouseover="alert(1)" x="', "script-end": "</script><script>alert(1)//", "comment": "<!--<script>", "entity": "&lt;b&gt;&#60;",
    "cdata": "]]><x>&amp;", "markdown": "[click](javascript:alert(1)) ![x](http://127.0.0.1/x) `code` |a|b| **b** @team #1", "markdown-line": "\n# heading\n\n| a |\n|---|\n", "fence": "```\n~~~\n",
    "format": "%s%n%x {0} {x.__class__} ${HOME} $(id) `id`", "json": '"}],"verdict":"pass","x":[{"', "yaml": "!!python/object/apply:os.system ['id']", "csv": "=cmd|' /C calc'!A0", "path": "../../../etc/passwd",
    "url": "file:///etc/passwd?x=1#y", "nul": "a\0b", "quote": "'\"\\`", "surrogate-pair": "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), "long": "n" * 100_000,
    "combining": "e" + "\u0301" * 500, "private": "\ue000\uf8ff\U0010ffff", "regex": "(a+)+$", "template": "{{7*7}}{% raw %}{{ x }}",
}  # fmt: skip
BYTES: dict[str, bytes] = {
    "ff": b"\xff\xfe\xc3\x28", "overlong": b"\xc0\xaf\xc0\x80", "surrogate": b"\xed\xa0\x80\xed\xbf\xbf", "cut": b"name\xe2\x82", "beyond": b"\xf4\x90\x80\x80", "latin": b"caf\xe9\x1b[31m",
}  # fmt: skip


def everywhere(name: str) -> onnx.ModelProto:
    """A model that has a text wherever the format allows one."""
    proto = onnx.ModelProto()
    proto.ParseFromString(
        text(
            "h = Relu(x) z = Conv<kernel_shape = [19, 1]>(i, w) y = Neg(h)", "float[1,4] x, float[1,8,20,20] i, float[8,8,19,1] w"
        )
    )
    renamed = {o: f"{o}{name}" for o in ("x", "h", "y", "z", "i", "w")}
    g = proto.graph
    for n in g.node:
        n.input[:] = [renamed[v] for v in n.input]
        n.output[:] = [renamed[v] for v in n.output]
        n.name, n.doc_string = f"node {n.op_type}{name}", name
        for key in ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.name_scopes", "namespace", name):
            n.metadata_props.add(key=key, value=name)
        for a in n.attribute:
            a.doc_string = name
    for v in (*g.input, *g.output):
        v.name = renamed[v.name]
        v.doc_string = name
        v.type.denotation = name
        v.metadata_props.add(key=name, value=name)
        for d in v.type.tensor_type.shape.dim:
            d.denotation = name
    g.input[0].type.tensor_type.shape.dim[1].dim_param = f"n{name}"
    g.name, g.doc_string = name, name
    g.initializer.append(helper.make_tensor(f"weight{name}", TensorProto.FLOAT, [1], [1.0]))
    g.initializer[0].doc_string = name
    g.initializer.append(helper.make_tensor(f"words{name}", TensorProto.STRING, [1], [name.encode("utf-8", "surrogatepass")]))
    g.node.append(helper.make_node(f"Op{name}", [renamed["x"]], [f"o{name}"], domain=f"dom{name}", a=name))
    g.node[-1].attribute[0].name = f"attr{name}"
    g.quantization_annotation.add(tensor_name=name).quant_parameter_tensor_names.add(key=name, value=name)
    g.metadata_props.add(key=name, value=name)
    proto.metadata_props.add(key=name, value=name)
    proto.producer_name = proto.producer_version = proto.domain = proto.doc_string = name
    proto.opset_import.add(domain=f"dom{name}", version=1)
    proto.functions.append(
        helper.make_function(
            f"fd{name}", f"F{name}", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 20)]
        )
    )
    proto.functions[0].doc_string = proto.functions[0].overload = name
    return proto


def _called(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / f"{name}.onnx"
        path.write_bytes(text("y = Conv<kernel_shape = [19, 1]>(i, w)", "float[1,8,20,20] i, float[8,8,19,1] w"))
        return path

    return make


def cases() -> Iterator[Case]:
    """A model full of each text, and refusals whose message has to quote it."""
    for name, what in TEXTS.items():
        yield Case(
            f"text-{name}",
            "string",
            f"everywhere: {what[:40]!r}",
            (ACCEPT,),
            "",
            everywhere(what).SerializeToString(),
            alone=len(what) > 10_000,
        )
        missing = edited(lambda m, w=what: m.graph.node.append(helper.make_node("Relu", [f"q{w}"], [f"r{w}"], name=w)))  # type: ignore[misc]
        yield Case(f"quoted-{name}", "string", f"a missing value called {what[:40]!r}", ("invalid",), "produces", missing)
        unknown = edited(lambda m, w=what: m.graph.node[0].attribute.add(name=f"a{w}", type=2, i=1))  # type: ignore[misc]
        yield Case(
            f"quoted-attribute-{name}", "string", f"an unknown attribute called {what[:40]!r}", ("invalid",), "attribute", unknown
        )
        domain = edited(
            lambda m, w=what: m.opset_import.extend([helper.make_opsetid(f"d{w}", 1), helper.make_opsetid(f"d{w}", 2)])
        )  # type: ignore[misc]
        yield Case(
            f"quoted-domain-{name}",
            "string",
            f"two versions of a domain called {what[:40]!r}",
            ("invalid",),
            "two versions",
            domain,
        )
        nowhere = edited(lambda m, w=what: m.graph.node.append(helper.make_node("Op", ["x"], ["z"], name=w, domain=f"d{w}")))  # type: ignore[misc]
        yield Case(
            f"quoted-no-domain-{name}",
            "string",
            f"a domain {what[:40]!r} that is not imported",
            ("invalid",),
            "opset_import",
            nowhere,
        )
        types = text("h = Sigmoid(i) y = Relu(x)", "float[1,4] x, int64[2] i")
        wrong = edited(lambda m, w=what: setattr(m.graph.node[0], "name", w), types)  # type: ignore[misc]
        yield Case(
            f"quoted-type-{name}", "string", f"a type error at a node called {what[:40]!r}", ("invalid",), "Sigmoid", wrong
        )

        def recursive(m: onnx.ModelProto, w: str = what) -> None:
            m.opset_import.add(domain="own", version=1)
            call = helper.make_node(f"F{w}", ["a"], ["b"], domain="own")
            m.functions.append(helper.make_function("own", f"F{w}", ["a"], ["b"], [call], [helper.make_opsetid("own", 1)]))
            m.graph.node.append(helper.make_node(f"F{w}", ["x"], ["z"], domain="own"))

        yield Case(
            f"quoted-function-{name}",
            "string",
            f"a recursive function called {what[:40]!r}",
            ("invalid",),
            "calls itself",
            edited(recursive),
        )
        if "/" not in what and "\0" not in what and len(what) < 200:
            yield Case(f"path-{name}", "string", f"a file called {what[:40]!r}", (ACCEPT,), "", _called(what))
    forged = text("h = Sigmoid(i) y = Relu(x)", "float[1,4] x, int64[2] i")
    for name, label in (
        ("external", "Cannot parse data from external tensors. Please load"),
        ("function", "): (op_type:LayerNormalization): (op_type:Relu"),
        ("function-newline", "a\n(op_type:LayerNormalization): (op_type:Relu): b"),
        ("sparse", "type: sparse_tensor(float)"),
        ("null", "expected to have type but instead is null"),
    ):
        data = edited(lambda m, w=label: setattr(m.graph.node[0], "name", w), forged)  # type: ignore[misc]
        yield Case(
            f"excuse-{name}",
            "string",
            "a type error at a node whose name is a part of a message of ONNX",
            ("invalid",),
            "Sigmoid",
            data,
        )
    for name, raw in BYTES.items():
        x, y = value(raw, 1, 4), value(b"y", 1, 4)
        places = {
            "node": model(graph(node(b"Relu", [b"x"], [b"y"], block(3, raw)))),
            "value": model(graph(node(b"Relu", [raw], [b"y"]), x=x, y=y)),
            "operator": model(graph(node(raw, [b"x"], [b"y"]))),
            "domain": model(graph(node(b"Op", [b"x"], [b"y"], block(7, raw))), block(8, block(1, raw) + b"\x10\x01")),
            "domain-missing": model(graph(node(b"Op", [b"x"], [b"y"], block(7, raw)))),
            "graph": model(graph(node(b"Relu", [b"x"], [b"y"]), name=raw)),
            "doc": model(graph(node(b"Relu", [b"x"], [b"y"])), block(6, raw)),
            "producer": model(graph(node(b"Relu", [b"x"], [b"y"])), block(2, raw)),
            "metadata": model(graph(node(b"Relu", [b"x"], [b"y"])), block(14, block(1, raw) + block(2, raw))),
            "attribute": model(graph(node(b"Op", [b"x"], [b"y"], block(7, b"own") + block(5, block(1, raw) + b"\x18\x01\xa0\x01\x02"))), block(8, block(1, b"own") + b"\x10\x01")),
            "attribute-unknown": model(graph(node(b"Relu", [b"x"], [b"y"], block(5, block(1, raw) + b"\x18\x01\xa0\x01\x02")))),
            "word": model(graph(node(b"Op", [b"x"], [b"y"], block(7, b"own") + block(5, block(1, b"a") + block(4, raw) + b"\xa0\x01\x03"))), block(8, block(1, b"own") + b"\x10\x01")),
            "auto-pad": model(graph(node(b"MaxPool", [b"x"], [b"y"], block(5, block(1, b"auto_pad") + block(4, raw) + b"\xa0\x01\x03")))),
            "weight": model(graph(node(b"Relu", [b"x"], [b"y"]), block(5, b"\x08\x01\x10\x01" + block(8, raw) + block(9, bytes(4))))),
            "weight-broken": model(graph(node(b"Relu", [b"x"], [b"y"]), block(5, b"\x08\x02\x10\x01" + block(8, raw) + block(9, bytes(4))))),
            "extent": model(graph(node(b"Relu", [b"x"], [b"y"]), x=block(1, b"x") + block(2, block(1, b"\x08\x01" + block(2, block(1, block(2, raw))))))),
            "missing": model(graph(node(b"Relu", [raw], [b"y"]))),
            "output": model(graph(node(b"Relu", [b"x"], [b"y"]), y=value(raw, 1, 4))),
            "twice": model(graph(node(b"Relu", [b"x"], [raw]) * 2 + node(b"Relu", [b"x"], [b"y"]))),
            "location": model(graph(node(b"Relu", [b"x"], [b"y"]), block(5, b"\x08\x01\x10\x01" + block(8, b"w") + block(13, block(1, b"location") + block(2, raw)) + b"\x70\x01"))),
            "function": model(graph(node(raw, [b"x"], [b"y"], block(7, b"own"))), block(8, block(1, b"own") + b"\x10\x01") + block(25, block(1, raw) + block(4, b"a") + block(5, b"b") + block(7, block(1, b"a") + block(2, b"b") + block(4, raw) + block(7, b"own")) + block(10, b"own"))),
        }  # fmt: skip
        for place, data in places.items():
            yield Case(
                f"bytes-{name}-{place}", "string", f"no UTF-8 in: {place}", (ACCEPT, "invalid", "missing", "not-onnx"), "", data
            )
