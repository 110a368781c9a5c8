"""`--calibration`: the user's arrays, which may be anything, and which are used where they are what they must be."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from conftest import Cli, Write

LARGE = """g (float[1,8,24,24] x) => (float[1,8,24,24] y)
<float[8,8,19,3] w> { a = Conv<pads = [9,1,9,1]>(x, w)  y = Relu(a) }"""


def npz(path: Path, **arrays: Any) -> None:
    np.savez(path, allow_pickle=True, **arrays)


GOOD = np.ones((1, 8, 24, 24), np.float32)
CALIBRATION: dict[str, tuple[dict[str, Any], str]] = {
    "shape": ({"x": np.ones((1, 8, 24, 23), np.float32)}, "has shape [1, 8, 24, 23] and the input wants [1, 8, 24, 24]"),
    "dtype": ({"x": np.ones((1, 8, 24, 24), np.int32)}, "is int32 and the input wants float32"),
    "name": ({"image": GOOD}, "which is no input"),
    "one too many": ({"x": GOOD, "z": GOOD}, "which is no input"),
    "nothing": ({}, "has nothing for input 'x'"),
    "objects": ({"x": np.array([{}, None], object)}, "not an .npz file"),
    "NaN": ({"x": np.full_like(GOOD, np.nan)}, "NaN or infinite"),
    "infinite": ({"x": np.full_like(GOOD, np.inf)}, "NaN or infinite"),
    "overflow": ({"x": np.full((1, 8, 24, 24), 1e300)}, "NaN or infinite"),
    "scalar": ({"x": np.float32(1)}, "has shape []"),
    "no samples": ({"x": np.ones((0, 8, 24, 24), np.float32)}, "no samples"),
}


@pytest.mark.parametrize("case", CALIBRATION)
def test_calibration_is_refused(cli: Cli, write: Write, tmp_path: Path, case: str) -> None:
    arrays, reason = CALIBRATION[case]
    write(LARGE)
    npz(tmp_path / "data.npz", **arrays)
    done = cli("fix", "net.onnx", "-o", "out.onnx", "--calibration", "data.npz")
    assert (done.code, done.err.count("\n")) == (2, 1), done
    assert reason in done.err
    assert not (tmp_path / "out.onnx").exists()


def entry(header: bytes) -> bytes:
    """An .npy file with these words in the place of the shape."""
    stream = io.BytesIO()
    np.save(stream, GOOD)
    return stream.getvalue().replace(b"(1, 8, 24, 24), }", header + b", }")


def archive(name: str, content: bytes, flags: int = 0, method: int = 0) -> bytes:
    """An .npz file with one entry, with flags and a method of compression that it does not really have."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr(name, content)
    data = bytearray(stream.getvalue())
    local, central = data.index(b"PK\x03\x04"), data.index(b"PK\x01\x02")
    for at in (local + 6, central + 8):
        data[at : at + 4] = struct.pack("<HH", flags, method)
    return bytes(data)


ENTRIES = {
    "of terabytes": b"(99999999999999,)", "beyond 64 bits": b"(99999999999999999999,)", "negative": b"(-3,)",
    "of words": b"('a',)", "open": b"((((((((", "of a fraction": b"(1e9,)",
}  # fmt: skip
DAMAGED = {
    "missing": None, "empty": b"", "text": b"text", "cut": b"PK\x03\x04",
    **{name: archive("x.npy", entry(header)) for name, header in ENTRIES.items()},
    "encrypted": archive("x.npy", entry(b"(1, 8, 24, 24)"), flags=1),
    "compressed in an unknown way": archive("x.npy", entry(b"(1, 8, 24, 24)"), method=99),
    "not deflated": archive("x.npy", entry(b"(1, 8, 24, 24)"), method=8),
    "no array": archive("x", b"text"),
}  # fmt: skip


FILES = {**{name: entry(header) for name, header in ENTRIES.items()}, "an archive": archive("x.npy", entry(b"(1, 8, 24, 24)"))}


@pytest.mark.parametrize("content", FILES.values(), ids=list(FILES))
def test_calibration_folder_is_refused(cli: Cli, write: Write, tmp_path: Path, content: bytes) -> None:
    write(LARGE)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.npy").write_bytes(content)
    done = cli("verify", "net.onnx", "net.onnx", "--calibration", "data")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done
    assert "calibration data: " in done.err


@pytest.mark.parametrize("where", ["data", "data/x.npy"])
def test_calibration_that_is_a_pipe_does_not_hang(cli: Cli, write: Write, tmp_path: Path, where: str) -> None:
    write(LARGE)
    (tmp_path / where).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / where)
    done = cli("verify", "net.onnx", "net.onnx", "--calibration", "data")
    assert (done.code, done.err.count("\n")) == (2, 1), done
    assert "is not a regular file" in done.err


@pytest.mark.parametrize("content", DAMAGED.values(), ids=list(DAMAGED))
def test_calibration_file_is_refused(cli: Cli, write: Write, tmp_path: Path, content: bytes | None) -> None:
    write(LARGE)
    if content is not None:
        (tmp_path / "data.npz").write_bytes(content)
    for command in (("fix", "net.onnx", "-o", "out.onnx"), ("verify", "net.onnx", "net.onnx")):
        done = cli(*command, "--calibration", "data.npz")
        assert (done.code, done.err.count("\n")) == (2, 1), done
        assert "data.npz" in done.err


def test_calibration_is_used(cli: Cli, write: Write, tmp_path: Path) -> None:
    write(LARGE)
    npz(tmp_path / "data.npz", x=np.random.default_rng(0).standard_normal((3, 8, 24, 24)).astype(np.float32))
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "x.npy", GOOD)
    for name, count in (("data.npz", 3), ("data", 1)):
        done = cli("fix", "net.onnx", "-o", "out.onnx", "--calibration", name)
        assert done.code == 0, done
        assert f"{count} of calibration" in done.out
