from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

from npu_guard.training.landing import Options
from npu_guard.training.steps import Landed, land_in


def load_networks() -> ModuleType:
    """The networks under a name that pickles can find."""
    name = "networks_of_training_tests"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("networks.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def nets() -> ModuleType:
    return load_networks()


@pytest.fixture(scope="session")
def landed(nets: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Landed:
    """The network of all blocks, fixed for the default device."""
    from npu_guard.project.config import Config

    return land_in(nets.build(), nets.inputs(), tmp_path_factory.mktemp("landed") / "npu", Options(Config()))


@pytest.fixture(scope="session")
def landed_volume(nets: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Landed:
    """The network over volumes, likewise."""
    from npu_guard.project.config import Config

    folder = tmp_path_factory.mktemp("volume") / "npu"
    return land_in(nets.build(nets.Volume), nets.inputs(nets.Volume), folder, Options(Config()))
