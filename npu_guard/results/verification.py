"""What a comparison of two models found, as frozen values."""

from __future__ import annotations

from msgspec import Struct

from npu_guard.results.proof import Proof


class Worst(Struct, frozen=True):
    """Where two outputs are farthest apart, measured by what may be rounding there."""

    input: str
    """The kind of input on which it was seen, and its seed."""
    slice: str
    """The channel, or the index along another axis; empty where the output has no slices."""
    error: float
    tolerance: float
    before: float | None
    """What the one side has there and what the other, None where that is no finite number."""
    after: float | None


class OutputComparison(Struct, frozen=True):
    """One output before and after.

    `max_abs` is the largest difference, `atol` the largest that any value may have, and `rtol` what each slice may differ by,
    relative to its own size.
    """

    name: str
    max_abs: float
    max_rel: float
    cosine: float
    snr_db: float
    atol: float
    rtol: float
    ok: bool
    worst: Worst | None = None
    """None where all inputs give the very same."""
    flips: int = 0
    """Integers that differ where the first model gives the other value as well once its last bits move."""
    note: str = ""
    """What else differs: the type, the shape, or which values are NaN or infinite."""
    steps: float | None = None
    """The largest difference in steps of the scale that the output is held with; None where it is no integer, or not asked."""
    of_largest: float | None = None
    """The largest difference as a share of the largest value that the first model gives on the same input; None for integers."""


class Roundings(Struct, frozen=True):
    """Where a quantized network that was changed rounds other numbers than before; all 0 where all are the same integers."""

    anew: int
    """New tensors, such as parts of sums, with a scale of their own."""
    otherwise: int
    """Tensors of before, or with the numbers of one, that have another scale or zero point."""
    left_out: int
    """Tensors of before whose numbers no tensor has any more."""
    weights: int
    """New weights that are no whole number of steps."""

    @property
    def same(self) -> bool:
        """Whether each tensor is rounded as before."""
        return not (self.anew or self.otherwise or self.left_out or self.weights)


class Verification(Struct, frozen=True):
    """What a comparison found: `equal`, `close` (approximate), `differs`, or `not_run` with a reason, which is no pass."""

    verdict: str
    backend: str
    seeds: tuple[int, ...]
    inputs: str
    reason: str
    outputs: tuple[OutputComparison, ...]
    proof: Proof | None = None
    roundings: Roundings | None = None
    """Of two quantized networks of which one was made from the other; else None."""
