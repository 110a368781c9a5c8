"""Device files beyond plain keys: limits of operators, variants, versions, inheritance; and the commands for their authors."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import jsonschema
import onnx.parser
import pytest

from npu_guard.base.errors import UsageError
from npu_guard.checking import registry
from npu_guard.device import Profile, load_profile
from npu_guard.device.file import plain
from npu_guard.device.validate import unknown_names
from npu_guard.pipeline.check import check_model
from npu_guard.project.config import Config
from npu_guard.results.findings import Severity

HEAD = 'name = "mine"\ntitle = "Mine"\nsource = "data sheet"\n'
LIMIT = '[[limit]]\nops = ["Conv"]\nmetric = "kernel"\nmax = 7\n'
RANKED = HEAD + "[limits.tensor]\nrank_max = { value = 4 }\n"
AXES = '[[limit]]\nops = ["Concat"]\nmetric = "axes"\nin = [1]\n'
Load = Callable[..., Profile]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def run(text: str, variant: str | None = None, **others: str) -> Profile:
        known = {}
        for name, content in {"mine": text, **others}.items():
            known[name] = tmp_path / f"{name}.toml"
            known[name].write_text(content, encoding="utf-8")
        return load_profile(known["mine"], known, variant)

    return run


def said(profile: Profile) -> list[str]:
    return [f"{r.applies_to}: {r.allowed}" for r in profile.requirements]


def test_a_limit(load: Load) -> None:
    (found,) = load(HEAD + LIMIT + 'consequence = "host"\nnote = "a note"\n').requirements
    assert (found.source, found.consequence, found.severity, found.note) == ("data sheet", "host", Severity.ERROR, "a note")
    assert found.code("Conv") == "NPU201"
    assert found.code("MaxPool") == "NPU204"


def test_spellings_of_conditions(load: Load) -> None:
    spellings = (
        "{ kernel.h = 3, attr.mode = ['a', 'b'], value.min = { max = 0 } }",
        "{ 'kernel.h' = { is = 3 }, 'attr.mode' = { in = ['a', 'b'] }, 'value.min' = { max = 0 } }",
    )
    for text in spellings:
        profile = load(HEAD + LIMIT.replace("max", f"when = {text}\nmax"))
        assert said(profile) == ["Conv where kernel.h = 3 and attr.mode one of a, b and value.min at most 0: kernel at most 7"]


def test_several_constants_are_several_limits(load: Load) -> None:
    assert said(load(HEAD + '[[limit]]\nops = ["Conv"]\nconstant = ["W", "B"]\n')) == ["Conv: constant.W", "Conv: constant.B"]


VARIANTS = (
    HEAD
    + f"""{LIMIT}variants = ["A1"]
{LIMIT.replace("7", "5")}variants = ["A2"]
[[operators]]
status = "supported"
names = ["Relu"]
variants = ["A2"]
[limits.tensor]
rank_max = {{ value = 4, variants = ["A1"] }}
[variants]
A1 = "Mine A1"
A2 = "Mine A2"
"""
)


def test_variants(load: Load) -> None:
    one, two, both = load(VARIANTS, "A1"), load(VARIANTS, "A2"), load(VARIANTS)
    assert (one.name, one.title, said(one), one.limit("tensor.rank_max")) == ("mine:A1", "Mine A1", ["Conv: kernel at most 7"], 4)
    assert (two.name, said(two), two.limit("tensor.rank_max")) == ("mine:A2", ["Conv: kernel at most 5"], None)
    assert (list(one.operators), list(two.operators)) == ([], ["Relu"])
    assert (both.name, list(both.variants), len(both.requirements)) == ("mine", ["A1", "A2"], 2)
    with pytest.raises(UsageError, match="no variant 'A3'; it has A1, A2"):
        load(VARIANTS, "A3")
    with pytest.raises(UsageError, match="no variant 'A9'"):
        load(VARIANTS.replace('variants = ["A2"]', 'variants = ["A9"]'))


def test_a_device_with_variants_must_be_chosen(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(VARIANTS)
    assert registry.profile(f"{file}:A1").title == "Mine A1"
    with pytest.raises(UsageError, match=r"describes several devices; choose '.*:A1' or '.*:A2'"):
        registry.profile(str(file))


@pytest.mark.parametrize(("version", "kernel"), [("4.5", 7), ("4.10", 7), ("5.0", None), ("5.2.1", None)])
def test_versions_of_the_toolchain(load: Load, version: str, kernel: int | None) -> None:
    text = HEAD + f'{LIMIT}toolchain = ">=4.5, <5"\n[toolchain]\nname = "cc"\nversion = "{version}"\n'
    assert said(load(text)) == ([] if kernel is None else [f"Conv: kernel at most {kernel}"])


@pytest.mark.parametrize(
    ("toolkit", "says"),
    [
        ("", ["it runs outside the NPU (reported with cc >=2, <=2.3)"]),
        ("@cc==2.2.1", ["it does not compile (with cc <3)", "it runs outside the NPU (with cc >=2, <=2.3)"]),
        ("@cc==1.9", ["it does not compile (with cc <3)"]),
        ("@CC==4.0", []),
    ],
)
def test_limits_of_the_version_that_a_user_has(tmp_path: Path, relu: Path, toolkit: str, says: list[str]) -> None:
    versions = {"batch": 'toolchain = "<3"', "spatial.h": 'consequence = "host"\nreported = ">=2, <=2.3"'}
    limits = (f'[[limit]]\nops = ["Relu"]\nmetric = "{m}"\nmax = 1\n{words}\n' for m, words in versions.items())
    file = tmp_path / "mine.toml"
    file.write_text(f'{HEAD}{"".join(limits)}[toolchain]\nname = "cc"\nversion = "3.1"\n')
    profile = registry.profile(f"{file}{toolkit}")
    found = [f.message.rpartition("; ")[2] for f in check_model(str(relu), profile, Config()).findings if f.rule != "NPU101"]
    assert sorted(found) == says
    assert profile.name == f"mine{toolkit}"
    with pytest.raises(UsageError, match="has limits of cc, and --toolkit names 'other'"):
        registry.profile(f"{file}@other==1")


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ("opset_min = 18", "reads sets from 18 on"),
        ("opset_max = 16", "reads sets up to 16"),
        ("ir_max = 7", "format version 8"),
        ("opset_min = 17\nopset_max = 17\nir_max = 8", ""),
    ],
)
def test_what_the_compiler_reads_at_all(tmp_path: Path, relu: Path, stated: str, says: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'{HEAD}[[operators]]\nstatus = "supported"\nnames = ["Relu"]\n[toolchain]\nname = "cc"\n{stated}\n')
    found = check_model(str(relu), registry.profile(str(file)), Config()).findings
    assert [says in f.message for f in found] == ([True] if says else [])


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]>\ng (float[2,8,4,4] x) => (float[2,8,4,4] y) { y = Relu(x) }'
    )
    onnx.save(model, tmp_path / "relu.onnx")
    return tmp_path / "relu.onnx"


BASE = f"""name = "base"
title = "Base"
source = "base sheet"
{LIMIT}id = "kernel"
[[limit]]
id = "stride"
ops = ["Conv"]
metric = "stride"
max = 4
[limits.tensor]
rank_max = {{ value = 4 }}
"""


def test_extending(load: Load) -> None:
    text = f'extends = "base"\nwithout = ["stride", "tensor.rank_max"]\n{HEAD}{LIMIT.replace("7", "9")}id = "kernel"\n'
    profile = load(text, base=BASE)
    assert said(profile) == ["Conv: kernel at most 9"]
    assert profile.limit("tensor.rank_max") is None
    assert said(load(f'extends = "base"\n{HEAD}', base=BASE)) == ["Conv: kernel at most 7", "Conv: stride at most 4"]
    with pytest.raises(UsageError, match="leaves out 'strid', which it does not inherit; did you mean 'stride'"):
        load(f'extends = "base"\nwithout = ["strid"]\n{HEAD}', base=BASE)


# --- validate ---

BROKEN = """name = "mine"
titel = "Mine"
source = "data sheet"

[limits.conv]
kernel_mx = { value = 5 }
stride_max = 4

[[limit]]
ops = ["Cnv"]
metric = "kernel"
max = 7

[[limit]]
ops = ["Conv"]
metric = "kernal"
max = 7

[[limit]]
ops = ["Conv"]
metric = "kernel"
mx = 7
consequence = "hst"

[[limit]]
ops = ["Resize"]
when = { depthwis = true }
metric = "attr.mod"
is = "nearest"

[[limit]]
ops = ["Resize"]
metric = "attr.mod"
is = "nearest"

[[limit]]
ops = ["Conv"]
metric = "kernel"

[[operators]]
status = "supported"
names = [
    "Conv",
    "Rellu",
]

[severity]
NPU299 = "error"
"""
EXPECTED = [
    (1, "'title' is missing"),
    (2, "unknown key 'titel'; did you mean 'title'?"),
    (6, "unknown limit 'conv.kernel_mx'; did you mean 'conv.kernel_max'?"),
    (7, "limit 'conv.stride_max' is 4; write stride_max = { value = 4 }"),
    (10, "'Cnv' is no ONNX operator; did you mean 'Conv'?"),
    (16, "unknown metric 'kernal'; did you mean 'kernel'?"),
    (22, "unknown key 'mx'; did you mean 'max'?"),
    (23, "consequence is 'hst'; did you mean 'host'? It must be one of compile-error, host, decomposed, slow"),
    (27, "unknown metric 'depthwis'; did you mean 'depthwise'?"),
    (33, "Resize has no attribute 'mod'; did you mean 'mode'?"),
    (38, "give 'metric' with a bound"),
    (42, "'Rellu' is no ONNX operator; did you mean 'Relu'?"),
    (48, "severity of 'NPU299', which is no rule"),
]


def test_all_problems_at_once(program: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(BROKEN)
    code, out, err = program(tmp_path, "profiles", "validate", "mine.toml")
    assert code == 2
    for line, words in EXPECTED:
        assert any(o.startswith(f"mine.toml:{line}: ") and words.lower() in o.lower() for o in out.splitlines()), (
            line,
            words,
            out,
        )
    assert len(out.splitlines()) == len(EXPECTED)
    assert f"{len(EXPECTED)} problems in 1 file" in err


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("name = \n", 1, "not valid TOML"),
        ("title = 't'\nname = 'two words'\nsource = 's'\n[limits]\n", 2, "cannot be called 'two words'"),
        (HEAD + "[variants]\n'a:b' = 'A B'\n[limits]\n", 5, "cannot be called 'a:b'"),
        ('extends = ["kneron"]\n' + HEAD + "[limits]\n", 1, "is no profile"),
        (HEAD + "x = [1,\n", 4, "not valid TOML"),
        (HEAD + 'extends = "aimotive-aiwar"\n', 4, "did you mean 'aimotive-aiware'?"),
        (HEAD + "limits = 5\n", 4, "'limits' must be a table"),
        (HEAD + LIMIT + 'variants = ["X"]\n', 8, "no variant 'X'"),
        (HEAD + LIMIT.replace("kernel", "kernel.hh"), 6, "has no 'hh'; did you mean 'h'?"),
        (HEAD + LIMIT.replace("max = 7", 'max = "kernl"'), 6, "neither a number nor a metric; did you mean 'kernel'?"),
        (HEAD + LIMIT.replace("max = 7", 'max = "seven"'), 6, "max = 'seven' is neither a number nor a metric\n"),
        (RANKED + AXES.replace("[1]", "[99]"), 9, "'axes' has no 99 where the largest rank is 4"),
        (RANKED + AXES.replace("[1]", "[1, -5]"), 9, "'axes' has no -5 where the largest rank is 4"),
        (HEAD + AXES.replace("metric", "when = { rank = 3 }\nmetric").replace("[1]", "[3]"), 8, "'axes' has no 3"),
        (HEAD + LIMIT.replace("max = 7", "any_of = [{ kernel = 3 }]\nmax = 3"), 6, "give 'metric' with a bound"),
        (HEAD + LIMIT + 'toolchain = "<5"\n', 1, "needs a [toolchain] with a version"),
    ],
)
def test_one_problem(program: Callable[..., tuple[int, str, str]], tmp_path: Path, text: str, line: int, words: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    code, out, _ = program(tmp_path, "profiles", "validate", "mine.toml")
    assert code == 2
    assert out.startswith(f"mine.toml:{line}: ")
    assert words in out
    assert len(out.splitlines()) == 1


@pytest.mark.parametrize("limit", [RANKED + AXES, RANKED + AXES.replace("[1]", "[3, -4]"), HEAD + AXES.replace("[1]", "[99]")])
def test_axes_that_tensors_may_have(program: Callable[..., tuple[int, str, str]], tmp_path: Path, limit: str) -> None:
    (tmp_path / "mine.toml").write_text(limit)
    code, out, _ = program(tmp_path, "profiles", "validate", "mine.toml")
    assert code == 0, out


def test_shipped_files_are_valid(program: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, out, _ = program(tmp_path, "profiles", "validate", *registry.profile_files().values())
    assert code == 0, out
    assert out.count("nothing wrong") == len(registry.profile_files())


def test_a_file_that_is_not_there(program: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    assert program(tmp_path, "profiles", "validate", "absent.toml")[0] == 2


def test_a_device_file_that_lies_here_is_meant_by_its_name(tmp_path: Path, program: Callable[..., tuple[int, str, str]]) -> None:
    (tmp_path / "acme.toml").write_text(HEAD + LIMIT)
    (tmp_path / "net.onnx").write_bytes(b"")
    _, _, err = program(tmp_path, "check", "net.onnx", "--profile", "acme")
    assert "no profile 'acme'" in err
    assert "did you mean 'acme.toml'?" in err
    assert "acme.toml'?" not in program(tmp_path, "check", "net.onnx", "--profile", "acne")[2]


def test_a_shipped_device_is_validated_by_its_name_where_no_file_has_it(
    tmp_path: Path, program: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, _ = program(tmp_path, "profiles", "validate", "aimotive-aiware")
    assert (code, out.startswith("aimotive-aiware: "), "nothing wrong" in out) == (0, True, True)
    (tmp_path / "aimotive-aiware").write_text("broken =")
    assert program(tmp_path, "profiles", "validate", "aimotive-aiware")[0] == 2
    code, _, err = program(tmp_path, "profiles", "validate", "aimotive-awiare")
    assert (code, "no such file" in err) == (2, True)


# --- schema, new, diff ---


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    from npu_guard.device.schema import profile_schema

    found = json.loads(profile_schema())
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


@pytest.mark.parametrize("file", registry.profile_files().values(), ids=lambda f: f.stem)
def test_the_schema_takes_what_is_valid(schema: jsonschema.Draft202012Validator, file: Path) -> None:
    assert list(schema.iter_errors(tomllib.loads(file.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (BROKEN.split("[limits", maxsplit=1)[0], []),
        (HEAD + "[limits.conv]\nkernel_mx = { value = 5 }\n", ["limits", "conv"]),
        (HEAD + "[limits.conv]\nkernel_max = { value = '5' }\n", ["limits", "conv", "kernel_max", "value"]),
        (HEAD + LIMIT.replace("max", "mx"), ["limit", 0]),
        (HEAD + LIMIT + 'consequence = "hst"\n', ["limit", 0, "consequence"]),
    ],
)
def test_the_schema_refuses(schema: jsonschema.Draft202012Validator, text: str, path: Sequence[str | int]) -> None:
    assert list(path) in [list(error.absolute_path) for error in schema.iter_errors(tomllib.loads(text))]


def test_the_schema_explains(schema: jsonschema.Draft202012Validator) -> None:
    limit = schema.schema["$defs"]["RequirementEntry"]["properties"]
    assert limit["when"]["description"].startswith("Where the limit holds")
    assert limit["in"]["description"].startswith("The only numbers or words")
    assert "kernel" in limit["metric"]["examples"]


HOSTILE = ("\\u001b[31mred", "\\u202etxt", "##vso[task.complete]", "a\\n::error file=x::forged")


@pytest.mark.parametrize("words", HOSTILE)
def test_words_of_a_file_are_data(program: Callable[..., tuple[int, str, str]], tmp_path: Path, words: str) -> None:
    device = f'name = "mine"\ntitle = "{words}"\nsource = "{words}"\nnotes = ["{words}"]\n{LIMIT}note = "{words}"\n'
    (tmp_path / "mine.toml").write_text(device)
    for command in (("mine.toml",), ("diff", "kneron", "mine.toml"), ("validate", "mine.toml")):
        code, out, err = program(tmp_path, "profiles", *command)
        assert code == 0, (out, err)
        assert not re.search("[\x00-\x09\x0b-\x1f\u202e]|##vso|^::", out, re.MULTILINE), out


@pytest.mark.parametrize("name", ["", "a b", "a:b", "\\u0000", "a/b", "x" * 80])
def test_names_that_nobody_could_choose(program: Callable[..., tuple[int, str, str]], tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.toml").write_text(HEAD.replace('"mine"', f'"{name}"') + LIMIT)
    code, out, err = program(tmp_path, "profiles", "mine.toml")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "cannot be called" in err


def test_new(program: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    assert program(tmp_path, "profiles", "new", "vendor-chip")[0] == 0
    code, out, _ = program(tmp_path, "profiles", "validate", "vendor-chip.toml")
    assert code == 2  # nobody has filled it in
    assert "vendor-chip.toml:12: 'source' is not filled in" in out
    text = (tmp_path / "vendor-chip.toml").read_text()
    (tmp_path / "vendor-chip.toml").write_text(text.replace("FILL IN: ", ""))
    assert program(tmp_path, "profiles", "validate", "vendor-chip.toml")[0] == 0
    assert registry.profile(str(tmp_path / "vendor-chip.toml")).name == "vendor-chip"
    code, _, err = program(tmp_path, "profiles", "new", "vendor-chip")
    assert (code, "is there already" in err) == (2, True)
    assert program(tmp_path, "profiles", "new", "Vendor Chip")[0] == 2
    assert program(tmp_path, "profiles", "new", "other", "-o", "elsewhere.toml")[0] == 0
    assert 'name = "other"' in (tmp_path / "elsewhere.toml").read_text()


def test_diff(program: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(BASE + '[[operators]]\nstatus = "supported"\nnames = ["Conv", "Erf"]\n')
    changed = (
        BASE.replace("max = 7", "max = 9").replace("rank_max", "bytes_max").replace('metric = "stride"', 'metric = "dilation"')
    )
    (tmp_path / "b.toml").write_text(changed + '[[operators]]\nstatus = "refused"\nnames = ["Erf"]\n')
    code, out, _ = program(tmp_path, "profiles", "diff", "a.toml", "b.toml")
    assert code == 0
    assert out.splitlines() == [
        "+ Conv: dilation: at most 4 (compile-error)",
        "~ Conv: kernel: at most 7 (compile-error) -> at most 9 (compile-error)",
        "- Conv: stride: at most 4 (compile-error)",
        "+ tensor.bytes_max: 4",
        "- tensor.rank_max: 4",
        "~ supported -> not documented: Conv",
        "~ supported -> refused: Erf",
    ]
    assert program(tmp_path, "profiles", "diff", "a.toml", "a.toml")[1] == "no difference\n"


def test_listing_and_showing(program: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    listed = program(tmp_path, "profiles")[1]
    assert all(name in listed for name in registry.profile_names())
    one, both = program(tmp_path, "profiles", "kneron:KL520")[1], program(tmp_path, "profiles", "kneron")[1]
    assert "kernel at most 12" in one
    assert "`kneron:KL730`" in both
    assert "KL520 only" in both
    code, _, err = program(tmp_path, "profiles", "knero")
    assert (code, "did you mean 'kneron'" in err) == (2, True)


# --- the shipped files ---


@pytest.mark.parametrize("name", registry.profile_names())
def test_shipped_limits_name_what_exists(name: str) -> None:
    profile = registry.profile(name)
    codes = {rule.code for rule in registry.rules()}
    for requirement in profile.requirements:
        assert requirement.source
        assert {requirement.code(op) for op in requirement.ops} <= codes
        assert list(unknown_names(requirement)) == []
        refused = [op for op in requirement.ops if op in profile.operators and profile.operators[op].status == "refused"]
        assert refused != list(requirement.ops), f"a limit on operators that the device refuses: {requirement}"


def test_coverage_is_counted() -> None:
    for name, file in registry.profile_files().items():
        coverage = registry.device_file(name).coverage
        if name != "aimotive-aiware":
            assert coverage is not None
            assert 0 < coverage.taken <= coverage.known
            assert all(entry.reason for entry in coverage.left_out)
        assert plain(tomllib.loads(file.read_text(encoding="utf-8")))["name"] == name
