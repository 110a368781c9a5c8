"""`check --cache`: the same bytes as without, whatever happened to the folder, and nothing believed that does not hold."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnx.parser
import pytest

from npu_guard.base.checkout import relative_path
from npu_guard.base.limits import Limits
from npu_guard.checking import registry
from npu_guard.file import load
from npu_guard.gate import cache, stamp
from npu_guard.gate.cache import Cache
from npu_guard.project.config import Config
from npu_guard.results.dependencies import Dependencies
from npu_guard.results.findings import Verdict

ROOT = Path(__file__).parents[2]
Cli = Callable[..., Any]
FORMATS = tuple(registry.members("reports"))
HEADER = '<ir_version: 10, opset_import: ["" : 20]>\n'
GOOD = HEADER + "g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Relu(x) }"
BAD = HEADER + "g (float[1,8,4,4] x) => (float[1,4,8,4] y) { y = Transpose<perm = [0, 2, 1, 3]>(x) }"
OPEN = HEADER + "g (float[N,8,h,w] x) => (float[N,8,h,w] y) { y = Sigmoid(x) }"


def save(path: Path, text: str) -> Path:
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    return path


def with_weights_beside(path: Path) -> Path:
    weight = onnx.numpy_helper.from_array(np.ones((8, 8, 1, 1), np.float32), "w")
    onnx.external_data_helper.set_external_data(weight, "net.bin", 0, 256)
    (path.parent / "net.bin").write_bytes(weight.raw_data)
    weight.ClearField("raw_data")
    x, y = (onnx.helper.make_tensor_value_info(n, 1, [1, 8, 4, 4]) for n in "xy")
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y], [weight]), ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose code the sample was exported from, and models of several kinds."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "samples").mkdir()
    shutil.copy(ROOT / "samples" / "sample_net.py", tmp_path / "samples")
    shutil.copy(ROOT / "samples" / "sample_net.onnx", tmp_path / "sample.onnx")
    shutil.copy(ROOT / "samples" / "six_problems.onnxtxt", tmp_path / "six.onnxtxt")
    with_weights_beside(tmp_path / "beside.onnx")
    save(tmp_path / "good.onnx", GOOD)
    save(tmp_path / "bad.onnx", BAD)
    save(tmp_path / "open.onnx", OPEN)
    (tmp_path / "none.onnx").write_bytes(b"no model")
    return tmp_path


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.report"))


MODELS = ("sample.onnx", "six.onnxtxt", "beside.onnx", "good.onnx", "bad.onnx", "open.onnx", "none.onnx")


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_bytes(project: Path, program: Cli, form: str) -> None:
    arguments = ("check", *MODELS, "--format", form)
    without = program(project, *arguments)
    assert without.code == 3
    assert program(project, *arguments, "--cache", "kept") == without
    assert len(entries(project / "kept")) == 6, "all but the one that is no model"
    assert program(project, *arguments, "--cache", "kept") == without
    assert program(project, *arguments, "--cache", "kept", "--jobs", "2") == without


def test_what_is_known_is_not_judged_again(project: Path, program: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    first = program(project, "check", "sample.onnx", "--cache", "kept")
    monkeypatch.setattr("npu_guard.pipeline.check.analyze", lambda *_: pytest.fail("was analysed"))
    monkeypatch.setattr("npu_guard.file.load._parse", lambda *_: pytest.fail("was parsed"))
    assert program(project, "check", "sample.onnx", "--cache", "kept") == first
    shutil.copy(project / "sample.onnx", project / "renamed.onnx")
    assert program(project, "check", "renamed.onnx", "--cache", "kept").out == first.out.replace("sample.", "renamed.")


def test_what_is_known_needs_no_onnx(project: Path) -> None:
    driver = (
        "import sys\nfrom npu_guard.cli import main\n"
        "try:\n    main(['check', 'sample.onnx', 'beside.onnx', *sys.argv[1:]])\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)\n"
    )
    loaded = []
    for arguments in ([], ["--cache", "kept"], ["--cache", "kept"]):
        done = subprocess.run(
            [sys.executable, "-c", driver, *arguments], cwd=project, capture_output=True, text=True, check=False,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 1, done.stderr
        loaded.append(set(done.stderr.split()) & {"onnx", "numpy", "npu_guard.gate.cache", "npu_guard.gate.stamp"})
    assert loaded == [{"onnx", "numpy"}, {"onnx", "numpy", "npu_guard.gate.cache", "npu_guard.gate.stamp"},
                      {"npu_guard.gate.cache", "npu_guard.gate.stamp"}]  # fmt: skip


def store(project: Path, config: Config | None = None, **asked: bool) -> Cache:
    return Cache(project / "kept", config or Config(), **({"hashes": False, "layers": False, "remedies": True} | asked))


def test_everything_that_decides_is_in_the_stamp(project: Path, program: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    assert program(project, "check", "bad.onnx", "--cache", "kept").code == 1
    assert store(project).get("bad.onnx") is not None
    own = project / "own.toml"
    own.write_text('extends = "aimotive-aiware"\nname = "own"\ntitle = "Own"\nsource = "test"\n', encoding="utf-8")
    others = [
        Config(profile=name) for name in ("texas-instruments-tda4vm", str(own))
    ] + [
        Config(ignore=("NPU102",)), Config(select=("NPU1",)), Config(fail_on="warning"), Config(input_shapes={"x": (1, 8, 4, 4)}),
        Config(limits=Limits(nodes=9)), Config(severity={"NPU102": registry.rule("NPU101").severity}),
    ]  # fmt: skip
    stamps = {store(project, config).stamp for config in [Config(), *others]}
    stamps |= {store(project, layers=True).stamp, store(project, remedies=False).stamp}
    before = store(project, Config(profile=str(own))).stamp
    own.write_text(own.read_text(encoding="utf-8") + "# more\n", encoding="utf-8")
    stamps.add(store(project, Config(profile=str(own))).stamp)
    assert before in stamps
    assert len(stamps) == 1 + len(others) + 3
    assert all(store(project, config).get("bad.onnx") is None for config in others)
    monkeypatch.setattr(stamp, "program", lambda: "another program")
    assert store(project).get("bad.onnx") is None


def test_a_changed_rule_is_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(registry.pack("rules"), tmp_path / "rules")
    monkeypatch.setattr(registry, "pack", lambda _: tmp_path / "rules")
    first = stamp.program.__wrapped__()
    assert stamp.program.__wrapped__() == first
    with (tmp_path / "rules" / "kernel_size.py").open("a") as file:
        file.write("\n")
    assert stamp.program.__wrapped__() != first


def test_settings_of_the_project(project: Path, program: Cli) -> None:
    (project / "npu-guard.toml").write_text('cache = "kept"\n', encoding="utf-8")
    (project / "sub").mkdir()
    first = program(project / "sub", "check", "../bad.onnx")
    assert len(entries(project / "kept")) == 1, "beside the settings, wherever they are used"
    assert program(project / "sub", "check", "../bad.onnx") == first
    suppress = '[[suppress]]\nrule = "NPU102"\nreason = "known"\n'
    (project / "npu-guard.toml").write_text(f'cache = "kept"\n{suppress}', encoding="utf-8")
    assert program(project, "check", "bad.onnx").code == 0, "what is accepted since is accepted"
    (project / "npu-guard.toml").write_text(suppress, encoding="utf-8")
    assert program(project, "check", "bad.onnx").code == 0
    assert len(entries(project / "kept")) == 2
    (project / "npu-guard.toml").write_text('cache = "elsewhere"\n', encoding="utf-8")
    assert program(project, "check", "bad.onnx", "--no-cache").code == 1
    assert not (project / "elsewhere").exists()


def test_what_lies_outside_of_the_model_is_looked_at_again(project: Path, program: Cli) -> None:
    arguments = ("check", "sample.onnx", "beside.onnx", "--format", "json")
    program(project, *arguments, "--cache", "kept")
    for change in (
        lambda: (project / "samples" / "sample_net.py").rename(project / "samples" / "other.py"),
        lambda: (project / "net.bin").write_bytes(b"short"),
        (project / "net.bin").unlink,
    ):
        change()
        assert program(project, *arguments, "--cache", "kept") == program(project, *arguments)


def test_a_model_that_changed(project: Path, program: Cli) -> None:
    assert program(project, "check", "good.onnx", "--cache", "kept").code == 0
    status = (project / "good.onnx").stat()
    save(project / "good.onnx", GOOD.replace("Relu", "Tanh").replace("[1,8,4,4] y", "[1,8,4,4] y"))
    os.utime(project / "good.onnx", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (project / "good.onnx").stat().st_size == status.st_size
    assert program(project, "check", "good.onnx", "--cache", "kept") == program(project, "check", "good.onnx")
    save(project / "good.onnx", GOOD.replace(": 20]", ": 19]").replace("Relu", "Tanh"))  # the last byte of the file
    assert "opset 19" in program(project, "check", "good.onnx", "--cache", "kept").out


def test_code_that_came_into_the_project_since(project: Path, program: Cli) -> None:
    model = onnx.parser.parse_model(BAD)
    trace = 'File "/elsewhere/project/net/parts/block.py", line 7, in forward\n    return x'
    model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value=trace)
    (project / "traced.onnx").write_bytes(model.SerializeToString())
    for arguments in (("check", "traced.onnx"), ("check", "traced.onnx", "--cache", "kept")):
        assert "parts/block.py:7" in program(project, *arguments).out
        assert "net/parts/block.py:7" not in program(project, *arguments).out
    (project / "net" / "parts").mkdir(parents=True)
    (project / "net" / "parts" / "block.py").touch()
    relative_path.cache_clear()  # of this process; a new one asks again
    assert "net/parts/block.py:7" in program(project, "check", "traced.onnx", "--cache", "kept").out


def damage(content: bytes) -> list[bytes]:
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    return [b"", content[:20], content[:-1], bytes(flipped), content + b"x", b"\x00" * 100, b"\x93" * 100_000]


def test_damaged_entries_are_written_anew(project: Path, program: Cli) -> None:
    expected = program(project, "check", "bad.onnx", "--cache", "kept")
    (entry,) = entries(project / "kept")
    whole = entry.read_bytes()
    for content in damage(whole):
        entry.write_bytes(content)
        assert program(project, "check", "bad.onnx", "--cache", "kept") == expected
        assert entry.read_bytes() == whole
    entry.unlink()
    entry.symlink_to(project / "victim")
    (project / "victim").write_text("mine")
    assert program(project, "check", "bad.onnx", "--cache", "kept") == expected
    assert (project / "victim").read_text() == "mine"
    assert entry.read_bytes() == whole
    entry.unlink()
    os.mkfifo(entry)
    assert program(project, "check", "bad.onnx", "--cache", "kept") == expected
    assert entry.read_bytes() == whole


def forged(project: Path, whole: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """An entry with a right hash and another content."""
    content = msgspec.msgpack.decode(whole[32:])
    change(content)
    body = msgspec.msgpack.encode(content)
    return store(project)._digest(body) + body


def test_entries_that_belong_elsewhere_are_not_believed(project: Path, program: Cli) -> None:
    assert program(project, "check", "good.onnx", "--cache", "kept").code == 0
    (good,) = entries(project / "kept")
    expected = program(project, "check", "bad.onnx", "--cache", "kept")
    (bad,) = set(entries(project / "kept")) - {good}
    whole = bad.read_bytes()
    bad.write_bytes(good.read_bytes())  # the result of a model that passes, under the name of one that does not
    assert program(project, "check", "bad.onnx", "--cache", "kept") == expected
    changes: list[Callable[[dict[str, Any]], object]] = [
        lambda e: e.update(stamp="0" * 32),
        lambda e: e.update(format="npu-guard check 2"),
        lambda e: e.update(more=1),
        lambda e: e["dependencies"].update(key="0" * 64),
        lambda e: e["dependencies"].update(beside={"../../etc/passwd": 1}),
        lambda e: e["report"].update(verdict="pass"),
        lambda e: e["report"].update(findings=7),
        lambda e: e["report"].update(error=["kind", "text"]),
        lambda e: e["report"].update(path="other.onnx"),
    ]
    for change in changes:
        bad.write_bytes(forged(project, whole, change))
        assert program(project, "check", "bad.onnx", "--cache", "kept") == expected
        assert bad.read_bytes() == whole


def test_with_a_secret_nobody_else_makes_entries(project: Path, program: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = program(project, "check", "bad.onnx", "--cache", "kept")
    (bad,) = entries(project / "kept")
    lie = forged(project, bad.read_bytes(), lambda e: e["report"].update(verdict="pass", findings=[]))
    bad.write_bytes(lie)
    assert program(project, "check", "bad.onnx", "--cache", "kept").code == 0, "why strangers must not write there"
    monkeypatch.setenv("NPU_GUARD_CACHE_KEY", "secret")
    assert program(project, "check", "bad.onnx", "--cache", "kept") == expected
    assert bad.read_bytes() != lie
    assert store(project).get(str(project / "bad.onnx")) is not None
    monkeypatch.setenv("NPU_GUARD_CACHE_KEY", "another")
    assert store(project).get(str(project / "bad.onnx")) is None


def test_a_folder_that_cannot_be_used_costs_a_warning(project: Path, program: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = program(project, "check", "bad.onnx", "good.onnx")
    (project / "file").write_text("")
    done = program(project, "check", "bad.onnx", "good.onnx", "--cache", "file/kept")
    assert (done.code, done.out) == (expected.code, expected.out)
    assert done.err.startswith("npu-guard: cache file/kept: cannot be written (")
    assert len(done.err.splitlines()) == 1

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "replace", full)
    done = program(project, "check", "bad.onnx", "--cache", "kept")
    assert done.code == 1
    assert done.err == "npu-guard: cache kept: cannot be written (No space left on device); nothing more is kept\n"
    assert sorted(p.name for p in (project / "kept").iterdir()) == [".gitignore", "CACHEDIR.TAG"]


def test_a_folder_that_is_read_only(project: Path, program: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a file system mounted for reading: what is kept still counts, and nothing new is."""
    expected = program(project, "check", "bad.onnx", "--cache", "kept")
    opened = os.open

    def reading(path: str, flags: int, *mode: int, **more: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(30, "Read-only file system")
        return opened(path, flags, *mode, **more)

    monkeypatch.setattr(cache.os, "open", reading)
    assert program(project, "check", "bad.onnx", "--cache", "kept") == expected
    done = program(project, "check", "good.onnx", "--cache", "kept")
    assert done.code == 0
    assert "cache kept: cannot be written (Read-only file system)" in done.err


def test_a_folder_is_bounded_and_others_files_stay(project: Path, program: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "ENTRIES", 2)
    program(project, "check", "good.onnx", "bad.onnx", "--cache", "kept")
    here = store(project)
    good, bad, third = (
        project / "kept" / here._name(load.read_content(project / f"{name}.onnx").key) for name in ("good", "bad", "open")
    )
    mine = project / "kept" / "mine.report"
    left = project / "kept" / f".{'a' * 64}.1_2"
    for path, age in ((mine, 9000), (left, 9000), (good, 1000), (bad, 500)):
        path.touch()
        os.utime(path, (time.time() - age, time.time() - age))
    program(project, "check", "good.onnx", "--cache", "kept")  # of use now
    program(project, "check", "open.onnx", "--cache", "kept")
    assert [path.exists() for path in (mine, left, good, bad, third)] == [True, False, True, False, True]


def test_two_at_once(project: Path) -> None:
    command = [sys.executable, "-m", "npu_guard", "check", *MODELS, "--format", "json", "--cache", "kept"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    both = [
        subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)
    ]
    found = {(*process.communicate(timeout=600), process.returncode) for process in both}
    assert len(found) == 1
    assert next(iter(found))[2] == 3
    assert len(entries(project / "kept")) == 6
    assert not [p for p in (project / "kept").iterdir() if cache._REST.fullmatch(p.name)]


def test_crashes_are_never_kept(project: Path, program: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def boom(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("npu_guard.pipeline.check.listed_rules", registry.rules)
    monkeypatch.setattr(type(registry.rule("NPU102")), "check", boom)
    assert program(project, "check", "bad.onnx", "--cache", "kept").code == 4
    assert not (project / "kept").exists()


def test_with_a_baseline(project: Path, program: Cli) -> None:
    program(project, "check", "bad.onnx", "--write-baseline", "known.json", "--cache", "kept")
    for _ in range(2):
        assert program(project, "check", "bad.onnx", "--baseline", "known.json", "--cache", "kept").code == 0
    assert program(project, "check", "bad.onnx", "--cache", "kept").code == 1, "what is kept is the finding, not the acceptance"


def test_several_devices_and_a_cache(project: Path, program: Cli) -> None:
    assert "single profile" in program(project, "check", "bad.onnx", "--all-profiles", "--cache", "kept").err


def test_a_report_that_would_come_back_differently_is_not_kept(project: Path, program: Cli) -> None:
    program(project, "check", "bad.onnx", "--cache", "kept")
    here = store(project)
    report = here.get(str(project / "bad.onnx"))
    assert report is not None
    dependencies = Dependencies("0" * 64, {}, {})
    assert here.entry(report, dependencies) is not None
    for notes in (("\udcff",), (1,), (True,)):
        assert here.entry(msgspec.structs.replace(report, notes=notes), dependencies) is None
    huge = msgspec.structs.replace(report.totals, macs=2**70)
    assert here.entry(msgspec.structs.replace(report, totals=huge), dependencies) is None
    assert here.entry(msgspec.structs.replace(report, verdict=Verdict.UNREADABLE, error=("a", "b")), dependencies) is None
