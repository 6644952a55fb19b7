"""The direct way to the shell, on a real loop."""

import asyncio
import struct
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import chain, repeat

import pytest

from rlm_ray.admission.client import AdmissionClient
from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import AttemptOutcome, ClientMessage, PermitRequest, RunPolicy
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.cluster.detached_actor import service_stub
from rlm_ray.core.limits import Limits, Rates
from rlm_ray.core.llm import Usage
from rlm_ray.errors import JournalError, RemoteCallError, VersionMismatchError
from rlm_ray.util import frames
from rlm_ray.util import rpc as lines
from rlm_ray.util.rpc import RpcAddress, RpcClient, RpcServer
from rlm_ray.util.rpc_service import PLAIN, Codec, service_of

SERVICE = service_of(AdmissionServer)

TERMS = RunPolicy("run", Limits(), Rates(in_flight=100))


def stub(resolve):
    return service_stub(AdmissionServer, "admission", lambda _: resolve)


@asynccontextmanager
async def served(epoch="first"):
    shell = AdmissionServer(AdmissionController(), epoch)
    await shell.open_run(TERMS)
    line = RpcServer(shell, frozenset(SERVICE.methods), b"secret", SERVICE.codec)
    try:
        yield shell, line, await line.listen("127.0.0.1")
    finally:
        await line.close()


async def call(client):
    async with client.permit(PermitRequest("run", "key", "model", 10, 10)) as permit:
        permit.release(AttemptOutcome.OK, Usage(7, 3))


async def test_calls_of_an_admission_client_go_over_tcp():
    async with served() as (shell, _, address):
        transport = stub(lambda: asyncio.sleep(0, address))
        client = AdmissionClient("client", transport)
        await asyncio.gather(*(call(client) for _ in range(200)))
        await client.flush()
        assert (await shell.usage("run")).total.calls == 200
        await client.aclose()
        await transport.aclose()


async def test_who_does_not_know_the_token_is_not_heard():
    async with served() as (_, _, address):
        transport = stub(lambda: asyncio.sleep(0, replace(address, token=b"guess!")))
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(transport.exchange(ClientMessage("client", None)), 2)
        await transport.aclose()


async def test_a_line_that_breaks_is_found_again():
    addresses = []
    transport = stub(lambda: asyncio.sleep(0, addresses[-1]))
    client = AdmissionClient("client", transport, retry_s=0.02)
    async with served() as (_, _, address):
        addresses.append(address)
        await asyncio.gather(*(call(client) for _ in range(5)))
        await client.flush()
    async with served("second") as (shell, _, address):
        addresses.append(address)
        await asyncio.wait_for(asyncio.gather(*(call(client) for _ in range(5))), 5)
        await asyncio.wait_for(client.flush(), 2)
        assert (await shell.usage("run")).total.calls == 10
        await client.aclose()
        await transport.aclose()


class Shell:
    """Whatever may go wrong with a call."""

    def __init__(self):
        self.cancelled = []

    async def echo(self, value):
        return value

    async def fail(self, why):
        raise ValueError(why)

    async def refuse(self, is_plain):
        raise JournalError("run", "is running already" if is_plain else {"a", "set"})

    async def strange(self):
        return object()

    async def wait(self, name):
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.append(name)

    async def size(self, data):
        return len(data)

    async def many(self, count):
        return bytes(count)


SHELL_METHODS = frozenset({"echo", "fail", "refuse", "strange", "wait", "size", "many"})


@asynccontextmanager
async def plain_line(codec=PLAIN, client_codec=None):
    shell = Shell()
    line = RpcServer(shell, SHELL_METHODS, b"secret", codec)
    address = await line.listen("127.0.0.1")
    transport = RpcClient(lambda: asyncio.sleep(0, address), client_codec or codec)
    try:
        yield shell, transport, address
    finally:
        await transport.aclose()
        await line.close()


@pytest.mark.parametrize(
    ("method", "arguments", "sentence"),
    [
        ("fail", ("the disk is full",), "a call of fail failed: ValueError: the disk is full"),
        ("fail", ("",), "a call of fail failed: ValueError"),
        ("strange", (), "a call of strange failed: cannot be sent: object is no message type"),
        ("shutdown", (), "a call of shutdown failed: shutdown may not be called"),
        ("__init__", (), "a call of __init__ failed: __init__ may not be called"),
        ("echo", (), "a call of echo failed: TypeError: "),
        ("echo", (1, 2, 3), "a call of echo failed: TypeError: "),
        ("echo", (object(),), "a call of echo cannot be sent: object is no message type"),
    ],
)
async def test_what_goes_wrong_with_one_call_is_a_sentence_for_its_caller_and_others_go_on(
    method, arguments, sentence
):
    async with plain_line() as (shell, transport, _):
        other = asyncio.create_task(transport.call("wait", "other"))
        with pytest.raises(RemoteCallError) as raised:
            await transport.call(method, *arguments)
        assert str(raised.value).startswith(sentence)
        assert await transport.call("echo", "still there") == "still there"
        assert not other.done()
        assert shell.cancelled == []
        other.cancel()


async def test_an_error_of_the_codec_arrives_as_itself_and_one_that_cannot_be_sent_is_its_caller_s_only():
    async with plain_line(Codec(JournalError)) as (shell, transport, _):
        other = asyncio.create_task(transport.call("wait", "other"))
        with pytest.raises(JournalError, match="is running already"):
            await transport.call("refuse", True)
        with pytest.raises(RemoteCallError, match="a call of refuse failed: cannot be sent"):
            await transport.call("refuse", False)
        assert (other.done(), shell.cancelled) == (False, [])
        other.cancel()


async def test_a_reply_that_cannot_be_decoded_fails_its_caller_only():
    class Broken(Codec):
        def encode(self, value):
            return b"\xc1" if value == "broken" else super().encode(value)

    async with plain_line(Broken(), Codec()) as (_, transport, _):
        with pytest.raises(RemoteCallError, match="the reply to echo cannot be decoded"):
            await transport.call("echo", "broken")
        assert await transport.call("echo", "whole") == "whole"


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", PLAIN.encode(5), PLAIN.encode(("echo",)), PLAIN.encode((1, ()))]
)
async def test_a_call_that_cannot_be_decoded_is_answered_with_an_error(body):
    async with plain_line() as (_, transport, _):
        channel = await transport._connected()
        transport._pending[77] = future = asyncio.get_running_loop().create_future()
        await channel.send(77, frames.Kind.CALL, body)
        with pytest.raises(RemoteCallError, match="failed: "):
            transport._value_of("x", await asyncio.wait_for(future, 5))
        assert await transport.call("echo", 1) == 1


async def test_a_message_of_200_mb_arrives_both_ways_and_small_ones_overtake_it():
    data = bytes(200_000_000)
    async with plain_line() as (_, transport, _):
        large = asyncio.create_task(transport.call("size", data))
        await asyncio.sleep(0)
        for number in range(20):
            assert await transport.call("echo", number) == number
        assert not large.done()
        assert await large == len(data)
        assert len(await transport.call("many", len(data))) == len(data)


@pytest.mark.parametrize(
    "size", [0, 1, frames.PART_BYTES - 10, frames.PART_BYTES, frames.PART_BYTES + 1, 3_000_000]
)
async def test_messages_of_any_length_arrive_whole(size):
    async with plain_line() as (_, transport, _):
        texts = [chr(97 + n) * size for n in range(4)]
        assert await asyncio.gather(*(transport.call("echo", text) for text in texts)) == texts


async def test_a_message_that_is_too_long_fails_its_caller_only(monkeypatch):
    monkeypatch.setattr(lines, "MAX_MESSAGE_BYTES", 1_000_000)
    async with plain_line() as (_, transport, _):
        with pytest.raises(
            RemoteCallError, match=r"a call of size cannot be sent: a call of 2,000,0.. bytes is longer"
        ):
            await transport.call("size", bytes(2_000_000))
        with pytest.raises(
            RemoteCallError, match="a call of many failed: cannot be sent: a reply of 2,000,0"
        ):
            await transport.call("many", 2_000_000)
        assert await transport.call("size", b"123") == 3


async def test_a_message_longer_than_the_peer_takes_is_dropped_and_its_caller_gets_the_error(monkeypatch):
    monkeypatch.setattr(frames, "MAX_MESSAGE_BYTES", 1_000_000)
    async with plain_line() as (_, transport, _):
        with pytest.raises(RemoteCallError, match="is longer than the"):
            await transport.call("size", bytes(5_000_000))
        assert await transport.call("size", bytes(900_000)) == 900_000


async def test_a_call_has_a_deadline_and_is_cancelled_at_the_actor():
    async with plain_line() as (shell, transport, _):
        with pytest.raises(TimeoutError, match=r"wait was not answered within 0.05 s"):
            await transport.call("wait", "late", timeout_s=0.05)
        assert await transport.call("echo", 1) == 1
        assert shell.cancelled == ["late"]


async def test_a_call_that_is_given_up_is_cancelled_at_the_actor():
    async with plain_line() as (shell, transport, _):
        calls = [asyncio.create_task(transport.call("wait", n)) for n in range(3)]
        assert await transport.call("echo", 1) == 1
        calls[1].cancel()
        assert await transport.call("echo", 2) == 2
        assert shell.cancelled == [1]


async def test_a_large_call_that_is_given_up_half_sent_never_begins():
    async with plain_line() as (_, transport, _):
        call = asyncio.create_task(transport.call("size", bytes(100_000_000)))
        await transport.call("echo", 1)
        call.cancel()
        assert await transport.call("echo", 2) == 2
        assert await transport.call("size", b"12") == 2


async def test_a_client_that_does_not_read_stops_being_answered_and_nothing_piles_up(monkeypatch):
    monkeypatch.setattr(frames, "MAX_QUEUED_BYTES", 1_000_000)
    async with plain_line() as (_, transport, address):
        reader, writer = await asyncio.open_connection(address.host, address.port, limit=1000)
        writer.write(lines._hello(PLAIN) + address.token)
        call = PLAIN.encode(("echo", (b"x" * 100_000,)))
        head = struct.Struct("!IQB")
        sent = 0
        with pytest.raises(TimeoutError):  # noqa: PT012 - it is stopped somewhere on the way
            async with asyncio.timeout(1):
                for number in range(2_000):
                    writer.write(head.pack(len(call), number, frames.Kind.CALL) + call)
                    await writer.drain()
                    sent += len(call)
        assert sent < 60_000_000
        assert await transport.call("echo", "others go on") == "others go on"
        writer.transport.abort()
        del reader


async def test_an_actor_that_does_not_greet_is_asked_for_its_address_again(monkeypatch):
    monkeypatch.setattr(lines, "HANDSHAKE_TIMEOUT_S", 0.05)

    async def say_nothing(reader, writer):
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    nowhere = RpcAddress("127.0.0.1", silent.sockets[0].getsockname()[1], b"secret")
    client = RpcClient(lambda: asyncio.sleep(0, nowhere), SERVICE.codec)
    with pytest.raises(ConnectionError, match=r"the actor did not greet within 0\.05 s"):
        await client.call("usage", "run", timeout_s=None)
    async with served() as (_, _, address):
        addresses = chain([nowhere], repeat(address))  # where the machine is slow, it greets late, too
        transport = stub(lambda: asyncio.sleep(0, next(addresses)))
        assert (await transport.usage("run")).total.calls == 0
        await transport.aclose()
    silent.close()
    await asyncio.sleep(0.01)  # until both ends are closed


async def test_two_versions_part_with_a_sentence(monkeypatch):
    async with plain_line() as (_, transport, _):
        ours = lines._hello
        monkeypatch.setattr(lines, "_hello", lambda codec: ours(codec)[:4] + b"\x00\x09" + ours(codec)[6:])
        with pytest.raises(VersionMismatchError) as raised:
            await transport.call("echo", 1)
        assert "(protocol 9)" in str(raised.value)
        assert "install one version everywhere" in str(raised.value)


async def test_two_ends_with_other_fields_in_their_messages_part_with_a_sentence():
    async with plain_line(PLAIN, Codec(Usage)) as (_, transport, _):
        with pytest.raises(VersionMismatchError, match="the two cannot talk"):
            await transport.call("echo", 1)


@pytest.mark.parametrize("hello", [b"", b"GET / HTTP/1.1\r\n\r\n" * 3, b"secret" * 10, b"\x00" * 64])
async def test_what_is_no_client_is_not_heard(hello):
    async with plain_line() as (_, _, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(hello)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


@pytest.mark.parametrize("frame", [b"\xff" * 13, struct.pack("!IQB", 5, 1, 9) + b"12345"])
async def test_what_is_no_frame_ends_its_own_connection_only(frame):
    async with plain_line() as (_, transport, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(lines._hello(PLAIN) + address.token + frame)
        await asyncio.wait_for(reader.read(), 5)
        assert reader.at_eof()
        writer.close()
        assert await transport.call("echo", 1) == 1
