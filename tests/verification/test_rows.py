"""A row of a large table that is wrong shows only where an input points at it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

if TYPE_CHECKING:
    from conftest import Cli

ROWS = 20_000
BODY = {
    "plain": "y = Gather(table, x)",
    "cast and moved": "i = Cast<to = 6>(x)  j = Unsqueeze(i, last)  y = Gather(table, j)",
    "along another axis": "y = Gather<axis = 1>(across, x)",
}


def _write(path: Path, body: str, table: np.ndarray) -> None:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (int64[1,5] x) => (y) <int64[1] last = {{2}}> {{ {body} }}'
    )
    for name, array in (("table", table), ("across", np.ascontiguousarray(table.T))):
        if f"({name}" in body:
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, path)


@pytest.mark.parametrize("body", BODY.values(), ids=BODY)
@pytest.mark.parametrize(("row", "code"), [(None, 0), (17_001, 5)])
def test_one_row_of_many(cli: Cli, tmp_path: Path, body: str, row: int | None, code: int) -> None:
    table = np.random.default_rng(3).standard_normal((ROWS, 4)).astype(np.float32)
    _write(tmp_path / "net.onnx", body, table)
    if row is not None:
        table[row, 2] += 0.1
    _write(tmp_path / "other.onnx", body, table)
    assert cli("verify", "net.onnx", "other.onnx").code == code


def test_two_tables_are_told_apart_by_their_place(cli: Cli, tmp_path: Path) -> None:
    """The second table of a model is wrong where the first one is not."""
    model = '<ir_version: 8, opset_import: ["" : 17]> g (int64[1,5] x, int64[1,5] t) => (y)'
    tables = [np.random.default_rng(seed).standard_normal((ROWS, 4)).astype(np.float32) for seed in (0, 1)]
    for file in ("net.onnx", "other.onnx"):
        made = onnx.parser.parse_model(f"{model} {{ a = Gather(one, x)  b = Gather(two, t)  y = Add(a, b) }}")
        made.graph.initializer.extend(onnx.numpy_helper.from_array(w, n) for w, n in zip(tables, ("one", "two"), strict=True))
        onnx.save(made, tmp_path / file)
        tables[1] = tables[1].copy()
        tables[1][12_345] = 0.0
    assert cli("verify", "net.onnx", "other.onnx").code == 5
