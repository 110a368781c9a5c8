"""Compilers that npu-guard knows how to ask. Each is installed by whoever wants it, under its vendor's licence."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DRIVERS = Path(__file__).parent / "drivers"


@dataclass(frozen=True, slots=True)
class Builtin:
    """A vendor's compiler and the driver that asks it."""

    name: str
    title: str
    licence: str
    """Whose terms come with it."""
    driver: str
    package: str
    """What the package index calls it; its version is the compiler's."""
    requirements: tuple[tuple[str, ...], ...]
    """Arguments of `pip install`, one after the other, that make its environment."""
    profiles: tuple[tuple[str, Mapping[str, str]], ...]
    """Globs over profile names, with the options of the driver for them; the first that matches counts."""

    def options(self, profile: str) -> Mapping[str, str] | None:
        """Options for a profile, None where this is not its compiler."""
        return next((options for glob, options in self.profiles if fnmatch.fnmatchcase(profile, glob)), None)

    def recipe(self, folder: str) -> str:
        """The shell's lines that make its environment in a folder."""
        lines = [f"# {self.title}. {self.licence}", f"python3 -m venv {folder}"]
        lines += [f"{folder}/bin/python -m pip install {' '.join(map(_quoted, step))}" for step in self.requirements]
        return "\n".join(
            [*lines, f"# then: npu-guard compile MODEL --compiler {self.name} --compiler-python {folder}/bin/python", ""]
        )


def _quoted(argument: str) -> str:
    return f"'{argument}'" if set(argument) & set("<>=*! ") else argument


BUILTINS: Mapping[str, Builtin] = {
    builtin.name: builtin
    for builtin in (
        Builtin(
            "qnn",
            "Qualcomm's HTP compiler in ONNX Runtime's QNN provider, on x86-64 Linux",
            "Qualcomm's own licence covers the binaries in onnxruntime-qnn; read it before you install them.",
            "qnn_driver.py",
            "onnxruntime-qnn",
            (("onnxruntime-qnn==2.7.0", "onnxruntime==1.29.0", "onnx"),),
            (("qualcomm-htp*", {"soc": "60", "arch": "73"}),),
        ),
        Builtin(
            "rknn",
            "Rockchip's rknn-toolkit2, on x86-64 Linux with Python up to 3.12",
            "Rockchip's own licence covers rknn-toolkit2; read it before you install it.",
            "rknn_driver.py",
            "rknn-toolkit2",
            (
                ("torch", "numpy<=1.26.4", "onnx>=1.16.1,<=1.18.0", "onnxruntime>=1.17,<1.23", "protobuf>=4.21.6,<=4.25.4",
                 "scipy<1.16", "psutil", "ruamel.yaml", "tqdm", "opencv-python-headless", "fast-histogram"),
                # It declares an older torch than runs with it, and needs what later releases of setuptools have dropped.
                ("--no-deps", "rknn-toolkit2==2.5.0", "setuptools<70"),
            ),
            (
                ("rockchip-rk3588*", {"platform": "rk3588"}),
                *((f"rockchip:{chip.upper()}", {"platform": chip})
                  for chip in ("rk3566", "rk3562", "rk3576", "rv1103", "rv1103b", "rk2118")),
            ),
        ),
        Builtin(
            "vela",
            "Arm's Vela for Ethos-U",
            "Apache-2.0.",
            "vela_driver.py",
            "ethos-u-vela",
            (("ethos-u-vela==5.2.0", "onnx", "setuptools<70"),),
            (
                ("ethos-u55-legacy*", {"accelerator": "ethos-u55-128", "core": "legacy"}),
                ("ethos-u65-legacy*", {"accelerator": "ethos-u65-256", "core": "legacy"}),
                ("ethos-u55*", {"accelerator": "ethos-u55-128"}),
                ("ethos-u65*", {"accelerator": "ethos-u65-256"}),
                ("ethos-u85*", {"accelerator": "ethos-u85-256"}),
            ),
        ),
    )
}  # fmt: skip
"""By name."""
