"""Frames and messages: whole, byte by byte, trailing, and hostile."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.context import ByteRange, Context, DocumentRange, make_context
from rlm_ray.core.repl_types import (
    CitationRequest,
    Failed,
    SubCallAnswer,
    SubCallRequest,
    ToolRequest,
    Variable,
)
from rlm_ray.sandbox.wire import messages
from rlm_ray.sandbox.wire.frames import Decoder, Frame, FrameError, encode

TEXT = make_context("0123456789" * 10)
DOCUMENTS = make_context([{"id": str(n), "text": "x" * n} for n in range(5)])


def decode(data: bytes) -> Frame:
    decoder = Decoder()
    decoder.feed(data)
    frame = decoder.next()
    assert frame is not None
    assert decoder.next() is None
    return frame


def raw(head: Any, blob: bytes = b"") -> bytes:
    encoded = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<II", len(encoded), len(blob)) + encoded + blob


def test_a_frame_comes_back_whole() -> None:
    assert decode(encode("kind", ["a", "", "é😀"], n=1)) == Frame("kind", {"n": 1}, ("a", "", "é😀"))


def test_a_frame_comes_back_byte_by_byte() -> None:
    decoder = Decoder()
    *most, last = encode("kind", ["text"])
    for byte in most:
        decoder.feed(bytes([byte]))
        assert decoder.next() is None
    decoder.feed(bytes([last]))
    assert decoder.next() == Frame("kind", {}, ("text",))


def test_two_frames_and_a_half_give_two() -> None:
    decoder = Decoder()
    decoder.feed(encode("one") + encode("two", ["2"]) + encode("three")[:-1])
    assert [decoder.next(), decoder.next(), decoder.next()] == [Frame("one"), Frame("two", {}, ("2",)), None]


def test_lone_surrogates_become_question_marks() -> None:
    assert decode(encode("kind", ["a\ud800b"])).texts == ("a?b",)


@given(st.lists(st.text()), st.integers(1, 50))
def test_any_texts_come_back_in_any_pieces(texts: list[str], piece: int) -> None:
    decoder = Decoder()
    data = encode("kind", texts)
    for at in range(0, len(data), piece):
        decoder.feed(data[at : at + piece])
    frame = decoder.next()
    assert frame is not None
    assert list(frame.texts) == [text.encode("utf-8", "replace").decode() for text in texts]


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<II", 1 << 30, 0),
        struct.pack("<II", 2, 0xFFFFFFFF),
        raw(b"not json"),
        raw(b"[" * 100_000),
        raw(b"\xff\xfe"),
        raw([]),
        raw({"kind": "x"}),
        raw({"kind": 7, "sizes": []}),
        raw({"kind": "x", "sizes": [-1]}),
        raw({"kind": "x", "sizes": [True]}, b"a"),
        raw({"kind": "x", "sizes": [5]}, b"abc"),
        raw({"kind": "x", "sizes": [1]}, b"abc"),
        raw({"kind": "x", "sizes": ["1"]}, b"a"),
    ],
)
def test_what_is_not_a_frame_is_refused(data: bytes) -> None:
    decoder = Decoder()
    decoder.feed(data)
    with pytest.raises(FrameError):
        decoder.next()


@given(st.binary(max_size=200))
def test_garbage_never_raises_anything_else(data: bytes) -> None:
    decoder = Decoder(max_bytes=1 << 16)
    decoder.feed(data)
    with contextlib.suppress(FrameError):
        frame = decoder.next()
        assert frame is None or dataclasses.is_dataclass(messages.decode_message(frame, TEXT))


def test_calls_come_back_as_they_were_made() -> None:
    parts = ("text", ByteRange(3, 9), DocumentRange(1, 3), ["a", "b"], [{"id": "i", "text": "t"}])
    calls = SubCallRequest("recursive", ("q", "q", "p", "q", "p"), parts, True)
    data = messages.write_calls(calls)
    assert messages.decode_message(decode(data), DOCUMENTS) == calls
    assert data.count(b"q") < 4  # "queries", "kind" and the like aside, a query travels once


def test_done_and_outcomes_come_back() -> None:
    done = messages.CellDone("out", 3, "bad", (Variable("x", "int", None),), ("note",), True)
    assert messages.decode_message(decode(messages.write_done(done)), TEXT) == done
    for request in (ToolRequest("add", "[[1], {}]"), CitationRequest("words"), CitationRequest("words", 3)):
        assert messages.decode_message(decode(messages.write_request(request)), TEXT) == request
    outcomes = [SubCallAnswer("a"), Failed("Kind", "why"), SubCallAnswer("")]
    assert messages.read_outcomes(decode(messages.write_outcomes(outcomes))) == outcomes


def calls_frame(part: Any, texts: tuple[str, ...] = ("q",), **fields: Any) -> Frame:
    base = {"call": "recursive", "stop": True, "queries": 1, "asks": [0], "parts": [part]}
    return Frame("calls", base | fields, texts)


@pytest.mark.parametrize(
    ("frame", "context"),
    [
        (Frame("nonsense"), TEXT),
        (Frame("final", {}, ()), TEXT),
        (Frame("tool", {}, ("add",)), TEXT),
        (Frame("tool", {}, ("x" * 201, "[[], {}]")), TEXT),
        (Frame("tool", {}, ("add", "[[], {}]", "more")), TEXT),
        (Frame("cite", {"document": -1}, ("words",)), TEXT),
        (Frame("cite", {"document": "1"}, ("words",)), TEXT),
        (Frame("cite", {"document": True}, ("words",)), TEXT),
        (Frame("cite", {"document": None}, ()), TEXT),
        (Frame("final", {}, ("x" * 10_000_001,)), TEXT),
        (Frame("printed", {"chars": -1}, ("x",)), TEXT),
        (Frame("printed", {"chars": "1"}, ("x",)), TEXT),
        (Frame("done", {"chars": 0, "notes": 0, "variables": [["x"]]}, ("",)), TEXT),
        (Frame("done", {"chars": 0, "notes": 10**9, "variables": []}, ("",)), TEXT),
        (Frame("done", {"chars": 0, "notes": 0, "variables": [["x", "y", "z"]] * 10_000}, ("",)), TEXT),
        (calls_frame(["span", 0, 101]), TEXT),
        (calls_frame(["span", 5, 4]), TEXT),
        (calls_frame(["span", -1, 4]), TEXT),
        (calls_frame(["span", 0, 1.5]), TEXT),
        (calls_frame(["docs", 0, 1]), TEXT),
        (calls_frame(["docs", 0, 6]), DOCUMENTS),
        (calls_frame(["list", 10**7, False]), TEXT),
        (calls_frame(["text"]), TEXT),
        (calls_frame("text"), TEXT),
        (calls_frame(["span", 0, 1], asks=[1]), TEXT),
        (calls_frame(["span", 0, 1], asks=[0, 0]), TEXT),
        (calls_frame(["span", 0, 1], call="sudo"), TEXT),
        (calls_frame(["span", 0, 1], queries=2), TEXT),
    ],
)
def test_a_child_that_lies_is_refused(frame: Frame, context: Context) -> None:
    with pytest.raises(FrameError):
        messages.decode_message(frame, context)


BOUNDS = messages.bounds_of(output_chars=1000, argument_bytes=1000)


def bounded(data: bytes) -> Frame | None:
    decoder = Decoder(bounds=BOUNDS)
    decoder.feed(data)
    return decoder.next()


@pytest.mark.parametrize(
    "head",
    [
        {"kind": "ready", "sizes": [0]},
        {"kind": "printed", "sizes": [4401], "chars": 1},
        {"kind": "printed", "sizes": [1, 0], "chars": 1},
        {"kind": "printed", "sizes": [1], "chars": 1, "x": "x" * 600},
        {"kind": "final", "sizes": [40_000_001]},
        {"kind": "done", "sizes": [59_000_000]},
        {"kind": "done", "sizes": [0] * 100},
        {"kind": "done", "sizes": [], "variables": [["x" * 600_000, "int", 1]]},
        {"kind": "tool", "sizes": [3, 1_801]},
        {"kind": "tool", "sizes": [3, 1], "x": "x" * 600},
        {"kind": "cite", "sizes": [80_001]},
        {"kind": "outcomes", "sizes": []},
        {"kind": "x" * 30, "sizes": []},
        {"sizes": [], "kind": "ready"},
        b'{"kind":"ready","sizes":[]}',
        b'{"kind": "calls", "kind": "done", "sizes": []}',
        b"",
    ],
    ids=str,
)
def test_a_frame_out_of_the_bounds_of_its_kind_is_refused_before_it_is_whole(head: Any) -> None:
    encoded = head if isinstance(head, bytes) else json.dumps(head).encode()
    blob_bytes = sum(head["sizes"]) if isinstance(head, dict) else 0
    data = struct.pack("<II", len(encoded), blob_bytes) + encoded
    with pytest.raises(FrameError):
        bounded(data + bytes(min(blob_bytes, 1)))


MOST = {
    "ready": (512, 0, 0),
    "broken": (512, 65_536, 1),
    "printed": (512, 1_100 * 4, 1),
    "final": (512, 40_000_000, 1),
    "done": (512 + 100 * (200 + 100 + 12) * 12, (1_100 + 20_000 + 60 * 500) * 4, 62),
    "calls": (4 << 20, 64 << 20, 2_000_000),
    "tool": (512, 800 + 1_000, 2),
    "cite": (512, 80_000, 1),
}
"""The bytes of the head and of the texts, and how many texts, that a child may send."""


@pytest.mark.parametrize("kind", MOST)
def test_frame_is_taken_up_to_the_most_of_its_kind(kind: str) -> None:
    head_bytes, text_bytes, texts = MOST[kind]
    beginning = f'{{"kind": "{kind}", "sizes": []'.encode().ljust(40)
    blob = min(text_bytes, (64 << 20) - 41)
    for head, more in ((head_bytes, 0), (41, blob)):
        assert bounded(struct.pack("<II", head, more) + beginning) is None  # the rest has not come yet
    for head, more in ((head_bytes + 1, 0), (41, blob + 1)):
        with pytest.raises(FrameError):
            bounded(struct.pack("<II", head, more) + beginning)
    if texts < 100:
        assert bounded(encode(kind, [""] * texts)) is not None
        with pytest.raises(FrameError):
            bounded(encode(kind, [""] * (texts + 1)))


@given(st.binary(max_size=200))
def test_garbage_is_no_frame_of_a_child(data: bytes) -> None:
    with contextlib.suppress(FrameError):
        assert bounded(data) is None


def test_what_an_honest_child_writes_is_within_the_bounds() -> None:
    marked = "😀" * 1000 + "\n… 123,456,789 characters left out …\n"
    names = tuple(Variable("😀" * 5000, "😀" * 5000, 1 << 60) for _ in range(200))
    done = messages.CellDone(marked, 10**9, "😀" * 50_000, names, ("😀" * 2000,) * 200, True)
    frame = bounded(messages.write_done(done))
    assert frame is not None
    read = messages.decode_message(frame, TEXT)
    assert isinstance(read, messages.CellDone)
    assert read.output == marked
    assert len(read.notes) == messages.MAX_NOTES
    assert {len(name.name) for name in read.variables} == {messages.MAX_NAME_CHARS}
    assert bounded(encode("printed", [marked], chars=10**9)) is not None
    assert bounded(encode("final", ["😀" * messages.MAX_ANSWER_CHARS])) is not None
    calls = SubCallRequest("llm", ("q",) * messages.MAX_CALLS, ("",) * messages.MAX_CALLS, True)
    frame = bounded(messages.write_calls(calls))
    assert frame is not None
    assert messages.decode_message(frame, TEXT) == calls


@pytest.mark.parametrize(
    "frame",
    [
        Frame("ready", {}, ("x",)),
        Frame("done", {"chars": 0, "notes": 1, "variables": []}, ("", "n" * 501)),
        Frame("done", {"chars": 0, "notes": 0, "variables": [], "failed": True}, ("", "e" * 20_001)),
        Frame("done", {"chars": 0, "notes": 0, "variables": [["x", "int", 10**40]]}, ("",)),
        Frame("done", {"chars": 0, "notes": 0, "variables": []}, ("", "more")),
        calls_frame(["span", 0, 1], ("q", "a text that nothing asks about")),
        Frame("calls", {"call": "llm", "queries": 0, "asks": [], "parts": []}, ()),
    ],
)
def test_more_than_is_said_or_allowed_is_refused(frame: Frame) -> None:
    with pytest.raises(FrameError):
        messages.decode_message(frame, TEXT)


def test_a_variable_s_name_can_always_be_sent_to_a_model():
    assert messages._variable(["a\ud800", "str\udfff", None]) == Variable("a?", "str?", None)
