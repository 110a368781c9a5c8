"""Tensors that are wrong, in every place where a tensor can stand; and files of weights beside the model."""

# ruff: noqa: E501 - a case is a line, so that the tables can be read
from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from hostile_classes.case import ACCEPT, Case, edited, text

Place = Callable[[TensorProto], bytes]
OUTER = "canary-7c1e-outside-the-folder-of-the-model"


def _weight(tensor: TensorProto) -> bytes:
    """As a weight."""

    def change(m: onnx.ModelProto) -> None:
        m.graph.initializer.add().CopyFrom(tensor)

    return edited(change)


def constant(tensor: TensorProto) -> bytes:
    """As the value of a Constant."""
    return edited(lambda m: m.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor)))


def sparse_values(tensor: TensorProto) -> bytes:
    """As values of a sparse weight."""

    def change(m: onnx.ModelProto) -> None:
        entry = m.graph.sparse_initializer.add(dims=[8])
        entry.values.CopyFrom(tensor)
        entry.values.name = "w"
        entry.indices.CopyFrom(helper.make_tensor("i", TensorProto.INT64, [4], [0, 1, 2, 3]))

    return edited(change)


def sparse_indices(tensor: TensorProto) -> bytes:
    """As indices of a sparse weight."""

    def change(m: onnx.ModelProto) -> None:
        entry = m.graph.sparse_initializer.add(dims=[8])
        entry.values.CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, [4], [0.0] * 4))
        entry.indices.CopyFrom(tensor)

    return edited(change)


def body(tensor: TensorProto) -> bytes:
    """As a weight of a branch."""

    def change(m: onnx.ModelProto) -> None:
        for attribute in m.graph.node[0].attribute:
            attribute.g.initializer.add().CopyFrom(tensor)

    return edited(change, text(
        "y = If(c) <then_branch = t () => (float[1,4] a) { a = Relu(x) }, else_branch = e () => (float[1,4] b) { b = Abs(x) }>",
        "bool c, float[1,4] x"))  # fmt: skip


def function(tensor: TensorProto) -> bytes:
    """As a constant of a model-local function."""

    def change(m: onnx.ModelProto) -> None:
        m.graph.node[0].CopyFrom(helper.make_node("F", ["x"], ["y"], domain="own"))
        m.opset_import.add(domain="own", version=1)
        nodes = [helper.make_node("Constant", [], ["k"], value=tensor), helper.make_node("Relu", ["a"], ["b"])]
        m.functions.append(helper.make_function("own", "F", ["a"], ["b"], nodes, [helper.make_opsetid("", 20)]))

    return edited(change)


def unused_function(tensor: TensorProto) -> bytes:
    """As a constant of a function that nobody calls."""

    def change(m: onnx.ModelProto) -> None:
        nodes = [helper.make_node("Constant", [], ["k"], value=tensor), helper.make_node("Relu", ["a"], ["b"])]
        m.functions.append(helper.make_function("own", "F", ["a"], ["b"], nodes, [helper.make_opsetid("", 20)]))

    return edited(change)


def tensors_attribute(tensor: TensorProto) -> bytes:
    """In a list of tensors, an attribute of a foreign operator."""

    def change(m: onnx.ModelProto) -> None:
        m.opset_import.add(domain="own", version=1)
        m.graph.node.append(helper.make_node("G", ["x"], ["z"], domain="own", many=[tensor, tensor]))

    return edited(change)


def training(tensor: TensorProto) -> bytes:
    """In what only training runs."""

    def change(m: onnx.ModelProto) -> None:
        m.training_info.add().algorithm.initializer.add().CopyFrom(tensor)

    return edited(change)


PLACES: tuple[Place, ...] = (
    _weight, constant, sparse_values, sparse_indices, body, function, unused_function, tensors_attribute, training,
)  # fmt: skip
RUNNING: tuple[Place, ...] = (_weight, constant, body, function, tensors_attribute)
"""Places of which any tensor will do."""


def _place(place: Place) -> str:
    return place.__name__.strip("_").replace("_", "-")


def _broken() -> Iterator[tuple[str, str, TensorProto]]:
    def tensor(extents: list[int], kind: int = 1, **data: object) -> TensorProto:
        return TensorProto(name="w", dims=extents, data_type=kind, **data)  # type: ignore[arg-type]

    yield "short", "too little data", tensor([4], raw_data=bytes(15))
    yield "long", "too much data", tensor([4], raw_data=bytes(17))
    yield "none", "no data", tensor([4])
    yield "negative", "a negative extent", tensor([-1], raw_data=b"")
    yield "huge", "an extent of 2^62", tensor([2**62], raw_data=bytes(16))
    yield "wraps", "extents whose product is 2^64", tensor([2**32, 2**32])
    yield "wraps-small", "extents whose product is 2^32, of 31 bits each", tensor([2**16, 2**16, 2**16, 2**16])
    yield "type-0", "no element type", tensor([4], 0, raw_data=bytes(16))
    yield "type-999", "an unknown element type", tensor([4], 999, raw_data=bytes(16))
    yield "two-places", "data in two fields", tensor([4], raw_data=bytes(16), float_data=[0.0] * 4)
    yield "other-field", "data in the field of another type", tensor([4], int64_data=[0] * 4)
    yield "rank", "rank 1,000", tensor([1] * 1000, raw_data=bytes(4))
    yield "segment", "a part of a tensor", tensor([4], raw_data=bytes(8), segment=TensorProto.Segment(begin=0, end=2))


LOCATIONS: dict[str, str | None] = {
    "none": None, "empty": "", "up": "../outer.bin", "up-twice": "../../outer.bin", "up-inside": "a/../../outer.bin", "absolute": "/etc/hostname",
    "double-slash": "//etc/hostname", "backslash": "..\\outer.bin", "drive": "C:\\outer.bin", "share": "\\\\host\\share\\w", "file-url": "file:///etc/hostname",
    "http": "http://127.0.0.1:9/w", "s3": "s3://bucket/w", "data-url": "data:;base64,AAAA", "home": "~/w.bin", "variable": "$HOME/w.bin", "nul": "w.bin\0.txt",
    "newline": "w.bin\n", "escape": "\x1b[31mw.bin", "bidi": "\u202ew.bin", "dot": ".", "dots": "..", "slash": "w.bin/", "inside-file": "w.bin/x", "long": "w" * 5000,
    "memory": "*/_ORT_MEM_ADDR_/*", "inline": "npu-guard:inline", "proc": "/proc/self/environ", "device": "/dev/zero", "deep": "a/" * 3000 + "w", "command": "::error::x", "missing": "missing.bin",
    "case": "W.BIN", "trailing-space": "w.bin ", "percent": "%2e%2e/outer.bin", "model": "m.onnx/../../outer.bin",
}  # fmt: skip
FILES = (
    "link",
    "link-inside",
    "link-dangling",
    "link-loop",
    "hard",
    "fifo",
    "folder",
    "folder-link",
    "empty",
    "short",
    "device-link",
)


def _outside(location: str | None, **more: str) -> TensorProto:
    tensor = TensorProto(name="w", dims=[4], data_type=1, data_location=TensorProto.EXTERNAL)
    entries = ({} if location is None else {"location": location}) | more
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def _beside(data: bytes, prepare: Callable[[Path], None]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "outer.bin").write_text(OUTER)
        home = folder / "net"
        home.mkdir()
        prepare(home)
        (home / "m.onnx").write_bytes(data)
        return home / "m.onnx"

    return make


def _plain(home: Path) -> None:
    (home / "w.bin").write_bytes(bytes(64))


def _special(how: str) -> Callable[[Path], None]:
    def prepare(home: Path) -> None:
        file, outer = home / "w.bin", home.parent / "outer.bin"
        (home / "plain.bin").write_bytes(bytes(64))
        if how == "hard":
            file.hardlink_to(outer)
        elif how == "fifo":
            os.mkfifo(file)
        elif how == "folder":
            file.mkdir()
        elif how in ("empty", "short"):
            file.write_bytes(bytes(15 * (how == "short")))
        elif how == "folder-link":
            (home / "sub").symlink_to("..")
        else:
            targets = {
                "link": "../outer.bin",
                "link-inside": "plain.bin",
                "link-dangling": "nowhere",
                "link-loop": "w.bin",
                "device-link": "/dev/zero",
            }
            file.symlink_to(targets[how])

    return prepare


def cases() -> Iterator[Case]:
    """Each fault in each place where it matters."""
    for name, what, broken in _broken():
        for place in PLACES:
            yield Case(
                f"tensor-{name}-{_place(place)}", "tensor", f"{what}, {place.__doc__}", ("invalid", "limit"), "", place(broken)
            )
    for place in PLACES:
        yield Case(
            f"outside-up-{_place(place)}",
            "external",
            f"weights outside, {place.__doc__}",
            ("invalid",),
            "",
            _beside(place(_outside("../outer.bin")), _plain),
        )
    good = TensorProto(name="w", dims=[4], data_type=1, raw_data=bytes(16))
    for place in (*RUNNING, unused_function, training):
        yield Case(f"good-tensor-{_place(place)}", "tensor", f"a good tensor, {place.__doc__}", (ACCEPT,), "", place(good))
    for name, location in LOCATIONS.items():
        kinds = ("invalid", "missing", "not-onnx")
        yield Case(
            f"location-{name}",
            "external",
            f"weights at {location if location is None else location[:60]!r}",
            kinds,
            "",
            _beside(_weight(_outside(location)), _plain),
        )
    for how in FILES:
        location = "sub/outer.bin" if how == "folder-link" else "w.bin"
        yield Case(
            f"beside-{how}",
            "external",
            f"weights in a file that is: {how}",
            ("invalid", "missing"),
            "w",
            _beside(_weight(_outside(location)), _special(how)),
        )
    for name, more in {
        "offset-negative": {"offset": "-4"}, "offset-beyond": {"offset": "65"}, "offset-huge": {"offset": str(2**64)}, "offset-wraps": {"offset": str(2**64 - 8), "length": "16"},
        "offset-word": {"offset": "four"}, "offset-float": {"offset": "1e3"}, "offset-hex": {"offset": "0x10"}, "offset-digits": {"offset": "9" * 5000},
        "offset-spaces": {"offset": "6" + " " * 100 + "9"}, "length-negative": {"length": "-1"}, "length-zero": {"length": "0"}, "length-long": {"length": "65"},
        "length-other": {"length": "12"}, "length-huge": {"length": str(2**62)}, "length-empty": {"length": ""}, "length-nul": {"length": "16\0"},
        "offset-unaligned-end": {"offset": "49"},
    }.items():  # fmt: skip
        yield Case(
            f"range-{name}",
            "external",
            f"weights at {more}",
            ("invalid",),
            "",
            _beside(_weight(_outside("w.bin", **{k: v[:6000] for k, v in more.items()})), _plain),
        )
    for name, more in {
        "whole": {},
        "offset": {"offset": "48"},
        "length": {"length": "16"},
        "checksum": {"checksum": "0" * 40},
        "page": {"offset": "0", "length": "16"},
    }.items():
        yield Case(
            f"good-range-{name}",
            "external",
            "weights beside the model",
            (ACCEPT,),
            "",
            _beside(_weight(_outside("w.bin", **more)), _plain),
        )
    twice = _outside("w.bin")
    twice.external_data.add(key="location", value="../outer.bin")
    yield Case("location-twice", "external", "two locations", ("invalid",), "twice", _beside(_weight(twice), _plain))
    odd = _outside("w.bin", __class__="x", name="y", raw_data="z")
    yield Case(
        "keys-odd", "external", "keys that are names of Python attributes", (ACCEPT, "invalid"), "", _beside(_weight(odd), _plain)
    )
    hidden = helper.make_node("Relu", ["x"], ["z"])
    hidden.attribute.add(name="a", type=2, i=1).t.CopyFrom(_outside("../outer.bin"))
    hidden.domain = "own"

    def hide(m: onnx.ModelProto) -> None:
        m.opset_import.add(domain="own", version=1)
        m.graph.node.append(hidden)

    yield Case(
        "outside-hidden",
        "external",
        "weights outside in an attribute whose type is another",
        (ACCEPT, "invalid"),
        "",
        _beside(edited(hide), _plain),
    )
    default = _outside("../outer.bin")
    default.data_location = TensorProto.DEFAULT
    default.raw_data = bytes(16)
    yield Case(
        "location-default",
        "external",
        "a location outside, for data that is inside",
        (ACCEPT, "invalid"),
        "",
        _beside(_weight(default), _plain),
    )
    for name, indices, kind in (
        ("beyond", [0, 1, 2, 8], 7),
        ("negative", [-1, 1, 2, 3], 7),
        ("huge", [0, 1, 2, 2**62], 7),
        ("int32", [0, 1, 2, 3], 6),
        ("repeats", [1, 1, 2, 3], 7),
        ("unsorted", [3, 2, 1, 0], 7),
    ):
        yield Case(
            f"sparse-{name}",
            "tensor",
            f"sparse indices {indices}",
            ("invalid",),
            "",
            sparse_indices(helper.make_tensor("i", kind, [4], indices)),
        )
    yield Case(
        "good-sparse", "tensor", "a sparse weight", (ACCEPT,), "", sparse_indices(helper.make_tensor("i", 7, [4], [0, 3, 4, 7]))
    )
