"""Operators of which no law is used: the same arguments give the same, and what is not the same is told apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from npu_guard.results.proof import PROVED, REFUTED, SAMPLED, Proof

Prove = Callable[..., Proof]
X, K = "float[2,4,6] x", "int64[1] k = {3}"
MAP, GRID = "float[1,3,5,4] x, float[1,2,3,2] g", "float[1,3,5,4] x, float[1,2,2,3] g"
SCATTER = "float[4,3] x, int64[4,3] i, float[4,3] u"
REGIONS = "float[2,3,8,8] x, float[4,4] r, int64[4] b"
DEFORMED = "float[1,2,5,5] x, float[1,18,3,3] o"


def graph(body: str, inputs: str = X, weights: str = K, out: str = "z") -> str:
    return f"g ({inputs}) => ({out}) {f'<{weights}>' if weights else ''} {{ {body} }}"


TOP = graph("z, i = TopK<axis = 1>(x, k)", out="z, i")
PAIRS = {
    "the largest of another spelling": (graph("z, i = TopK<axis = 1>(s, k) s = Identity(x)".replace(
        "z, i = TopK<axis = 1>(s, k) s = Identity(x)", "s = Add(x, x) z, i = TopK<axis = 1>(s, k)"), out="z, i"),
        graph("s = Mul(x, c) z, i = TopK<axis = 1>(s, k)", weights=f"{K}, float c = {{2}}", out="z, i")),
    "the largest along an axis that moved": (
        TOP, graph("t = Transpose<perm = [0, 2, 1]>(x) v, j = TopK(t, k) z = Transpose<perm = [0, 2, 1]>(v) "
                   "i = Transpose<perm = [0, 2, 1]>(j)", out="z, i")),
    "one of several": (
        graph("z = OneHot(i, d, v)", "int64[4] i", "int64 d = {5}, float[2] v = {0, 3}"),
        graph("y = OneHot(i, d, w) z = Mul(y, c)", "int64[4] i", "int64 d = {5}, float[2] w = {0, 1}, float c = {3}")),
    "points of a map": (graph("z = GridSample(x, g)", MAP, ""), graph("t = Transpose<perm = [0, 3, 1, 2]>(g) "
                        "s = Transpose<perm = [0, 2, 3, 1]>(t) z = GridSample(x, s)", MAP, "")),
    "what is put along an axis": (
        graph("z = ScatterElements<axis = 1>(x, i, u)", SCATTER, ""),
        graph("a = Transpose(x) j = Transpose(i) v = Transpose(u) s = ScatterElements<axis = 0>(a, j, v) z = Transpose(s)",
              SCATTER, "")),
    "regions": (graph("z = RoiAlign<output_height = 2, output_width = 3>(x, r, b)", REGIONS, ""),
                graph("y = Neg(x) w = Neg(y) z = RoiAlign<output_height = 2, output_width = 3>(w, r, b)", REGIONS, "")),
    "a deformed convolution": (
        graph("z = DeformConv<kernel_shape = [3,3]>(x, w, o)", DEFORMED, "float[4,2,3,3] w"),
        graph("h = Add(o, o) q = Mul(h, c) z = DeformConv<kernel_shape = [3,3]>(x, w, q)", DEFORMED,
              "float[4,2,3,3] w, float c = {0.5}")),
    "one at the largest": (graph("z = Hardmax<axis = 1>(x)", weights=""), graph(
        "t = Transpose<perm = [0, 2, 1]>(x) h = Hardmax(t) z = Transpose<perm = [0, 2, 1]>(h)", weights="")),
    "a product of all in two steps": (
        graph("z = ReduceProd(x, a)", weights="int64[2] a = {1, 2}"),
        graph("y = ReduceProd(x, b) z = ReduceProd(y, c)", weights="int64[1] b = {1}, int64[1] c = {2}")),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_the_same_arguments_give_the_same(name: str, proof: Prove) -> None:
    found = proof(*PAIRS[name])
    assert found.label == PROVED, found
    assert found.bound < 1e-6


OTHERS = {
    "another axis": (TOP, graph("z, i = TopK<axis = 2>(x, k)", out="z, i")),
    "the least": (TOP, graph("z, i = TopK<axis = 1, largest = 0>(x, k)", out="z, i")),
    "values of others": (TOP, graph("s = Abs(x) z, i = TopK<axis = 1>(s, k)", out="z, i")),
    "in another order": (TOP, graph("t = Gather<axis = 1>(x, p) z, i = TopK<axis = 1>(t, k)",
                                    weights=f"{K}, int64[4] p = {{1, 0, 2, 3}}", out="z, i")),
    "one element less": (TOP, graph("t = Slice(x, b, e, o) z, i = TopK<axis = 1>(t, k)",
                                    weights=f"{K}, int64[1] b = {{0}}, int64[1] e = {{3}}, int64[1] o = {{1}}", out="z, i")),
    "ranks exchanged": (TOP, graph("v, j = TopK<axis = 1>(x, k) z = Gather<axis = 1>(v, p) i = Gather<axis = 1>(j, p)",
                                   weights=f"{K}, int64[3] p = {{0, 2, 1}}", out="z, i")),
    "a comparison for one of several": (  # an index may be negative
        graph("z = OneHot(i, d, v)", "int64[4] i", "int64 d = {5}, float[2] v = {0, 1}"),
        graph("j = Unsqueeze(i, a) b = Equal(j, r) z = Cast<to = 1>(b)", "int64[4] i",
              "int64[1] a = {1}, int64[5] r = {0, 1, 2, 3, 4}")),
    "another mode": (graph("z = GridSample(x, g)", MAP, ""), graph("z = GridSample<align_corners = 1>(x, g)", MAP, "")),
    "coordinates exchanged": (
        graph("z = GridSample(x, g)", MAP, ""), graph("h = Gather<axis = 3>(g, p) z = GridSample(x, h)", MAP,
                                                      "int64[2] p = {1, 0}")),
    "a map turned": (graph("z = GridSample(x, g)", "float[1,3,4,4] x, float[1,2,3,2] g", ""), graph(
        "t = Transpose<perm = [0, 1, 3, 2]>(x) z = GridSample(t, g)", "float[1,3,4,4] x, float[1,2,3,2] g", "")),
    "another axis of a scatter": (graph("z = ScatterElements<axis = 1>(x, i, u)", SCATTER, ""),
                                  graph("z = ScatterElements<axis = 0>(x, i, u)", SCATTER, "")),
    "a scatter that adds": (graph("z = ScatterElements<axis = 1>(x, i, u)", SCATTER, ""),
                            graph('z = ScatterElements<axis = 1, reduction = "add">(x, i, u)', SCATTER, "")),
    "regions of the first image": (
        graph("z = RoiAlign(x, r, b)", REGIONS, ""), graph("c = Mul(b, n) z = RoiAlign(x, r, c)", REGIONS, "int64 n = {0}")),
    "an offset": (graph("z = DeformConv<kernel_shape = [3,3]>(x, w, o)", DEFORMED, "float[4,2,3,3] w"),
                  graph("q = Mul(o, c) z = DeformConv<kernel_shape = [3,3]>(x, w, q)", DEFORMED,
                        "float[4,2,3,3] w, float c = {1.5}")),
    "a product of one less": (
        graph("z = ReduceProd(x, a)", weights="int64[1] a = {1}"),
        graph("t = Slice(x, b, e, a) z = ReduceProd(t, a)",
              weights="int64[1] a = {1}, int64[1] b = {0}, int64[1] e = {3}")),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_told_apart(name: str, proof: Prove) -> None:
    found = proof(*OTHERS[name])
    assert found.label in (SAMPLED, REFUTED), found
    assert found.label == REFUTED or found.reason == "no identity was found"


def test_what_is_left_out_is_what_the_version_says(proof: Prove) -> None:
    """RoiAlign without an attribute samples half a pixel away since opset 16."""
    text = graph("z = RoiAlign<output_height = 2, output_width = 2>(x, r, b)", REGIONS, "")
    assert proof(text, text).label == PROVED
    assert proof(text, text, other=10).label == SAMPLED
