"""A place for run folders in each kind of storage."""

from __future__ import annotations

import uuid

import pytest


@pytest.fixture(scope="session")
def s3_bucket():
    """The URL of a bucket of a simulated S3 on loopback."""
    import fsspec
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket"
    server.stop()


@pytest.fixture
def memory_url():
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def s3_url(s3_bucket):
    return f"{s3_bucket}/{uuid.uuid4().hex}"


@pytest.fixture(params=["local", "memory", "s3"])
def run_dir(request, tmp_path):
    """One place after the other, empty."""
    return (
        str(tmp_path / "runs")
        if request.param == "local"
        else request.getfixturevalue(f"{request.param}_url")
    )
