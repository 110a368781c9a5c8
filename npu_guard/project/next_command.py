"""How a model was named on the command line, for commands that are suggested to go on with it."""

from __future__ import annotations

from msgspec.structs import replace

from npu_guard.device.toolkit import split_toolkit
from npu_guard.project.config import Config
from npu_guard.project.paths import in_project, in_project_or_named
from npu_guard.results.command import Command
from npu_guard.results.findings import ModelReport
from npu_guard.results.next_steps import device_of, next_steps


def command_of(config: Config) -> Command:
    """The device, the inputs and the settings that a run was asked for, each file as it was named there."""
    inputs: list[str] = []
    for name, shape in config.input_shapes.items():
        inputs += ["--input-shape", f"{name}:{','.join(map(str, shape))}"]
    for name, value in config.held.values.items():
        inputs += ["--input-value", f"{name}={','.join(f'{n:.0f}' if n == int(n) else repr(n) for n in value)}"]
    inputs += ["--freeze-weights"] if config.held.freeze_weights else []
    return Command(config.profile, tuple(inputs), ("--config", config.file) if config.file else ())


def steps_from_root(model: ModelReport) -> list[tuple[str, str]]:
    """What to do next, for readers elsewhere: every file is named from the project's root, where the commands run."""
    options, files = model.command.settings[:1], map(in_project, model.command.settings[1:])
    named = replace(model.command, profile=device_from_root(model), settings=(*options, *files))
    return next_steps(replace(model, command=named), in_project_or_named(model.path))


def device_from_root(model: ModelReport) -> str:
    """The device as it was named; a file of one from the project's root."""
    device, toolkit = split_toolkit(device_of(model))
    device = in_project(device) if device.endswith(".toml") else device
    return f"{device}@{toolkit}" if toolkit else device
