"""`scan` with a PostgreSQL server that lives as long as the test: `make test-cluster` installs server and driver."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from npu_guard.base.errors import UsageError
from npu_guard.file.sources import sources
from npu_guard.fleet import report, scan, work
from npu_guard.fleet.store import Store
from npu_guard.fleet.work import Done, Row
from npu_guard.project.config import Config

psycopg = pytest.importorskip("psycopg", reason="no driver: pip install 'psycopg[binary]'")


def binaries() -> Path | None:
    """Where initdb and pg_ctl are: Debian keeps them off the path."""
    found = shutil.which("pg_ctl")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of an empty server that listens on a socket in its own folder."""
    tools = binaries()
    if tools is None:
        pytest.skip("no PostgreSQL server: apt-get install postgresql")
    user = None
    if os.getuid() == 0:  # which the server refuses to run as
        user = "postgres"
        if subprocess.run(["id", user], capture_output=True, check=False).returncode:
            pytest.skip("no user 'postgres' for the server to run as")
    folder = tempfile.mkdtemp(prefix="npu-guard-pg-")
    if user is not None:
        shutil.chown(folder, user)
        os.chmod(folder, 0o755)
    data = f"{folder}/data"

    def run(*command: str) -> None:
        subprocess.run(
            [str(tools / command[0]), *command[1:]], check=True, capture_output=True, user=user, cwd=folder, timeout=120
        )

    try:
        run("initdb", "-D", data, "-A", "trust", "-U", "tester", "--no-sync", "-E", "UTF8", "--locale=C")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "-D", data, "-w", "-o", options, "-l", f"{folder}/log", "start")
        try:
            yield f"postgresql://tester@/{{}}?host={folder}"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(server: str, request: pytest.FixtureRequest) -> str:
    name = f"t{abs(hash(request.node.name))}"
    with psycopg.connect(server.format("postgres"), autocommit=True) as connection:
        connection.execute(f"create database {name}")
    return server.format(name)


def scanned(folder: Path, url: str) -> tuple[scan.Tally, report.Fleet]:
    store = Store(url)
    try:
        here = scan.scan([str(folder)], Config(), store, lambda run, tasks, lost: map(run, tasks), lambda *_: None)
        return here, report.Fleet.of(store, here.run)
    finally:
        store.close()


def test_results_are_kept(models: Path, database: str) -> None:
    tally, fleet = scanned(models, database)
    assert (tally.checked, len(fleet.rows)) == (15, 15)
    assert fleet.verdicts == {"pass": 10, "fail": 4, "undecided": 0, "unreadable": 1, "internal": 0}
    (models / "good0.onnx").write_bytes((models / "deep" / "bad0.onnx").read_bytes())
    tally, fleet = scanned(models, database)
    assert (tally.checked, tally.known) == (1, 14)
    assert [p.verdicts["fail"] for p in fleet.trend] == [4, 5]


def command(models: Path, url: str) -> list[str]:
    return [sys.executable, "-m", "npu_guard", "scan", str(models), "--store", url, "--jobs", "1"]


def counts(url: str) -> tuple[int, int]:
    with psycopg.connect(url) as connection:
        found = connection.execute("select count(*), count(distinct name) from reported").fetchone()
    assert found is not None
    return int(found[0]), int(found[1])


def test_killed_and_gone_on_with(models: Path, database: str) -> None:
    Store(database).close()
    process = subprocess.Popen(command(models, database), stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while counts(database)[0] < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = counts(database)[0]
    assert before >= 3
    done = subprocess.run(command(models, database), capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("15 models against aimotive-aiware: 10 pass, 4 fail, 1 unreadable")
    assert counts(database) == (15, 15) or before == 15  # all of it done: then the second run is a run of its own


def test_two_at_once(models: Path, database: str) -> None:
    both = [subprocess.Popen(command(models, database), stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 3, err
        assert out.startswith(b"15 models against aimotive-aiware: 10 pass, 4 fail, 1 unreadable"), out
    rows, names = counts(database)
    assert names == 15
    assert rows % 15 == 0, "each run has every model once"


def test_one_model_reported_by_two(models: Path, database: str) -> None:
    first, second = Store(database), Store(database)
    try:
        run = first.begin("device", "stamp", ["somewhere"])
        assert second.begin("device", "stamp", ["somewhere"]) == run
        done = work.run(next(sources([str(models / "good0.onnx")])), Config())
        assert [store.add(run, "stamp", done) for store in (first, second)] == [True, False]
        long = "x" * 4000 + "\udcff"
        assert first.add(run, "stamp", Done(long, "mark", 2**40, Row("k" * 64, "pass")))
        assert first.known("stamp", long, "mark") == Row("k" * 64, "pass")
        assert first.known("stamp", long[:-1], "mark") is None
        (this,) = first.runs()
        assert len(list(second.rows(this))) == 2
    finally:
        first.close()
        second.close()


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"u:\*\*\*@127.0.0.1:1/x: cannot be used") as caught:
        Store("postgresql://u:geheim@127.0.0.1:1/x")
    assert "geheim" not in str(caught.value)
