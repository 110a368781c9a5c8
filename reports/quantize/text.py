"""What `quantize` found, for people: the scheme, what is lost, how much is in integers, what loses most, and the findings."""

from __future__ import annotations

from msgspec.structs import replace

from npu_guard.base.installation import VERSION
from npu_guard.base.text import printable
from npu_guard.checking import registry
from npu_guard.pipeline.quantize import Quantization, QuantizeResult, Sensitivity
from npu_guard.results.findings import Report
from npu_guard.results.next_steps import fix_command
from npu_guard.results.summary import count, percent, plural, si
from npu_guard.verification.scheme import WIDE, Scheme

MOST = 12
"""Operators that a screen shows."""


def render(result: QuantizeResult, *, color: bool = False) -> str:
    """A paragraph for each of these."""
    q = result.quantization
    scheme = replace(q.scheme, in_float=tuple(name for name in q.scheme.in_float if name not in q.held_by_neighbours))
    lines = [
        f"{printable(q.path)}  {q.report.profile}",
        "",
        f"Quantized: {scheme_text(scheme)}; {plural(q.samples, 'sample')} of calibration",
    ]
    if q.joined:
        lines.append(f"{plural(q.joined, 'group')} of operators written as the one operator that the compiler takes them as")
    lines += ["Signal to noise of outputs, against floating point:"] if q.outputs else []
    for name, decibels in q.outputs.items():
        short = "" if decibels >= result.minimum else f"  <- below {result.minimum:g}"
        lines.append(f"  {printable(name, 60)}: {decibels:.1f} dB{short}")
    s = q.shares
    share = 100.0 * s.integer_macs / s.macs if s.macs else 100.0
    islands = f", {plural(s.islands, 'operator')} in floating point between quantized ones" if s.islands else ""
    lines.append(f"{percent(share)} of the MACs in integers{islands}; {plural(s.pieces, 'piece')} on NPU and host together")
    if q.held_by_neighbours:
        names = ", ".join(printable(name, 60) for name in q.held_by_neighbours)
        wide = (
            f", or hold {'it' if len(q.held_by_neighbours) == 1 else 'them'} in 16 bits with --keep-as int16"
            if q.can_be_wide
            else ""
        )
        lines.append(
            f"--keep changes nothing at {names}: what is read and given there is quantized for neighbours; keep these too{wide}"
        )
    if q.sensitivity:
        lines += ["", *sensitivity_text(q)]
    written = None if result.written is None else str(result.written)
    report = q.report if written is None else replace(q.report, path=written)
    lines += ["", registry.renderer("text")(Report(VERSION, (report,)), color=color).rstrip()]
    if written is not None:
        mend = bool(count(report.findings).error)
        lines += ["", f"Wrote {printable(written)}{'. Next, see what can be mended:' if mend else ''}"]
        lines += [f"  {fix_command(report, written, ('--calibration', q.calibration))}"] if mend else []
    return "\n".join(lines) + "\n"


def scheme_text(scheme: Scheme) -> str:
    """The scheme in a line."""
    each = "a scale for each channel" if scheme.per_channel else "one scale"
    symmetric = (" symmetric" if flag else "" for flag in (scheme.activation_symmetric, scheme.weight_symmetric))
    words = [
        scheme.form.upper() if scheme.form == "qdq" else "QOperator",
        f"activations {scheme.activation}{next(symmetric)}",
        f"weights {scheme.weight}{next(symmetric)}, {each}",
    ]
    if scheme.per_channel and scheme.channel_operators is not None:
        words[-1] += f" at {', '.join(scheme.channel_operators)}"
    words += ["scales are powers of two"] if scheme.power_of_two else []
    words += [f"{plural(len(scheme.in_float), 'operator')} left in floating point"] if scheme.in_float else []
    words += [f"{plural(len(scheme.in_wide), 'operator')} in {WIDE[scheme.activation]}"] if scheme.in_wide else []
    return ", ".join(words)


def sensitivity_text(q: Quantization) -> list[str]:
    """The operators that lose most, each quantized alone."""
    lines = [f"What loses most, each operator quantized alone, on {plural(q.compared, 'sample')}"]
    for row in q.sensitivity[:MOST]:
        lines.append(f"  {row.decibels:>6.1f} dB  {row.op_type} {printable(row.node, 60)}  {si(row.macs)}MAC{_line(row)}")
    if len(q.sensitivity) > MOST:
        lines.append(f"  and {len(q.sensitivity) - MOST} more, which lose less")
    wide = WIDE[q.scheme.activation]
    more = f"; --keep-as int16 holds it as {wide}" if q.can_be_wide else ""
    lines.append(f"  --keep NODE leaves an operator in floating point, one without weights only with its neighbours{more}.")
    return lines


def _line(row: Sensitivity) -> str:
    return f"  {printable(row.source.file)}:{row.source.line}" if row.source is not None else ""
