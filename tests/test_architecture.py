"""Who may import whom, what `check` must not load, and how long a module may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKS = ("rules", "models", "reports")
ENGINE = sorted((ROOT / "npu_guard").rglob("*.py"))
MEMBERS = sorted(file for pack in PACKS for file in (ROOT / pack).rglob("*.py"))
HEAVY = {"torch", "onnxsim", "onnxruntime", "onnx_ir", "onnxscript", "jinja2", "networkx", "pandas", "matplotlib"}


def relative(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def imported(file: Path) -> Iterator[str]:
    """Full names of what a file imports: modules, and `package.name` for each imported name."""
    home = file.relative_to(ROOT / "npu_guard" if file in ENGINE else ROOT)
    package = ["npu_guard", *home.parent.parts]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("file", ENGINE, ids=relative)
def test_engine_names_no_pack(file: Path) -> None:
    packs = {name for name in imported(file) for pack in PACKS if below(name, f"npu_guard.{pack}") or below(name, pack)}
    assert not packs


@pytest.mark.parametrize("file", MEMBERS, ids=relative)
def test_packs_import_the_engine_and_shared_blocks_only(file: Path) -> None:
    """One member never leans on another; what several need lies in the engine, or in the pack's own `blocks`."""
    own = relative(file).split("/")[0]
    wrong = {
        name
        for name in imported(file)
        for pack in PACKS
        if below(name, pack) or (below(name, f"npu_guard.{pack}") and not below(name, f"npu_guard.{own}.blocks"))
    }
    assert not wrong


def test_results_stay_inert() -> None:
    """Reports depend on results.py, so it depends, with the part of it in pieces.py, on the standard library alone."""
    allowed = {"__future__", "collections", "enum", "msgspec"}
    names = [name for part in ("results", "pieces") for name in imported(ROOT / f"npu_guard/{part}.py")]
    assert {name.split(".")[0] for name in names if not below(name, "npu_guard.pieces")} <= allowed


def test_only_the_pipeline_knows_the_order() -> None:
    """pipeline.py that of `check`, repair.py that of `fix`; and cases.py asks one rule about one example and reports nothing."""
    flow = {"npu_guard.load", "npu_guard.analyze", "npu_guard.check"}
    assert {file.stem for file in ENGINE if flow <= set(imported(file))} <= {"pipeline", "repair", "cases"}


@pytest.mark.parametrize("file", [*ENGINE, *MEMBERS], ids=relative)
def test_library_code_never_prints(file: Path) -> None:
    calls = [n.func for n in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    assert not [call.lineno for call in calls if isinstance(call, ast.Name) and call.id == "print"]


@pytest.mark.parametrize("file", [*ENGINE, *MEMBERS], ids=relative)
def test_names_that_a_system_does_not_take_are_no_bug(file: Path) -> None:
    """pathlib raises where a name is too long or a folder above is closed; os.path says that there is no such file."""
    calls = [n.func for n in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    asked = [call for call in calls if isinstance(call, ast.Attribute) and call.attr in {"exists", "is_file", "is_dir"}]
    assert not [call.lineno for call in asked if ast.unparse(call.value) != "os.path"]


@pytest.mark.parametrize("file", [*ENGINE, *MEMBERS], ids=relative)
def test_modules_can_be_read_in_one_go(file: Path) -> None:
    limit = 150 if file.parent == ROOT / "rules" else 320
    assert len(file.read_text(encoding="utf-8").splitlines()) <= limit


def test_check_loads_nothing_heavy() -> None:
    driver = (
        "import sys\n"
        "from npu_guard.cli import main\n"
        "try:\n    main(['check', 'samples/sample_net.onnx', 'samples/six_problems.onnxtxt', '--format', sys.argv[1]])\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)\n"
    )
    for form in ("text", "json"):
        done = subprocess.run([sys.executable, "-c", driver, form], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        loaded = {name.split(".")[0] for name in done.stderr.split()}
        assert "onnx" in loaded
        assert not loaded & HEAVY
