"""Requests read from streams, whole and byte by byte."""

import asyncio
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.testing.openai_wire import MAX_HEAD_BYTES, ProtocolError, read_request, response

TWO = (
    b"POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\nX-Odd:  a b \r\n\r\n{body}\n"
    b"GET /stats HTTP/1.1\r\nConnection: close\r\n\r\n"
)


def parsed(pieces):
    async def read():
        reader, found = asyncio.StreamReader(limit=MAX_HEAD_BYTES), []
        for piece in pieces:
            reader.feed_data(piece)
        reader.feed_eof()
        while request := await read_request(reader):
            found.append(request)
        return found

    return asyncio.run(read())


def test_reads_pipelined_requests():
    """Two requests in one packet are two requests, in order."""
    post, get = parsed([TWO])
    assert (post.method, post.path, post.body) == ("POST", "/v1/chat/completions", b"{body}\n")
    assert post.headers["x-odd"] == "a b"
    assert post.keep_alive
    assert (get.method, get.path, get.body, get.keep_alive) == ("GET", "/stats", b"", False)


@given(st.sets(st.integers(min_value=1, max_value=len(TWO) - 1)))
def test_pieces_do_not_matter(cuts):
    """However the bytes are cut, the same requests come out."""
    bounds = [0, *sorted(cuts), len(TWO)]
    pieces = [TWO[a:b] for a, b in pairwise(bounds)]
    assert parsed(pieces) == parsed([TWO])


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / SPDY/3\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * MAX_HEAD_BYTES, 431),
    ],
)
def test_refuses_what_it_cannot_read(data, status):
    """Each unreadable head has its status."""
    with pytest.raises(ProtocolError) as caught:
        parsed([data])
    assert caught.value.status == status


def test_a_client_that_waits_to_send_its_body_is_told_to_go_on():
    """`Expect: 100-continue` is answered before the body comes."""
    head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"

    async def talk():
        reader, said = asyncio.StreamReader(limit=MAX_HEAD_BYTES), []
        reader.feed_data(head)
        reading = asyncio.create_task(read_request(reader, SimpleNamespace(write=said.append)))
        await asyncio.sleep(0)
        assert said == [b"HTTP/1.1 100 Continue\r\n\r\n"]
        reader.feed_data(b"ok")
        return (await reading).body

    assert asyncio.run(talk()) == b"ok"


def test_a_request_that_is_cut_off_is_none():
    """A connection may end anywhere."""
    assert parsed([TWO[:-1]]) == parsed([TWO])[:1]
    assert parsed([TWO[:60]]) == []


def test_response_has_its_length():
    """A response says how long its body is, in bytes."""
    assert (
        response(529, {"a": "b"}, "é".encode())
        == b"HTTP/1.1 529 Unknown\r\ncontent-length: 2\r\na: b\r\n\r\n\xc3\xa9"
    )
