"""What a process counts of itself, for `counts.py`: `python bench/counted.py KIND ARGUMENTS ...` prints JSON.

Bytecodes, modules, bytes read and pages touched are the same on an idle machine and on a busy one, which seconds are not.
"""

# Little is imported here: what is there already would be missing from the count of what `check` imports.
import itertools
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from types import CodeType, FrameType

FEW = 5
"""Sketches of a check whose growth is counted: the smallest model uses them up, so that they are the same for all."""
UNCOUNTED = ("<frozen importlib", "<frozen zipimport")
"""Finding modules takes as long as there are folders to look in, and compiling them happens once."""


def bytecodes(call: "Callable[[], object]") -> "Mapping[str, int]":
    """How many bytecodes the call executes, by file. What a child process does is not in it."""
    return _monitored(call) if hasattr(sys, "monitoring") else _traced(call)


def _is_counted(code: "CodeType") -> bool:
    # How often a pipe is read depends on how soon the other side writes.
    waiting = code.co_name in ("_read", "_read_all") and code.co_filename.endswith(("sandbox.py", "standing.py"))
    return not waiting and not code.co_filename.startswith(UNCOUNTED)


def _monitored(call: "Callable[[], object]") -> "Mapping[str, int]":
    """Python 3.12 and later, where tracing leaves some out."""
    monitoring, counts = sys.monitoring, {}

    def step(code: "CodeType", _offset: int) -> object:
        if not _is_counted(code):
            return monitoring.DISABLE
        counts[code.co_filename] = counts.get(code.co_filename, 0) + 1
        return None

    tool = monitoring.PROFILER_ID
    monitoring.use_tool_id(tool, "counted")
    monitoring.register_callback(tool, monitoring.events.INSTRUCTION, step)
    monitoring.set_events(tool, monitoring.events.INSTRUCTION)
    try:
        call()
    finally:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)
    return counts


def _traced(call: "Callable[[], object]") -> "Mapping[str, int]":
    tracers: dict[str, object] = {}
    counters: dict[str, itertools.count[int]] = {}

    def tracer(name: str) -> object:
        counters[name] = itertools.count()
        step = counters[name].__next__

        def local(_frame: "FrameType", event: str, _argument: object) -> object:
            if event == "opcode":
                step()
            return local

        return local

    def entered(frame: "FrameType", _event: str, _argument: object) -> object:
        if not _is_counted(frame.f_code):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        name = frame.f_code.co_filename
        if name not in tracers:
            tracers[name] = tracer(name)
        return tracers[name]

    sys.settrace(entered)
    try:
        call()
    finally:
        sys.settrace(None)
    return {name: next(counter) for name, counter in counters.items()}


def quietly(*arguments: str) -> None:
    """The program, in this process and without its output."""
    import contextlib
    import io

    from npu_guard.cli import main

    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(arguments)


def start(also: str, model: str) -> dict[str, object]:
    """`check` of a model in a fresh process, and `import onnx` to compare with."""

    def importing() -> None:
        import onnx  # noqa: F401

    def checking() -> None:
        exec(also, {})
        quietly("check", model)

    reference = bytecodes(importing)
    before = set(sys.modules)
    found = bytecodes(checking)
    modules = sorted(set(sys.modules) - before)
    return {"reference": sum(reference.values()), "bytecodes": _by_part(found), "modules": modules}


def _by_part(found: "Mapping[str, int]") -> dict[str, int]:
    """Our own files by their path, others by their package."""
    import os

    import npu_guard

    roots = sorted((os.path.join(os.path.realpath(root), "") for root in npu_guard.__path__), key=len, reverse=True)
    packages = {getattr(m, "__file__", None): name.split(".")[0] for name, m in list(sys.modules.items())}
    parts: dict[str, int] = {}
    for name, count in found.items():
        path = os.path.realpath(name)
        rest = next((path[len(root) :] for root in roots if path.startswith(root)), None)
        # The environment may lie in the checkout.
        own = None if rest is None or "site-packages" in rest else f"npu_guard/{rest}"
        part = "made at run time, or frozen" if name.startswith("<") else own or packages.get(name, "elsewhere")
        parts[part] = parts.get(part, 0) + count
    return parts


def growth(also: str, shape: str, size: str) -> dict[str, list[int]]:
    """For some formats: bytecodes of checking and showing models of `size` and of 2 and 4 times as many nodes."""
    import functools

    from npu_guard.checking import registry
    from npu_guard.fixing import remedies
    from npu_guard.pipeline.check import check_models
    from npu_guard.project.config import Config

    def check(form: str, path: str) -> None:
        layers, remedies = registry.shows_layers(form), registry.shows_remedies(form)
        registry.renderer(form)(check_models([path], Config(), layers=layers, remedies=remedies), color=False)

    found = {}
    remedies.SKETCHES = FEW
    with _models(shape, int(size)) as paths:
        exec(also, {})
        for form in ("text", "json", "html"):
            check(form, paths[0])  # what is made once is made now
            found[form] = [sum(bytecodes(functools.partial(check, form, path)).values()) for path in paths]
    return found


def memory(also: str, shape: str, size: str) -> list[int]:
    """Most bytes of Python objects that are alive at once, for models of `size` and of 2 and 4 times as many nodes."""
    import gc
    import tracemalloc

    peaks = []
    with _models(shape, int(size)) as paths:
        exec(also, {})
        quietly("check", paths[0])
        for path in paths:
            gc.collect()
            tracemalloc.start()
            quietly("check", path)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    return peaks


def _models(shape: str, size: int) -> "AbstractContextManager[list[str]]":
    """Paths of models of 1, 2 and 4 times the size."""
    import contextlib
    import pathlib
    import tempfile

    import grown

    @contextlib.contextmanager
    def written() -> "Iterator[list[str]]":
        with tempfile.TemporaryDirectory(prefix="npu-guard-bench-") as folder:
            paths = [pathlib.Path(folder) / f"{nodes}.onnx" for nodes in (size, 2 * size, 4 * size)]
            for path in paths:
                path.write_bytes(grown.SHAPES[shape](int(path.stem)).SerializeToString())
            yield [str(path) for path in paths]

    return written()


def weights(also: str, model: str) -> dict[str, int]:
    """What checking one model takes from the system, on Linux: bytes read, pages mapped, most memory at once."""
    exec(also, {})
    quietly("check", model)
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/status", encoding="ascii") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    with open("/proc/self/io", encoding="ascii") as file:
        read = int(file.readline().split()[1])
    return {"bytes read": read, "pages touched": usage.ru_minflt + usage.ru_majflt, "kilobytes of memory": peak}


if __name__ == "__main__":
    found = {f.__name__: f for f in (start, growth, memory, weights)}[sys.argv[1]](*sys.argv[2:])
    import json

    print(json.dumps(found))
