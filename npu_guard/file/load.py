"""A path or URL becomes a model skeleton: the structure without the weights. Nothing else of the disk is opened.

Model-local functions are inlined here, so that what follows sees one kind of graph.
"""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from npu_guard.base import sandbox
from npu_guard.base.address import is_url
from npu_guard.base.errors import ModelError, UsageError
from npu_guard.base.limits import DEFAULT, Limits, exceeded
from npu_guard.base.text import short, text
from npu_guard.file import wire
from npu_guard.file.bodies import bodies_of
from npu_guard.file.parsed_size import bound
from npu_guard.file.skeleton import Content, Skeleton
from npu_guard.file.sniff import other_format
from npu_guard.file.spelling import spell_plainly

if TYPE_CHECKING:
    import onnx

    from npu_guard.file.remote import Ranged

_CHUNK = 1 << 24


def load(path: str | Path, limits: Limits = DEFAULT, *, keyed: bool = False) -> Skeleton:
    """Read the skeleton of an ONNX file, binary or in ONNX's text format, or of an object in a store.

    Raises ModelError with one sentence for anything that is not a whole ONNX model of a known version.
    """
    name = str(path)
    if is_url(name):
        return load_remote(name, limits, keyed=keyed)[0]
    return _parsed(read_content(path, limits), limits, keyed)


def read_content(path: str | Path, limits: Limits = DEFAULT) -> Content:
    """What `load` would parse, without a parser: imports no onnx. Raises ModelError."""
    name = str(path)
    descriptor = _open(path, name)
    try:
        if name.endswith(".py"):
            from npu_guard.file.suggestions import python_code

            raise ModelError("not-onnx", f"{name}: is no ONNX file; {python_code(name, name)}")
        if os.fstat(descriptor).st_size == 0:  # which cannot be mapped
            raise ModelError("not-onnx", f"{name}: the file is empty")
        with _map(descriptor, name) as data:
            return _stripped(data, name, limits)
    finally:
        os.close(descriptor)


def load_remote(url: str, limits: Limits = DEFAULT, *, keyed: bool = False) -> tuple[Skeleton, Ranged]:
    """The skeleton of an object in a store, and the buffer that knows what was fetched. Files beside it are not looked at."""
    from npu_guard.file.remote import Ranged

    data = Ranged(url)
    limits = msgspec.structs.replace(limits, external_data="unchecked")
    return _parsed(_stripped(data, url, limits), limits, keyed), data


def read_skeleton(data: wire.Buffer, name: str, limits: Limits = DEFAULT) -> Skeleton:
    """The skeleton of a model in a buffer; `name` is for messages. Raises ModelError."""
    return _parsed(_stripped(data, name, limits), limits)


def _stripped(data: wire.Buffer, name: str, limits: Limits) -> Content:
    if len(data) == 0:
        raise ModelError("not-onnx", f"{name}: the file is empty")
    head = data[:256]
    if (other := other_format(data, head)) is not None:
        raise ModelError("not-onnx", f"{name}: not an ONNX file but {other}")
    if head.lstrip()[:1] == b"<":
        if len(data) > limits.text_bytes:
            raise exceeded(name, "bytes of ONNX text:", len(data), "text-bytes", limits.text_bytes)
        return Content(name, data[:], {}, True)
    return Content(name, *wire.strip(data, name, indices=wire.KEEP_INDICES, limits=limits), False)


def _parsed(found: Content, limits: Limits, keyed: bool = False) -> Skeleton:
    name = found.path
    data = found.data
    if found.text:
        data = _parse_text(data, name)
        bound(data, name, limits)
    proto = _parse(data, name)
    for what, key, limit, have in (
        ("nodes:", "nodes", limits.nodes, len(proto.graph.node)),
        ("tensors:", "tensors", limits.tensors, len(proto.graph.initializer)),
        ("values:", "values", limits.values, len(proto.graph.input) + len(proto.graph.output) + len(proto.graph.value_info)),
    ):
        if have > limit:  # before anything is made of them
            raise exceeded(name, what, have, key, limit)
    if len(data) > limits.name_bytes:  # else no name in it can be longer
        _bound_names(proto, name, limits)
    opset = _check_versions(proto, name)
    spell_plainly(proto, data)
    if proto.functions or proto.training_info:
        from npu_guard.file import tensors  # which look at models that are loaded
        from npu_guard.file.unreachable import check_unreachable

        check_unreachable(proto, tensors.TensorSource(name, found.payloads, limits))
    if proto.functions:
        from npu_guard.file.inline import inline_functions

        proto = _parse(inline_functions(proto, name, limits), name)
    return Skeleton(name, proto, found.payloads, opset, limits, found.key if keyed else "")


def sha256(path: str | Path) -> str:
    """Hash of the whole file or object, for the machine formats; reads it once, so only they pay for it. Raises ModelError."""
    import hashlib

    if is_url(str(path)):
        from npu_guard.file.remote import Ranged

        data, digest = Ranged(str(path)), hashlib.sha256()
        for start in range(0, len(data), _CHUNK):
            digest.update(data[start : start + _CHUNK])
        return digest.hexdigest()
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:  # it was there a moment ago
        raise ModelError("unreadable", f"{path}: cannot be read ({error.strerror})") from None


def _open(path: str | Path, name: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        if name in ("", "-"):
            empty = "'' names no file; a variable of the command may be empty"
            told = "-: standard input is not read; name a file" if name else empty
            raise UsageError(told) from None
        raise ModelError("missing", _missing(name)) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelError("unreadable", f"{name}: cannot be opened ({reason})") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise ModelError("unreadable", f"{name}: is {what}; name an .onnx file")
    return descriptor


def _missing(name: str) -> str:
    from npu_guard.file.suggestions import instead_of  # which looks at what there is

    return f"{name}: no such file{instead_of(name)}"


def _map(descriptor: int, name: str) -> mmap.mmap:
    try:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError, OverflowError) as error:
        raise ModelError("unreadable", f"{name}: cannot be mapped into memory ({error})") from None


def _parse_text(text: bytes, name: str) -> bytes:
    import onnx

    def parse() -> bytes:
        parsed: bytes = onnx.parser.parse_model(text.decode()).SerializeToString()
        return parsed

    result = sandbox.run(parse)
    if result.status == "ok":
        return result.data
    if result.status != "error":
        kind = {"timeout": "timeout", "memory": "limit"}.get(result.status, "crashed")
        raise ModelError(kind, f"{name}: ONNX's text parser did not survive this file ({result.status}); it is refused")
    reason = " ".join(result.text.removeprefix("b'").removesuffix("'").replace("\\n", " ").split())[:300]
    raise ModelError("not-onnx", f"{name}: not valid ONNX text: {reason}")


def _parse(content: bytes, name: str) -> onnx.ModelProto:
    import onnx

    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except Exception as error:  # google.protobuf.message.DecodeError; importing it here costs more than it says
        if "depth" in str(error).lower():
            raise ModelError("limit", f"{name}: graphs or types are nested deeper than protobuf's 100 messages") from None
        raise ModelError("not-onnx", f"{name}: not an ONNX file ({error})") from None
    if not proto.HasField("graph"):
        raise ModelError("not-onnx", f"{name}: not an ONNX model: it has no graph")
    return proto


def _check_versions(proto: onnx.ModelProto, name: str) -> int:
    import onnx

    if proto.ir_version < 1:
        raise ModelError("not-onnx", f"{name}: not an ONNX model: ir_version is {proto.ir_version}")
    if proto.ir_version > onnx.IR_VERSION:
        raise ModelError(
            "unsupported-version",
            f"{name}: IR version {proto.ir_version} is newer than {onnx.IR_VERSION}, the newest that the installed"
            " onnx package knows; upgrade onnx or export with an older one",
        )
    versions: dict[str, int] = {}
    for entry in proto.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if versions.setdefault(domain, entry.version) != entry.version:
            raise ModelError("invalid", f"{name}: opset_import names the domain {short(text(domain))!r} with two versions")
        if domain and not 0 <= entry.version < 2**31:
            raise ModelError(
                "invalid", f"{name}: opset_import gives the domain {short(text(domain))!r} the impossible version {entry.version}"
            )
    newest = onnx.defs.onnx_opset_version()
    opset = versions.get("", 1 if proto.ir_version < 3 else 0)
    if opset > newest:
        raise ModelError(
            "unsupported-version",
            f"{name}: opset {opset} is newer than {newest}, the newest that the installed onnx package knows;"
            " upgrade onnx or export with opset_version lower",
        )
    if opset < 1 and (not versions or "" in versions):
        raise ModelError("invalid", f"{name}: opset_import names no valid version of the default operator set")
    return opset


def _bound_names(proto: onnx.ModelProto, name: str, limits: Limits) -> None:
    stack = [proto.graph.node, *(f.node for f in proto.functions)]
    while stack:
        for node in stack.pop():
            if node.ByteSize() <= limits.name_bytes:  # which costs less than a look at its attributes
                continue
            longest = max(map(len, (node.name, node.op_type, node.domain, *node.input, *node.output)))
            if longest > limits.name_bytes:
                raise exceeded(name, "length of a name:", longest, "name-bytes", limits.name_bytes)
            for attribute in node.attribute:
                stack.extend(body.node for body in bodies_of(attribute))
