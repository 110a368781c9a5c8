"""What leads to no output through the bodies of If, Loop and Scan is left out, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from npu_guard.analysis.analyze import analyze
from npu_guard.file.load import load

X = "float[1,8,6,5]"
IF = """y, w = If(c) <then_branch = t () => ({X} ty, {X} t2) {{ ty = Relu(x)  t2 = Neg({a}) }},
                      else_branch = e () => ({X} ey, {X} e2) {{ ey = Tanh(x)  e2 = Neg({a}) }}>"""
LOOP = """y, z = Loop(n, k, x, {u}) <body = b (int64 i, bool ci, {X} v, {X} u) => (bool co, {X} vo, {X} uo)
    {{ co = {condition}  vo = Relu({reads})  uo = Erf(u) }}>"""
SCANNED = """y, s = Loop(n, k, x) <body = b (int64 i, bool ci, {X} v) => (bool co, {X} vo, {X} sc)
    {{ co = Identity(ci)  vo = Relu(v)  sc = Erf(v) }}>"""
SCAN = """y, z = Scan<num_scan_inputs = 1, body = b ({s}float[8] v) => ({t}float[8] zo) {{ {made}zo = Erf(v) }}>({given})"""


def loop(u: str = "x", condition: str = "Identity(ci)", reads: str = "v") -> str:
    return LOOP.format(X=X, u=u, condition=condition, reads=reads)


CASES = {
    "an output of branches": (IF.format(X=X, a="x"), "y", {"t2", "e2"}),
    "one that is an output of the model": (IF.format(X=X, a="x"), "y, w", set()),
    "one that an operator reads": (IF.format(X=X, a="x") + "  v = Relu(w)", "y, v", set()),
    "one that only a dead operator reads": (IF.format(X=X, a="x") + "  v = Relu(w)", "y", {"t2", "e2", "v"}),
    "what only such branches read": ("q = Erf(x)  " + IF.format(X=X, a="q"), "y", {"q", "t2", "e2"}),
    "a state that only feeds itself": (loop(), "y", {"uo"}),
    "what such a state begins with": ("q = Erf(x)  " + loop("q"), "y", {"q", "uo"}),
    "a state that another one reads": ("q = Erf(x)  " + loop("q", reads="u"), "y", set()),
    "a state that the condition reads": (
        loop(condition="Cast<to = 9>(m)").replace("co =", "m = ReduceMax<keepdims = 0>(u)  co ="), "y", set()),
    "a state that is an output": (loop(), "y, z", set()),
    "an output that is scanned": (SCANNED.format(X=X), "y", {"sc"}),
    "one that is read": (SCANNED.format(X=X), "y, s", set()),
    "an output of Scan": (
        SCAN.format(s="", t="float[8] vo, ", made="vo = Relu(v)  ", given="r"), "y", {"zo"}),
    "a state of Scan": (
        SCAN.format(s="float[8] a, ", t="float[8] b, ", made="b = Add(a, a)  ", given="q, r").replace("y, z", "z, y"), "y",
        {"b", "q"}),
    "a state of Scan that is read": (
        SCAN.format(s="float[8] a, ", t="float[8] b, ", made="b = Add(a, v)  ", given="q, r"), "y", {"zo"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_leads_nowhere_through_a_body(name: str, save: Callable[..., Path]) -> None:
    body, outputs, dead = CASES[name]
    before = "q = Erf(g)  " if "(q, r)" in body else ""
    text = f"""g ({X} x, bool c, int64 n, float[8] g, float[4,8] r) => ({outputs}) <bool k = {{1}}> {{ {before}{body} }}"""
    analysis = analyze(load(str(save(text, 17))))
    left_out = {n for n in analysis.elided if n.op_type != "Identity"}  # which hands its input on
    assert {v.name for n in left_out for v in n.outputs if v is not None} == dead
