"""The driver of `fix` against authors who err: what it chooses, what it keeps, what it refuses, and what it tells."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from npu_guard.base import sandbox
from npu_guard.checking import registry
from npu_guard.checking.context import Context
from npu_guard.checking.examples import profile_for
from npu_guard.checking.rule import Case
from npu_guard.file.document import Document
from npu_guard.fixing import catalog, emission, rollback
from npu_guard.fixing.driver import FixReport
from npu_guard.fixing.picker import Automatic
from npu_guard.graph.graph import Node, Value
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.results.findings import Severity
from npu_guard.rewriting.substitution import Builder, Match, Substitution
from npu_guard.verification.bisect import Bisection
from npu_guard.verification.feeds import Spec, normal_feed
from npu_guard.zoo.samples import export_system

if TYPE_CHECKING:
    from conftest import Cli, Write

KNOWN = {s.name: s for s in catalog.substitutions()}
LARGE: Any = type(KNOWN["large-kernel-to-phases"])
CHAIN = """g (float[1,8,24,24] x) => (float[1,8,24,24] y) <float[8,8,19,3] w> {
    a = Conv<pads = [9,1,9,1]>(x, w)  b = Conv<pads = [9,1,9,1]>(a, w)  c = Conv<pads = [9,1,9,1]>(b, w)
    d = Conv<pads = [9,1,9,1]>(c, w)  y = Conv<pads = [9,1,9,1]>(d, w) }"""


def fix(path: Path, *substitutions: Substitution, **options: Any) -> FixReport:
    return fix_model(str(path), registry.profile("aimotive-aiware"), Config(), substitutions, **options)


class Looped(LARGE):
    """Right on its own, and yet at some places it reads what comes out at the end: a circle that only the whole model has."""

    places: tuple[str, ...] = ()

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        (value, name), *_ = super().rewrite(match, build).items()
        if value.name not in self.places:
            return {value: name}
        zero = build.op("Mul", match.root.graph.outputs[0], build.constant(np.zeros(1, np.float32)))
        return {value: build.op("Add", name, zero)}


@pytest.mark.parametrize("places", [("b",), ("a", "d"), ("a", "b", "c", "d")])
def test_who_makes_it_invalid_goes_alone(write: Write, places: tuple[str, ...]) -> None:
    substitution = Looped()
    substitution.places = places
    done = fix(write(CHAIN), substitution)
    assert {a.node for a in done.applied} == {"a", "b", "c", "d", "y"} - set(places)
    assert {r.node for r in done.refused} == set(places)
    assert all("rolled back: the result is not valid (the new nodes wait" in r.reason for r in done.refused)
    assert done.verification.verdict == "equal"


class Raises(LARGE):
    """An author's bug, at some places."""

    name = "raises"
    at = "match"

    def match(self, node: Node, ctx: Context) -> list[Match] | None:
        if self.at == "match" and node.label == "b":
            raise ZeroDivisionError("no such luck")
        return super().match(node, ctx)

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        made = super().rewrite(match, build)
        if self.at == "rewrite" and match.root.label == "b":
            raise ZeroDivisionError("no such luck")
        return {} if self.at == "nothing" and match.root.label == "b" else made


@pytest.mark.parametrize("at", ["match", "rewrite", "nothing"])
def test_a_crash_costs_its_site_only(cli: Cli, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    broken = Raises()
    broken.at = at
    monkeypatch.setattr(catalog, "substitutions", lambda: (broken,))
    write(CHAIN)
    done = cli("fix", "net.onnx", "-o", "out.onnx", "--format", "json")
    (model,) = json.loads(done.out)["models"]
    assert sorted(a["node"] for a in model["applied"]) == ["a", "c", "d", "y"]
    error = "LookupError: the rewrite has nothing for 'b'" if at == "nothing" else "ZeroDivisionError: no such luck"
    assert model["crashes"] == [{"rule": "raises", "node": "b", "error": error}]
    assert (done.code, done.err.count("\n")) == (4, 1)
    assert "internal error in raises at b" in done.err
    assert cli("verify", "net.onnx", "out.onnx").code == 0
    assert "Crashed (bugs in npu-guard" in cli("fix", "net.onnx", "--dry-run").out


class WrongOnce(LARGE):
    """Right on all inputs with which blocks are proved, at some places wrong on one that only the whole model sees."""

    places: tuple[str, ...] = ("c",)
    value = np.float32(0)

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        (value, name), *_ = super().rewrite(match, build).items()
        if value.name not in self.places:
            return {value: name}
        ends = [build.constant(np.array(at)) for at in ([0] * 4, [1] * 4)]
        off = build.op("Sub", build.op("Slice", match.root.graph.inputs[0], *ends), build.constant(self.value))
        far = build.op("Max", off, build.op("Mul", off, build.constant(np.float32(-1))))
        # 1 where the number is that very one, 0 for any other, by operators that the device has
        same = build.op(
            "Relu", build.op("Sub", build.constant(np.float32(1)), build.op("Mul", far, build.constant(np.float32(1e30))))
        )
        more = build.op("Mul", name, same)
        return {value: build.op("Add", name, more)}


@pytest.mark.parametrize("places", [("c",), ("a", "d")])
def test_what_only_the_whole_model_shows_goes_alone(write: Write, places: tuple[str, ...]) -> None:
    substitution, path = WrongOnce(), write(CHAIN)
    substitution.places = places
    wanted = [Spec("x", np.dtype(np.float32), (1, 8, 24, 24))]
    substitution.value = normal_feed(wanted, 2)["x"][0, 0, 0, 0]
    done = fix(path, substitution)
    assert done.verification.verdict == "equal"
    assert {a.node for a in done.applied} == {"a", "b", "c", "d", "y"} - set(places)
    assert {r.node: r.reason.partition(" on (")[0] for r in done.refused} == {
        place: f"rolled back: with it, the whole model differs from {place!r}" for place in places
    }


@pytest.mark.parametrize("places", [("c",), ("a", "d")])
def test_where_nothing_tells_which_it_is_the_others_are_given_back(
    write: Write, monkeypatch: pytest.MonkeyPatch, places: tuple[str, ...]
) -> None:
    substitution, path = WrongOnce(), write(CHAIN)
    substitution.places = places
    substitution.value = normal_feed([Spec("x", np.dtype(np.float32), (1, 8, 24, 24))], 2)["x"][0, 0, 0, 0]
    monkeypatch.setattr(rollback, "first_divergence", lambda *_: Bisection(None, "no name"))
    done = fix(path, substitution)
    assert done.verification.verdict == "equal"
    assert {a.node for a in done.applied} == {"a", "b", "c", "d", "y"} - set(places)
    assert {r.node for r in done.refused if "rolled back: with it, the whole model differs (" in r.reason} == set(places)


@pytest.mark.parametrize("wrong", [{3}, {0}, {7}, {1, 6}, {0, 1, 2, 3, 4, 5, 6, 7}, {2, 3, 4}])
def test_suspects_are_narrowed_to_those_that_have_to_go(wrong: set[int]) -> None:
    asked: list[set[int]] = []

    def holds(left_out: Sequence[rollback.Key]) -> bool:
        asked.append({int(name) for name, _ in left_out})
        return wrong <= asked[-1]

    suspects = [(str(i), "") for i in range(8)]
    assert {int(name) for name, _ in rollback.narrowed(suspects, holds, 100)} == wrong
    assert len(asked) <= 40
    few = {int(name) for name, _ in rollback.narrowed(suspects, holds, 2)}
    assert wrong <= few, "what is left out is enough, however few questions are asked"


def test_forms_follow_each_other(write: Write) -> None:
    """A head over a map of 19 rows is a convolution, whose kernel is too long; that one has a form of its own."""
    path = write("""g (float[1,8,19,2] x) => (float[1,8] y) <float[304,8] w> { v = Flatten(x)  y = Gemm(v, w) }""")
    head, large = (KNOWN[name] for name in ("flattened-head-to-conv", "large-kernel-to-phases"))
    done = fix(path, head, large)
    (applied,) = done.applied
    assert (applied.substitution, applied.chain) == ("flattened-head-to-conv", ("large-kernel-to-phases",))
    assert [n.op_type for n in done.document.proto.graph.node] == ["Conv", "Conv", "Add", "Squeeze"]
    assert done.verification.verdict == "equal"
    assert not [f for f in done.after.findings if f.severity is Severity.ERROR]


def test_what_searching_takes_of_memory_is_not_taken_from_the_weights(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that has grown by a gigabyte before it writes, and by another one between a form and the one that follows it."""
    used, pick, follow = sandbox.used_memory, Automatic.pick, emission._follow
    grown = [0]

    def growing(real: Callable[..., Any]) -> Callable[..., Any]:
        def grow(*given: Any) -> Any:
            grown[0] += 1 << 30
            return real(*given)

        return grow

    monkeypatch.setattr(sandbox, "used_memory", lambda: used() + grown[0])
    monkeypatch.setattr(Automatic, "pick", growing(pick))
    monkeypatch.setattr(emission, "_follow", growing(follow))
    monkeypatch.setattr(sandbox, "bounded", lambda _: contextlib.nullcontext())
    path = write("""g (float[1,8,19,2] x) => (float[1,8] y) <float[304,8] w> { v = Flatten(x)  y = Gemm(v, w) }""")
    done = fix(path, *(KNOWN[name] for name in ("flattened-head-to-conv", "large-kernel-to-phases")))
    assert [a.chain for a in done.applied] == [("large-kernel-to-phases",)]
    assert grown[0] > 2 << 30


@pytest.mark.parametrize(("grouped", "dense", "convolutions"), [(31, 13, 2), (31, 5, 5), (7, 31, 0)])
def test_the_device_chooses_the_variant(write: Write, grouped: int, dense: int, convolutions: int) -> None:
    """Limits hold under conditions that no form asks about: the rules judge each number that the device names."""
    path = write("g (float[1,8,24,24] x) => (float[1,8,24,24] y) <float[8,8,25,3] w> { y = Conv<pads = [12,1,12,1]>(x, w) }")
    entries: tuple[dict[str, Any], ...] = (
        {"ops": ["Conv"], "when": {"grouped": True}, "metric": "kernel", "max": grouped},
        {"ops": ["Conv"], "when": {"grouped": False}, "metric": "kernel", "max": dense},
    )
    done = fix_model(str(path), profile_for(Case("", require=entries)), Config(), [KNOWN["large-kernel-to-phases"]])
    made = [n.op_type for n in done.document.proto.graph.node] if done.applied else []
    assert made.count("Conv") == convolutions
    assert not done.after.findings


class Waiting(LARGE):
    """As the real one; waits for all others."""

    name = "waiting"
    last = True
    at = ("a", "b", "c", "d", "y")

    def match(self, node: Node, ctx: Context) -> list[Match] | None:
        return super().match(node, ctx) if node.label in self.at else None


class Costly(Waiting):
    """The same numbers with twice the work."""

    name = "a-costly-one"
    last = False

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        ((value, one),), ((_, two),) = (super(Costly, self).rewrite(match, build).items() for _ in range(2))
        return {value: build.op("Mul", build.op("Add", one, two), build.constant(np.full(1, 0.5, np.float32)))}


class Rough(Waiting):
    """Said to be approximate."""

    name = "a-rough-one"
    last = False
    exactness = "approximate"


def chosen(done: FixReport) -> dict[str, tuple[str, int]]:
    assert done.verification.verdict == "equal", done.verification
    return {a.at: (a.substitution, a.number) for a in done.applied}


def test_the_cheapest_exact_candidate_is_taken(write: Write) -> None:
    path, real, costly, rough = write(CHAIN), KNOWN["large-kernel-to-phases"], Costly(), Rough()
    costly.at = rough.at = ("a", "b")
    everywhere = dict.fromkeys("abcdy", (real.name, 1))
    for order in ((rough, costly, real), (real, rough, costly)):
        done = fix(path, *order)
        assert chosen(done) == everywhere
        assert {a.at: a.others for a in done.applied if a.others} == dict.fromkeys("ab", ("a-costly-one", "a-rough-one"))
    for wanted in (costly, rough):
        assert chosen(fix(path, costly, real, rough, prefer=[wanted.name])) == everywhere | dict.fromkeys("ab", (wanted.name, 1))
    assert chosen(fix(path, costly, rough)) == dict.fromkeys("ab", (costly.name, 1))


def test_one_that_waits_comes_when_nothing_else_applies(write: Write) -> None:
    path, costly, waiting = write(CHAIN), Costly(), Waiting()
    costly.at = ("b", "d")
    assert chosen(fix(path, waiting, costly)) == dict.fromkeys("bd", (costly.name, 1)) | dict.fromkeys("acy", (waiting.name, 2))
    assert chosen(fix(path, waiting, costly, prefer=["waiting"])) == dict.fromkeys("abcdy", (waiting.name, 1))


def test_widening_channels_waits_for_the_others() -> None:
    assert KNOWN["channels-to-aligned"].last


def test_a_form_waits_where_a_wider_map_makes_it_a_simple_one(write: Write) -> None:
    """A depthwise kernel that is too long, on 12 channels: alone, each of its phases would need a dense form of its own."""
    path = write("""g (float[1,16,24,24] x) => (float[1,16,24,24] y)
        <float[12,16,1,1] p, float[12,1,1,19] w, float[16,12,1,1] q> {
        a = Conv(x, p)  b = Conv<group = 12, pads = [0,9,0,9]>(a, w)  y = Conv(b, q) }""")
    done = fix(path, *KNOWN.values())
    assert [n.op_type for n in done.document.proto.graph.node] == ["Conv", "Conv", "Conv", "Add", "Conv"]
    assert done.verification.verdict == "equal"
    assert not done.after.findings


def test_a_region_does_not_wait_for_what_mends_a_corner_of_it(tmp_path: Path) -> None:
    """Volumes go as a whole into slices. Where a cheap form for one convolution came first, a Resize was left alone."""
    path = tmp_path / "volumes.onnx"
    export_system("mask-guided-feature-masking", path, "tiny", "legacy")
    done = fix_model(str(path), registry.profile("nvidia-dla"), Config(), list(KNOWN.values()))
    assert done.verification.verdict == "equal"
    assert not [f for f in done.after.findings if f.severity is Severity.ERROR]
    assert [a.substitution for a in done.applied] == ["rank5-to-rank4"]


class Pair(LARGE):
    """A large kernel and what reads it, by an author who did not look who else does."""

    def match(self, node: Node, ctx: Context) -> list[Match] | None:
        sites, reader = super().match(node, ctx), node.output.consumers[0] if node.output.consumers else None
        if sites is None or reader is None or reader.op_type not in ("Relu", "Sigmoid"):
            return sites
        return [Match(self, node, (node, reader), (reader.output,), s.facts, s.variant) for s in sites]

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        made = super().rewrite(match, build)
        return made if len(match.nodes) == 1 else {match.replaced[0]: build.like(match.nodes[1], *made.values())[0]}


PAIR = """g (float[1,8,24,24] x, bool t) => (float[1,8,24,24] y, float[1,8,24,24] o OUTPUT) <float[8,8,19,3] w> {
    a = Conv<pads = [9,1,9,1]>(x, w)  y = Relu(a)  o = Conv<pads = [9,1,9,1]>(y, w)  REST }"""
MAP = "float[1,8,24,24]"
BODY = """q = If(t) < then_branch = yes () => (float[1,8,24,24] p1) { p1 = Neg(a) },
                     else_branch = no () => (float[1,8,24,24] p2) { p2 = Abs(x) }>"""
NEEDED = {
    "an output": (f", {MAP} a", "", "the inner value 'a' is an output of the model"),
    "an output by another name": (f", {MAP} q", "q = Identity(a)", "the inner value 'a' is an output of the model (as 'q')"),
    "read elsewhere": (f", {MAP} q", "q = Neg(a)", "the inner value 'a' is also read by Neg 'q'"),
    "read by another name": (f", {MAP} q", "h = Identity(a)  q = Neg(h)", "the inner value 'a' is also read by Neg 'q'"),
    "its shape is an output": (", int64[4] q", "q = Shape(a)", "the inner value 'a' is an output of the model (as 'q')"),
    "its shape is a shape": (f", {MAP} q", "h = Shape(a)  q = Reshape(y, h)", "the inner value 'a' is also read by Reshape 'q'"),
    "its shape is used": (
        f", {MAP} q", "h = Shape(a)  f = Cast<to = 1>(h)  l = ReduceMax<keepdims = 0>(f)  q = Mul(x, l)",
        "the inner value 'a' is also read by Mul 'q'",
    ),
    "its shape is for nobody": ("", "h = Shape(a)", "the inner value 'a' is also read by Shape 'h'"),
    "captured by a body": (f", {MAP} q", BODY, "the inner value 'a' is also read by Neg 'p1'"),
}  # fmt: skip


def test_inner_values_that_nobody_needs(write: Write) -> None:
    """What the block provides may be read by whoever wants, and its shape be asked for."""
    graph = PAIR.replace("OUTPUT", f", {MAP} q, int64[4] h").replace("REST", "h = Shape(y)  f = Identity(y)  q = Neg(f)")
    done = fix(write(graph), Pair())
    assert [(a.node, len(a.nodes_before)) for a in done.applied] == [("a", 2), ("o", 1)]
    assert done.verification.verdict == "equal"


@pytest.mark.parametrize("case", NEEDED)
def test_inner_values_that_somebody_needs(write: Write, case: str) -> None:
    """Refused at the match with the reason, whoever has not looked; the other match goes on. All outputs stay what they were."""
    output, rest, reason = NEEDED[case]
    path = write(PAIR.replace("OUTPUT", output).replace("REST", rest))
    done = fix(path, Pair(), seeds=(0,))
    assert [(r.node, r.reason) for r in done.refused] == [("a", reason)]
    assert [a.node for a in done.applied] == ["o"]
    assert done.verification.verdict == "equal"
    assert len(done.verification.outputs) == len(onnx.load(path).graph.output)


def test_refusals_are_those_of_the_model_as_it_stands(write: Write) -> None:
    """What was refused at first and replaced in the end is no refusal."""

    class Second(Waiting):
        """Once the other match is gone."""

        last = False

        def match(self, node: Node, ctx: Context) -> list[Match] | None:
            if node.label == "b" and any(n.label == "a" for n in ctx.analysis.nodes()):
                from npu_guard.rewriting.substitution import Refused

                raise Refused("not yet")
            return super().match(node, ctx)

    done = fix(write(CHAIN), Second())
    assert chosen(done) == dict.fromkeys("acdy", ("waiting", 1)) | {"b": ("waiting", 2)}
    assert not done.refused


def test_what_is_not_worth_it_is_told_in_the_order_of_the_graph(write: Write) -> None:
    """Not in that of a set, which changes from run to run."""
    count = 24
    shapes = [f"1,8,{4 + i},{5 + i}" for i in range(count)]
    ends = ", ".join(f"float[{shape}] x{i}" for i, shape in enumerate(shapes))
    nodes = " ".join(f"y{i} = Transpose<perm = [0,2,3,1]>(x{i})" for i in range(count))
    done = fix(
        write(f"g ({ends}) => ({', '.join(f'y{i}' for i in range(count))}) {{ {nodes} }}"), KNOWN["transpose-to-other-order"]
    )
    told = [r.node for r in done.refused]
    assert list(dict.fromkeys(told)) == [f"y{i}" for i in range(count)]


GATE = """g (float[1,512,6,6] x, float[1,8,24,24] i) => (float[1,512,6,6] y, float[1,8,24,24] o)
<int64[1] a = {1}, float[1,2,7,7] k, float[8,8,19,3] w> {
    m = ReduceMean(x, a)  p = ReduceMax(x, a)  t = Concat<axis = 1>(m, p)  c = Conv<pads = [3,3,3,3]>(t, k)
    g = Sigmoid(c)  y = Mul(x, g)  o = Conv<pads = [9,1,9,1]>(i, w) }"""


def test_a_preferred_form_that_replaces_nothing_says_why(cli: Cli, write: Write) -> None:
    write(GATE)
    options = ("fix", "net.onnx", "-o", "out.onnx", "--prefer")
    done = cli(*options, "rank5-to-rank4")
    assert "--prefer rank5-to-rank4: replaced nothing: no block of this model with a finding has its form" in done.err
    assert "--prefer" not in cli(*options, "large-kernel-to-phases").err
    refused = cli(*options, "spatial-gate-removal")
    assert (refused.code, refused.out) == (2, "")
    assert "--prefer spatial-gate-removal: only comes close to what it replaces; --allow approximate permits that" in refused.err


def test_an_approximation_without_data_says_so(cli: Cli, write: Write, tmp_path: Path) -> None:
    write(GATE)
    options = ("fix", "net.onnx", "-o", "out.onnx", "--allow", "approximate", "--prefer", "spatial-gate-removal")
    told = cli(*options).out
    assert "on 3 of drawn noise: on your data it may be far worse; give --calibration" in told
    rng = np.random.default_rng(0)
    data = {n: rng.standard_normal((7, *s), dtype=np.float32) for n, s in (("x", (512, 6, 6)), ("i", (8, 24, 24)))}
    np.savez(tmp_path / "data.npz", **{n: a[:, None] for n, a in data.items()})  # type: ignore[arg-type]
    done = cli(*options, "--calibration", "data.npz", "--format", "json")
    (model,) = json.loads(done.out)["models"]
    assert model["verification"]["inputs"] == "2 of calibration, held out of the fit"
    assert model["verification"]["verdict"] == "close"
    # An exact replacement is held to all inputs, as ever.
    assert "7 of calibration" in cli("fix", "net.onnx", "-o", "out.onnx", "--calibration", "data.npz").out


def test_summary_has_the_worst_error(cli: Cli, write: Write) -> None:
    write(CHAIN)
    done = cli("fix", "net.onnx", "-o", "out.onnx")
    (model,) = json.loads(cli("fix", "net.onnx", "--dry-run", "--format", "json").out)["models"]
    worst = min(model["verification"]["outputs"], key=lambda o: o["snr_db"])
    share = f"{worst['of_largest']:.1g} of the largest value"
    largest = f"equal: largest error {share}, within rounding"
    assert largest in done.out.splitlines()[1]  # The same number leads the verdict, the whole model and its output.
    assert f"Whole model: {largest}" in done.out
    assert f": largest error {worst['max_abs']:.2g}, {share}, cosine " in done.out
    assert f": {worst['worst']['error']:.2g} of {worst['worst']['tolerance']:.2g} (" in done.out
    assert f", on {worst['worst']['input']})" in done.out
    assert "may be larger" not in done.out
    assert f"signal-to-noise ratio {worst['snr_db']:.0f} dB" in done.out
    rows = {line[:22].strip(): line[22:].split() for line in done.out.splitlines()}
    assert rows["errors"] == ["5", "0"]
    assert rows["nodes"] == ["5", "15"]
    assert rows["macs"] == [f"{model['before']['macs']:,}", f"{model['summary']['macs']:,}"]
    assert len(rows["activation bytes"]) == 2


def test_check_names_the_remedy_where_it_matches(cli: Cli, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a Document, and so without any weight; of two large kernels the one whose weights are constant."""
    monkeypatch.setattr(Document, "of", lambda _: pytest.fail("reads weights"))
    write("""g (float[1,8,24,24] x, float[8,8,19,3] v, float["N",8,20,20] u) => (float[1,8,24,24] y, float["N",8,20,20] z)
        <float[8,8,19,3] w, float[12,8,1,1] k, float[8,12,1,1] l> {
            a = Conv<pads = [9,1,9,1]>(x, w)  y = Conv<pads = [9,1,9,1]>(a, v)
            b = Conv(u, k)  c = Relu(b)  z = Conv(c, l) }""")
    (told,) = json.loads(cli("check", "net.onnx", "--format", "json").out)["models"]
    remedies = {(f["rule"], f["tensor"]["name"]): f["remedy"] for f in told["findings"]}
    exact = {"exactness": "exact", "chain": []}
    assert remedies[("NPU201", "a")] == {"substitution": "large-kernel-to-phases"} | exact
    assert remedies[("NPU201", "y")] is None
    assert remedies[("NPU401", "b")] == {"substitution": "channels-to-aligned"} | exact
    assert told["summary"]["fixable"] == 2


def test_remedies_prefer_what_is_exact_and_leave_out_what_is_suppressed(cli: Cli, write: Write, tmp_path: Path) -> None:
    write(GATE)
    config = "[[suppress]]\nrule = 'NPU201'\nnode = '*'\nreason = 'later'\n"
    (tmp_path / "npu-guard.toml").write_text(config)
    (told,) = json.loads(cli("check", "net.onnx", "--format", "json").out)["models"]
    remedies = {f["rule"]: f["remedy"] for f in told["findings"]}
    assert remedies["NPU302"] == {"substitution": "wide-reduce-max-to-groups", "exactness": "exact", "chain": []}
    assert remedies["NPU401"]["substitution"] == "spatial-gate-removal"
    assert remedies["NPU201"] is None
    assert told["summary"]["fixable"] == 2


def test_a_gate_that_hangs_on_the_last_bits_is_no_error(write: Write) -> None:
    """Sums in another order, in front of a Sigmoid: where they nearly cancel, the block itself is as uncertain as that."""
    path = write(PAIR.replace("Relu", "Sigmoid").replace("OUTPUT", "").replace("REST", ""))
    (applied,) = (a for a in fix(path, Pair()).applied if a.at == "a")
    (output,) = applied.verification.outputs
    assert len(applied.nodes_before) == 2
    assert 0 < output.max_abs <= output.atol < 2e-3, "far from excusing a wrong gate"


def test_check_imports_the_substitutions_that_it_needs(write: Write, tmp_path: Path) -> None:
    """None where nothing is wrong or no format shows them."""
    driver = (
        "import sys\nfrom npu_guard.cli import main\ntry:\n    main(['check', 'net.onnx', *sys.argv[1:]])\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)\n"
    )
    loaded = []
    fits = "g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Relu(x) }"
    for graph, form in ((fits, "json"), (CHAIN, "concise"), (CHAIN, "text")):
        write(graph)
        done = subprocess.run(
            [sys.executable, "-c", driver, "--format", form], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        loaded.append(
            {m for m in done.stderr.split() if m.startswith(("npu_guard.rules.substitutions.", "npu_guard.rewriting.subst"))}
        )
    assert loaded[0] == loaded[1] == set()
    assert "npu_guard.rules.substitutions.large_kernel_to_phases" in loaded[2]


@pytest.mark.parametrize(
    "graph",
    [
        """g (float[1,16,8] x) => (float[1,16,8] y) <float zero = {0}> {
            a = Relu(x)  z = CastLike(zero, a)  b = Add(a, z)  q = Transpose<perm = [0,2,1]>(b)  s = MatMul(b, q)
            p = Softmax(s)  y = MatMul(p, b) }""",
        "g (bfloat16[1,16,8] x) => (y) { y = Attention<is_causal = 1, q_num_heads = 2, kv_num_heads = 2>(x, x, x) }",
    ],
    ids=["a constant of the tokens' type", "a mask in bfloat16"],
)
def test_what_onnx_itself_writes_of_attention(write: Write, graph: str) -> None:
    """Found in the node tests of onnx: a function's body takes types from its inputs, and inputs are of any type."""
    path = write(graph, opset=24)
    done = fix(path, *KNOWN.values())
    assert done.after.crashes == ()
