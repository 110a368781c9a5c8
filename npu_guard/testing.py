"""Compatibility as a unit test: `assert_npu_compatible` for files, ONNX models and torch modules.

The pytest plugin imports this module in every test run of a project, so it imports nothing that takes time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

    from npu_guard.api.results import Report


def assert_npu_compatible(
    model: str | os.PathLike[str] | onnx.ModelProto | nn.Module,
    inputs: Mapping[str, Tensor] | Sequence[Tensor] | Tensor | None = None,
    *,
    profile: str | None = None,
    fail_on: str | None = None,
    allow_undecided: bool = False,
    ignore: Sequence[str] = (),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    verbose: bool = False,
) -> Report:
    """Raise AssertionError, with the report as its text, where a model does not fit the device; else return the report.

    `model` is the path of an ONNX file, an ONNX model, or a torch module with example `inputs`: a dict by name, a tuple,
    or one tensor. A module is exported in eval mode to a temporary file, and the report names its lines of Python. Without
    `inputs`, `input_shapes` stand for random ones. What is not given comes from the project's settings, as for
    `npu-guard check`: `profile`, `fail_on` ("error" or "warning") and suppressions; `ignore` comes on top.

    The text has the most important findings in brief; `verbose` shows all. Its first line is the count and the first place,
    as pytest's summary shows that line and cuts its end. A rule that cannot tell fails the test, unless `allow_undecided`; so
    does a model that cannot be read. Raises UsageError where the arguments or the settings are wrong.
    """
    __tracebackhide__ = True
    from npu_guard.api.calls import check

    report = check(
        model, profile=profile, inputs=inputs, fail_on=fail_on, allow_undecided=allow_undecided, ignore=ignore,
        input_shapes=input_shapes,
    )  # fmt: skip
    if report.exit_code != 0:
        lines = [report.count_first(), "", report.render(verbose=True).rstrip() if verbose else report.brief("verbose=True")]
        if report.verdict == "undecided":
            lines.append("A rule could not tell: give input_shapes={...}, or pass allow_undecided=True.")
        raise AssertionError("\n".join(lines))
    return report
