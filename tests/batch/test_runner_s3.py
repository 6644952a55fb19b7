"""A corpus and an output behind an S3 URL, against a server on loopback."""

from __future__ import annotations

import json

import pytest
from batch_fakes import FakeJob, task_of

pytestmark = pytest.mark.slow

DOCUMENTS = [{"id": f"d{n}", "text": f"text {n}"} for n in range(30)]


@pytest.fixture(scope="module")
def server():
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    """An empty bucket as an fsspec file system."""
    import s3fs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    if not fs.exists("corpora"):
        fs.mkdir("corpora")
    yield fs
    fs.rm("corpora", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
async def test_rows_are_read_from_and_written_to_s3_and_gone_on_with(bucket, suffix):
    lines = "".join(json.dumps(document) + "\n" for document in DOCUMENTS)
    bucket.pipe_file("corpora/in/rows.jsonl", lines.encode())
    out = f"s3://corpora/out/answers.{suffix}"
    first = FakeJob()
    await task_of("s3://corpora/in/*.jsonl", out, first, limit=10).run("run")
    second = FakeJob()
    summary = await task_of("s3://corpora/in/*.jsonl", out, second).run("run")
    assert (sorted(first.asked), sorted(second.asked)) == (list(range(10)), list(range(10, 30)))
    assert (summary.out, summary.rows) == (out, 30)
    data = bucket.cat_file(f"corpora/out/answers.{suffix}")
    task = task_of("s3://corpora/in", out, FakeJob())
    assert [row["id"] for row in task.output._form.unpacked(data)] == [f"d{n}" for n in range(30)]
    assert not [path for path in bucket.find("corpora") if path.endswith(".new")]
