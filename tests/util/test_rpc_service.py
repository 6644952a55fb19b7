"""Methods that may be called from other processes, and the stubs that call them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from rlm_ray.admission.protocol import ClientMessage, RunPolicy
from rlm_ray.cluster import detached_actor
from rlm_ray.cluster.detached_actor import service_stub
from rlm_ray.errors import ClusterError, InputError, JournalError, RemoteCallError
from rlm_ray.util.rpc import RpcServer
from rlm_ray.util.rpc_service import rpc_method, service_of


class Counter:
    """A server of a few methods."""

    def __init__(self):
        self.calls = []

    @rpc_method(errors=(JournalError,))
    async def add(self, number: int, name: str = "a", policy: RunPolicy | None = None) -> int:
        self.calls.append((number, name, policy))
        if number < 0:
            raise JournalError("run", "is full")
        if number == 0:
            raise InputError("number", "is zero")
        return number

    @rpc_method(is_repeated=False)
    async def once(self) -> str:
        return "once"

    @rpc_method(timeout_s=0.05)
    async def late(self) -> None:
        await asyncio.Event().wait()

    async def private(self) -> ClientMessage | None:
        return None


SERVICE = service_of(Counter)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(detached_actor, "RETRY_S", 0.0)


@asynccontextmanager
async def served(**options):
    counter = Counter()
    server = RpcServer(counter, frozenset(SERVICE.methods), b"token", SERVICE.codec)
    address = await server.listen("127.0.0.1")
    stub = service_stub(Counter, "counter", lambda _: lambda: asyncio.sleep(0, address), **options)
    try:
        yield counter, stub
    finally:
        await stub.aclose()
        await server.close()


def gone(failures):
    """A resolver that fails so often first, by the number of the try."""

    async def resolve():
        failures.append(ConnectionError("gone"))
        raise failures[-1]

    return lambda _: resolve


def test_only_marked_methods_are_found_and_their_annotations_are_the_messages():
    assert set(SERVICE.methods) == {"add", "once", "late"}
    assert SERVICE.codec.knows(RunPolicy)
    assert SERVICE.codec.knows(JournalError)
    assert not SERVICE.codec.knows(ClientMessage)


def test_a_method_with_keyword_only_parameters_cannot_be_called_from_afar():
    class Odd:
        @rpc_method()
        async def set(self, *, number: int) -> None: ...

    with pytest.raises(TypeError, match="set: arguments travel in order"):
        service_of(Odd)


async def test_a_stub_calls_with_keywords_and_values_of_the_methods_types():
    async with served() as (counter, stub):
        assert await stub.add(3) == 3
        assert await stub.add(4, policy=RunPolicy("run")) == 4
        assert counter.calls == [(3, "a", None), (4, "a", RunPolicy("run"))]


async def test_an_error_of_the_method_is_raised_as_itself_and_any_other_as_a_failed_call():
    async with served() as (_, stub):
        with pytest.raises(JournalError, match="run: is full"):
            await stub.add(-1)
        with pytest.raises(RemoteCallError, match="is zero"):
            await stub.add(0)


async def test_a_stub_has_no_method_that_is_not_marked():
    async with served() as (_, stub):
        with pytest.raises(AttributeError, match="private"):
            await stub.private()


async def test_a_call_that_is_late_fails_and_is_not_repeated():
    async with served() as (_, stub):
        with pytest.raises(ClusterError, match="the counter of the cluster does not answer: late"):
            await stub.late()


@pytest.mark.parametrize("attempts", [1, 2, 5])
async def test_a_call_is_repeated_where_the_server_is_gone(attempts):
    failures = []
    stub = service_stub(Counter, "counter", gone(failures), attempts=attempts)
    with pytest.raises(ClusterError, match="the counter of the cluster does not answer: gone"):
        await stub.add(1)
    assert len(failures) == attempts


async def test_one_that_is_not_repeated_raises_what_broke_the_connection():
    failures = []
    stub = service_stub(Counter, "counter", gone(failures))
    with pytest.raises(ConnectionError, match="gone"):
        await stub.once()
    assert len(failures) == 1


async def test_a_service_has_its_own_error_for_calls_that_fail():
    stub = service_stub(
        Counter, "counter", gone([]), attempts=1,
        to_error=lambda error, number, *_: JournalError(str(number), str(error)),
    )  # fmt: skip
    with pytest.raises(JournalError, match="7: the counter of the cluster does not answer"):
        await stub.add(7)


async def test_the_arguments_of_a_call_tell_which_server_is_meant():
    asked = []

    def resolve(key):
        asked.append(key)
        return gone([])(key)

    stub = service_stub(Counter, "counter", resolve, attempts=2, key_of=lambda number, *_: f"node {number}")
    for number in (1, 2, 1):
        with pytest.raises(ClusterError):
            await stub.add(number)
    assert asked == ["node 1", "node 2"]
