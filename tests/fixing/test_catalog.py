"""The index of substitutions says what their files say, and a check loads only what it may need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from npu_guard.fixing import catalog

ROOT = Path(__file__).resolve().parents[2]


def test_listed_are_the_same_in_the_same_order() -> None:
    def facts(of: object) -> tuple[object, ...]:
        return tuple(list(found) if isinstance(found := getattr(of, name), tuple) else found for name in catalog.LISTED)

    assert [facts(s) for s in catalog.listed()] == [facts(s) for s in catalog.substitutions()]


def test_a_match_is_that_of_the_loaded_one() -> None:
    for listed, loaded in zip(catalog.listed(), catalog.substitutions(), strict=True):
        assert type(listed) is not type(loaded)
        assert listed._stem == type(loaded).__module__.rpartition(".")[2]  # type: ignore[attr-defined]


def test_without_an_index_all_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "indexed", lambda *_: {})
    catalog.listed.cache_clear()
    try:
        assert [type(s) for s in catalog.listed()] == [type(s) for s in catalog.substitutions()]
    finally:
        catalog.listed.cache_clear()


def test_a_check_loads_no_form_whose_root_is_not_there(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 8, 4, 4] x) => (float[1, 128] y) { y = Flatten (x) }'
    )
    onnx.save(model, tmp_path / "m.onnx")
    driver = (
        "import sys\nfrom npu_guard.cli import main\n"
        "try:\n    main(['check', sys.argv[1]])\n"
        "finally:\n    print(*(m for m in sys.modules if 'substitutions.' in m), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", driver, str(tmp_path / "m.onnx")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    loaded = {name.rpartition(".")[2] for name in done.stderr.split()}
    rooted = {type(s).__module__.rpartition(".")[2] for s in catalog.substitutions() if "Flatten" in s.roots}
    assert loaded <= rooted
    assert "flattened_head_to_conv" in loaded
