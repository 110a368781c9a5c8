"""What the drivers share: arguments, a child process for each compilation, and one line of JSON for each answer.

    python vela_driver.py --out ANSWERS [--seconds 120] [--option NAME=VALUE]... MODEL...

An answer is `{"model", "status", "message", "nodes"}` with a status of `accepted`, `refused`, `failed` (crash, hang or memory:
nothing was found out) or `not_run` (the driver cannot put the question). A node is `{"output", "op_type", "word", "message"}`
with the word `npu`, `decomposed` (on the NPU, as several operators), `merged` (nothing of its own is left), `host`, `refused`,
`failed` or `not_run`; `output` is the first output, which names a node in ONNX without doubt.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import os
import re
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Answer = dict[str, Any]
Judge = Callable[[str, Mapping[str, str], str], Answer]

NAME = "op{}z"
"""What nodes are called while they are compiled: names in models may be empty, repeated, or break a log apart."""
TENSOR = "val{}z"
"""What the results of nodes are called, by the index of the node: what a compiler inserts, it names after a tensor."""
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_NAME = re.compile(r"op(\d+)z")
_TENSOR = re.compile(r"val(\d+)z")


def main(judge: Judge, modules: Sequence[str]) -> None:
    """Answer for each model; `judge(path, options, folder)` gives an answer without its model, in a child process.

    The modules are the compiler's. They are loaded once and here, so that a missing one ends the driver and is no answer.
    """
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [*(entry for entry in sys.path if os.path.abspath(entry) != own), own]  # a compiler's own modules come first
    for name in modules:
        importlib.import_module(name)
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--option", action="append", default=[])
    parser.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    options = dict(entry.split("=", 1) for entry in arguments.option)
    with open(arguments.out, "w", encoding="utf-8") as out:
        for path in arguments.models:
            with tempfile.TemporaryDirectory(prefix="npu-guard-compile-") as folder:
                found, _ = apart(lambda: judge(path, options, folder), folder, arguments.seconds)  # noqa: B023 - called at once
            out.write(json.dumps({"model": path, **found}) + "\n")
            out.flush()


def apart(call: Callable[[], Any], folder: str, seconds: float) -> tuple[dict[str, Any], str]:
    """(answer, log) of a call in a child process whose output goes to a file, with the time that it may take."""
    log = os.path.join(folder, f"log{time.monotonic_ns()}")
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(call, log, read_end, write_end)
    os.close(write_end)
    data, deadline, ended = b"", time.monotonic() + seconds, False
    while not ended and select.select([read_end], [], [], max(0.0, deadline - time.monotonic()))[0]:
        chunk = os.read(read_end, 1 << 20)
        data, ended = data + chunk, not chunk
    os.close(read_end)
    if not ended:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    text = read_log(log)
    if not ended:
        return failed(f"did not end within {seconds:g} s"), text
    if os.WIFSIGNALED(status):
        return failed(f"died of signal {os.WTERMSIG(status)}"), text
    if os.WEXITSTATUS(status) or not data:
        return failed(f"ended with exit code {os.WEXITSTATUS(status)}: {last_line(text)}"), text
    return json.loads(data), text


def _child(call: Callable[[], Any], log: str, read_end: int, write_end: int) -> None:
    """Never returns. Writes an answer as JSON; an exception is one."""
    code = 1
    try:
        if sys.platform == "linux":  # a compilation must not outlive the driver, which may be killed itself
            ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        os.close(read_end)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        try:
            data = call()
        except (Exception, SystemExit) as error:  # a compiler may raise anything, or end the process
            data = failed(f"raised {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(json.dumps(data).encode())
        code = 0
    finally:
        sys.stdout.flush()
        ctypes.CDLL(None).fflush(None)  # compilers print from C, where os._exit would lose what waits in a buffer
        os._exit(code)


def read_log(path: str) -> str:
    """The text of a log, without colours; of a long one its ends."""
    try:
        with open(path, "rb") as file:
            data = file.read(1 << 22)
            size = os.fstat(file.fileno()).st_size
            if size > 1 << 23:
                file.seek(size - (1 << 22))
            data += file.read(1 << 22)
    except OSError:
        return ""
    return re.sub(r"\x1b\[[0-9;]*m", "", data.decode("utf-8", "replace"))


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def answer(status: str, message: str = "", nodes: Any = ()) -> Answer:
    """An answer without its model."""
    return {"status": status, "message": message, "nodes": list(nodes)}


def failed(message: str) -> Answer:
    """An answer that says that nothing was found out."""
    return answer("failed", message)


def verdict(node: Any, word: str, message: str = "") -> Answer:
    """What the compiler does with a node."""
    return {"output": next(filter(None, node.output), ""), "op_type": node.op_type, "word": word, "message": message[:500]}


def renamed(path: str, folder: str, *, tensors: bool = False) -> tuple[Any, str]:
    """(model, path) of a copy whose nodes are named by their index, and on request their results: see NAME and TENSOR.

    The model keeps the names of its tensors, by which answers are given. Bodies of If and Loop may read any tensor, so a model
    with one keeps them in the copy too.
    """
    import onnx

    model = onnx.load(path)
    for index, node in enumerate(model.graph.node):
        node.name = NAME.format(index)
    copy = os.path.join(folder, "model.onnx")
    large = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > 1 << 30
    sent = model
    if tensors and not any(
        attribute.HasField("g") or attribute.graphs for node in model.graph.node for attribute in node.attribute
    ):
        sent = onnx.ModelProto()
        sent.CopyFrom(model)
        _rename_tensors(sent.graph)
    onnx.save_model(sent, copy, save_as_external_data=large)
    return model, copy


def _rename_tensors(graph: Any) -> None:
    """Name what each node gives after its index; the second and later results get a number of their own."""
    names: dict[str, str] = {}
    for index, node in enumerate(graph.node):
        for place, name in enumerate(node.output):
            if name:
                names[name] = TENSOR.format(index) + (f"_{place}" if place else "")
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)


def indices(text: str) -> list[int]:
    """Indices of the nodes that a text names."""
    return [int(number) for number in _NAME.findall(text)]


def makers(text: str) -> list[int]:
    """Indices of the nodes whose results a text names."""
    return [int(number) for number in _TENSOR.findall(text)]
