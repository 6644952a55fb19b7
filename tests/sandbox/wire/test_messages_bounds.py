"""The bounds of messages: each is taken at its end and refused beyond, and what the child writes is always within them."""

from __future__ import annotations

from typing import Any

import pytest

from rlm_ray.core.context import ByteRange, DocumentRange, make_context
from rlm_ray.core.repl_types import SubCallRequest, Variable
from rlm_ray.sandbox.wire import messages
from rlm_ray.sandbox.wire.frames import Decoder, Frame, FrameBounds, FrameError, encode, is_within_limits
from rlm_ray.sandbox.wire.messages import (
    MAX_ANSWER_CHARS,
    MAX_ERROR_CHARS,
    MAX_KIND_CHARS,
    MAX_NAME_CHARS,
    MAX_NOTE_CHARS,
    MAX_NOTES,
    MAX_SCHEMA_CHARS,
    MAX_VARIABLES,
    CellDone,
    Final,
    OutputSoFar,
    Ready,
    StartFailed,
    bounds_of,
    decode_message,
    write_calls,
    write_done,
)

TEXT = make_context("0123456789")
DOCUMENTS = make_context(["x", "y", "z"])


def done_frame(texts: tuple[str, ...] = ("out",), **fields: Any) -> Frame:
    return Frame(
        "done", {"chars": 3, "failed": False, "notes": 0, "looked": True, "variables": []} | fields, texts
    )


def calls_frame(part: Any = ("text",), texts: tuple[str, ...] = ("q", "t"), **fields: Any) -> Frame:
    return Frame(
        "calls",
        {"call": "llm", "stop": False, "queries": 1, "asks": [0], "parts": [list(part)]} | fields,
        texts,
    )


OUTPUT = CellDone("out", 3, None, (), (), True)
TAKEN = [
    (Frame("ready"), Ready()), (Frame("broken", {}, ("x" * 2_000,)), StartFailed("x" * 1_000)), (Frame("printed", {"chars": 0}, ("o",)), OutputSoFar("o", 0)),
    (Frame("final", {}, ("x" * MAX_ANSWER_CHARS,)), Final("x" * MAX_ANSWER_CHARS)), (done_frame(), OUTPUT), (done_frame(looked=1), CellDone("out", 3, None, (), (), False)),
    (done_frame(chars=1 << 62), CellDone("out", 1 << 62, None, (), (), True)), (done_frame(("out", "e" * MAX_ERROR_CHARS), failed=True), CellDone("out", 3, "e" * MAX_ERROR_CHARS, (), (), True)),
    (done_frame(("out", *["n" * MAX_NOTE_CHARS] * MAX_NOTES), notes=MAX_NOTES), CellDone("out", 3, None, (), ("n" * MAX_NOTE_CHARS,) * MAX_NOTES, True)),
    (done_frame(variables=[["a", "int", None], ["b", "list", 0]]), CellDone("out", 3, None, (Variable("a", "int", None), Variable("b", "list", 0)), (), True)),
    (done_frame(variables=[["n" * 201, "k" * 101, 5]] * MAX_VARIABLES), CellDone("out", 3, None, (Variable("n" * 200, "k" * 100, 5),) * MAX_VARIABLES, (), True)),
    (done_frame(variables=[["a\ud800", "k\udfff", None]]), CellDone("out", 3, None, (Variable("a?", "k?", None),), (), True)),
    (calls_frame(), SubCallRequest("llm", ("q",), ("t",), False)), (calls_frame(stop=True), SubCallRequest("llm", ("q",), ("t",), True)), (calls_frame(stop=1), SubCallRequest("llm", ("q",), ("t",), False)),
    (calls_frame(texts=("q", "t", "s" * MAX_SCHEMA_CHARS), typed=True, model="m" * MAX_NAME_CHARS), SubCallRequest("llm", ("q",), ("t",), False, "s" * MAX_SCHEMA_CHARS, "m" * MAX_NAME_CHARS)),
    (calls_frame(("span", 0, 10), ("q",)), SubCallRequest("llm", ("q",), (ByteRange(0, 10),), False)), (calls_frame(("span", 4, 4), ("q",)), SubCallRequest("llm", ("q",), (ByteRange(4, 4),), False)),
    (calls_frame(("list", 0, False), ("q",)), SubCallRequest("llm", ("q",), ([],), False)), (calls_frame(("list", 1, True), ("q", "i", "t")), SubCallRequest("llm", ("q",), ([{"id": "i", "text": "t"}],), False)),
]  # fmt: skip


@pytest.mark.parametrize(("frame", "message"), TAKEN)
def test_message_at_its_bounds_is_taken(frame: Frame, message: Any) -> None:
    assert decode_message(frame, TEXT) == message


@pytest.mark.parametrize(("first", "last"), [(0, 3), (1, 1), (3, 3)])
def test_range_of_documents_is_taken(first: int, last: int) -> None:
    found = decode_message(calls_frame(("docs", first, last), ("q",)), DOCUMENTS)
    assert found == SubCallRequest("llm", ("q",), (DocumentRange(first, last),), False)


REFUSED = [
    Frame("broken", {}, ()), Frame("broken", {}, ("a", "b")), Frame("printed", {"chars": -1}, ("o",)), Frame("printed", {}, ("o",)), Frame("printed", {"chars": 1}, ()),
    Frame("printed", {"chars": True}, ("o",)), Frame("printed", {"chars": 1.0}, ("o",)), Frame("ready", {}, ("more",)), done_frame(("out", "more")), done_frame(()),
    done_frame(chars=(1 << 62) + 1), done_frame(failed=True), done_frame(("out", "e" * (MAX_ERROR_CHARS + 1)), failed=True), done_frame(("out", *["n"] * 61), notes=61),
    done_frame(("out", "n" * (MAX_NOTE_CHARS + 1)), notes=1), done_frame(notes=1), done_frame(variables=[["a", "b", 1]] * (MAX_VARIABLES + 1)), done_frame(variables=None),
    done_frame(variables=[["a", "b"]]), done_frame(variables=[["a", 1, None]]), done_frame(variables=[["a", "b", -1]]), done_frame(variables=[["a", "b", True]]),
    calls_frame(texts=("q", "t", "more")), calls_frame(texts=("q",)), calls_frame(call="other"), calls_frame(asks=[]), calls_frame(asks=[0, 0]), calls_frame(asks=[1]), calls_frame(asks=[-1]),
    calls_frame(queries=0), calls_frame(texts=("q", "t", "s" * (MAX_SCHEMA_CHARS + 1)), typed=True), calls_frame(typed=True), calls_frame(model="m" * (MAX_NAME_CHARS + 1)), calls_frame(model=5),
    calls_frame(("span", 0, 11), ("q",)), calls_frame(("span", 5, 4), ("q",)), calls_frame(("span", -1, 4), ("q",)), calls_frame(("docs", 0, 1), ("q",)), calls_frame(("list", -1, False), ("q",)),
    calls_frame(("list", 1_000_001, False), ("q",)), calls_frame(("list", 1, 1), ("q", "t")), calls_frame(("text", 1)), calls_frame(("list", 2, True), ("q", "i", "t", "i")),
]  # fmt: skip


@pytest.mark.parametrize("frame", REFUSED)
def test_message_beyond_its_bounds_is_refused(frame: Frame) -> None:
    with pytest.raises(FrameError):
        decode_message(frame, TEXT)


@pytest.mark.parametrize("part", [("docs", 0, 4), ("docs", 2, 1), ("docs", -1, 1)])
def test_documents_that_are_not_there_are_refused(part: tuple[Any, ...]) -> None:
    with pytest.raises(FrameError):
        decode_message(calls_frame(part, ("q",)), DOCUMENTS)


def test_whatever_a_cell_did_its_message_is_within_the_bounds() -> None:
    wide = CellDone(
        "\U0001f642" * 1_100,
        10**9,
        "\U0001f642" * 30_000,
        tuple(Variable("\x00" * 300, "\x00" * 300, 1 << 62) for _ in range(150)),
        ("\U0001f642" * 600,) * 70,
        True,
    )
    data = write_done(wide)
    decoder = Decoder(bounds=bounds_of(1_000))
    decoder.feed(data)
    frame = decoder.next()
    assert frame is not None
    done = decode_message(frame, TEXT)
    assert isinstance(done, CellDone)
    assert (len(done.error or ""), len(done.notes), len(done.notes[0])) == (
        MAX_ERROR_CHARS,
        MAX_NOTES,
        MAX_NOTE_CHARS,
    )
    assert [len(done.variables), len(done.variables[0].name), len(done.variables[0].kind)] == [
        MAX_VARIABLES,
        MAX_NAME_CHARS,
        MAX_KIND_CHARS,
    ]


def test_newest_variables_are_the_ones_that_are_told() -> None:
    names = tuple(Variable(str(number), "int", None) for number in range(MAX_VARIABLES + 1))
    decoder = Decoder()
    decoder.feed(write_done(CellDone("", 0, None, names, (), False)))
    frame = decoder.next()
    assert frame is not None
    done = decode_message(frame, TEXT)
    assert isinstance(done, CellDone)
    assert (done.variables, done.error, done.looked) == (names[1:], None, False)


BOUNDS = {"a": FrameBounds(60, 10, 2), "b": FrameBounds(30)}


@pytest.mark.parametrize(
    ("data", "is_taken"),
    [
        (encode("a", ["x" * 5, "y" * 5]), True), (encode("a", ["x" * 5, "y" * 6]), False), (encode("a", ["x", "y", "z"]), False), (encode("a"), True),
        (encode("b"), True), (encode("b", ["x"]), False), (encode("c"), False), (encode("a", pad="p" * 20), True), (encode("a", pad="p" * 40), False),
    ],
)  # fmt: skip
def test_frame_is_bounded_by_its_kind(data: bytes, is_taken: bool) -> None:
    decoder = Decoder(bounds=BOUNDS)
    decoder.feed(data)
    if is_taken:
        assert decoder.next() is not None
    else:
        with pytest.raises(FrameError):
            decoder.next()


@pytest.mark.parametrize(("most", "is_taken"), [(0, True), (-1, False)])
def test_frame_is_taken_up_to_its_size(most: int, is_taken: bool) -> None:
    data = encode("kind", ["text"])
    decoder = Decoder(max_bytes=len(data) - 8 + most)
    decoder.feed(data)
    if is_taken:
        assert decoder.whole_bytes() == len(data)
        return
    with pytest.raises(FrameError, match="is too large"):
        decoder.whole_bytes()


def test_frame_of_the_most_bytes_is_within_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode("kind", ["text"])
    monkeypatch.setattr("rlm_ray.sandbox.wire.frames.MAX_FRAME_BYTES", len(data))
    assert is_within_limits(data)
    assert not is_within_limits(data + b"x")
    monkeypatch.setattr("rlm_ray.sandbox.wire.frames.MAX_HEAD_BYTES", len(data) - 8 - 4)
    assert is_within_limits(data)
    monkeypatch.setattr("rlm_ray.sandbox.wire.frames.MAX_HEAD_BYTES", len(data) - 8 - 5)
    assert not is_within_limits(data)


def test_each_query_and_text_travels_once_in_order() -> None:
    request = SubCallRequest("rlm", ("q", "p", "q"), ("t", ByteRange(1, 2), ["a"]), False, "{}", "m")
    decoder = Decoder()
    decoder.feed(write_calls(request))
    frame = decoder.next()
    assert frame is not None
    assert frame.texts == ("q", "p", "t", "a", "{}")
    assert (frame.fields["asks"], frame.fields["queries"], frame.fields["typed"]) == ([0, 1, 0], 2, True)
    assert decode_message(frame, TEXT) == request
    assert messages.bounds_of(100, 50)["tool"].text_bytes == MAX_NAME_CHARS * 4 + 50
