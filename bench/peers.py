"""Other tools on the same files, each in an environment of its own below .bench/, so that none disturbs another."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import HEAD, Series, once

CACHE = Path(__file__).resolve().parents[1] / ".bench"
SLOW_SECONDS = 10.0
"""A tool whose first run on a file takes longer is not run again on it."""

CHECKER = (
    "import onnx, sys; onnx.checker.check_model(sys.argv[1], full_check=True);"
    "onnx.shape_inference.infer_shapes_path(sys.argv[1], sys.argv[2], strict_mode=True)"
)


@dataclass(frozen=True)
class Peer:
    """A tool, what pip installs for it, and its command line (folder of programs, model, file for output)."""

    name: str
    requirements: tuple[str, ...]
    command: Callable[[Path, str, str], Sequence[str]]


def kneron(programs: Path, model: str, _: str) -> Sequence[str]:
    """The profile by its path: by name the tool finds none on a file system that knows upper case."""
    profile = next(programs.parent.glob("lib/python*/site-packages/onnxnpu/**/KL720.json"), Path("KL720.json"))
    return (f"{programs}/onnxnpu", "check", model, "-p", str(profile))


PEERS = (
    Peer(
        "onnx.checker + inference",
        ("onnx==1.23.2",),
        lambda programs, model, out: (f"{programs}/python", "-c", CHECKER, model, out),
    ),
    Peer("onnxslim", ("onnxslim==0.1.98", "onnx==1.23.2"), lambda programs, model, out: (f"{programs}/onnxslim", model, out)),
    Peer("onnxsim", ("onnxsim==0.8.1", "onnx==1.23.2"), lambda programs, model, out: (f"{programs}/onnxsim", model, out)),
    Peer(
        "polygraphy inspect",
        ("polygraphy==0.53.6", "onnx==1.23.2"),
        lambda programs, model, _: (f"{programs}/polygraphy", "inspect", "model", model),
    ),
    Peer(
        "onnxruntime mobile usability",
        ("onnxruntime==1.31.1", "onnx==1.23.2"),
        lambda programs, model, _: (f"{programs}/python", "-m", "onnxruntime.tools.check_onnx_model_mobile_usability", model),
    ),
    # Its imports fail with a newer onnx, and without ml_dtypes, which it does not declare.
    Peer("onnxnpu", ("onnxnpu==0.2.0", "onnx==1.17.0", "ml_dtypes"), kneron),
)


def measure(folder: Path, models: Mapping[str, str], runs: int) -> None:
    """Install what installs, then print a table per model with `npu-guard check` as its first line."""
    ready: list[tuple[str, Path, Peer | None]] = [("npu-guard check", Path(sys.executable).parent, None)]
    for peer in PEERS:
        programs = install(peer)
        if programs is not None:
            ready.append((peer.name, programs, peer))
    for model, title in models.items():
        print(f"\n{title}\n{'':<30}{HEAD}", flush=True)
        path = str(folder / f"{model}.onnx")
        for name, programs, peer in ready:
            command = peer.command(programs, path, str(folder / "out.onnx")) if peer else (f"{programs}/npu-guard", "check", path)
            good = (0,) if peer else (0, 1)
            series = repeat(command, folder, runs, good)
            ended = "" if series.code in good else f"  failed, exit code {series.code}"
            print(f"{name:<30}{series}{ended}", flush=True)


def repeat(command: Sequence[str], folder: Path, runs: int, good: Sequence[int]) -> Series:
    """The first run warms caches and counts only where it is the only one."""
    first = run_clean(command, folder, Series())
    if first.seconds > SLOW_SECONDS or first.code not in good:
        return first
    series = Series()
    for _ in range(runs):
        run_clean(command, folder, series)
    return series


def run_clean(command: Sequence[str], folder: Path, series: Series) -> Series:
    once(command, folder, series)
    for file in folder.glob("out.onnx*"):
        file.unlink()
    return series


def install(peer: Peer) -> Path | None:
    """Folder of the tool's programs; None, and a line that says so, where it does not install."""
    folder = CACHE / peer.name.replace(" ", "_")
    stamp = folder / "installed"
    wanted = "\n".join(peer.requirements)
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"installing {peer.name} ...", flush=True)
        try:
            venv.create(folder, with_pip=True, clear=True)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, *peer.requirements], check=True, capture_output=True, text=True)
        except (subprocess.CalledProcessError, OSError) as error:
            lines = str(getattr(error, "stderr", None) or error).strip().splitlines()
            print(f"skipped {peer.name}: it does not install here ({lines[-1][:200] if lines else error})")
            return None
        stamp.write_text(wanted, encoding="utf-8")
    return folder / "bin"
