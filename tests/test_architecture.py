"""Who may import whom, what `check` must not load, and how long a module may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import networkx
import pytest

ROOT = Path(__file__).parents[1]
PACKS = ("rules", "models", "reports")
ROOMS = (
    "base", "results", "file", "graph", "analysis", "device", "compilers", "project", "checking", "verification", "proof",
    "rewriting", "partitioning", "fixing", "pipeline", "learning", "training", "gate", "fleet", "zoo", "commands", "api", *PACKS,
    "",
)  # fmt: skip
ENGINE = sorted((ROOT / "npu_guard").rglob("*.py"))
MEMBERS = sorted(file for pack in PACKS for file in (ROOT / pack).rglob("*.py"))
HEAVY = {"torch", "onnxsim", "onnxruntime", "onnx_ir", "onnxscript", "jinja2", "networkx", "pandas", "matplotlib"}


def relative(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def imported(file: Path) -> Iterator[str]:
    """Full names of the modules that a file imports."""
    home = file.relative_to(ROOT / "npu_guard" if file in ENGINE else ROOT)
    package = ["npu_guard", *home.parent.parts]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (full if (full := f"{module}.{alias.name}") in MODULES else module for alias in node.names)


def below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def module(file: Path) -> str:
    """The name by which a file is imported."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(p for p in ("npu_guard", *(parts[1:] if parts[0] == "npu_guard" else parts)) if p != "__init__")


def room(name: str) -> str:
    """The room of a module; "" for modules at the top, which import what they like and which no room imports."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else ""


MODULES = {module(file): file for file in (*ENGINE, *MEMBERS)}
IMPORTS = {name: set(imported(file)) & MODULES.keys() for name, file in MODULES.items()}


@pytest.mark.parametrize("name", MODULES)
def test_a_room_imports_only_rooms_before_it(name: str) -> None:
    """Imports inside functions and for types count. A member of a pack uses other files of its pack only from `blocks`."""
    own, at = room(name), ROOMS.index(room(name))
    before = ROOMS[: at + (own not in PACKS)] if own else ROOMS
    wrong = {n for n in IMPORTS[name] if room(n) not in before and not n.startswith(f"npu_guard.{own}.blocks")}
    assert not wrong


def test_modules_import_each_other_in_no_circle() -> None:
    assert [c for c in networkx.strongly_connected_components(networkx.DiGraph(IMPORTS)) if len(c) > 1] == []


def test_results_stay_inert() -> None:
    """Reports depend on findings.py, so it depends, with its parts in other modules, on the standard library alone."""
    allowed = {"__future__", "collections", "enum", "msgspec"}
    parts = ("command", "device", "pieces", "proof", "prospect", "simplified", "verification")
    names = [name for part in ("findings", *parts) for name in imported(ROOT / f"npu_guard/results/{part}.py")]
    assert {name.split(".")[0] for name in names if not any(below(name, f"npu_guard.results.{p}") for p in parts)} <= allowed


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


@pytest.mark.parametrize("file", [*ENGINE, *MEMBERS], ids=relative)
def test_our_modules_go_by_their_own_names(file: Path) -> None:
    imports = [n for n in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(n, ast.ImportFrom)]
    ours = [alias for n in imports if below(n.module or "", "npu_guard") for alias in n.names]
    assert not [alias.asname for alias in ours if alias.asname not in (None, alias.name)]


OUTCOMES = {"ModelError", "UsageError", "NotVerified", "Undecidable", "Refused", "CannotRun"}


@pytest.mark.parametrize("file", ENGINE, ids=relative)
def test_docstrings_say_what_is_raised(file: Path) -> None:
    """Of public functions; the docstring of a command is its help page, and `cli` makes exit codes of what it raises."""
    if file.parent.name == "commands":
        return
    silent = []
    for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef) and not function.name.startswith("_"):
            calls = [n.exc.func for n in ast.walk(function) if isinstance(n, ast.Raise) and isinstance(n.exc, ast.Call)]
            raised = {call.id for call in calls if isinstance(call, ast.Name)} & OUTCOMES
            silent += [f"{function.name}: {name}" for name in raised if name not in (ast.get_docstring(function) or "")]
    assert not silent
