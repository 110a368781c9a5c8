"""`npu-guard verify`: do two models compute the same?"""

from __future__ import annotations

from pathlib import Path

import click

from npu_guard import fix_report, repair
from npu_guard.commands._shared import input_shapes, with_calibration, with_shapes
from npu_guard.terminal import show


@click.command("verify")
@click.argument("before", type=click.Path(path_type=str))
@click.argument("after", type=click.Path(path_type=str))
@with_calibration
@with_shapes
@click.option("--bisect", is_flag=True, help="Where they differ, name the first tensor that diverges.")
@click.option(
    "--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True, help="Format of the result."
)
def command(before: str, after: str, calibration: Path | None, shapes: tuple[str, ...], bisect: bool, form: str) -> int:
    """Run both models with ONNX Runtime on the same inputs and compare every output. Exit code 5 where they differ."""
    verification, found = repair.compare_models(before, after, input_shapes(shapes), calibration, bisect=bisect)
    if form == "json":
        import json

        document = fix_report.verification_json(verification)
        if bisect:
            document["first_divergence"] = found.name if found is not None else None
        show(json.dumps(document, indent=2) + "\n")
    else:
        show(fix_report.verification_text(verification) + "\n")
        if found is not None:
            show(fix_report.bisection_text(found) + "\n")
    return 0 if verification.verdict == "equal" else 5
