"""Two opinions on each operator, and what `npu-guard compile` makes of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from npu_guard.checking import registry
from npu_guard.compilers.answers import Answer, NodeAnswer
from npu_guard.compilers.compare import Comparison, compare_answers, outcome
from npu_guard.compilers.settings import CompilerSettings
from npu_guard.pipeline.check import check_model
from npu_guard.project.config import Config
from npu_guard.reports.compile.text import render

PROFILE = "aimotive-aiware"
Fake = Callable[..., CompilerSettings]
Run = Callable[..., tuple[int, str, str]]


def compared(model: Path, answer: Answer) -> Comparison:
    return compare_answers(check_model(str(model), registry.profile(PROFILE), Config(), layers=True), answer)


def outcomes(comparison: Comparison) -> dict[str, str]:
    return {row.location.node: row.outcome for row in comparison.rows}


@pytest.mark.parametrize(
    ("rules", "word", "expected"),
    [
        ("fits", "npu", "agreement"),
        ("fits", "decomposed", "agreement"),
        ("refused", "host", "agreement"),
        ("fits", "host", "missed"),
        ("fits", "refused", "missed"),
        ("refused", "merged", "false-alarm"),
        ("undecided", "npu", "undecided"),
        ("fits", "failed", "unknown"),
        ("refused", "not_run", "unknown"),
    ],
)
def test_outcome(rules: str, word: str, expected: str) -> None:
    assert outcome(rules, word) == expected


def test_every_outcome_at_its_node(model: Path) -> None:
    nodes = (NodeAnswer("a", "Conv", "npu"), NodeAnswer("act", "", "host", "no unit"))  # by output, and by name
    found = compared(model, Answer("cc", "refused", "", nodes))
    assert outcomes(found) == {"wide": "false-alarm", "act": "missed", "narrow": "unknown"}
    assert found.rows[0].codes == ("NPU201",)
    assert [found.exit_code(f) for f in ("refused", "disagreement", "never")] == [1, 1, 0]


def test_agreement(model: Path) -> None:
    refused = compared(model, Answer("cc", "refused", "", (NodeAnswer("wide", "Conv", "refused"),), complete=True))
    assert set(outcomes(refused).values()) == {"agreement"}
    assert [refused.exit_code(f) for f in ("refused", "disagreement", "never")] == [1, 0, 0]


@pytest.mark.parametrize("name", ["", "not_of_this_model"])
def test_a_refusal_without_a_name_agrees_with_nobody(model: Path, name: str) -> None:
    found = compared(model, Answer("cc", "refused", "cannot compile", (NodeAnswer(name, "", "refused"),), complete=True))
    assert set(outcomes(found).values()) == {"unknown"}
    assert [found.exit_code(f) for f in ("refused", "disagreement", "never")] == [1, 1, 0]


def test_a_compiler_that_died_agrees_with_nobody(model: Path) -> None:
    found = compared(model, Answer("cc", "failed", "died of signal 11"))
    assert set(outcomes(found).values()) == {"unknown"}
    assert [found.exit_code(f) for f in ("refused", "disagreement", "never")] == [1, 1, 1]


def test_the_worst_word_on_a_node_counts(model: Path) -> None:
    nodes = (NodeAnswer("act", "Relu", "npu"), NodeAnswer("act", "Relu", "host"), NodeAnswer("act", "Conv", "refused"))
    assert outcomes(compared(model, Answer("cc", "refused", "", nodes)))["act"] == "missed"


def test_an_unknown_name_is_shown(model: Path) -> None:
    found = compared(model, Answer("cc", "refused", "", (NodeAnswer("ghost", "Conv", "refused"), NodeAnswer("x", "", "note"))))
    assert [entry.name for entry in found.elsewhere] == ["ghost"]


@pytest.fixture
def configured(tmp_path: Path, fake: Fake) -> Callable[..., None]:
    """Settings of a project whose compiler is the fake one."""

    def write(mode: str) -> None:
        settings = fake(mode)
        lines = [
            "[compiler.mine]",
            f"command = {json.dumps(list(settings.command))}",
            f'profiles = ["{PROFILE}"]',
            "seconds = 60",
        ]
        lines += ["[[compiler.mine.findings]]", f"pattern = {json.dumps(settings.findings[0].pattern)}"]
        (tmp_path / "npu-guard.toml").write_text("\n".join(lines))

    return write


def test_text(run: Run, configured: Callable[..., None], model: Path) -> None:
    configured("refuse")
    code, out, err = run("compile", "model.onnx")
    assert (code, err) == (1, "")
    assert out == (
        "model.onnx: mine for aimotive-aiware: refused (kernel 19 is too large)\n"
        "  rules and compiler agree on 1 of 3 operators (33.3 %); not told by the compiler: 2\n"
        "\n"
        "  refused by both\n"
        "    Conv  wide  rules: NPU201  compiler: refused (kernel 19 is too large)\n"
        "\n"
        "  unknown: the compiler did not tell\n"
        "    Relu  act\n"
        "    Conv  narrow\n"
    )


def test_a_log_that_names_no_operator_is_one_line(model: Path) -> None:
    """The compiler ran and refused: it is not said of each operator that it did not run."""
    found = compared(model, Answer("cc", "refused", "ended with exit code 1", ()))
    assert render(found) == (
        f"{found.model}: cc for {found.profile}: refused (ended with exit code 1)\n"
        "  its log names no operator, so that none of 3 operators can be compared\n"
    )


def test_json(run: Run, configured: Callable[..., None], model: Path) -> None:
    configured("accept")
    code, out, _ = run("compile", "model.onnx", "--format", "json")
    document = json.loads(out)
    assert code == 0
    assert document["compiler"] == {"name": "mine", "status": "accepted", "message": ""}
    assert document["counts"] == {"agreement": 2, "missed": 0, "false_alarm": 1, "undecided": 0, "unknown": 0}
    assert [node["outcome"] for node in document["nodes"]] == ["false-alarm", "agreement", "agreement"]
    assert run("compile", "model.onnx", "--fail-on", "disagreement")[0] == 1


def test_hostile_words_stay_words(run: Run, configured: Callable[..., None], model: Path) -> None:
    configured("hostile")
    code, out, err = run("compile", "model.onnx")
    assert (code, err) == (1, "")
    assert not set(out) & set("\x1b\x07\x00\u202e")
    assert "<script>" not in out
    assert "##vso[" not in out
    assert "ghost" in out
    assert max(map(len, out.splitlines())) < 1200


def test_exit_codes(run: Run, configured: Callable[..., None], model: Path, tmp_path: Path) -> None:
    configured("crash")
    assert run("compile", "model.onnx")[0] == 1
    (tmp_path / "broken.onnx").write_bytes(b"\xff\xff")
    assert run("compile", "broken.onnx")[0] == 3
    assert run("compile")[0] == 2
    assert run("compile", "model.onnx", "--profile", "ethos-u85")[0] == 2  # no environment for its compiler
    code, _, err = run("compile", "model.onnx", "--profile", "ethos-u85", "--compiler-python", sys.executable)
    assert code == 2
    assert "does not have the compiler 'vela'" in err


def test_recipe_names_the_licence(run: Run) -> None:
    for name in ("qnn", "rknn", "vela"):
        code, out, _ = run("compile", "--recipe", name)
        assert code == 0
        assert "licence" in out or "Apache" in out
        assert "pip install" in out
    assert run("compile", "--recipe", "gcc")[0] == 2
