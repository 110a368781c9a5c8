"""A fleet in an S3-compatible server on this machine, read over HTTP: `make test-cluster` installs what it needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from npu_guard.file.sources import sources
from npu_guard.fleet import work
from npu_guard.project.config import Config

pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")
pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries that are not ours


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import fsspec
    import s3fs

    server = moto_server.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    for key, value in {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    s3fs.S3FileSystem.clear_instance_cache()
    fsspec.filesystem("s3").mkdir("models")
    yield "s3://models"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_a_fleet_in_s3(bucket: str, models: Path) -> None:
    import fsspec

    s3 = fsspec.filesystem("s3")
    s3.put(str(models), f"{bucket}/fleet", recursive=True)
    found = {Path(s.name).name: s for s in sources([f"{bucket}/fleet"])}
    assert len(found) == 15
    assert found["good1.onnx"].name.startswith("s3://models/fleet/")
    rows = {name: work.run(s, Config()).row for name, s in found.items()}
    assert [rows[n].verdict for n in ("good1.onnx", "bad1.onnx", "none.onnx")] == ["pass", "fail", "unreadable"]
    marks = {name: s.mark for name, s in found.items()}
    s3.put(str(models / "good2.onnx"), f"{bucket}/fleet/good1.onnx")
    again = {Path(s.name).name: s.mark for s in sources([f"{bucket}/fleet/*.onnx"])}
    assert {n for n in again if again[n] != marks[n]} == {"good1.onnx"}
