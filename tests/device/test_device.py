"""Device files: what they may say, and the one sentence for what they may not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from npu_guard.base.errors import UsageError
from npu_guard.checking import registry
from npu_guard.device import LIMITS, Profile, load_profile
from npu_guard.results.findings import Severity

HEAD = 'name = "mine"\ntitle = "Mine"\nsource = "data sheet"\n'
GOOD = f"""{HEAD}
notes = ["first"]
[limits.conv]
kernel_max = {{ value = 7, source = "page 3", note = "a note" }}
[limits."reduce.axes"]
value = [[1], [2, 3]]
[[limits.resize.value]]
mode = "nearest"
scales = "integer"
[[operators]]
status = "supported"
names = ["Conv", "Relu"]
[[operators]]
status = "refused"
names = ["NonZero"]
source = "page 9"
reason = "no data-dependent shapes"
[severity]
NPU201 = "warning"
"""
Load = Callable[..., Profile]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def run(text: str, **others: str) -> Profile:
        known = {}
        for name, content in {"mine": text, **others}.items():
            known[name] = tmp_path / f"{name}.toml"
            known[name].write_text(content, encoding="utf-8")
        return load_profile(known["mine"], known)

    return run


def test_a_good_file(load: Load) -> None:
    profile = load(GOOD)
    assert profile.limit("conv.kernel_max") == 7
    assert profile.limits["conv.kernel_max"].source == "page 3"
    assert profile.limits["conv.kernel_max"].note == "a note"
    assert profile.limit("reduce.axes") == ((1,), (2, 3))
    assert profile.limits["reduce.axes"].source == "data sheet"
    assert profile.limit("resize")[0].mode == "nearest"
    assert profile.limit("conv.stride_max") is None
    assert profile.operators["Relu"].status == "supported"
    assert profile.operators["NonZero"].source == "page 9"
    assert profile.severity == {"NPU201": Severity.WARNING}
    assert profile.notes == ("first",)


def test_both_spellings_of_a_key(load: Load) -> None:
    spellings = (
        "[limits.conv]\nkernel_max = { value = 5 }\n",
        '[limits]\n"conv.kernel_max" = { value = 5 }\n',
        "[limits]\nconv.kernel_max = { value = 5 }\n",
        "limits.conv.kernel_max.value = 5\n",
    )
    for text in spellings:
        assert load(HEAD + text).limit("conv.kernel_max") == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD.replace('source = "data sheet"', ""), ("source",)),
        (HEAD + 'sourcce = "x"\n', ("unknown key 'sourcce'", "did you mean 'source'?")),
        (HEAD + "[limits.conv]\nkernel_max = { value = 5, sorce = 1 }\n", ("unknown key 'sorce'",)),
        (
            HEAD + "[limits.conv]\nkernel_mx = { value = 5 }\n",
            ("unknown limit 'conv.kernel_mx'", "did you mean 'conv.kernel_max'?"),
        ),
        (HEAD + "[limits]\nnonsense = { value = 5 }\n", ("unknown limit 'nonsense'",)),
        (HEAD + "[limits.conv]\nkernel_max = 5\n", ("limits",)),
        (HEAD + "limits = 5\n", ("limits",)),
        (HEAD + '[limits.conv]\nkernel_max = { value = "5" }\n', ("'5'", "a whole number of at least 1")),
        (HEAD + "[limits.conv]\nkernel_max = { value = true }\n", ("a whole number",)),
        (HEAD + "[limits.conv]\nkernel_max = { value = 0 }\n", ("at least 1",)),
        (HEAD + "[limits.conv]\nkernel_max = { value = 2.5 }\n", ("a whole number",)),
        (HEAD + "[limits.conv]\nconstant_weights = { value = 1 }\n", ("true or false",)),
        (HEAD + "[limits.conv]\nrank = { value = 4 }\n", ("a list",)),
        (HEAD + '[limits.conv]\nrank = { value = ["4"] }\n', ("conv.rank",)),
        (HEAD + "[limits.tensor]\ndtypes = { value = [1, 10] }\n", ("tensor.dtypes",)),
        (HEAD + "[limits.reduce]\naxes = { value = [1, 2] }\n", ("reduce.axes",)),
        (HEAD + '[[limits.resize.value]]\nmode = "nearest"\nscals = "integer"\n', ("unknown key 'scals'", "'scales'")),
        (HEAD + '[[operators]]\nstatus = "maybe"\nnames = []\n', ("maybe",)),
        (HEAD + '[severity]\nNPU201 = "fatal"\n', ("fatal",)),
        (HEAD + 'extends = "mne"\n', ("extends 'mne', which is no profile", "did you mean 'mine'?")),
        (HEAD + 'extends = "mine"\n', ("extends itself",)),
        ("name = ", ("not valid TOML",)),
        ("x = " + "[" * 100_000, ("not valid TOML",)),
    ],
)
def test_what_is_wrong_gets_one_line(load: Load, text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        load(text)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("profile mine.toml")
    assert caught.value.exit_code == 2
    for word in words:
        assert word in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "folder.toml").mkdir()
    for name in ("absent.toml", "bytes.toml", "folder.toml"):
        with pytest.raises(UsageError, match=name):
            load_profile(tmp_path / name, {})


BASE = """name = "base"
title = "Base"
source = "base sheet"
notes = ["of the base"]
[limits.conv]
kernel_max = { value = 17 }
stride_max = { value = 4 }
[[operators]]
status = "supported"
names = ["Conv", "Erf"]
[severity]
NPU201 = "note"
NPU203 = "note"
"""


def test_extending(load: Load) -> None:
    text = (
        GOOD.replace('notes = ["first"]', 'notes = ["first"]\nextends = "base"')
        + '\n[[operators]]\nstatus = "refused"\nnames = ["Erf"]\n'
    )
    text = text.replace('[severity]\nNPU201 = "warning"\n', "") + '[severity]\nNPU201 = "warning"\n'
    profile = load(text, base=BASE)
    assert profile.name == "mine"
    assert profile.limit("conv.kernel_max") == 7
    assert profile.limit("conv.stride_max") == 4
    assert profile.limits["conv.stride_max"].source == "base sheet"
    assert profile.operators["Erf"].status == "refused"
    assert profile.operators["Conv"].status == "supported"
    assert profile.severity == {"NPU201": Severity.WARNING, "NPU203": Severity.NOTE}
    assert profile.notes == ("of the base", "first")


def test_extending_in_a_circle(load: Load) -> None:
    text = HEAD + 'extends = "base"\n'
    with pytest.raises(UsageError, match="mine -> base"):
        load(text, base=BASE.replace("notes", 'extends = "mine"\nnotes'))


def test_reading_an_unknown_limit_is_our_bug(load: Load) -> None:
    with pytest.raises(AssertionError):
        load(GOOD).limit("conv.kernel_mx")


def test_severity_of_no_rule(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(HEAD + '[severity]\nNPU999 = "note"\n')
    with pytest.raises(UsageError, match="NPU999"):
        registry.profile(str(path))


def test_unknown_names() -> None:
    with pytest.raises(UsageError, match="did you mean 'aimotive-aiware'"):
        registry.profile("aimotive-aiwar")


@pytest.mark.parametrize("name", registry.profile_names())
def test_shipped_profiles(name: str) -> None:
    profile = registry.profile(name)
    assert profile.name == name
    assert profile.source
    assert all(limit.source for limit in profile.limits.values())
    assert all(op.source for op in profile.operators.values())
    assert set(profile.limits) <= set(LIMITS)
