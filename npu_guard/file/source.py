"""Where a model is: a file or the URL of an object."""

from __future__ import annotations

from msgspec import Struct


class ModelSource(Struct, frozen=True):
    """One model. `mark` changes when its content does, as far as can be told without reading it."""

    name: str
    size: int
    mark: str
