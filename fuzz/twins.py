"""`make twins`: graphs rewritten into others that mean the same must have the same findings on every device.

Graphs are the examples of all rules and random networks (`random_networks.py`). Each rewriting (`rewritings.py`) changes the
spelling of the whole graph and keeps the labels of its nodes, so findings are compared by rule, label, severity and outcome. A
difference with a reason is in REASONS; any other fails. Mutants, one step over a limit, must have the finding of that limit.
"""

from __future__ import annotations

import argparse
import collections
import functools
import itertools
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import onnx

from npu_guard.analysis.analyze import analyze
from npu_guard.base.errors import ModelError
from npu_guard.checking import engine, registry
from npu_guard.checking.examples import case_model
from npu_guard.device.device import Profile
from npu_guard.file import load
from npu_guard.project.config import Config

sys.path.insert(0, str(Path(__file__).resolve().parent))

from guarded_mutants import guarded_mutants
from limit_mutants import limit_mutants
from random_networks import mutants, network
from rewritings import TWINS
from twin_graphs import ADDED, labels

DEVICES = (
    "aimotive-aiware", "ethos-u85", "qualcomm-htp", "ti-tidl:AM68A", "nvidia-dla", "ort-nnapi", "rockchip-rk3588", "kneron:KL730",
)  # fmt: skip
Finding = tuple[str, str, str, str]
Found = collections.Counter[Finding] | str
"""What is said of a model, or why it is refused."""

_OF_SCALES = tuple(rule.code for rule in registry.rules() if rule.code.startswith("NPU8"))
REASONS: Mapping[tuple[str, str], str] = {
    ("without_keepdims", "NPU701"): "device files state `keepdims` where the vendor's document does",
    ("squeezed", "NPU405"): "a group that the compiler takes as one has no view inside (rockchip's tokens)",
    **{
        (
            "squeezed",
            code,
        ): "a view between a DequantizeLinear and its operator is quantized on its own, or takes the scale from it"
        for code in _OF_SCALES
    },
    ("squeezed", "NPU101"): "a QuantizeLinear is held with the operator right before it, here the view"
    " (qualcomm-htp: onnxruntime/core/framework/node_unit.cc)",
    ("quantized", "NPU101"): "what stands beside an island of floating point leaves with it, and the island is quantized then",
    ("quantized", "NPU302"): "rknn-toolkit2 2.5.0 reshapes low maps before a mean over the width in floating point alone",
    (
        "quantized",
        "NPU405",
    ): "rknn-toolkit2 2.5.0 takes its groups (tokens, heads) in floating point; nobody asked it with"
    " quantization between their operators",
    **dict.fromkeys(
        itertools.product(("quantized", "dequantized", "integers", "channels_last", "elements"), _OF_SCALES),
        "the rules on quantization speak of the scales that the rewriting adds",
    ),
    ("older", "NPU101"): "some toolkits read operator sets up to one of their own (rknn-toolkit2)",
    ("newer", "NPU101"): "some toolkits read operator sets up to one of their own (rknn-toolkit2)",
    **dict.fromkeys(
        itertools.product(("resized",), ("NPU501", "NPU402")),
        "the vendor's notes bound Upsample and Resize apart (kneron, nnapi)",
    ),
    ("sized", "NPU405"): "TensorRT's matrix takes no `sizes` on the DLA (nvidia-dla)",
    ("channels_last", "NPU101"): "device files list ONNX Runtime's operators apart",
    ("elements", "NPU101"): "device files list Mul and Einsum apart, as vendors' documents do",
    ("elements", "NPU701"): "onnxruntime-qnn's builder takes the equations of its list (einsum_op_builder.cc:35)",
    ("sums", "NPU701"): "onnxruntime-qnn's builder takes the equations of its list (einsum_op_builder.cc:35)",
    ("sums", "NPU101"): "device files list MatMul and Einsum apart, as vendors' documents do",
    ("resized", "NPU101"): "device files list Upsample and Resize apart, as vendors' documents do",
    ("products", "NPU101"): "device files list MatMul and Gemm apart, as vendors' documents do",
}
"""Why a rewriting may change what a rule says of the graph's own nodes, by the names of both."""
OF_ADDED: Mapping[str, str] = {
    "NPU101": "the operator that the rewriting adds is one that the device does not have",
    "NPU104": "the step from maps to vectors is a node of its own then; the product behind it has the finding in both spellings",
    "NPU402": "vendors' documents state the rank of Squeeze and Unsqueeze",
    "NPU405": "vendors' documents state in which order a Transpose may put axes, and how large it may be",
    "NPU811": "the rule names the operator that lies between integers, which is the added one then",
    "NPU404": "the operator that the rewriting adds reads a type that the device does not have",
    **dict.fromkeys(_OF_SCALES, "an operator that is added between quantized ones has no scale of its own"),
}
"""Why a rule may speak of a node that a rewriting adds."""
_INLINED = re.compile(r"__\d+$")
"""What inlining a function adds to the labels in it."""


def examples() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Examples of all rules."""
    for rule in registry.rules():
        for kind in ("good", "bad"):
            for number, case in enumerate(getattr(rule, kind)):
                yield f"{rule.code} {kind} {number}", case_model(case)


def networks(first: int = 0) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Random networks, without end."""
    for seed in itertools.count(first):
        yield f"network {seed}", network(seed)


profile = functools.cache(registry.profile)


def findings(model: onnx.ModelProto, devices: Sequence[str]) -> list[Found]:
    """What each device has to say."""
    try:
        skeleton = load.read_skeleton(model.SerializeToString(), "twin.onnx")
        analysis = analyze(skeleton, {})
    except ModelError as error:
        return [f"{error.kind}: {error}"] * len(devices)
    found: list[Found] = []
    for device in devices:
        checked = engine.check(analysis, profile(device), registry.rules(), Config(profile=device))
        assert not checked.crashes, checked.crashes
        found.append(collections.Counter(
            (f.rule, _INLINED.sub("", f.location.node or f.location.output), f.severity.value, f.outcome.value)
            for f in checked.findings
        ))  # fmt: skip
    return found


def differences(
    graphs: Iterator[tuple[str, onnx.ModelProto]], count: int, devices: Sequence[str] = DEVICES, twins: int = 0, seed: int = 0
) -> tuple[collections.Counter[str], list[str]]:
    """How many pairs of each rewriting were compared on all devices, and those that differ without a reason.

    `twins` takes so many rewritings of each graph, drawn by the seed; 0 takes all.
    """
    compared: collections.Counter[str] = collections.Counter()
    different = []
    for name, model in itertools.islice(graphs, count):
        list(labels(model))
        before = None
        drawn = random.Random(f"{seed} {name}").sample(sorted(TWINS), twins) if twins else TWINS
        for twin in drawn:
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            if not TWINS[twin](copy):
                continue
            before = findings(model, devices) if before is None else before
            compared[twin] += 1
            for device, one, other in zip(devices, before, findings(copy, devices), strict=True):
                if odd := _unexplained(twin, one, other):
                    different.append(f"{name}, {twin}, {device}: {'; '.join(odd[:3])}")
    return compared, different


def _unexplained(twin: str, before: Found, after: Found) -> list[str]:
    """Findings of one spelling alone for which there is no reason."""
    if isinstance(before, str) or isinstance(after, str):
        same = isinstance(before, str) and isinstance(after, str)
        return [] if same else [str(f) if isinstance(f, str) else "read" for f in (before, after)]
    odd = []
    refused = _refused(before) ^ _refused(after)  # all that is wrong with a node of these follows from NPU101
    for sign, found in (("-", before - after), ("+", after - before)):
        for rule, label, severity, outcome in sorted(found):
            reasons = OF_ADDED if label.startswith(ADDED) else {r for t, r in REASONS if t == twin}
            if rule not in reasons and label not in refused:
                odd.append(f"{sign} {rule} {label} {severity} {outcome}")
    return odd


def _refused(found: Mapping[Finding, int]) -> set[str]:
    """Nodes that the device has no operator for."""
    return {label for rule, label, severity, _ in found if rule == "NPU101" and severity == "error"}


def escaped(count: int) -> list[str]:
    """Mutants that nobody noticed, and graphs within the limits that somebody did."""
    found = []
    for seed in range(count):
        for rule, label, within, beyond in mutants(seed):
            told = [[(f[0], f[1]) for f in findings(m, DEVICES[:1])[0]] for m in (within, beyond)]
            if [(rule, label) in t for t in told] != [False, True]:
                found.append(f"mutant {seed}: {rule} at {label}: within {told[0]}, beyond {told[1]}")
    return found


def unseen(devices: Sequence[str]) -> tuple[int, list[str]]:
    """How many plain upper bounds of devices were stepped over, and those where nobody noticed or somebody did too early."""
    count, found = 0, []
    for device in devices:
        for mutant in limit_mutants(profile(device)):
            told = [_evidence(model, device, mutant.limit) for model in (mutant.within, mutant.beyond)]
            if ("NPU101", None) in told[0]:
                continue  # what the device does not have has no limits there
            count += 1
            if (mutant.rule, mutant.allowed) in told[0] or (mutant.rule, mutant.allowed) not in told[1]:
                found.append(f"{device}: {mutant.op} with {mutant.limit} {mutant.allowed}: within {told[0]}, beyond {told[1]}")
    return count, found


def _evidence(model: onnx.ModelProto, device: str, limit: str) -> list[tuple[str, object]]:
    """Rule and allowed value of the findings on a limit at the node in question."""
    analysis = analyze(load.read_skeleton(model.SerializeToString(), "mutant.onnx"), {})
    checked = engine.check(analysis, profile(device), registry.rules(), Config(profile=device))
    here = [f for f in checked.findings if f.location.node == "node"]
    refused = [("NPU101", None) for f in here if f.rule == "NPU101" and f.severity.value == "error"]
    return [*refused, *((f.rule, f.evidence.allowed) for f in here if f.evidence is not None and f.evidence.limit == limit)]


def guarded(devices: Sequence[str]) -> tuple[int, list[str]]:
    """The same for limits with guards, alternatives or other bounds on windows, each asked about alone."""
    count, found = 0, []
    for device in devices:
        whole = profile(device)
        for mutant in guarded_mutants(whole):
            alone = msgspec.structs.replace(whole, requirements=(mutant.requirement,), patterns=())
            told = [_limits(window.model(), alone) for window in (mutant.within, mutant.beyond)]
            if any(rule == "NPU101" and severity == "error" for seen in told for rule, _, severity in seen):
                continue  # what the device does not have has no limits there
            count += 1
            rule = mutant.requirement.code(mutant.within.op)
            here = [any(r == rule and limit.startswith(mutant.limit) for r, limit, _ in seen) for seen in told]
            if here != [False, True]:
                found.append(f"{device}: {mutant.requirement.allowed}: within {mutant.within}, beyond {mutant.beyond}: {told}")
    return count, found


def _limits(model: onnx.ModelProto, device: Profile) -> list[tuple[str, str, str]]:
    """Rule, limit and severity of what is surely wrong at the node in question."""
    analysis = analyze(load.read_skeleton(model.SerializeToString(), "mutant.onnx"), {})
    checked = engine.check(analysis, device, registry.rules(), Config(profile=device.name))
    return [
        (f.rule, f.evidence.limit if f.evidence is not None else "", f.severity.value)
        for f in checked.findings
        if f.location.node == "node" and f.outcome.value == "fail"
    ]


def main() -> int:
    """Compare all pairs; the exit code is 1 where some differ."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=500, help="how many random networks, besides the examples")
    options.add_argument("--first", type=int, default=0, help="the seed of the first")
    options.add_argument("--twins", type=int, default=5, help="how many rewritings of each network")
    given = options.parse_args()
    compared, different = differences(examples(), sys.maxsize)
    more, others = differences(networks(given.first), given.count, twins=given.twins)
    lost = escaped(max(given.count // 50, 1))
    stepped, silent = unseen(registry.profile_names())
    more_stepped, more_silent = guarded(registry.profile_names())
    lost += silent + more_silent
    compared += more
    print(*different, *others, *lost, sep="\n")
    for twin, number in sorted(compared.items()):
        print(f"{twin:16s} {number:6d} pairs")
    unexplained = len(different) + len(others) + len(lost)
    files = len(registry.profile_names())
    print(f"{stepped} limits of {files} device files stepped over, and {more_stepped} with guards, alternatives or minima")
    print(f"{compared.total()} pairs on {len(DEVICES)} devices, {unexplained} differ without a reason")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
