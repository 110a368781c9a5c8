"""How a model was named: what a command that goes on with it has to say again."""

from __future__ import annotations

from msgspec import Struct


class Command(Struct, frozen=True):
    """How a model was named, for what is suggested as the next step."""

    profile: str = ""
    """The device as it was named; empty for the profile's own name."""
    inputs: tuple[str, ...] = ()
    """Options about inputs, each with its value: shapes, and what counts as a constant."""
    settings: tuple[str, ...] = ()
    """`--config` with its file, where settings were named."""
    python: str = ""
    """Arguments of `npu_guard.fix` besides the model and the device, where the model is an object of a program."""
    in_program: bool = False
    """Whether the model is such an object, which no command can name."""
