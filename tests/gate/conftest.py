"""The program in this process, and small models that several tests compare."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


Cli = Callable[..., Any]


@pytest.fixture(scope="session")
def cli(program: Cli) -> Cli:
    """`cli(folder, "check", "net.onnx")`: the program, run in a folder."""
    return program
