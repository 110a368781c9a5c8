"""What each ONNX operator is in PyTorch: a function for each, which writes a line of a forward."""

from __future__ import annotations

from npu_guard.training.operators import arithmetic, shapes, windows
from npu_guard.training.writer import Write

WRITERS: dict[str, Write] = {**arithmetic.WRITERS, **windows.WRITERS, **shapes.WRITERS}
