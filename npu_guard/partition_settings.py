"""What a partition costs and how far it may be cut: `[tool.npu-guard.partition]`, then flags."""

from __future__ import annotations

import msgspec


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Costs are relative to one MAC on the host; they decide only where there is a choice."""

    min_macs: int = 0
    """A connected part for the NPU with fewer MACs goes to the host."""
    max_pieces: int = 64
    byte_cost: float = 1.0
    """One byte of a tensor that one piece hands to another."""
    launch_cost: float = 10_000.0
    """Starting a piece on the NPU."""
    npu_mac_cost: float = 0.02
    host_mac_cost: float = 1.0

    def __post_init__(self) -> None:
        """Raise ValueError, which msgspec makes a message with the place of, where a number means nothing."""
        if self.max_pieces < 1:
            raise ValueError("max-pieces must be at least 1")
        if self.min_macs < 0 or not all(
            0 <= cost < float("inf") for cost in (self.byte_cost, self.launch_cost, self.npu_mac_cost, self.host_mac_cost)
        ):
            raise ValueError("min-macs and costs must be 0 or more")


DEFAULT = Settings()
