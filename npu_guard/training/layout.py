"""The text of classes, laid out as `ruff format` would: no formatter has to be installed where it is written."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Sequence

from npu_guard.training.writer import FRAMES, ONLY, OPERATOR, Written

WIDTH = 88
HEAD = '''"""Blocks that fit the device, written by npu-guard. They are yours to edit; `npu_guard.torch.apply` puts them in."""'''
IMPORTS = ["import torch", "import torch.nn.functional as F", "from torch import Tensor, nn"]
MASKED = '''
class Masked{name}(nn.{name}):
    """A {name} of whose weights some are structure: they keep their value in training."""

    mask: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("mask", torch.ones_like(self.weight, dtype=torch.bool))

    def forward(self, input: Tensor{more}) -> Tensor:
        weight = self.weight
        if self.training:
            weight = torch.where(self.mask, weight, weight.detach())
{lines}
        return result
'''
FRAMES_TEXT = '''
class FramesBatchNorm(nn.BatchNorm2d):
    """A norm over frames in the channels: channel d C + c is channel c of frame d.

    The frames of a channel share its statistics, as in BatchNorm3d. `more` channels behind
    them are passed on.
    """

    def __init__(
        self, channels: int, frames: int, more: int = 0, **options: Any
    ) -> None:
        super().__init__(channels, **options)
        self.frames, self.more = frames, more

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            mean, var = self.running_mean, self.running_var
            state = self._all(mean), self._all(var, 1.0), self._all(self.weight, 1.0)
            return F.batch_norm(input, *state, self._all(self.bias), eps=self.eps)
        shape = (-1, self.num_features, *input.shape[2:])
        own, more = input.tensor_split([input.shape[1] - self.more], 1)
        return torch.cat([super().forward(own.reshape(shape)).view_as(own), more], 1)

    def _all(self, one: Tensor | None, padding: float = 0.0) -> Tensor:
        assert one is not None
        return F.pad(one.repeat(self.frames), (0, self.more), value=padding)
'''
ONLY_TEXT = '''
def only(module: nn.Module, *paths: str) -> nn.Module:
    """A module that holds these of the modules inside, under their names, and no others."""
    made = nn.Module()
    for path in paths:
        *outer, name = path.split(".")
        at = made
        for part in outer:
            if part not in dict(at.named_children()):
                at.add_module(part, nn.Module())
            at = at.get_submodule(part)
        at.add_module(name, module.get_submodule(path))
    return made
'''
OPERATOR_TEXT = '''
def as_operator(name: str, x: Tensor, result: Tensor, **attributes: Any) -> Tensor:
    """The result, which is exported as this one operator of ONNX on `x`."""
    if not torch.onnx.is_in_onnx_export() or torch.jit.is_tracing():
        return result
    made: Tensor = torch.onnx.ops.symbolic(
        name, (x,), attributes, dtype=x.dtype, shape=result.shape
    )
    return made
'''
HELPERS = {FRAMES: FRAMES_TEXT, ONLY: ONLY_TEXT, OPERATOR: OPERATOR_TEXT}
CALLS = {
    **dict.fromkeys(("Conv1d", "Conv2d", "Conv3d"), "self._conv_forward(input, weight, self.bias)"),
    "Linear": "F.linear(input, weight, self.bias)",
}
"""What the forward of a module does with its weight; of transposed convolutions it is written below."""
TRANSPOSED = "self.stride, self.padding, self.output_padding, self.groups, self.dilation"


def module_text(classes: Sequence[Written]) -> str:
    """A Python file with these classes."""
    helpers = sorted({h for c in classes for h in c.helpers})
    parts = [helper_text(h) for h in helpers]
    written = {c.name: c for c in reversed(classes) if not c.constructor}
    parts += ["\n".join(class_lines(c)) for c in reversed(written.values())]
    body = "\n\n\n".join(parts)
    imports = [i for i in IMPORTS if i != IMPORTS[1] or "F." in body]
    if "torch." not in body.replace("npu_guard.torch.", ""):
        imports.remove(IMPORTS[0])
    if "Tensor" not in body:
        imports[-1] = "from torch import nn"
    lines = [HEAD, "", *(["from typing import Any", ""] if set(helpers) - {ONLY} else []), *(imports if parts else [])]
    return "\n".join(lines) + (f"\n\n\n{body}\n" if parts else "\n")


def helper_text(name: str) -> str:
    """A class or function that classes use."""
    if name in HELPERS:
        return HELPERS[name].strip()
    kind, more = name.removeprefix("Masked"), ""
    if kind.startswith("ConvTranspose"):
        call = f"F.conv_transpose{kind[-2:]}(input, weight, self.bias, {TRANSPOSED})"
        more = ", output_size: Any = None"
        lines = ["        assert isinstance(self.padding, tuple)", *wrapped(f"result: Tensor = {call}", 8)]
    else:
        lines = list(wrapped(f"result: Tensor = {CALLS[kind]}", 8))
    return MASKED.format(name=kind, more=more, lines="\n".join(lines)).strip()


def class_lines(written: Written) -> Iterator[str]:
    """One class."""
    yield f"class {written.name}(nn.Module):"
    yield from docstring(written.doc, "    ")
    yield ""
    old = ", old: nn.Module" if written.kept else ""
    yield f"    def __init__(self{old}) -> None:"
    yield "        super().__init__()"
    for name in written.kept:
        child = f'old.get_submodule("{name}")'
        if name in written.parts:
            child = f"{ONLY}({', '.join([child, *map(json.dumps, written.parts[name])])})"
        yield from wrapped(f"self.{name} = {child}" if name.isidentifier() else f'self.add_module("{name}", {child})', 8)
    for line in written.fields:
        yield from wrapped(line, 8)
    yield ""
    arguments = "".join(f", {a}" for a in written.arguments)
    yield from wrapped(f"def forward(self{arguments}) -> {written.result_type}:", 4)
    returned = set(re.findall(r"\w+", written.result))
    for line in (*written.unpack, *written.body):
        name, equals, value = line.partition(" = ")
        typed = bool(equals) and name in returned  # mypy takes whatever a module gives for Any
        returned.discard(name)
        yield from wrapped(f"{name}: Tensor = {value}" if typed else line, 8)
    yield from wrapped(f"return {written.result}", 8)


def docstring(text: str, indent: str) -> Iterator[str]:
    """A docstring of one or more paragraphs."""
    first, *rest = text.strip().split("\n\n")
    opening = textwrap.wrap(f'"""{first}', 100)
    if not rest and len(opening) == 1:
        yield f'{indent}{opening[0]}"""'
        return
    yield from (indent + line for line in opening)
    for paragraph in rest:
        yield ""
        yield from (indent + line for line in textwrap.wrap(paragraph, 100))
    yield f'{indent}"""'


def wrapped(line: str, indent: int) -> Iterator[str]:
    """The line, broken at its last bracket where it is too long: in one line inside it, else one line for each operand."""
    code, _, comment = line.partition("  # ")
    blank = " " * indent
    if len(blank + code) <= WIDTH:
        yield blank + line
        return
    found = _last_bracket(code.partition(" -> ")[0] if code.startswith("def ") else code)
    if found is None:
        yield blank + line
        return
    start, end = found
    inner = code[start + 1 : end]
    if not inner:
        yield blank + line
        return
    yield blank + code[: start + 1]
    parts = _parts(inner)
    if len(blank) + 4 + len(inner) <= WIDTH and not (len(parts) == 1 and inner.endswith(",")):
        yield f"{blank}    {inner}"
    elif len(parts) == 1:
        yield from wrapped(inner, indent + 4)
    else:
        for part in parts:
            lines = list(wrapped(part + ",", indent + 4))
            yield from lines
    yield blank + code[end:] + (f"  # {comment}" if comment else "")


def _last_bracket(code: str) -> tuple[int, int] | None:
    """Where the last bracket at the outside opens and closes."""
    depth, start, found, quoted = 0, 0, None, ""
    for i, character in enumerate(code):
        if quoted or character in "\"'":
            quoted = "" if character == quoted else quoted or character
        elif character in "([{":
            start = i if depth == 0 else start
            depth += 1
        elif character in ")]}":
            depth -= 1
            if depth == 0 and i > start + 1:
                found = (start, i)
    return found


def _parts(inner: str) -> list[str]:
    """Operands between commas at the outside."""
    parts, depth, start = [], 0, 0
    for i, character in enumerate(inner):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(inner[start:i].strip())
            start = i + 1
    return [*parts, inner[start:].strip()] if inner[start:].strip() else parts
