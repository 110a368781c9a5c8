"""Lines for a terminal: nothing is lost, what is folded stands below its column, commands stay whole."""

from __future__ import annotations

import pytest

from npu_guard.base.folding import fold_text

WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


@pytest.mark.parametrize(
    ("line", "column"),
    [
        (f"  error    NPU201  {WORDS}", 19),
        (f"  fixed  NPU201  {WORDS}", 17),
        (f"FAIL  {WORDS}", 6),
        (f"equal: {WORDS}", 2),
        (f"model.onnx  device-name  {WORDS}", 2),  # a column that far to the right leaves no room
        (f"      removes {WORDS}", 8),
        (f"\x1b[31m  error\x1b[0m    NPU201  {WORDS}", 19),
    ],
)
def test_what_is_folded_stands_below_the_last_column(line: str, column: int) -> None:
    first, *others = fold_text(line, 48).split("\n")
    assert others
    assert " ".join([first, *others]).split() == line.split()
    for part in others:
        assert len(part) - len(part.lstrip()) == column
        assert len(part) <= 48


def test_commands_and_short_lines_stay_as_they_are() -> None:
    text = f"short\n\n      npu-guard fix {'x' * 90} -o y.onnx\n"
    assert fold_text(text, 48) == text
