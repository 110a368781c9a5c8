"""Words of the source that is written: numbers, names that come from weights, and lists of parts."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST = 4
"""Parts of a tuple that are written one by one; more of them by their index."""


def literal(array: NDArray[Any]) -> str:
    """A number as Python writes it, the shortest that is the same in the array's type."""
    number = array.reshape(-1)[0]
    if array.dtype.kind != "f":
        return repr(number.item())
    if float(number).is_integer() and abs(number) < 1e6:
        return f"{float(number):.1f}"
    return np.format_float_positional(number, trim="0") if 1e-4 < abs(number) < 1e6 else repr(float(str(number)))


def tail(name: str) -> str:
    """The part of an initializer's name that says what it is."""
    return re.sub(r".*__[a-z0-9-]+?_", "", name).split(".")[-1]


def last_name(path: str) -> str | None:
    """The last part of a module's path where it can be a name in Python: a number in a Sequential cannot."""
    name = re.sub(r"\W", "_", path.rsplit(".", maxsplit=1)[-1])
    return name if name.isidentifier() and not keyword.iskeyword(name) else None


def tensor_list(names: Sequence[str]) -> str:
    """A list of tensors: one that comes several times in a row is written once, and parts of one tuple by their index.

    A sum of lists, and no list with a star inside: torch.jit.script cannot read that.
    """
    if len(names) > FEWEST and (counted := _parts_by_index(names)):
        return counted
    lists: list[str] = []
    single: list[str] = []
    for name, same in groupby(names):
        count = len(list(same))
        if count <= 2 and len(names) > count:
            single += [name] * count
            continue
        lists += [f"[{', '.join(single)}]"] if single else []
        lists.append(f"[{name}] * {count}" if count > 1 else f"[{name}]")
        single = []
    return " + ".join([*lists, f"[{', '.join(single)}]"] if single or not lists else lists)


def _parts_by_index(names: Sequence[str]) -> str | None:
    """All of `parts[i]` in rows of equal steps, each row the same step behind the one before; None where they lie otherwise.

    A comprehension and no slice: torch.fx traces what has an index, and cannot go through a slice of a tuple.
    """
    found = [re.fullmatch(r"(\w+)\[(\d+)\]", name) for name in names]
    parts = [(m[1], int(m[2])) for m in found if m]
    if len(parts) < len(names) or len({name for name, _ in parts}) > 1:
        return None
    at = [index for _, index in parts]
    start, step = at[0], at[1] - at[0]
    row = next((k for k in range(2, len(at)) if at[k] - at[k - 1] != step), len(at))
    rows, skip = len(at) // row, at[row] - start if row < len(at) else 0
    if at != [start + skip * j + step * i for j in range(rows) for i in range(row)]:
        return None
    over, along = (f"i // {row}", f"(i % {row})") if rows > 1 else ("", "i")  # one loop: torch.jit.script reads no second one
    terms = [str(start)] if start else []
    terms += [f"{skip} * ({over})" if skip != 1 else over] if skip else []
    terms += [f"{step} * {along}" if step != 1 else along] if step else []
    return f"[{parts[0][0]}[{' + '.join(terms) or '0'}] for i in range({rows * row})]"
