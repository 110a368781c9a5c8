"""A report made by hand that has everything a report can have, and names that try to break out of it."""

from __future__ import annotations

from msgspec.structs import replace

from npu_guard.results.findings import (
    Evidence,
    Finding,
    Location,
    ModelReport,
    Outcome,
    Remedy,
    Report,
    RuleCrash,
    Severity,
    SourceLine,
    Tensor,
    Totals,
    Verdict,
)

HOSTILE = (
    "\x1b[31mred\x1b[0m\r\n::error file=x::forged\n"
    "<script>alert(1)</script>]]>&amp;|`a`|](http://evil.example)![i](//evil.example/i.png)"
    "\ud800\u202eRTL\u200b\x00\x85\u2028 @team #1 org/repo#2 :tada: www.evil.example ##vso[task.complete]%0A%25"
)

_KERNEL = Finding(
    rule="NPU201",
    name="kernel-size",
    severity=Severity.ERROR,
    outcome=Outcome.FAIL,
    location=Location("node_conv2d_4", "Conv", "conv2d_4", ("context", "vertical")),
    message="kernel 19x1 is longer than 17",
    tensor=Tensor("conv2d_4", (1, 16, 32, 48), "float32"),
    evidence=Evidence("conv.kernel_max", 19, 17),
    source=SourceLine("nets/context.py", 55, "forward", "context.vertical"),
    remedy=Remedy("large_kernel_to_phases", "exact", "Split the kernel."),
    fingerprint="00000000000000a1",
    macs=300_000,
)

FINDINGS = (
    replace(  # a warning without a line of Python, first in the graph and last in importance
        _KERNEL,
        rule="NPU401",
        name="channel-alignment",
        severity=Severity.WARNING,
        location=Location("/gate/conv/Conv", "Conv", "gate", ("gate", "conv"), ("If_3.then_branch",)),
        message="1 output channel is not a multiple of 8",
        tensor=Tensor("gate", ("batch", 1, None, 48), "float32"),
        evidence=Evidence("channels.multiple_of", 1, 8),
        source=None,
        remedy=Remedy(None, None, "Widen the layer."),
        fingerprint="00000000000000a2",
        macs=40_000,
    ),
    _KERNEL,
    replace(  # says the same at the same line
        _KERNEL,
        location=Location("node_conv2d_5", "Conv", "conv2d_5", ("context", "vertical")),
        fingerprint="00000000000000a3",
        macs=100_000,
    ),
    replace(  # the costliest of the errors
        _KERNEL,
        rule="NPU103",
        name="spatial-matmul",
        location=Location("", "com.example::MatMul", "scores"),
        message="[1, 240, 64] x [1, 64, 240]: 2 operands are activations",
        tensor=Tensor("scores", (1, 240, 240), "float16"),
        evidence=None,
        source=SourceLine("nets/attention.py", 12, "forward", "attention"),
        remedy=Remedy(None, None, "Use axial convolutions."),
        fingerprint="00000000000000a4",
        macs=500_000,
    ),
    replace(
        _KERNEL,
        rule="NPU301",
        name="reduce-axis",
        outcome=Outcome.UNDECIDED,
        location=Location("mean", "ReduceMean", "mean", ("pool",)),
        message="cannot tell: the axes are not constant",
        tensor=Tensor("mean", None, None),
        evidence=None,
        source=None,
        remedy=None,
        fingerprint="00000000000000a5",
        macs=0,
    ),
    replace(
        _KERNEL,
        location=Location("node_conv2d_9", "Conv", "conv2d_9", ("stem",)),
        evidence=Evidence("conv.kernel_max", (31, 31), 17),
        message="kernel 31x31 is longer than 17",
        fingerprint="00000000000000a6",
        suppressed="the stem is replaced in #17",
        macs=900_000,
    ),
    replace(
        _KERNEL,
        rule="NPU104",
        name="flattened-head",
        severity=Severity.NOTE,
        location=Location("head", "Gemm", "head", ("head",)),
        message="weights applied to the vector [1, 20]",
        evidence=Evidence("layout.vectors", "vector", "map"),
        source=SourceLine("nets/main.py", 94, "forward", "head"),
        remedy=None,
        fingerprint="00000000000000a7",
        macs=1_000,
    ),
    replace(
        _KERNEL,
        location=Location(HOSTILE, HOSTILE, HOSTILE, (HOSTILE, "x"), (HOSTILE,)),
        message=f"kernel of {HOSTILE}",
        tensor=Tensor(HOSTILE, (HOSTILE, 1), HOSTILE),
        evidence=Evidence("conv.kernel_max", HOSTILE, 17),
        source=SourceLine("../../" + HOSTILE, 0, HOSTILE, HOSTILE),
        fingerprint="00000000000000a8",
        macs=1,
    ),
)

REPORT = Report(
    version="1.2.3",
    models=(
        ModelReport(
            path="exports/net one.onnx",
            profile="aimotive-aiware",
            verdict=Verdict.FAIL,
            findings=FINDINGS,
            crashes=(RuleCrash("NPU501", HOSTILE, f"ZeroDivisionError: {HOSTILE}"),),
            not_applicable=("NPU202",),
            totals=Totals(
                nodes=40, params=18_300, macs=2_000_000, activation_bytes=9, peak_bytes=3_940_000, npu_macs_percent=55.0
            ),
            notes=("batch is taken as 1",),
            unknown={HOSTILE: "no shape"},
            sha256="ab" * 32,
            opset=20,
            asked=("NPU103", "NPU104", "NPU201", "NPU301", "NPU302", "NPU401", "NPU501"),
        ),
        ModelReport(
            path="exports/fine.onnx",
            profile="aimotive-aiware",
            verdict=Verdict.PASS,
            totals=Totals(nodes=3, params=10, macs=1_000, npu_macs_percent=100.0),
            sha256="cd" * 32,
            opset=20,
            asked=("NPU201",),
        ),
        ModelReport(
            path=f"exports/{HOSTILE}.onnx",
            profile="aimotive-aiware",
            verdict=Verdict.UNREADABLE,
            error=("not-onnx", f"{HOSTILE}: not an ONNX file but a zip archive"),
        ),
    ),
)


def many(count: int, *, modules: int = 1, text: str = "kernel {0} is longer than 17") -> Report:
    """One model with so many errors, all at lines of their own; the last has the most MACs."""
    findings = tuple(
        replace(
            _KERNEL,
            location=Location(f"conv_{n}", "Conv", f"out_{n}", (f"module{n % modules}",)),
            message=text.format(n),
            source=SourceLine("net.py", n + 1, "forward", "m"),
            fingerprint=f"{n:016x}",
            macs=n,
        )
        for n in range(count)
    )
    totals = Totals(nodes=count, macs=sum(f.macs for f in findings))
    return Report(
        "1.2.3", (ModelReport("big.onnx", "aimotive-aiware", Verdict.FAIL, findings, totals=totals, asked=("NPU201",)),)
    )
