"""Small graphs of one to fifteen operators, as networks contain them: what surrounds an operator decides with it.

    python bench/study/graphs.py rockchip-rk3588 FOLDER --python PATH

asks the profile's compiler about all ONNX files of a folder and records the verdicts. A graph is kept as text, without its
weights: what a compiler says of it hangs on shapes and small constants.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import judge
import onnx
import recorded
from single import Case, attributes

from npu_guard.checking import registry
from npu_guard.compilers.adapter import ask_all
from npu_guard.compilers.settings import CompilerSettings

FOLDER = recorded.FOLDER / "graphs"
SMALL = 16
"""Elements of a constant that is written with its values."""


@dataclass(frozen=True)
class Graph:
    """A graph with the compiler's verdict on the whole: `accepted` or `refused`, and what it said."""

    case: Case
    status: str
    message: str


def text_of(model: onnx.ModelProto) -> str:
    """The graph as ONNX text; large constants are declared and have no values."""
    graph = model.graph
    held = [_constant(tensor) for tensor in graph.initializer]
    inputs = ", ".join(_declared(value) for value in graph.input)
    outputs = ", ".join(f"{_dtype(value.type.tensor_type.elem_type)}[] {value.name}" for value in graph.output)
    between = f" <{', '.join(held)}>" if held else ""
    return f"g ({inputs}) => ({outputs}){between} {{ {' '.join(map(_call, graph.node))} }}"


def _call(node: onnx.NodeProto) -> str:
    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    texts = {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}
    op = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return f"{', '.join(node.output)} = {op}{attributes(texts)}({', '.join(node.input)})"


def _declared(value: onnx.ValueInfoProto) -> str:
    kind = value.type.tensor_type
    sizes = [str(d.dim_value) if d.HasField("dim_value") else f'"{d.dim_param}"' for d in kind.shape.dim]
    shape = f"[{','.join(sizes)}]" if sizes else ""
    return f"{_dtype(kind.elem_type)}{shape} {value.name}"


def _dtype(code: int) -> str:
    return str(onnx.TensorProto.DataType.Name(code)).lower()


def _constant(tensor: onnx.TensorProto) -> str:
    array = onnx.numpy_helper.to_array(tensor)
    shape = f"[{','.join(map(str, array.shape))}]" if array.ndim else ""
    declared = f"{_dtype(tensor.data_type)}{shape} {tensor.name}"
    if array.size > SMALL:
        return declared
    values = [str(int(v)) if array.dtype.kind in "iub" else f"{float(v):.8g}" for v in array.reshape(-1)]
    return f"{declared} = {{{', '.join(values)}}}"


def record(profile: str, folder: Path, python: str) -> None:
    """Ask about all files of a folder, beside what was recorded before; a graph of the same name is replaced."""
    paths = sorted(folder.glob("*.onnx"))
    settings = CompilerSettings(python=python, seconds=240)
    answers = ask_all(recorded.TARGETS[profile], settings, [str(path) for path in paths], profile)
    found = dict(read(profile))
    for path, answer in zip(paths, answers, strict=True):
        if answer.status in ("accepted", "refused"):
            said = next((node.message for node in answer.nodes if node.word in ("host", "refused") and node.message), "")
            model = onnx.load(str(path))
            case = Case(path.stem, "Graphs", text_of(model), model.opset_import[0].version)
            found[path.stem] = Graph(case, answer.status, (answer.message or said)[:120])
    write(profile, found.values())


def read(profile: str) -> Mapping[str, Graph]:
    """What was recorded, by name."""
    path = FOLDER / f"{profile}.json"
    entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return {e["key"]: Graph(Case(e["key"], "Graphs", e["text"], e["opset"]), e["status"], e.get("said", "")) for e in entries}


def write(profile: str, graphs: Iterable[Graph]) -> None:
    """One graph in a line, by name."""
    FOLDER.mkdir(exist_ok=True)
    lines = [
        json.dumps({"key": g.case.key, "text": g.case.text, "opset": g.case.opset, "status": g.status, "said": g.message})
        for g in sorted(graphs, key=lambda g: g.case.key)
    ]
    (FOLDER / f"{profile}.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def differing(profile: str) -> Mapping[str, str]:
    """Names of graphs of which the rules say otherwise than the compiler, with the rules' word."""
    device = registry.profile(profile)
    words = {key: judge.opinions(judge.analysis_of(g.case), [device])[device.name].word for key, g in read(profile).items()}
    return {key: words[key] for key, g in read(profile).items() if (words[key] != "fits") != (g.status == "refused")}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("profile", choices=recorded.TARGETS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", required=True, help="interpreter of the compiler's environment")
    arguments = parser.parse_args()
    record(arguments.profile, arguments.folder, arguments.python)


if __name__ == "__main__":
    main()
