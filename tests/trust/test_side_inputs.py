"""Settings, device files and plans from strangers: exit code 2 and one sentence, whatever is in them.

The standard parser alone would take minutes for the dotted key.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx.parser
import pytest

MODEL = """<ir_version: 10, opset_import: ["" : 20]> g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }"""
TOML = {
    "deep": "a = " + "[" * 100_000,
    "tables": "a = " + "{b=" * 20_000 + "1" + "}" * 20_000,
    "dotted": "a" + ".b" * 50_000 + " = 1",
    "header": "[a" + ".b" * 20_000 + "]",
    "twice": "profile = 'a'\nprofile = 'b'",
    "digits": "a = " + "9" * 5_000,
    "bytes": "a = '\udcff'",
    "NUL": "\0",
    "escape": '"\\u001b[31m" = 1',
    "long": f'"{"k" * 100_000}" = 1',
    "date": "a = 1979-05-27",
    "nan": "a = nan",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.onnx").write_bytes(onnx.parser.parse_model(MODEL).SerializeToString())
    return tmp_path


@pytest.mark.parametrize(
    "how", [("check", "m.onnx", "--config"), ("check", "m.onnx", "--profile"), ("fix", "m.onnx", "-o", "f.onnx", "--apply")]
)
@pytest.mark.parametrize("name", TOML)
def test_tables_of_strangers(folder: Path, program: Callable[..., Any], how: tuple[str, ...], name: str) -> None:
    (folder / "given.toml").write_bytes(TOML[name].encode("utf-8", "surrogateescape"))
    done = program(folder, *how, "given.toml")
    assert done.code == 2
    assert "given.toml" in done.err
    assert len(done.err.splitlines()) == 1
    assert "\x1b" not in done.err


@pytest.mark.parametrize(
    "values",
    ["nodes = 0", "nodes = -1", "nodes = 1e9", "nodes = nan", "nodes = '5'", "elements = 9223372036854775807", "nesting = 33"],
)
def test_limits_that_are_none(folder: Path, program: Callable[..., Any], values: str) -> None:
    (folder / "npu-guard.toml").write_text(f"[limits]\n{values}\n")
    done = program(folder, "check", "m.onnx")
    assert done.code == 2
    assert values.split(maxsplit=1)[0] in done.err
