"""Where two models are farthest apart, in words: output, slice, kind of input, and what rounding may be there."""

from __future__ import annotations

import math

from npu_guard.base.text import printable
from npu_guard.results.verification import OutputComparison, Verification
from npu_guard.verification.ratio import LIMIT_DB

MIXED = (
    "one of the models is quantized, so they differ by more than the rounding of floating-point numbers, and nothing else is "
    "equal here; how much of the signal has to be left is for accuracy on your data to tell, and verify has no threshold for it"
)
"""What is said where a model in floating point is compared with a quantized one."""
LEFT_OUT = "left out, as the model's own output moves so far when its input moves by one ulp"
OVERFLOWN = "not compared where large inputs give nothing finite in the first model"
"""What a result says of inputs and values that were no evidence."""
_ALL = 0.995
"""Of the largest error of an output, what an error has to be to be called the largest: both are told in two digits."""


def worst_output(v: Verification) -> OutputComparison | None:
    """The output that is farthest from what it may be, measured by its tolerance; None where there are none."""
    return max(v.outputs, key=lambda o: (not o.ok, _excess(o)), default=None)


def _excess(o: OutputComparison) -> float:
    if o.worst is None:
        return 0.0
    return o.worst.error / o.worst.tolerance if o.worst.tolerance else o.worst.error or 0.0


def identical_output(v: Verification, o: OutputComparison) -> str:
    """What is the same of an output that differs nowhere it is compared; empty where it differs."""
    if o.worst is not None or not o.ok:
        return ""
    some = LEFT_OUT in v.reason or OVERFLOWN in v.reason
    flips = f", and {o.flips:,} values elsewhere flip where the original itself flips by one ulp" if o.flips else ""
    return f"identical, bit for bit{' in what counts' if some else ''}{flips}"


def describe_agreement(v: Verification) -> str:
    """The largest error of outputs that agree but for rounding, on any input; empty where that does not tell how they agree."""
    apart = [o for o in v.outputs if o.worst is not None]
    judged = all(o.worst is not None and o.worst.tolerance and not o.flips for o in apart)
    if not apart or not judged or not all(o.ok and not o.note for o in v.outputs):
        return ""
    largest = max(apart, key=lambda o: o.max_abs if o.of_largest is None else o.of_largest)
    where = f", in output {printable(largest.name, 60)!r}" if len(v.outputs) > 1 else ""
    return f"largest error {error_in_words(largest)}{where}, within rounding"


def error_in_words(o: OutputComparison) -> str:
    """The largest error as a share of the largest value, `1e-07 of the largest value`, as an output may be of any size."""
    return f"{o.max_abs:.2g}" if o.of_largest is None else f"{o.of_largest:.1g} of the largest value"


def describe_limit(o: OutputComparison) -> str:
    """Where an output comes nearest to what rounding may be; empty where nothing differs."""
    if o.worst is None or not o.worst.tolerance:
        return ""
    where = ", ".join(filter(None, (o.worst.slice, o.worst.input and f"on {o.worst.input}")))
    share = 100 * o.worst.error / o.worst.tolerance
    told = f"at most {share:.2g} % of what rounding may be: {o.worst.error:.2g} of {o.worst.tolerance:.2g}"
    return f"{told} ({where})" if where else told


def describe_output(o: OutputComparison, *, exact: bool = True) -> str:
    """The largest error of one output in words; `exact` says whether it is judged by what rounding may be."""
    where = f"output {printable(o.name, 60)!r}"
    if o.worst is not None and o.worst.slice:
        where += f", {o.worst.slice}"
    if o.worst is not None and o.worst.input:
        where += f", on {o.worst.input}"
    if o.note:
        return f"{o.note}, in output {printable(o.name, 60)!r}"
    if o.worst is None:
        return f"no difference in {where}"
    if o.flips and o.ok:
        flips = f"{o.flips:,} values flip by a step where the original itself flips by one ulp"
        return f"{flips}, by {o.worst.error:.3g} at the most, in {where}"
    largest = o.worst.error >= _ALL * o.max_abs
    error = f"{'largest error' if largest else 'error'} {o.worst.error:.2g}, in {where}"
    values = "" if o.worst.before is None else f" ({_number(o.worst.before)} before, {_number(o.worst.after)} after)"
    if not exact:
        return f"{error}{values}, signal-to-noise ratio {ratio_in_words(o.snr_db)}"
    if not o.worst.tolerance:
        return f"{error}{values}"
    larger = "" if largest else "; where errors are larger, rounding may be larger too"
    share = o.worst.error / o.worst.tolerance
    if share > 1.0:
        return f"{error}{values}: {_times(share)} what rounding may be there{larger}"
    return f"{error}: within rounding, which may be {o.worst.tolerance:.2g} there{larger}"


def _number(value: float | None) -> str:
    return "not finite" if value is None or not math.isfinite(value) else f"{value:.6g}"


def _times(share: float) -> str:
    if share >= 1e6:
        return "more than a million times"
    return f"{share:,.0f} times" if share >= 10 else f"{share:.1f} times"


def ratio_in_words(snr: float) -> str:
    """A signal-to-noise ratio in dB, or that there is no noise."""
    if snr <= -LIMIT_DB:
        return "none (zeros or nothing finite before)"
    return "infinite (no difference)" if snr >= LIMIT_DB else f"{snr:.0f} dB"
