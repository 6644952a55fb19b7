"""Contexts that are fetched: from the web, from files and from storages, within a size and a deadline, apart from others'."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from contextlib import contextmanager

import fsspec
import pytest

from rlm_ray.errors import InputError, JournalError
from rlm_ray.serve.context_loader import ContextLoader, LoadExecutor
from rlm_ray.serve.context_uris import locate
from rlm_ray.serve.fetching import fetch
from rlm_ray.serve.file_store import FileStore, PayloadTooLargeError
from rlm_ray.serve.prompt import NamedContext, Uri

OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def serving(*replies, stalls=False):
    """A server on loopback that answers each connection with the next of some bytes; the requests it got."""
    listener = socket.create_server(("127.0.0.1", 0))
    got, connections = [], []

    def serve():
        for reply in replies:
            connection, _ = listener.accept()
            connections.append(connection)
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(1 << 16)
            got.append(data)
            connection.sendall(reply)
            if not stalls:
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", got
    finally:
        listener.close()
        for connection in connections:
            connection.close()


def read(uri, prefix, max_bytes=1000, timeout_s=5.0):
    return fetch(locate(uri), locate(prefix), max_bytes, time.monotonic() + timeout_s)


@pytest.mark.parametrize(
    "reply",
    [
        OK + b"Content-Length: 5\r\n\r\nhello",
        OK + b"\r\nhello",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        OK + b"Content-Length: 5\r\n\r\nhello and more than was announced",
    ],
)
def test_a_page_is_read_to_its_end(reply):
    with serving(reply) as (url, got):
        assert read(f"{url}/a%20b?x=1#y", f"{url}/") == b"hello"
    assert got[0].startswith(b"GET /a%20b?x=1 HTTP/1.1\r\n")
    assert f"Host: {url.removeprefix('http://')}".encode() in got[0]


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
)
def test_a_redirect_is_not_followed(status):
    reply = f"HTTP/1.1 {status}\r\nLocation: http://169.254.169.254/\r\n\r\n".encode()
    with serving(reply) as (url, got), pytest.raises(InputError, match="leads elsewhere"):
        read(f"{url}/a", f"{url}/")
    assert len(got) == 1


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "status 404"),
        (b"HTTP/1.1 500 Oh\r\n\r\n", "status 500"),
        (b"no HTTP at all\r\n\r\n", "cannot be read"),
        (OK + b"Content-Length: 50\r\n\r\nhello", "broke off"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n99\r\nhe", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_a_page_that_is_not_there_whole_is_an_error_in_a_sentence(reply, said):
    with serving(reply) as (url, _), pytest.raises(InputError, match=said):
        read(f"{url}/a", f"{url}/")


@pytest.mark.parametrize(
    "reply",
    [
        OK + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001,
        OK + b"Content-Length: 99999999999\r\n\r\n",
        OK + b"\r\n" + b"x" * 1001,
        OK + b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001,
    ],
)
def test_a_page_is_read_up_to_a_size_and_no_further(reply):
    with serving(reply, stalls=True) as (url, _), pytest.raises(PayloadTooLargeError):
        read(f"{url}/a", f"{url}/")


@pytest.mark.parametrize(
    "reply", [b"", b"HTTP/1.1 200 OK\r\nX: ", OK + b"Content-Length: 9\r\n\r\nhe", OK + b"\r\n"]
)
def test_a_server_that_stalls_anywhere_is_left_at_the_deadline(reply):
    started = time.monotonic()
    with serving(reply, stalls=True) as (url, _), pytest.raises(InputError, match="in time"):
        read(f"{url}/a", f"{url}/", timeout_s=0.1)
    assert time.monotonic() - started < 4


def test_a_file_is_read_through_no_link_out_of_its_folder(tmp_path):
    folder, outside = tmp_path / "texts", tmp_path / "secret"
    folder.mkdir()
    outside.write_text("secret")
    (folder / "a b.txt").write_text("inside")
    (folder / "good").symlink_to("a b.txt")
    (folder / "bad").symlink_to(outside)
    (folder / "up").symlink_to("..")
    os.mkfifo(folder / "pipe")
    prefix = f"file://{folder}/"
    assert read(prefix + "a b.txt", prefix) == b"inside"
    assert read(prefix + "good", prefix) == b"inside"
    for name, said in [
        ("bad", "link that leads out"), ("up/secret", "link that leads out"), ("pipe", "no regular file"),
        ("none", "No such file"), ("", "no regular file"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=said):
            read(prefix + name, prefix)
    with pytest.raises(PayloadTooLargeError):
        read(prefix + "good", prefix, max_bytes=5)


def test_a_folder_that_is_itself_a_link_is_what_the_operator_named(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").write_text("x")
    (tmp_path / "named").symlink_to("real")
    prefix = f"file://{tmp_path}/named/"
    assert read(prefix + "a", prefix) == b"x"


def test_a_storage_is_read_by_its_driver_up_to_a_size():
    with fsspec.open("memory://team/a", "wb") as file:
        file.write(b"stored")
    assert read("memory://team/a", "memory://team/") == b"stored"
    with pytest.raises(PayloadTooLargeError):
        read("memory://team/a", "memory://team/", max_bytes=5)
    with pytest.raises(JournalError, match="no such"):
        read("memory://team/none", "memory://team/")


def test_a_loader_reads_only_what_is_allowed(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a").write_text("inside")
    (tmp_path / "b").write_text("outside")
    loader = ContextLoader(FileStore(str(tmp_path / "runs"), 1000, 1), (f"file://{tmp_path}/texts/",), 1000)
    assert loader.load("ann", [NamedContext("a", Uri(f"file://{tmp_path}/texts/a"))]).text() == "inside"
    with pytest.raises(InputError, match="not among"):
        loader.load("ann", [NamedContext("b", Uri(f"file://{tmp_path}/b"))])


async def test_loads_that_stall_keep_the_slots_of_their_key_only():
    gate = threading.Event()
    loads = LoadExecutor(max_per_key=2, timeout_s=0.05, max_threads=8)
    try:
        stalled = [loads.run("ann", lambda _: gate.wait()) for _ in range(5)]
        found = await asyncio.gather(*stalled, return_exceptions=True)
        assert all(isinstance(one, InputError) and "within 0.05 s" in one.why for one in found)
        assert await loads.run("bob", lambda _: "read") == "read"
        with pytest.raises(InputError):  # her threads are not back yet
            await loads.run("ann", lambda _: "read")
    finally:
        gate.set()
    for _ in range(200):
        if loads._places["ann"]._value == 2:
            break
        await asyncio.sleep(0.01)
    assert await loads.run("ann", lambda _: "read") == "read"


async def test_an_error_of_a_load_is_its_callers_and_gives_the_slot_back():
    loads = LoadExecutor(max_per_key=1, timeout_s=5)

    def broken(until):
        raise JournalError("s3://x", "no")

    for _ in range(3):
        with pytest.raises(JournalError):
            await loads.run("ann", broken)
    assert await loads.run("ann", lambda until: until > time.monotonic())
