"""What besides the model decides a result: results with the same stamp and the same `Content.key` are the same.

`scan` and the cache of `check` key what they keep by it. Nothing here imports onnx or a rule.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from pathlib import Path

import msgspec

from npu_guard.base.files import read_small
from npu_guard.base.installation import VERSION
from npu_guard.base.regex import regex
from npu_guard.checking import registry
from npu_guard.device.toolkit import split_toolkit
from npu_guard.project.config import Config

_PACKAGES = regex(r"(onnx|numpy|protobuf)-[^-]+\.(dist|egg)-info")


def stamp(config: Config, *asked: bool) -> str:
    """Hash of the program, the device and the settings; `asked` is what a report was to show besides."""
    accepted = [(entry, entry.expired()) for entry in config.suppress]  # what has expired counts again
    severity = {code: level.value for code, level in config.severity.items()}
    parts = [
        program(), _device(config.profile), config.select, config.ignore, severity, accepted, config.fail_on,
        dict(config.input_shapes), dict(config.held.values), config.held.freeze_weights, config.limits, config.partition, asked,
        config.max_cost,
    ]  # fmt: skip
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:32]


@functools.cache
def program() -> str:
    """Hash of the code itself, because a version says little of a checkout, and of the packages that it computes with."""
    digest = hashlib.sha256(f"{VERSION} {sys.version_info[:2]} {_packages()}".encode())
    for root in dict.fromkeys((Path(__file__).parents[1], registry.pack("rules"))):
        for folder, folders, files in os.walk(root):
            folders.sort()
            for name in sorted(files):
                if name.endswith((".py", ".toml")):
                    path = os.path.join(folder, name)
                    with open(path, "rb") as file:
                        content = file.read()
                    digest.update(f"{os.path.relpath(path, root)} {len(content)}\n".encode())
                    digest.update(content)
    return digest.hexdigest()


def _packages() -> list[str]:
    """Names with versions, from the folders that pip makes: asking importlib.metadata costs more than all the rest here."""
    found: set[str] = set()
    for folder in sys.path:
        try:
            found.update(name for name in os.listdir(folder or ".") if _PACKAGES.fullmatch(name))
        except OSError:  # a zip archive, or nothing
            continue
    if not any(name.startswith("onnx-") for name in found):
        import onnx

        found.add(onnx.__version__)
    return sorted(found)


def _device(name: str) -> str:
    """A shipped device is part of the program. A file of one's own can extend shipped ones only, so its bytes say the rest."""
    file, toolkit = split_toolkit(name)
    if not file.endswith(".toml"):
        return name
    try:
        return hashlib.sha256(read_small(file)).hexdigest() + toolkit
    except OSError:  # which whoever needs the device will report
        return name
