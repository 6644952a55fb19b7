"""The HTTP parser, whole and byte by byte."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.testing.http1 import MAX_HEAD_BYTES, ProtocolError, RequestParser, response

TWO = (
    b"POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\nX-Odd:  a b \r\n\r\n{body}\n"
    b"GET /stats HTTP/1.1\r\nConnection: close\r\n\r\n"
)


def parsed(pieces):
    parser, found = RequestParser(), []
    for piece in pieces:
        parser.feed(piece)
        while request := parser.next_request():
            found.append(request)
    return found


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


def test_waits_for_a_body_that_waits_for_it():
    """A client that sends `Expect: 100-continue` is seen to wait."""
    parser = RequestParser()
    parser.feed(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert parser.next_request() is None
    assert parser.expects_continue
    parser.feed(b"ok")
    assert parser.next_request().body == b"ok"
    assert not parser.expects_continue


def test_response_has_its_length():
    """A response says how long its body is, in bytes."""
    assert (
        response(529, {"a": "b"}, "é".encode())
        == b"HTTP/1.1 529 Unknown\r\ncontent-length: 2\r\na: b\r\n\r\n\xc3\xa9"
    )
