"""A small draw of `make verification`: each kind of change is told apart where it shows, each other spelling is equal."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import verification

    return verification


def test_a_small_draw(study: object) -> None:
    changed, spelled = study.study(60)  # type: ignore[attr-defined]
    assert len(changed) > 25
    assert sum(row.differ for row in changed.values()) > 30, "a study of pairs that all are the same says nothing"
    assert {kind: row.missed for kind, row in changed.items() if row.missed} == {}
    assert {kind: row.missed for kind, row in spelled.items() if row.missed} == {}
    assert sum(row.pairs for row in spelled.values()) >= 9


def test_the_page_says_what_was_missed(study: object) -> None:
    row = study.Row(pairs=5, differ=4, told=3, missed=["17: equal"])  # type: ignore[attr-defined]
    page = study.page(5, {"bias dropped": row}, {"another order": study.Row(pairs=2, missed=["3: differs"])})  # type: ignore[attr-defined]
    assert "| bias dropped | 5 | 4 | 3 (75 %) | 0 |" in page
    assert (
        "Of 5 changed pairs, 4 differ and 3 of these are told apart. Of 2 pairs that are spelled otherwise, 1 are equal." in page
    )
