"""`scan`: every model once, what is known is not read again, and an interrupted run goes on where it ended."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from npu_guard.base.errors import ModelError, UsageError
from npu_guard.base.limits import Limits
from npu_guard.checking import registry
from npu_guard.file.remote import Ranged
from npu_guard.file.source import ModelSource
from npu_guard.file.sources import names, sources
from npu_guard.fleet import report, scan, work
from npu_guard.fleet.store import Store
from npu_guard.fleet.work import Done
from npu_guard.project.config import Config

Program = Callable[..., Any]


class Counting:
    """Workers in this process that remember what they were given, and may stop in between."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.seen: list[str] = []
        self.stop_after = stop_after

    def __call__(
        self, run: Callable[[ModelSource], Done], tasks: Iterable[ModelSource], lost: Callable[[ModelSource], Done]
    ) -> Iterator[Done]:
        for source in tasks:
            if len(self.seen) == self.stop_after:
                raise KeyboardInterrupt
            self.seen.append(Path(source.name).name)
            yield run(source)


def run(folder: Path, workers: Counting, config: Config | None = None) -> tuple[scan.Tally, report.Fleet]:
    store = Store(str(folder.parent / "store.db"))
    try:
        tally = scan.scan([str(folder)], config or Config(), store, workers, lambda done, count, total: None)
        return tally, report.Fleet.of(store, tally.run, tally)
    finally:
        store.close()


VERDICTS = {"pass": 10, "fail": 4, "undecided": 0, "unreadable": 1, "internal": 0}


def test_every_model_has_one_result(models: Path) -> None:
    workers = Counting()
    tally, fleet = run(models, workers)
    assert tally.checked == len(fleet.rows) == len(set(workers.seen)) == 15
    assert fleet.verdicts == VERDICTS
    assert [(a.code, a.models, a.errors) for a in fleet.affected()] == [("NPU102", 4, 4)]
    assert fleet.exit_code("error") == 3


def test_unchanged_models_are_not_read_again(models: Path) -> None:
    run(models, Counting())
    (models / "good0.onnx").write_bytes((models / "deep" / "bad0.onnx").read_bytes())
    workers = Counting()
    tally, fleet = run(models, workers)
    assert workers.seen == ["good0.onnx"]
    assert (tally.checked, tally.known) == (1, 14)
    assert fleet.verdicts == VERDICTS | {"pass": 9, "fail": 5}
    assert [p.verdicts["fail"] for p in fleet.trend] == [4, 5]


def test_other_settings_are_other_results(models: Path) -> None:
    run(models, Counting())
    for config in (Config(ignore=("NPU102",)), Config(limits=Limits(nodes=7)), Config(input_shapes={"x": (1, 8, 4, 4)})):
        workers = Counting()
        run(models, workers, config)
        assert len(workers.seen) == 15


def test_an_interrupted_run_goes_on(models: Path) -> None:
    first = Counting(stop_after=6)
    with pytest.raises(KeyboardInterrupt):
        run(models, first)
    second = Counting()
    tally, fleet = run(models, second)
    assert sorted(first.seen + second.seen) == sorted(p.name for p in models.rglob("*.onnx"))
    assert tally.resumed == 6
    assert fleet.verdicts == VERDICTS
    assert len(fleet.trend) == 1, "it is the same run"


def test_a_result_belongs_to_the_structure(models: Path) -> None:
    (models / "copy.onnx").write_bytes((models / "good3.onnx").read_bytes())
    _, fleet = run(models, Counting())
    keys = {Path(name).name: row.key for name, _, row in fleet.rows}
    assert keys["copy.onnx"] == keys["good3.onnx"]
    assert len(set(keys.values())) == 15


@pytest.mark.parametrize("content", [b"{}", b"\xf0", b"[" * 100_000, b"", b'{"key":"k","verdict":"fine"}'])
def test_a_damaged_result_is_made_again(models: Path, content: bytes) -> None:
    run(models, Counting())
    with sqlite3.connect(models.parent / "store.db") as database:
        database.execute("UPDATE results SET row = ?", (content,))
    workers = Counting()
    _, fleet = run(models, workers)
    assert len(workers.seen) == 15
    assert fleet.verdicts == VERDICTS
    assert [p.verdicts["fail"] for p in fleet.trend] == [4, 4]


def test_a_damaged_result_of_an_older_device_ends_in_a_sentence(models: Path) -> None:
    run(models, Counting())
    with sqlite3.connect(models.parent / "store.db") as database:
        database.execute("UPDATE results SET row = ?", (b"{}",))
    with pytest.raises(UsageError, match="never wrote"):
        run(models, Counting(), Config(ignore=("NPU102",)))


def test_killed_at_any_moment_the_store_is_whole(models: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "npu_guard", "scan", str(models), "--store", str(tmp_path / "k.db"), "--jobs", "1"]
    for wait in (0.9, 1.3, 1.7):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(wait)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("15 models against aimotive-aiware: 10 pass, 4 fail, 1 unreadable")
    with sqlite3.connect(tmp_path / "k.db") as database:
        assert database.execute("select count(*), count(distinct name) from reported where run = 1").fetchone() == (15, 15)
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)


def test_the_reports(models: Path, tmp_path: Path, program: Program) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    (models / "<b>\x1b[31m.onnx").write_bytes(b"nothing")
    done = program(tmp_path, "scan", "models", "--jobs", "1", "--html", "fleet.html", "--parquet", "fleet.parquet")
    assert done.code == 3
    assert done.out.startswith("16 models against aimotive-aiware: 10 pass, 4 fail, 2 unreadable (16 checked now)\n")
    assert "  NPU102 spatial-reshape                    4 models  4 errors\n" in done.out
    assert "\x1b" not in done.out
    page = (tmp_path / "fleet.html").read_text(encoding="utf-8")
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert "<b>" not in page
    assert "\x1b" not in page
    table = parquet.read_table(tmp_path / "fleet.parquet").to_pylist()
    assert {row["model"]: row["verdict"] for row in table}["models/deep/bad0.onnx"] == "fail"
    assert sum(row["errors"] for row in table) == 4
    assert len(table) == 16


def test_what_cannot_be_used(models: Path, tmp_path: Path, program: Program) -> None:
    assert "--jobs is for this machine" in program(tmp_path, "scan", "models", "--jobs", "1", "--address", "auto").err
    assert program(tmp_path, "scan", "models", "--store", "no/such/folder/x.db").code == 2
    assert program(tmp_path, "scan", "nothing*.onnx").code == 3
    (tmp_path / "empty").mkdir()
    assert "empty: has no .onnx files" in program(tmp_path, "scan", "empty").err


def test_names_of_folders_and_patterns(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)
    assert names(["deep"]) == [*(f"deep/bad{n}.onnx" for n in range(4)), "deep/none.onnx"]
    assert names(["**/bad[01].onnx", "deep/bad0.onnx"]) == ["deep/bad0.onnx", "deep/bad1.onnx"]
    (models / "odd[1].onnx").touch()
    assert names(["odd[1].onnx", "absent.onnx"]) == ["odd[1].onnx", "absent.onnx"]
    with pytest.raises(ModelError, match="matches no file"):
        names(["*.txt*t"])


def test_check_takes_folders_and_shares_the_work(models: Path, program: Program) -> None:
    alone, shared = (program(models.parent, "check", "models", "--format", "json", "--jobs", n) for n in ("1", "2"))
    assert alone.code == shared.code == 3
    assert alone.out == shared.out


def test_what_takes_too_long_is_a_result(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "SECONDS", 0.2)
    monkeypatch.setattr(work, "check_skeleton", lambda *_: time.sleep(30))
    done = work.run(next(sources([str(models / "good0.onnx")])), Config())
    assert (done.row.verdict, done.row.error_kind) == ("unreadable", "timeout")


def test_objects_in_a_store(models: Path, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(models), "memory://fleet", recursive=True)
    try:
        found = list(sources(["memory://fleet"]))
        assert len(found) == 15
        rows = {Path(s.name).name: work.run(s, Config()).row for s in found}
        assert rows["good1.onnx"].verdict == "pass"
        assert rows["bad1.onnx"].verdict == "fail"
        assert rows["none.onnx"].verdict == "unreadable"
        assert rows["good1.onnx"].requests == 1
        with pytest.raises(ModelError, match="no such object"):
            list(sources(["memory://fleet/absent.onnx"]))
        with pytest.raises(UsageError, match="is no address"):
            list(sources(["nosuchstore://fleet"]))
    finally:
        memory.rm("memory://fleet", recursive=True)


def test_weights_of_objects_are_not_fetched(tmp_path: Path) -> None:
    import numpy as np
    import onnx

    fsspec = pytest.importorskip("fsspec")
    weights = [onnx.numpy_helper.from_array(np.zeros((512, 512, 3, 3), np.float32), f"w{n}") for n in range(4)]
    nodes = [onnx.helper.make_node("Conv", [f"x{n}", f"w{n}"], [f"x{n + 1}"], pads=[1] * 4) for n in range(4)]
    x, y = (onnx.helper.make_tensor_value_info(n, 1, [1, 512, 8, 8]) for n in ("x0", "x4"))
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [x], [y], weights), ir_version=10)
    content = model.SerializeToString()
    memory = fsspec.filesystem("memory")
    memory.pipe("memory://big.onnx", content)
    try:
        (source,) = sources(["memory://big.onnx"])
        row = work.run(source, Config()).row
        assert row.verdict == "pass"
        assert row.fetched < len(content) / 20
        assert row.requests <= 6
    finally:
        memory.rm("memory://big.onnx")


def test_a_server_without_ranges_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python's own http.server, which answers each range with the whole file."""
    fsspec = pytest.importorskip("fsspec")
    content = bytes(range(256)) * 512
    memory = fsspec.filesystem("memory")
    memory.pipe("memory://all.onnx", content)
    monkeypatch.setattr(type(memory), "cat_file", lambda *_, **__: content)
    try:
        buffer = Ranged("memory://all.onnx")
        assert buffer[70_000:70_100] + buffer[0:10] + bytes([buffer[5]]) == content[70_000:70_100] + content[:10] + content[5:6]
        assert (buffer.requests, buffer.fetched) == (1, len(content))
    finally:
        memory.rm("memory://all.onnx")


def test_what_a_store_refuses_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")

    def refuse(*_: object, **__: object) -> None:
        raise FileNotFoundError("net.onnx") from ConnectionRefusedError("refused")

    def lack(_: str) -> None:
        raise ImportError("Install aiohttp")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "info", refuse)
    with pytest.raises(ModelError, match=r"cannot be read \(ConnectionRefusedError: refused\)"):
        Ranged("memory://net.onnx")
    monkeypatch.setattr(fsspec.core, "url_to_fs", lack)
    with pytest.raises(UsageError, match=r"Install aiohttp\); pip install 'fsspec\[http\]'$"):
        Ranged("https://host/net.onnx")


def test_weights_beside_a_model_are_looked_at_again(tmp_path: Path) -> None:
    import numpy as np
    import onnx

    folder = tmp_path / "models"
    folder.mkdir()
    weight = onnx.numpy_helper.from_array(np.ones((8, 8, 1, 1), np.float32), "w")
    data = weight.raw_data
    onnx.external_data_helper.set_external_data(weight, "net.bin", 0, len(data))
    weight.ClearField("raw_data")
    x, y = (onnx.helper.make_tensor_value_info(n, 1, [1, 8, 4, 4]) for n in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Conv", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    (folder / "net.onnx").write_bytes(onnx.helper.make_model(graph, ir_version=10).SerializeToString())

    def verdict() -> tuple[str, int]:
        tally, fleet = run(folder, Counting())
        return fleet.rows[0][2].verdict, tally.checked

    assert verdict() == ("unreadable", 1)
    (folder / "net.bin").write_bytes(data)
    assert verdict() == ("pass", 1), "the model is the same, the refusal was not about it alone"
    assert verdict() == ("pass", 0)
    (folder / "net.bin").write_bytes(data[:-4])
    assert verdict() == ("unreadable", 1)
    (folder / "net.bin").write_bytes(data + data)
    assert verdict() == ("pass", 1)
    assert verdict() == ("pass", 0)


def test_refusals_that_follow_from_the_file_are_kept(models: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Relu(nobody) }'
    (models / "dangling.onnx").write_text(text)
    run(models, Counting())
    workers = Counting()
    _, fleet = run(models, workers)
    assert workers.seen == []
    assert fleet.verdicts["unreadable"] == 2


def test_an_input_that_one_model_lacks_is_no_bug_of_ours(models: Path) -> None:
    workers = Counting()
    _, fleet = run(models, workers, Config(input_shapes={"nobody": (1,)}))
    assert fleet.verdicts == dict.fromkeys(VERDICTS, 0) | {"unreadable": 15}
    assert {row.error_kind for _, _, row in fleet.rows} == {"usage", "not-onnx"}
    assert fleet.exit_code("error") == 3
    again = Counting()
    run(models, again, Config(input_shapes={"nobody": (1,)}))
    assert len(again.seen) == 14, "only what is no model stays so"


def test_names_that_are_no_text(models: Path) -> None:
    odd = os.fsencode(models) + b"/odd\xff.onnx"
    Path(os.fsdecode(odd)).write_bytes(b"not a model")
    first = Counting(stop_after=15)
    with pytest.raises(KeyboardInterrupt):
        run(models, first)
    tally, fleet = run(models, Counting())
    assert (tally.checked, tally.resumed) == (1, 15)
    assert [name for name, _, _ in fleet.rows if name.endswith("odd\\udcff.onnx")]
    assert run(models, Counting())[0].checked == 0


def test_what_changed_since_the_run_before(models: Path) -> None:
    _, fleet = run(models, Counting())
    assert fleet.changes == ()
    assert "since run" not in registry.renderer("text", "scan")(fleet)
    bad = (models / "deep" / "bad1.onnx").read_bytes()
    (models / "good0.onnx").write_bytes(bad)  # worse
    (models / "deep" / "bad0.onnx").write_bytes((models / "good1.onnx").read_bytes())  # better
    (models / "good2.onnx").rename(models / "moved.onnx")  # gone, and new
    (models / "good3.onnx").write_bytes((models / "good4.onnx").read_bytes())  # another model with the same verdict
    _, fleet = run(models, Counting())
    assert [(c.kind, Path(c.name).name, c.before, c.after) for c in fleet.changes] == [
        ("worse", "good0.onnx", "pass", "fail"),
        ("new", "moved.onnx", None, "pass"),
        ("better", "bad0.onnx", "fail", "pass"),
        ("gone", "good2.onnx", "pass", None),
    ]
    lines = registry.renderer("text", "scan")(fleet).splitlines()
    assert lines[1] == "since run 1: 1 worse, 1 new, 1 better, 1 gone"
    assert lines[2].endswith("good0.onnx, pass before, now fail")
    assert "Since run 1" in registry.renderer("html", "scan")(fleet)
    _, fleet = run(models, Counting())
    assert registry.renderer("text", "scan")(fleet).splitlines()[1] == "since run 2: nothing changed"


def test_two_scans_in_one_store(models: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "npu_guard", "scan", str(models), "--store", str(tmp_path / "both.db"), "--jobs", "1"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 3, err
        assert out.startswith(b"15 models against aimotive-aiware: 10 pass, 4 fail, 1 unreadable")
    with sqlite3.connect(tmp_path / "both.db") as database:
        rows, names = database.execute("select count(*), count(distinct name) from reported").fetchone()
    assert names == 15
    assert rows % 15 == 0


def test_passwords_are_not_shown(tmp_path: Path, models: Path, program: Program) -> None:
    done = program(tmp_path, "scan", "models", "--store", "nosuch://me:geheim@host/fleet")
    assert done.code == 2
    assert "nosuch://me:***@host/fleet" in done.err
    assert "geheim" not in done.err
