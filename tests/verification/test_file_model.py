"""A model file that is called as a network is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import pytest
import torch

from npu_guard.base.errors import UsageError
from npu_guard.file import load
from npu_guard.file.document import Document
from npu_guard.project.config import Config
from npu_guard.verification.file_model import FileModel
from npu_guard.verification.runtime import Runtime

TEXT = """<ir_version: 8, opset_import: ["" : 18]>
g (float[1,2] a, float[1,2] b) => (float[1,2] sum, float[1,2] twice) { sum = Add(a, b)  twice = Add(sum, sum) }"""


def test_arrays_and_tensors_in_batches_and_what_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx.parser.parse_model(TEXT).SerializeToString())
    a, b = np.arange(6, dtype=np.float32).reshape(3, 2), np.ones((3, 2), np.float32)
    with Runtime() as runtime:
        model = FileModel(Document.of(load.load(str(path), Config().limits)), runtime).eval()
        total, twice = model(a, b=b)
        assert (total == a + b).all()
        assert (twice == 2 * (a + b)).all()
        tensors = model(torch.from_numpy(a), torch.from_numpy(b))
        assert torch.equal(tensors[0], torch.from_numpy(a + b))
        with pytest.raises(UsageError, match="has not; it has a, b"):
            model(a, b, b)
        with pytest.raises(UsageError, match="cannot be run"):
            model(a[:, :1], b)
