"""Tokens and attention as maps: the zoo's blocks in every spelling, blocks as users write them, and random small ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxsim
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from npu_guard.analysis.analyze import analyze
from npu_guard.checking import registry
from npu_guard.checking.engine import check
from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case
from npu_guard.file.document import Document
from npu_guard.file.load import load
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.fixing.driver import Fixed, FixReport, Settings, fix_document
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.project.export import export
from npu_guard.results.findings import Severity
from npu_guard.verification.compare import accumulated_terms, compare_documents
from npu_guard.verification.feeds import input_specs, seeded_feeds
from npu_guard.verification.runtime import Runtime
from npu_guard.zoo import samples

PROFILE = registry.profile("aimotive-aiware")
CHOSEN = [s for s in catalog.substitutions() if s.name in ("tokens-to-maps", "self-attention-to-position-maps")]
REARRANGING = {"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "MatMul", "Gemm", "Einsum", "Attention", "Gather"}
SPELLINGS = ("dynamo", "legacy", "dynamo simplified", "legacy simplified")


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime() as running:
        yield running


def spelled(module: nn.Module, inputs: dict[str, Tensor], spelling: str, folder: Path) -> Path:
    exporter, *simplified = spelling.split()
    path = folder / "model.onnx"
    export(module, inputs, path, exporter=exporter, root=Path(__file__).parents[2])
    if simplified:
        model, proven = onnxsim.simplify(onnx.load(path))
        assert proven
        onnx.save(model, path)
    return path


def fixed(path: Path, **options: object) -> FixReport:
    report = fix_model(str(path), PROFILE, Config(), CHOSEN, **options)  # type: ignore[arg-type]
    errors = [f"{f.rule} {f.message}" for f in report.after.findings if f.severity is Severity.ERROR]
    assert not errors, [errors, [r.reason for r in report.refused]]
    assert report.verification.verdict == "equal"
    assert min(o.snr_db for o in report.verification.outputs) >= 100
    operators = {n.op_type for n in report.document.proto.graph.node}
    assert not operators & REARRANGING
    return report


def same_as_torch(report: FixReport, module: nn.Module, inputs: dict[str, Tensor], folder: Path) -> None:
    target = folder / "fixed.onnx"
    save_document(report.document, target)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    (actual,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    with torch.no_grad():
        expected = module(*inputs.values()).numpy()
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", ["self-attention", "transformer-block", "cross-attention"])
def test_zoo_blocks_become_maps(name: str, spelling: str, tmp_path: Path) -> None:
    system = samples.system(name)
    module, inputs = system.build("tiny"), system.inputs("tiny")
    report = fixed(spelled(module, inputs, spelling, tmp_path))
    same_as_torch(report, module, inputs, tmp_path)


def test_full_size(tmp_path: Path) -> None:
    """A map of 12x20 positions, wider than the widest kernel.

    One seed: with some, inputs of +-100 drive softmax to where float32 itself is no better than 100 dB, before and after.
    """
    system = samples.system("self-attention")
    module, inputs = system.build("full"), system.inputs("full")
    report = fixed(spelled(module, inputs, "dynamo", tmp_path), seeds=(0,))
    assert len(report.document.proto.graph.node) < 60
    same_as_torch(report, module, inputs, tmp_path)


class ConvNeXt(nn.Module):
    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, 4 * channels)
        self.narrow = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        result: Tensor = x + (self.gamma * self.narrow(functional.gelu(self.widen(y)))).permute(0, 3, 1, 2)
        return result


class Vision(nn.Module):
    """Q, K and V in one axis of a five-dimensional tensor, a position embedding, fused attention, a pooled head."""

    def __init__(self, channels: int = 32, heads: int = 4, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.patches = nn.Conv2d(3, channels, 4, 4)
        self.position = nn.Parameter(torch.zeros(1, 20, channels))
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        self.head = nn.Linear(channels, 16)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        batch, count, channels = tokens.shape
        parts = self.qkv(self.norm(tokens)).reshape(batch, count, 3, self.heads, channels // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        tokens = tokens + self.project(mixed.transpose(1, 2).reshape(batch, count, channels))
        result: Tensor = self.head(tokens.mean(1))
        return result


class Reduced(nn.Module):
    """Keys and values from a map of half the size, which is made within the tokens: a map, tokens, and a map again."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.reduce = nn.Conv2d(channels, channels, 2, 2)
        self.attention = nn.MultiheadAttention(channels, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        tokens = self.norm(x.flatten(2).permute(0, 2, 1))
        small = self.reduce(tokens.permute(0, 2, 1).reshape(batch, channels, height, width)).flatten(2).permute(2, 0, 1)
        query = tokens.permute(1, 0, 2)
        mixed = self.attention(query, small, small, need_weights=False)[0] + query
        return mixed.permute(1, 2, 0).reshape(batch, channels, height, width)


class Windows(nn.Module):
    """A Linear in windows: its rearrangements take six axes."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mix = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        tokens = x.permute(0, 2, 3, 1).reshape(batch, height // 2, 2, width // 2, 2, channels)
        tokens = self.mix(self.norm(tokens.permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, channels)))
        tokens = tokens.reshape(batch, height // 2, width // 2, 2, 2, channels).permute(0, 5, 1, 3, 2, 4)
        return tokens.reshape(batch, channels, height, width)


BLOCKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convnext": (ConvNeXt, (1, 16, 6, 5)),
    "vision": (Vision, (2, 3, 16, 20)),
    "causal": (lambda: Vision(causal=True), (1, 3, 16, 20)),
    "reduced": (Reduced, (2, 32, 4, 6)),
    "windows": (Windows, (1, 16, 4, 6)),
}


@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_as_users_write_them(name: str, exporter: str, tmp_path: Path) -> None:
    make, shape = BLOCKS[name]
    module, inputs = seeded(make, seed=7), {"x": signed(shape, seed=8)}
    path = spelled(module, inputs, exporter, tmp_path)
    if name in ("vision", "causal"):  # [B, C, 1, 1] -> [B, C] at the end is a warning's business
        report = fix_model(str(path), PROFILE, Config(), CHOSEN)
        assert not [f for f in report.after.findings if f.severity is Severity.ERROR]
        assert report.verification.verdict == "equal"
        assert {n.op_type for n in report.document.proto.graph.node} & REARRANGING <= {"Reshape"}
    else:
        report = fixed(path)
    same_as_torch(report, module, inputs, tmp_path)


def proven(text: str, folder: Path, runtime: Runtime, opset: int = 20) -> Fixed:
    """The graph fixed, its numbers compared on inputs that the driver has not seen, and nothing left to do."""
    path = folder / "random.onnx"
    path.write_bytes(onnx.shape_inference.infer_shapes(case_model(Case(text, opset=opset))).SerializeToString())
    before = Document.of(load(path))
    analysis = analyze(load(path))
    wanted = input_specs(analysis.model.graph.inputs)
    feeds = seeded_feeds(wanted, 0)
    options = Settings(CHOSEN, feeds, feeds, (0,), "test", {})
    done = fix_document(before, analysis, lambda a: check(a, PROFILE, registry.rules(), Config()), PROFILE, options, runtime)
    assert done.applied, [r.reason for r in done.refused]
    left = {f.rule for f in done.checked.findings if f.severity is Severity.ERROR}
    assert left <= {"NPU401"}, [left, [r.reason for r in done.refused]]  # widths are what they are
    others = [feed for seed in (3, 4) for feed in seeded_feeds(wanted, seed)]
    terms = 2 * accumulated_terms(done.analysis)
    outcome = compare_documents(runtime, before, done.document, others, terms, exact=True, seeds=(3, 4), kinds="test")
    assert outcome.verdict == "equal", outcome
    assert min(o.snr_db for o in outcome.outputs) >= 100
    return done


@st.composite
def attentions(draw: st.DrawFn) -> str:
    """Attention between two maps, or within one; odd grids, widths that fill no block, masks, and several spellings."""
    batch, heads, width = draw(st.integers(1, 2)), draw(st.integers(1, 4)), draw(st.sampled_from([2, 3, 5, 8, 12]))
    channels = draw(st.sampled_from([3, 8, 12]))
    rows, columns = draw(st.integers(1, 6)), draw(st.sampled_from([1, 2, 5, 7]))
    within = draw(st.booleans())
    other = (rows, columns) if within else (draw(st.integers(1, 5)), draw(st.sampled_from([1, 3, 18, 19])))
    n, m, inner = rows * columns, other[0] * other[1], heads * width
    scale = draw(st.sampled_from(["Div", "Mul"]))
    transposed = m > 1 and draw(st.booleans())  # scores as K Q^T, softmax over the first of their axes
    fused = draw(st.booleans())
    masks = ["", f"{n},{m}", *([] if fused else [f"{heads},{n},{m}", f"1,{heads},1,{m}", f"1,1,{n},1"])]
    mask = draw(st.sampled_from(masks))
    lines = ["tx = Tanh(x)", "tc = Tanh(c)"]  # keeps scores where softmax is well conditioned, whatever is fed
    for name, source, count in (("q", "tx", n), ("k", "tc", m), ("v", "tc", m)):
        lines += [f"{name}0 = Reshape({source}, flat{source})", f"{name}1 = Transpose<perm = [0,2,1]>({name}0)"]
        lines += [f"{name}2 = MatMul({name}1, w{name})", f"{name}3 = Add(b{name}, {name}2)"]
        lines += [f"{name}4 = Reshape({name}3, heads{count})", f"{name} = Transpose<perm = [0,2,1,3]>({name}4)"]
    if fused:
        attributes = ", ".join(["scale = 0.3", *(["is_causal = 1"] if n <= m and draw(st.booleans()) else [])])
        lines += [f"o = Attention<{attributes}>(q, k, v{', mask' if mask else ''})"]
    elif transposed:
        lines += ["qt = Transpose<perm = [0,1,3,2]>(q)", "s0 = MatMul(k, qt)", f"s1 = {scale}(s0, factor)"]
        lines += ["p = Softmax<axis = 2>(s1)", "pt = Transpose<perm = [0,1,3,2]>(p)", "o = MatMul(pt, v)"]
    else:
        lines += ["kt = Transpose<perm = [0,1,3,2]>(k)", "s0 = MatMul(q, kt)", f"s1 = {scale}(s0, factor)"]
        lines += ["s2 = Add(s1, mask)" if mask else "s2 = Identity(s1)", "p = Softmax(s2)", "o = MatMul(p, v)"]
    lines += ["o1 = Transpose<perm = [0,2,1,3]>(o)", "o2 = Reshape(o1, merged)", "o3 = MatMul(o2, wo)"]
    lines += ["o4 = Transpose<perm = [0,2,1]>(o3)", "o5 = Reshape(o4, shape)", "y = Add(x, o5)"]
    second = "x" if within else f"x, float[{batch},{channels},{other[0]},{other[1]}] c"
    if within:
        lines[1] = "tc = Tanh(x)"
    constants = [
        f"int64[3] flattx = {{{batch}, {channels}, {n}}}, int64[3] flattc = {{{batch}, {channels}, {m}}}",
        f"int64[4] heads{n} = {{{batch}, {n}, {heads}, {width}}}",
        *([f"int64[4] heads{m} = {{{batch}, {m}, {heads}, {width}}}"] if m != n else []),
        f"int64[3] merged = {{{batch}, {n}, {inner}}}, int64[4] shape = {{{batch}, {channels}, {rows}, {columns}}}",
        *(f"float[{channels},{inner}] w{name}, float[{inner}] b{name}" for name in "qkv"),
        f"float[{inner},{channels}] wo, float factor = {{0.4}}",
        *([f"float[{mask}] mask"] if mask else []),
    ]
    return f"g (float[{batch},{channels},{rows},{columns}] {second}) => (y) <{', '.join(constants)}> {{ {'  '.join(lines)} }}"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=attentions())
def test_random_attention(text: str, tmp_path_factory: pytest.TempPathFactory, runtime: Runtime) -> None:
    opset = 23 if "Attention<" in text else 20
    proven(text, tmp_path_factory.mktemp("attention"), runtime, opset)


@st.composite
def mlps(draw: st.DrawFn) -> str:
    """Layers on tokens, in one of the orders of axes that models use."""
    batch, channels = draw(st.integers(1, 2)), draw(st.sampled_from([2, 3, 8, 20]))
    rows, columns = draw(st.integers(1, 7)), draw(st.integers(2, 7))
    n = rows * columns
    form = draw(st.sampled_from(["nhwc", "tokens", "sequence first", "flat"]))
    there = {
        "nhwc": "t = Transpose<perm = [0,2,3,1]>(x)",
        "tokens": "f = Reshape(x, three)  t = Transpose<perm = [0,2,1]>(f)",
        "sequence first": "f = Reshape(x, three)  t = Transpose<perm = [2,0,1]>(f)",
        "flat": "f = Transpose<perm = [0,2,3,1]>(x)  t = Reshape(f, flat)",
    }[form]
    lines, last = [there], "t"
    constants = [
        f"int64[3] three = {{{batch}, {channels}, {n}}}, int64[2] flat = {{{batch * n}, {channels}}}",
        f"int64[4] shape = {{{batch}, {channels}, {rows}, {columns}}}",
        f"int64[4] rest = {{{batch}, {rows}, {columns}, {channels}}}",
        f"float[{channels},{channels}] w, float[{channels}] b",
        "float two = {2.0}, int64[1] last = {-1}, float eps = {0.001}",
    ]
    known = ["linear", "bias", "gelu", "norm", "spelled", "residual", "scale"]
    for i, layer in enumerate(draw(st.lists(st.sampled_from(known), min_size=2, max_size=6))):
        lines.append(
            {
                "linear": f"a{i} = MatMul({last}, w)",
                "bias": f"m{i} = MatMul({last}, w)  a{i} = Add(m{i}, b)",
                "gelu": f"a{i} = Gelu({last})",
                "norm": f"a{i} = LayerNormalization({last}, b)",
                "spelled": f"u{i} = ReduceMean({last}, last)  c{i} = Sub({last}, u{i})  q{i} = Pow(c{i}, two)  "
                f"v{i} = ReduceMean(q{i}, last)  e{i} = Add(v{i}, eps)  r{i} = Sqrt(e{i})  a{i} = Div(c{i}, r{i})",
                "residual": f"a{i} = Add({last}, t)",
                "scale": f"a{i} = Mul(b, {last})",
            }[layer]
        )
        last = f"a{i}"
    back = {
        "nhwc": f"y = Transpose<perm = [0,3,1,2]>({last})",
        "tokens": f"g = Transpose<perm = [0,2,1]>({last})  y = Reshape(g, shape)",
        "sequence first": f"g = Transpose<perm = [1,2,0]>({last})  y = Reshape(g, shape)",
        "flat": f"g = Reshape({last}, rest)  y = Transpose<perm = [0,3,1,2]>(g)",
    }[form]
    return f"g (float[{batch},{channels},{rows},{columns}] x) => (y) <{', '.join(constants)}> {{ {'  '.join([*lines, back])} }}"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=mlps())
def test_random_token_layers(text: str, tmp_path_factory: pytest.TempPathFactory, runtime: Runtime) -> None:
    proven(text, tmp_path_factory.mktemp("mlp"), runtime)
