"""`npu-guard verify`: do two models compute the same?"""

from __future__ import annotations

from pathlib import Path

import click

from npu_guard.base.errors import UsageError
from npu_guard.base.limits import DEFAULT, Limits
from npu_guard.base.terminal import complain, show_text
from npu_guard.checking import registry
from npu_guard.commands._shared import (
    config_of,
    held_inputs,
    input_shapes,
    with_calibration,
    with_format_of,
    with_held,
    with_require,
    with_shapes,
)
from npu_guard.fixing.proving import shortfall
from npu_guard.pipeline.verify import compare_models
from npu_guard.project.config import find_config
from npu_guard.project.target import exported
from npu_guard.results.verification import Verification
from npu_guard.verification.int8 import KEPT, compare_int8_files
from npu_guard.verification.layers import compare_layers
from npu_guard.verification.report import VerifyResult


@click.command("verify", short_help="Run two models on the same inputs and compare them.")
@click.argument("before", metavar="BEFORE", type=click.Path(path_type=str), required=False)
@click.argument("after", metavar="AFTER", type=click.Path(path_type=str), required=False)
@with_calibration
@with_shapes
@with_held
@click.option(
    "--manifest", metavar="FILE", type=click.Path(path_type=Path),
    help="Run the pieces that 'npu-guard partition' wrote, and compare them with MODEL, given in the place of BEFORE.",
)  # fmt: skip
@click.option(
    "--map", "pairs", metavar="OLD=NEW", multiple=True,
    help="An input or output of BEFORE and the one of AFTER that it goes with, where their names differ. Repeatable.",
)  # fmt: skip
@click.option("--bisect", is_flag=True, help="Where they differ, name the first tensor that diverges.")
@click.option("--layers", is_flag=True, help="Also compare the tensors that both have, operator by operator, in dB and in steps.")
@click.option("--int8", is_flag=True, help="Also quantize both with the same calibration, and say what precision is lost.")
@with_format_of("verify")
@with_require
def command(
    before: str | None, after: str | None, calibration: Path | None, shapes: tuple[str, ...], manifest: Path | None,
    pairs: tuple[str, ...], bisect: bool, layers: bool, int8: bool, form: str, require: str | None,
) -> int:  # fmt: skip
    """Run both models with ONNX Runtime on the same inputs and compare every output. Exit code 5 where they differ.

    PACKAGE.MODULE:CALLABLE names Python code, which is then run, see 'npu-guard export --help'.

    With --manifest, the two sides are the model that was cut, if it is named, and its pieces in order.
    """
    if manifest is not None:
        if after is not None or shapes or pairs or bisect or layers or int8 or require:
            lone = "--input-shape, --map, --bisect, --layers, --int8 or --require"
            raise UsageError(f"verify: --manifest takes the model that was cut, not AFTER, {lone}")
        return _pieces(manifest, before, calibration, form)
    if before is None or after is None:
        raise UsageError("verify: name two models, or --manifest FILE and the model that was cut")
    limits, fixed, named = _limits(), input_shapes(shapes), _pairs(pairs)
    with exported([before, after], fixed) as files:
        verification, found = compare_models(
            files[before],
            files[after],
            fixed,
            calibration,
            bisect=bisect,
            limits=limits,
            pairs=named,
            require=require,
            held=held_inputs(),
        )
        integers = compare_int8_files(files[before], files[after], fixed, calibration, limits) if int8 else None
        single = compare_layers(files[before], files[after], fixed, calibration, limits) if layers else None
    show_text(
        registry.renderer(form, "verify")(VerifyResult(verification, integers, bisect, found, single)), folded=form == "text"
    )
    if verification.verdict != "equal":
        complain(f"{after}: {_shortcoming(verification)} {before}{_because(verification)}")
        return 5
    if require is not None and (lacking := shortfall((), verification, require.replace("-", " "))):
        complain(f"{after}: {lacking}")
        return 5
    if integers is not None and integers.verdict != KEPT:
        complain(f"{after}: does not keep the precision of {before} as int8, or that cannot be told")
        return 5
    return 0


def _pairs(given: tuple[str, ...]) -> dict[str, str]:
    """The names of --map. Raises UsageError where one is no pair."""
    pairs = {}
    for entry in given:
        old, equals, new = entry.partition("=")
        if not (old and equals and new):
            raise UsageError(f"verify: --map {entry} is no pair of names; write --map old=new")
        pairs[old] = new
    return pairs


def _limits() -> Limits:
    """The project's, for there is nothing else of its settings that counts here."""
    file = find_config(Path.cwd())
    return DEFAULT if file is None else config_of(file).limits


def _shortcoming(verification: Verification) -> str:
    return "was not compared with" if verification.verdict == "not_run" else "does not compute the same as"


def _because(verification: Verification) -> str:
    return f" ({verification.reason})" if verification.reason else ""


def _pieces(manifest: Path, model: str | None, calibration: Path | None, form: str) -> int:
    """Compare the pieces of a partition with their model; alone, they can only be what was verified when it was written."""
    from npu_guard.partitioning import files
    from npu_guard.partitioning.files import verify_partition

    verification = verify_partition(manifest, model, calibration=calibration, limits=_limits())
    intact = verification.reason == files.ALONE
    show_text(registry.renderer(form, "verify")(VerifyResult(verification, pieces=True, alone=intact)), folded=form == "text")
    if intact or verification.verdict == "equal":
        return 0
    complain(f"{manifest}: {_shortcoming(verification)} {model or 'anything'}{_because(verification)}")
    return 5
