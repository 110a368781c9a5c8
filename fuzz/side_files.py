"""Mutated files that stand beside a model: devices, settings, baselines, plans, manifests of partitions, calibration.

People write these by hand, and in a pull request strangers do. A command that reads one ends in a report, or in a sentence
that names the file.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import random
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mutations import FLOATS, NAMES, NUMBERS, damage
from oracle import FORMATS, command, static_only

from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case
from npu_guard.project.config import DEFAULT_PROFILE

ROOT = Path(__file__).resolve().parents[1]
MODEL = """g (float[1,16,12,10] x) => (float[1,1,8,120] y)
<float[8,16,19,3] w, float[8,1,3,3] d, int64[4] s = {1, 1, 8, 120}, int64[1] k = {1}> {
  c = Conv<pads = [9,1,9,1]>(x, w)
  e = Conv<group = 8, pads = [1,1,1,1]>(c, d)
  r = Relu(e)
  m = ReduceMax(r, k)
  a = Mul(r, m)
  q = Reshape(a, s)
  y = Softmax<axis = -1>(q)
}"""
SETTINGS = f"""
profile = "{DEFAULT_PROFILE}"
select = ["NPU1", "NPU2"]
ignore = ["NPU104"]
fail-on = "error"
allow-undecided = false
severity = {{ channel-alignment = "warning" }}
suppress = [{{ rule = "NPU201", node = "c*", reason = "known" }}]
limits = {{ nodes = 1000, nesting = 10, run-bytes = 1000000000 }}
partition = {{ min-macs = 100, max-pieces = 4, byte-cost = 0.5 }}
"""
ODD: tuple[Any, ...] = (
    *NUMBERS, *FLOATS, *NAMES, True, False, [], {}, [[]], [{}], {"": 0}, {"value": []}, {"max": "x"}, "*", "NPU", "9999-12-31",
    ["*"], "kernel", "attr.axis", "value.w", "> 3",
)  # fmt: skip


class Kind(NamedTuple):
    """Valid files, and the command lines that read one of them as {given}."""

    originals: Callable[[], list[tuple[str, bytes]]]
    """Name and content of each."""
    commands: tuple[str, ...]
    runs: bool = False
    """Whether the command is worth nothing without native code."""


class Prepared(NamedTuple):
    """An execution before it runs."""

    kind: str
    given: Path
    command: list[str]


def prepare(number: int, folder: Path) -> Prepared:
    """Fill the folder, which is emptied first, with a good model, what belongs to it, and one mutated file."""
    rng = random.Random(number)
    name, (originals, commands, _) = rng.choice([(n, k) for n, k in KINDS.items() for _ in range(1 if k.runs else 8)])
    file, content = rng.choice(originals())
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(_workplace(), folder)
    given = folder / file
    given.write_bytes(damage(content, rng.randrange) if rng.randrange(8) == 0 else _mutated(file, content, rng))
    variants = list(tomllib.loads(content.decode()).get("variants", ())) if name == "device" else []
    device = f"{given}:{rng.choice(variants)}" if variants else given
    words = rng.choice(commands).split()
    return Prepared(name, given, [word.format(given=given, folder=folder, device=device) for word in words])


def trial(number: int, folder: Path) -> str:
    """One mutated file through a command that reads its kind; the result tells the kind and the exit code.

    Raises AssertionError where a command breaks the contract.
    """
    kind, _, words = prepare(number, folder)
    with contextlib.nullcontext() if KINDS[kind].runs else static_only():
        return f"{kind}, exit code {command(*words)}"


def _mutated(name: str, content: bytes, rng: random.Random) -> bytes:
    if name.endswith(".npz"):
        return _archive(content, rng)
    tree = json.loads(content) if name.endswith(".json") else tomllib.loads(content.decode())
    for _ in range(1 + rng.randrange(3)):
        _change(tree, rng)
    if name.endswith(".json"):
        return json.dumps(tree).encode("utf-8", "surrogatepass")
    return "".join(f"{_toml(key)} = {_toml(value)}\n" for key, value in tree.items()).encode("utf-8", "surrogatepass")


def _change(tree: Any, rng: random.Random) -> None:
    """One change at one place: mostly another value of the same type, so that what is behind the types is reached too."""
    places = list(_places(tree))
    if not places:
        tree[rng.choice(NAMES)] = rng.choice(ODD)
        return
    table, key = rng.choice(places)
    kind, value = rng.randrange(12), table[key]
    if kind == 0:
        del table[key]
    elif kind == 1 and isinstance(table, list):
        table.append(value)
    elif kind == 1:
        table[_text(key, rng)] = value
    elif kind == 2:
        table[key] = [value]
    elif kind == 3:
        table[key] = rng.choice(ODD)
    elif isinstance(value, str):
        table[key] = rng.choice([t[k] for t, k in places if isinstance(t[k], str)]) if rng.randrange(2) else _text(value, rng)
    elif isinstance(value, bool):
        table[key] = not value
    elif isinstance(value, (int, float)):
        table[key] = rng.choice([v for v in ODD if isinstance(v, type(value))])
    else:
        table[key] = type(value)()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def _text(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(("", "_", ".", "x", " ", "*", "[", "-1", "99999999999", *NAMES)) + text[at + rng.randrange(4) :]


def _toml(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)  # inf and nan are words of TOML too
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _archive(content: bytes, rng: random.Random) -> bytes:
    """Damaged as bytes, or an array's header that claims something else."""
    kind = rng.randrange(3)
    if kind == 0:
        return damage(damage(content, rng.randrange), rng.randrange)
    if kind == 1:
        at = content.index(b"'shape': ") + len("'shape': ")
        end = content.index(b"}", at)
        shapes = (b"(99999999999,)", b"((((((((", b"(-1,)", b"(1e9,)", b"(2**70,)", b"('a',)", b"(0, 9999999999999)", b"(None,)")
        return content[:at] + rng.choice(shapes).ljust(end - at)[: end - at] + content[end:]
    stream = io.BytesIO()
    kinds = ("f4", "f8", "i4", "c8", "U3", "?", "M8[s]", "V4")
    arrays = {
        rng.choice(("x", "y", *NAMES[5:8])): np.zeros(
            rng.choice(((1, 16, 12, 10), (2, 1, 16, 12, 10), (), (0,))), rng.choice(kinds)
        )
    }
    np.savez(stream, allow_pickle=True, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


@functools.cache
def _workplace() -> Path:
    """A folder with the model, and all that npu-guard writes for it."""
    folder = Path(tempfile.mkdtemp(prefix="side_files_"))
    model = folder / "m.onnx"
    model.write_bytes(case_model(Case(MODEL, opset=20)).SerializeToString())
    assert command("check", str(model), "--write-baseline", str(folder / "baseline.json")) in (0, 1)
    assert command("fix", str(model), "-o", str(folder / "f.onnx"), "--plan", str(folder / "plan.toml")) in (0, 1)
    assert command("partition", str(model), "-o", str(folder / "pieces")) == 0
    np.savez(folder / "data.npz", x=np.zeros((2, 1, 16, 12, 10), np.float32))
    return folder


def _ours(*names: str) -> list[tuple[str, bytes]]:
    return [(name, (_workplace() / name).read_bytes()) for name in names]


@functools.cache
def _devices() -> list[tuple[str, bytes]]:
    files = sorted((ROOT / "rules" / "profiles").glob("*.toml"))
    return [("device.toml", file.read_bytes()) for file in files]


KINDS = {
    "device": Kind(
        _devices,
        (
            *(f"check {{folder}}/m.onnx --profile {{device}} --format {form}" for form in FORMATS),
            "profiles {device}",
            "profiles validate {given}",
            f"profiles diff {DEFAULT_PROFILE} {{device}}",
        ),
    ),
    "settings": Kind(
        lambda: [("npu-guard.toml", SETTINGS.encode())],
        tuple(f"check {{folder}}/m.onnx --config {{given}} --format {form}" for form in FORMATS),
    ),
    "baseline": Kind(
        lambda: _ours("baseline.json"),
        ("check {folder}/m.onnx --baseline {given}", "check {folder}/m.onnx --write-baseline {given}"),
    ),
    "plan": Kind(lambda: _ours("plan.toml"), ("fix {folder}/m.onnx -o {folder}/f.onnx --apply {given}",), runs=True),
    "manifest": Kind(
        lambda: _ours("pieces/manifest.json"),
        (
            "verify --manifest {given}",
            "verify {folder}/m.onnx --manifest {given}",
            "partition {folder}/m.onnx -o {folder}/pieces",
        ),
        runs=True,
    ),
    "calibration": Kind(lambda: _ours("data.npz"), ("verify {folder}/m.onnx {folder}/m.onnx --calibration {given}",), runs=True),
}
