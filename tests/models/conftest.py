"""Zoo systems, found by listing the pack's folder, and their exports at size tiny, each made once per run."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from npu_guard.project.export import export

ROOT = Path(__file__).parents[2]
NAMES = tuple(sorted(path.stem for path in (ROOT / "models").glob("*.py") if path.stem != "__init__"))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Sums are then always made in the same order, and tests do not compete for cores."""
    torch.set_num_threads(1)


@pytest.fixture(params=["dynamo", "legacy"])
def exporter(request: pytest.FixtureRequest) -> str:
    """Each of torch's exporters in turn."""
    return str(request.param)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Each system's name in turn."""
    return str(request.param)


@pytest.fixture
def system(name: str) -> ModuleType:
    """The module of the system `name`."""
    return _load(name)


@pytest.fixture(scope="session")
def systems() -> dict[str, ModuleType]:
    """All systems by name."""
    return {name: _load(name) for name in NAMES}


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """(system, exporter) -> path of the ONNX file at size tiny."""
    # Processes that share the tests share the exports: the folder around their own is that of this run.
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    folder = tmp_path_factory.getbasetemp().parent / "zoo" if worker else tmp_path_factory.mktemp("zoo")
    folder.mkdir(exist_ok=True)

    def make(name: str, exporter: str) -> Path:
        path = folder / f"{name}.{exporter}.onnx"
        if not path.exists():
            system, own = _load(name), folder / f"{worker}-{path.name}"
            export(system.build("tiny"), system.inputs("tiny"), own, exporter=exporter, root=ROOT)
            own.replace(path)
        return path

    return make


def _load(name: str) -> ModuleType:
    """A pack member, under the name by which the engine imports it."""
    return importlib.import_module(f"npu_guard.models.{name}")
