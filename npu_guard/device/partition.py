"""What a partition costs and how far it may be cut: the device's file, then `[tool.npu-guard.partition]`, then flags."""

import msgspec


class Settings(msgspec.Struct, frozen=True):
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


class Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a device file, or a project in its kebab-case, says of them; what it leaves out is as in `Settings`."""

    min_macs: int | None = None
    max_pieces: int | None = None
    byte_cost: float | None = None
    launch_cost: float | None = None
    npu_mac_cost: float | None = None
    host_mac_cost: float | None = None

    def __post_init__(self) -> None:
        """Raise ValueError, which msgspec makes a message with the place of, where a number means nothing."""
        for field in msgspec.structs.fields(type(self)):
            value, least = getattr(self, field.name), int(field.name == "max_pieces")
            if value is not None and not least <= value < float("inf"):
                raise ValueError(f"{field.name} must be {f'at least {least}' if least else '0 or more'}")


DEFAULT = Settings()


def partition_settings(*layers: Given | None) -> Settings:
    """The defaults under what is given; later layers count more."""
    found = DEFAULT
    for layer in layers:
        if layer is not None:
            said = {name: value for name, value in msgspec.structs.asdict(layer).items() if value is not None}
            found = msgspec.structs.replace(found, **said)
    return found
