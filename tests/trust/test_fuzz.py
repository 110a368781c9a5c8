"""A short run of the fuzzer in every test run, with failures shrunk; `make fuzz` is the long one."""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "fuzz"))

from mutations import MUTATIONS, mutate  # noqa: E402
from oracle import execute, rewrite, static_only  # noqa: E402
from quantities import OF_QUANTIZED, quantities  # noqa: E402
from run import DEVICES  # noqa: E402
from seeds import quantized_seeds, seeds  # noqa: E402
from side_files import KINDS, trial  # noqa: E402


@st.composite
def quantized(draw: st.DrawFn) -> bytes:
    """A seed with quantized tensors after one to three mutations."""
    seed = draw(st.sampled_from(quantized_seeds()))
    return mutate(seed, lambda n: draw(st.integers(0, n - 1)), draw(st.integers(1, 3)), OF_QUANTIZED, whole=32)


@st.composite
def models(draw: st.DrawFn) -> bytes:
    """A seed after one to three mutations."""
    seed = draw(st.sampled_from(seeds()))
    return mutate(seed, lambda n: draw(st.integers(0, n - 1)), draw(st.integers(1, 3)))


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=models())
def test_our_own_code(tmp_path: Path, data: bytes) -> None:
    with static_only():
        execute(data, tmp_path / "m.onnx")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=quantized(), device=st.sampled_from(DEVICES))
def test_our_own_code_on_quantized_graphs(tmp_path: Path, data: bytes, device: str) -> None:
    with static_only():
        execute(data, tmp_path / "m.onnx", device=device)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=models())
def test_everything_with_all_text_formats(tmp_path: Path, data: bytes) -> None:
    execute(data, tmp_path / "m.onnx", formats=True)


def test_mutations_reach_beyond_the_parser(tmp_path: Path) -> None:
    """Else the tests above would only ever see refusals."""
    seen: Counter[str] = Counter()
    rng = random.Random(0)
    with static_only():
        for _ in range(200):
            seen[execute(mutate(rng.choice(seeds()), rng.randrange, 2), tmp_path / "m.onnx")] += 1
    assert {"pass", "fail", "undecided", "invalid", "not-onnx"} <= seen.keys()
    assert sum(seen[word] for word in ("pass", "fail", "undecided")) > 20


def test_seeds_of_quantized_graphs(tmp_path: Path) -> None:
    """They are read, and what is done to their numbers leaves most of them readable."""
    rng = random.Random(0)
    with static_only():
        chosen = rng.sample(quantized_seeds(), 60)
        plain = Counter(execute(seed, tmp_path / "m.onnx", device=DEVICES[i % len(DEVICES)]) for i, seed in enumerate(chosen))
        changed = Counter(execute(mutate(seed, rng.randrange, 1, [quantities]), tmp_path / "m.onnx") for seed in chosen)
    assert sum(plain[word] for word in ("pass", "fail", "undecided")) >= 58
    assert sum(changed[word] for word in ("pass", "fail", "undecided")) > 25


@pytest.mark.parametrize("mutation", sorted({m.__name__ for m in OF_QUANTIZED}))
def test_every_mutation_changes_something(mutation: str) -> None:
    function = next(m for m in OF_QUANTIZED if m.__name__ == mutation)
    proto = onnx.ModelProto()
    proto.ParseFromString(seeds()[0] if function in MUTATIONS else quantized_seeds()[0])
    proto.graph.initializer.add(name="extra", data_type=1, dims=[2], float_data=[1, 2])
    before = proto.SerializeToString(deterministic=True)
    numbers = iter(range(1, 10_000))
    for _ in range(20):
        function(proto, lambda n: next(numbers) * 7 % n)
    assert proto.SerializeToString(deterministic=True) != before


KEPT = sorted((Path(__file__).parent / "kept").glob("*.onnx"))


@pytest.mark.parametrize("file", KEPT, ids=[f.stem for f in KEPT])
def test_failures_that_were_found(tmp_path: Path, file: Path) -> None:
    if execute(file.read_bytes(), tmp_path / "m.onnx", formats=True) in ("pass", "fail", "undecided"):
        rewrite(tmp_path / "m.onnx", tmp_path)


def test_files_beside_a_model(tmp_path: Path) -> None:
    """All kinds, and not refusals alone."""
    seen = [trial(number, tmp_path / "work").split(", exit code ") for number in range(200)]
    assert {kind for kind, _ in seen} == KINDS.keys()
    assert sum(code in "01" for _, code in seen) > 20
