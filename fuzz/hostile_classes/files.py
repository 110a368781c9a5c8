"""What the path of a model may lead to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from hostile_classes.case import ACCEPT, Case, text

GOOD = text("y = Relu(x)")


def _made(prepare: Callable[[Path], object], name: str = "m.onnx") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        prepare(folder / name)
        return folder / name

    return make


def _linked(path: Path) -> None:
    (path.parent / "real.onnx").write_bytes(GOOD)
    path.symlink_to("real.onnx")


def _loop(path: Path) -> None:
    (path.parent / "other").symlink_to(path.name)
    path.symlink_to("other")


def _sparse(path: Path) -> None:
    path.write_bytes(GOOD)
    with path.open("r+b") as file:
        file.truncate(3 << 30)


def _sparse_field(path: Path) -> None:
    """A doc string of 3 GiB that takes no room on the disk."""
    length = 3 << 30
    path.write_bytes(GOOD + b"\x32" + bytes((length >> shift & 0x7F) | (0x80 if shift < 28 else 0) for shift in range(0, 35, 7)))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + length)


def cases() -> Iterator[Case]:
    """Everything that is no plain file, and plain files with odd names."""
    refused = ("unreadable", "missing", "not-onnx")
    yield Case("folder", "file", "a folder", refused, "", _made(lambda p: p.mkdir()))
    yield Case("fifo", "file", "a pipe that nobody writes to", refused, "regular", _made(os.mkfifo))
    yield Case(
        "device-zero", "file", "a link to a device without end", refused, "regular", _made(lambda p: p.symlink_to("/dev/zero"))
    )
    yield Case(
        "device-null", "file", "a link to the empty device", refused, "regular", _made(lambda p: p.symlink_to("/dev/null"))
    )
    yield Case("device-tty", "file", "a link to the terminal", refused, "", _made(lambda p: p.symlink_to("/dev/tty")))
    yield Case("link-loop", "file", "links that lead to each other", refused, "", _made(_loop))
    yield Case("link-dangling", "file", "a link to nothing", refused, "no such file", _made(lambda p: p.symlink_to("nowhere")))
    yield Case("link-good", "file", "a link to a model", (ACCEPT,), "", _made(_linked))
    yield Case("missing", "file", "no such file", ("missing",), "no such file", _made(lambda p: None))
    yield Case("inside-a-file", "file", "a path through a file", refused, "", _through)
    yield Case("name-long", "file", "a name longer than any file's", refused, "", _made(lambda p: None, "n" * 300 + ".onnx"))
    yield Case(
        "name-dash", "file", "a name that begins like a flag", (ACCEPT,), "", _made(lambda p: p.write_bytes(GOOD), "-m.onnx")
    )
    yield Case(
        "name-colon",
        "file",
        "a name that looks like Python code",
        (ACCEPT,),
        "",
        _made(lambda p: p.write_bytes(GOOD), "a:b.onnx"),
    )
    yield Case("name-glob", "file", "a name that is a pattern", (ACCEPT,), "", _made(lambda p: p.write_bytes(GOOD), "[a]*?.onnx"))
    yield Case(
        "name-bytes",
        "file",
        "a name that is no UTF-8",
        (ACCEPT,),
        "",
        _made(lambda p: p.write_bytes(GOOD), os.fsdecode(b"m\xff\xfe\x1b[31m.onnx")),
    )
    yield Case("name-none", "file", "a name without a suffix", (ACCEPT,), "", _made(lambda p: p.write_bytes(GOOD), "model"))
    yield Case("sparse", "file", "3 GiB of zeros behind a model", ("not-onnx", "limit"), "", _made(_sparse), alone=True)
    yield Case("sparse-field", "file", "a doc string of 3 GiB", ("limit", "not-onnx"), "", _made(_sparse_field), alone=True)


def _through(folder: Path) -> Path:
    (folder / "f").write_bytes(GOOD)
    return folder / "f" / "m.onnx"
