"""How a model was named on the command line, for commands that are suggested to go on with it."""

from __future__ import annotations

import os

from npu_guard.device.toolkit import split_toolkit
from npu_guard.project.config import Config
from npu_guard.project.paths import in_project
from npu_guard.results.command import Command


def command_of(config: Config) -> Command:
    """The device, the inputs and the settings that a run was asked for. Files are named from the project's root."""
    device, toolkit = split_toolkit(config.profile)
    device = in_project(device) if device.endswith(".toml") and os.path.isabs(device) else device
    inputs: list[str] = []
    for name, shape in config.input_shapes.items():
        inputs += ["--input-shape", f"{name}:{','.join(map(str, shape))}"]
    for name, value in config.held.values.items():
        inputs += ["--input-value", f"{name}={','.join(f'{n:.0f}' if n == int(n) else repr(n) for n in value)}"]
    inputs += ["--freeze-weights"] if config.held.freeze_weights else []
    settings = ("--config", in_project(config.file) if os.path.isabs(config.file) else config.file) if config.file else ()
    return Command(f"{device}@{toolkit}" if toolkit else device, tuple(inputs), settings)
