"""Which cluster a run uses; one that is not there is said at once."""

from __future__ import annotations

import asyncio
import logging
import os
import socket

import pytest
import ray
from ray._private import worker
from ray._private.utils import publish_error_to_driver
from waiting import wait_until

from rlm_ray.cluster import ray_calls as connector_module
from rlm_ray.cluster import ray_init
from rlm_ray.cluster.detached_actor import RpcResolver
from rlm_ray.cluster.ray_calls import RayThread, current_ray_thread
from rlm_ray.cluster.ray_init import LOCAL, resolve_address
from rlm_ray.errors import ClusterError
from rlm_ray.testing import ModelServer


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_where_nothing_answers_is_named_with_what_to_do(address):
    with pytest.raises(ClusterError, match=rf"nothing answers at {address}; check RAY_ADDRESS"):
        resolve_address(address)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (
            "http://127.0.0.1:8265",
            "is the address of a dashboard, as `ray job` takes it; a run wants host:port",
        ),
        ("nonsense", "'nonsense' is no address of a Ray cluster; write it as host:port"),
        ("127.0.0.1:", "'127.0.0.1:' is no address of a Ray cluster"),
        ("127.0.0.1", "'127.0.0.1' is no address of a Ray cluster"),
    ],
)
def test_what_is_no_address_is_said_to_be_none(address, why):
    with pytest.raises(ClusterError, match=why):
        resolve_address(address)


def test_a_server_that_is_no_ray_is_said_to_be_none(monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with (
        ModelServer(lambda _: "no") as server,
        pytest.raises(ClusterError, match="what answers there is no Ray; give host:port"),
    ):
        ray_init.follow_token_mode(server.url.removeprefix("http://").removesuffix("/v1"))


def test_a_wanted_cluster_is_used(listening):
    assert resolve_address(listening) == listening


def test_a_cluster_that_runs_on_this_machine_is_used(listening, tmp_path):
    (tmp_path / "ray_current_cluster").write_text(listening + "\n")
    assert resolve_address("", tmp_path) == listening


def test_auto_is_such_a_cluster_or_nothing(listening, tmp_path):
    with pytest.raises(ClusterError, match="no Ray that you started runs on this machine"):
        resolve_address("auto", tmp_path)
    (tmp_path / "ray_current_cluster").write_text(listening)
    assert resolve_address("auto", tmp_path) == listening


def test_an_address_that_somebody_else_wrote_is_not_believed(listening, tmp_path, monkeypatch):
    (tmp_path / "ray_current_cluster").write_text(listening)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert resolve_address("", tmp_path) == LOCAL


@pytest.mark.parametrize(
    "owners", [{12345}, {12345, os.geteuid()}, set()], ids=["theirs", "also theirs", "nobody's"]
)
def test_nor_is_one_where_somebody_else_listens(listening, tmp_path, monkeypatch, owners):
    (tmp_path / "ray_current_cluster").write_text(listening)
    monkeypatch.setattr(ray_init, "listeners", lambda _: owners)
    assert resolve_address("", tmp_path) == LOCAL


def test_nor_is_a_link_to_a_file_of_this_user(listening, tmp_path):
    (tmp_path / "file").write_text(listening)
    (tmp_path / "ray_current_cluster").symlink_to(tmp_path / "file")
    assert resolve_address("", tmp_path) == LOCAL


def test_the_kernel_tells_who_listens(listening):
    assert ray_init.listeners(int(listening.rpartition(":")[2])) == {os.geteuid()}


def test_a_head_on_another_machine_is_judged_by_the_file_alone(tmp_path):
    (tmp_path / "ray_current_cluster").write_text("192.0.2.77:6379")
    assert ray_init.running_cluster(tmp_path) == "192.0.2.77:6379"


def test_what_a_dead_cluster_left_behind_is_passed_over(tmp_path):
    (tmp_path / "ray_current_cluster").write_text("127.0.0.1:1")
    assert resolve_address("", tmp_path) == LOCAL


def test_without_any_cluster_one_is_started_here(tmp_path):
    assert resolve_address("", tmp_path) == LOCAL


def test_a_process_forked_after_use_says_so_and_does_not_hang():
    thread = RayThread()
    connector_module._current, before = thread, connector_module._current
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            said = []
            for use in (current_ray_thread, lambda: asyncio.run(thread.run(asyncio.sleep(0)))):
                try:
                    use()
                except ClusterError as error:
                    said.append(str(error))
            os.write(writing, "\n".join(said).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    connector_module._current = before
    with os.fdopen(reading) as said:
        lines = said.read().split("\n")
    assert len(lines) == 2
    assert all(line.startswith("this process was forked from one that had used rlm_ray") for line in lines)


async def test_an_address_whose_question_was_cancelled_is_asked_for_again():
    class Handle:
        """Answers the second question; the first is cancelled by Ray with the task that asked it."""

        class address:  # noqa: N801 - an actor's method
            asked = 0

            @classmethod
            async def remote(cls):
                cls.asked += 1
                if cls.asked == 1:
                    raise ray.exceptions.TaskCancelledError
                return "address"

    resolve = RpcResolver(Handle)
    with pytest.raises(ConnectionError, match="cancelled"):
        await resolve()
    assert await resolve() == "address"


@pytest.mark.ray
def test_what_ray_reports_of_its_nodes_is_logged_and_never_printed(cluster, capfd, caplog):
    caplog.set_level(logging.INFO, ray_init.__name__)
    reported = "WARNING: 8 PYTHON worker processes have been started on node: 1 with address: 127.0.0.1."
    publish_error_to_driver("worker_pool_large", reported, worker.global_worker.gcs_client)
    wait_until(lambda: f"Ray: {reported}" in caplog.messages)
    assert not [stream for stream in capfd.readouterr() if reported in stream]
