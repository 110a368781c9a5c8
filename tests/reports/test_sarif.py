"""SARIF: valid against the official schema, and what GitHub's ingestion asks for beyond it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npu_guard.checking import registry
from npu_guard.results.findings import Report

RAW = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
SCHEMA = json.loads((Path(__file__).parents[1] / "data" / "sarif-2.1.0.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft4Validator(SCHEMA)


def render(report: Report) -> dict[str, Any]:
    document = json.loads(registry.renderer("sarif")(report, color=False))
    VALIDATOR.validate(document)
    run: dict[str, Any] = document["runs"][0]
    return run


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, entry in value.items() for text in [key, *strings(entry)]]
    if isinstance(value, list):
        return [text for entry in value for text in strings(entry)]
    return [value] if isinstance(value, str) else []


def check_references(run: dict[str, Any]) -> None:
    """What no schema sees: indices lead to the right place, URIs are relative, nothing unprintable is in the data."""
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        assert result["locations"][0]["physicalLocation"]["region"]["startLine"] >= 1
        assert result["partialFingerprints"]["npuGuard/v1"]
        check_uri(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])
        assert "](" not in result["message"]["text"]
    for notice in run["invocations"][0]["toolExecutionNotifications"]:
        known = run["tool"]["driver"]["notifications"]
        assert known[notice["descriptor"]["index"]]["id"] == notice["descriptor"]["id"]
        if "associatedRule" in notice:
            assert rules[notice["associatedRule"]["index"]]["id"] == notice["associatedRule"]["id"]
    for part in (run["results"], run["invocations"], run["artifacts"], run["properties"]):
        assert not any(RAW.search(text) for text in strings(part))


def check_uri(uri: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_.~/%-]+", uri)
    split = urlsplit(uri)
    assert (split.scheme, split.netloc) == ("", "")
    assert not split.path.startswith("/")
    assert ".." not in unquote(split.path).split("/")


def test_golden(compare: Callable[[str, str], str]) -> None:
    document = json.loads(compare("sarif", "sarif.sarif"))
    VALIDATOR.validate(document)
    check_references(document["runs"][0])


def test_the_schema_refuses_what_is_wrong(sample: ModuleType) -> None:
    run = render(sample.REPORT)
    run["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError, match="fatal"):
        VALIDATOR.validate({"version": "2.1.0", "runs": [run]})


@pytest.mark.usefixtures("root")
def test_rules_that_ran_are_described(sample: ModuleType) -> None:
    rules = {rule["id"]: rule for rule in render(sample.REPORT)["tool"]["driver"]["rules"]}
    assert list(rules) == ["NPU103", "NPU104", "NPU201", "NPU301", "NPU302", "NPU401", "NPU501"]  # also those without a finding
    rule = rules["NPU201"]
    assert rule["name"] == "KernelSize"
    assert rule["help"]["markdown"].startswith("# NPU201 kernel-size")
    assert rule["defaultConfiguration"] == {"level": "error"}
    assert rule["properties"]["tags"] == ["npu", "Conv", "ConvTranspose"]


@pytest.mark.usefixtures("root")
def test_results(sample: ModuleType) -> None:
    results = render(sample.REPORT)["results"]
    assert [r["partialFingerprints"]["npuGuard/v1"][-2:] for r in results] == ["a4", "a1", "a3", "a8", "a5", "a2", "a7", "a6"]
    costliest, at_line, _, _, undecided, without_line, note, suppressed = results
    assert costliest["properties"]["macsPercent"] == 25.0
    assert at_line["locations"][0] == {
        "physicalLocation": {"artifactLocation": {"uri": "nets/context.py"}, "region": {"startLine": 55}},
        "logicalLocations": [
            {"name": "node_conv2d_4", "fullyQualifiedName": "context.vertical/node_conv2d_4", "kind": "function"},
            {"name": "vertical", "fullyQualifiedName": "context.vertical", "kind": "module"},
        ],
    }
    assert at_line["analysisTarget"] == {"uri": "exports/net%20one.onnx"}
    assert {k: at_line["properties"][k] for k in ("limit", "measured", "allowed")} == {
        "limit": "conv.kernel_max",
        "measured": 19,
        "allowed": 17,
    }
    assert undecided["level"] == "warning"
    assert undecided["message"]["text"].startswith("cannot tell: ")
    assert undecided["properties"]["outcome"] == "undecided"
    assert without_line["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "exports/net%20one.onnx"},
        "region": {"startLine": 1},
    }
    # Else GitHub would hash line 1 of the model file and take all its findings of a rule for one.
    assert set(without_line["partialFingerprints"]) == {"npuGuard/v1", "primaryLocationLineHash"}
    assert set(at_line["partialFingerprints"]) == {"npuGuard/v1"}
    assert note["level"] == "note"
    assert suppressed["suppressions"] == [{"kind": "external", "justification": "the stem is replaced in #17"}]


@pytest.mark.usefixtures("root")
def test_what_kept_the_run_from_being_complete(sample: ModuleType) -> None:
    run = render(sample.REPORT)
    invocation = run["invocations"][0]
    assert invocation["executionSuccessful"] is False
    crash, unreadable = invocation["toolExecutionNotifications"]
    assert crash["associatedRule"]["id"] == "NPU501"
    assert unreadable["descriptor"]["id"] == "model-unreadable"
    assert unreadable["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].startswith("exports/%1B%5B31mred")
    assert {a["location"]["uri"]: a.get("hashes") for a in run["artifacts"]}["exports/fine.onnx"] == {"sha-256": "cd" * 32}
    assert run["properties"]["models"][0]["notApplicable"] == ["NPU202"]


def test_no_more_than_github_takes(sample: ModuleType) -> None:
    run = render(sample.many(5_003))
    assert len(run["results"]) == 5_000
    assert run["results"][0]["properties"]["node"] == "conv_5002"  # most MACs first
    (notice,) = run["invocations"][0]["toolExecutionNotifications"]
    assert notice["message"]["text"] == "3 less important findings left out: 3 errors"
    assert run["invocations"][0]["executionSuccessful"] is True


def test_paths_are_relative_to_the_project(sample: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "exports").mkdir()
    monkeypatch.chdir(tmp_path / "exports")
    for given_path, uri in (
        ("a.onnx", "exports/a.onnx"),
        ("../b.onnx", "b.onnx"),
        (str(tmp_path / "c%d#.onnx"), "c%25d%23.onnx"),
        ("/elsewhere/secret/d.onnx", "d.onnx"),
        ("../../e.onnx", "e.onnx"),
        ("file:x/f.onnx", "exports/file%3Ax/f.onnx"),
        ("\udcff.onnx", "exports/%FF.onnx"),
        ("", "exports"),
    ):
        model = sample.many(1).models[0]
        run = render(Report("1", (type(model)(given_path, model.profile, model.verdict, model.findings),)))
        assert run["artifacts"][0]["location"]["uri"] == uri, given_path


@pytest.mark.usefixtures("root")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_hostile_text(data: st.DataObject, any_report: st.SearchStrategy[Report]) -> None:
    check_references(render(data.draw(any_report)))
