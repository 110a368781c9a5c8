"""The contract of a zoo system: one file in `models/`, its name is the file's name.

A system module has a docstring (first line: short description), `ID` (its row in the seed table), `build(size)`
-> eval-mode torch module with seeded weights, `inputs(size)` -> dict of example tensors by input name, in
the order of `forward`, and `EXPECTED`, findings by profile.
"""

from __future__ import annotations

from dataclasses import dataclass

from npu_guard.results import Number


@dataclass(frozen=True, slots=True)
class Expect:
    """`count` findings that an engineer who knows the device expects, in terms that no exporter's spelling changes.

    `scope` is the dotted module path (or a prefix of it) in which the operator was written, "" for the root.
    """

    rule: str
    severity: str
    measured: Number | None = None
    allowed: Number | None = None
    scope: str = ""
    count: int = 1
