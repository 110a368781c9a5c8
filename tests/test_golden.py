"""One golden file per output format, so that a reviewer sees every change that users will see."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from npu_guard.checking import registry
from npu_guard.pipeline.check import check_models
from npu_guard.project.config import Config

MODELS = ("samples/sample_net.onnx", "samples/six_problems.onnxtxt")
FORMATS = tuple(registry.members("reports"))


@pytest.mark.parametrize("form", FORMATS)
def test_format(form: str, root: Path, golden: Callable[[str, str], None]) -> None:
    report = check_models(
        MODELS, Config(), hashes=True, layers=registry.shows_layers(form), remedies=registry.shows_remedies(form)
    )
    content = registry.renderer(form)(report, color=False)
    if form == "html":  # style and scripts are files of their own; what counts here is the page
        content = re.sub(r"(<style[^>]*>|<script(?! type)[^>]*>).*?(</style>|</script>)", r"\1\2", content, flags=re.DOTALL)
        content = re.sub(r"sha256-[^']*", "sha256-", content)
    golden(f"check.{form}", content)


@pytest.mark.usefixtures("root")
def test_colour_adds_nothing_but_escape_sequences() -> None:
    from rich.text import Text

    report = check_models(MODELS, Config())
    render = registry.renderer("text")
    coloured = render(report, color=True)
    assert "\x1b[" in coloured
    assert Text.from_ansi(coloured).plain.splitlines() == render(report, color=False).splitlines()


def test_json_follows_the_shipped_schema(root: Path) -> None:
    schema = json.loads((root / "reports/assets/json-v1.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    report = check_models((*MODELS, "samples/no_such_file.onnx"), Config(), hashes=True)
    document = json.loads(registry.renderer("json")(report, color=False))
    assert [model["verdict"] for model in document["models"]] == ["fail", "fail", "unreadable"]
    jsonschema.validate(document, schema, jsonschema.Draft202012Validator)
    document["models"][0].pop("verdict")
    with pytest.raises(jsonschema.ValidationError, match="verdict"):
        jsonschema.validate(document, schema, jsonschema.Draft202012Validator)


def test_golden_files_have_a_format(root: Path) -> None:
    assert {file.name for file in (root / "tests/golden").iterdir()} == {f"check.{form}" for form in FORMATS}
