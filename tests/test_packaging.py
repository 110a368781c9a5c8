"""The wheel, installed into an environment that has the declared dependencies and nothing else, run from an empty folder.

No network: the dependencies are linked from the environment that runs the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "samples" / "sample_net.onnx"

# One worker builds once; a worker each would build at the same time, in the same folder of the checkout.
pytestmark = pytest.mark.xdist_group("packaging")


def run(*command: object, cwd: Path, code: int = 0) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_", "VIRTUAL_ENV"))}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def build(source: Path, target: Path, *kinds: str) -> None:
    run(sys.executable, "-m", "build", "--no-isolation", *kinds, "--outdir", target, source, cwd=target)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    build(ROOT, folder, "--sdist")
    return next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build(ROOT, folder, "--wheel")
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the programs of an environment with the wheel in it."""
    folder = tmp_path_factory.mktemp("env")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    packages = next(folder.glob("lib/python*/site-packages"))
    for name in needed("npu-guard"):
        link(name, packages)
    return folder / "bin"


def needed(name: str) -> set[str]:
    """Distributions that the base install of `name` brings along."""
    found: set[str] = set()
    pending = [name]
    while pending:
        for text in metadata.requires(pending.pop()) or ():
            requirement = Requirement(text)
            if requirement.name not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
                found.add(requirement.name)
                pending.append(requirement.name)
    return found


def link(name: str, packages: Path) -> None:
    distribution = metadata.distribution(name)
    for top in {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}:
        target = packages / top
        if not target.exists():
            target.symlink_to(Path(str(distribution.locate_file(top))))


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_has_all_of_the_packs_inside_the_package(wheel: Path) -> None:
    there = names(wheel)
    assert {name.split("/")[0].split("-")[0] for name in there} == {"npu_guard"}
    wanted = {"py.typed", "rules/profiles/aimotive-aiware.toml", "reports/assets/json-v1.schema.json", "models/blocks/seeding.py"}
    assert {f"npu_guard/{name}" for name in wanted} <= there
    sources = {f"npu_guard/{f.relative_to(ROOT)}" for pack in ("rules", "models", "reports") for f in (ROOT / pack).rglob("*.py")}
    sources |= {str(f.relative_to(ROOT)) for f in (ROOT / "npu_guard").rglob("*.py")}
    assert {name for name in there if name.endswith(".py")} == sources
    assert any(name.endswith("licenses/LICENSE") for name in there)
    assert not [name for name in there if "__pycache__" in name or name.endswith(".pyc")]


def test_sdist_makes_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
        # Early patch releases of Python 3.11 know no filter, and later ones want one; the archive is our own.
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    assert {
        "LICENSE",
        "README.md",
        "Makefile",
        "requirements/torch.txt",
        "samples/sample_net.onnx",
        "tests/conftest.py",
    } <= members
    assert not [name for name in members if "__pycache__" in name or name.startswith((".venv", ".bench", ".git/"))]
    build(next(tmp_path.iterdir()), tmp_path, "--wheel")
    assert names(next(tmp_path.glob("*.whl"))) == names(wheel)


def test_check_runs_from_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    shown = run(installed / "npu-guard", "check", SAMPLE, cwd=tmp_path, code=1)
    assert "NPU201" in shown
    folders = "*map(r.pack, ('rules', 'models', 'reports'))"
    code = f"import sys, npu_guard.checking.registry as r; print(*npu_guard.__path__, {folders}, *sys.path)"
    paths = run(installed / "python", "-c", f"import npu_guard; {code}", cwd=tmp_path).split()
    assert all(str(ROOT) not in path for path in paths)
    assert str(installed.parent) in paths[0]


@pytest.mark.parametrize(
    "command", ["rules", "rules NPU201", "profiles", "profiles aimotive-aiware", "zoo", "check --help", "--version"]
)
def test_commands_say_the_same_as_in_the_checkout(command: str, installed: Path, tmp_path: Path) -> None:
    checkout = run(sys.executable, "-c", "from npu_guard.cli import main; main()", *command.split(), cwd=tmp_path)
    assert run(installed / "npu-guard", *command.split(), cwd=tmp_path) == checkout


def test_what_needs_torch_says_so(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [installed / "npu-guard", "zoo", "se", "-o", "se.onnx"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "npu-guard[torch]" in done.stderr
    assert len(done.stderr.splitlines()) == 1
