"""The far side of `runtime.py`: ONNX Runtime in a process of its own."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np

from npu_guard.base import sandbox
from npu_guard.verification.runtime import _THREAD, Array, Arrays, _read, _write
from npu_guard.verification.scheme import Scheme

_PRODUCTS = (b"QLinear", b"Integer", b"QGemm", b"DynamicQuantize", b"QAttention")
"""What the names of operators on bytes have in them."""


def _serve() -> None:  # runs in the child
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # ONNX Runtime prints banners to standard output, which would break the answers
    if sys.platform == "linux":  # a model that never ends must not outlive whoever asked, who may have been killed
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of prctl(2)
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)

    requests: Any = sys.stdin.buffer

    class Exact:
        def read(self, size: int) -> bytearray:
            data = bytearray(size)
            if requests.readinto(data) < size:
                sys.exit(0)
            return data

    used = sandbox.used_memory() + (os.cpu_count() or 1) * _THREAD
    _write(answers, {}, [])
    while True:
        _answer(onnxruntime, answers, *_read(Exact()), used)


def _answer(onnxruntime: Any, answers: IO[bytes], request: Mapping[str, Any], feeds: Sequence[Arrays], used: int) -> None:
    _limit_memory(used + request["memory"])
    tempfile.tempdir = str(Path(request["model"]).parent)  # whoever asked clears it away
    try:
        seconds, results = _run(onnxruntime, request, feeds)
        _write(answers, {"seconds": seconds}, results)
    except Exception as error:  # whatever ONNX Runtime raises is the answer
        _write(answers, {"error": " ".join(str(error).split())[:500] or type(error).__name__}, [])


def _run(onnxruntime: Any, request: Mapping[str, Any], feeds: Sequence[Arrays]) -> tuple[float, list[dict[str, Array]]]:
    options = onnxruntime.SessionOptions()
    # The optimiser would rewrite both sides of a comparison to the same thing.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    # A plan puts all values into one piece of memory, taken on top of what the first run holds: without it, a third less is held.
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = request["arena"]
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait would take a core each
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", request["folder"])
    content = Path(request["model"]).read_bytes()
    if request["scheme"] is not None:
        from npu_guard.verification.quantizer import quantize

        scheme = msgspec.convert(request["scheme"], Scheme)
        content = quantize(content, request["folder"], feeds, scheme, request["alone"])
    start = time.perf_counter()
    if request["only"]:
        return time.perf_counter() - start, [{"model": np.frombuffer(content, np.uint8)}]
    if any(name in content for name in _PRODUCTS):
        from npu_guard.verification.saturation import without_saturation  # which needs onnx

        content = without_saturation(content, request["folder"])
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = request["outputs"] or [o.name for o in session.get_outputs()]
    results = []
    for feed in feeds:
        values = session.run(names, dict(feed))
        # Copies: what ONNX Runtime hands over lies in an arena of its own, which doubles as long as any of it is held.
        results.append({n: np.array(v) for n, v in zip(names, values, strict=True)})
    return time.perf_counter() - start, results


def _limit_memory(limit: int) -> None:
    try:
        import resource
    except ImportError:  # not a Unix
        return
    # Not the address space, which grows with the number of threads and with files that are mapped.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    _serve()
