"""What `verify` and `partition` return: the values of the command line, which print as its text."""

from __future__ import annotations

from dataclasses import dataclass

from npu_guard.partitioning.report import PartitionReport
from npu_guard.results.verification import Verification


class Verified(Verification, frozen=True):
    """What a comparison found; printed, it is the text of `npu-guard verify`."""

    @classmethod
    def of(cls, found: Verification) -> Verified:
        """The same value."""
        return cls(*(getattr(found, name) for name in found.__struct_fields__))

    def __str__(self) -> str:
        from npu_guard.checking import registry
        from npu_guard.verification.report import VerifyResult

        return registry.renderer("text", "verify")(VerifyResult(self)).rstrip()

    def __repr__(self) -> str:
        return f"<Verified {str(self).splitlines()[0]}>"


@dataclass(frozen=True, slots=True, repr=False)
class Partition(PartitionReport):
    """Where a model is cut; printed, it is the text of `npu-guard partition`."""

    def __str__(self) -> str:
        from npu_guard.checking import registry

        return registry.renderer("text", "partition")(self).rstrip()

    def __repr__(self) -> str:
        from npu_guard.partitioning.report import headline

        return f"<Partition {self.path} on {self.partition.profile}: {headline(self.partition)}>"
