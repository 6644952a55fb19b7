"""What a child sends to its host, and which clocks stand still meanwhile."""

from __future__ import annotations

import socket
from contextlib import contextmanager

import pytest

from rlm_ray.core.repl_types import CitationRequest, Failed, SubCallAnswer, SubCallRequest, ToolRequest
from rlm_ray.sandbox.guest import child as child_module
from rlm_ray.sandbox.guest.cell_language import CellLanguage
from rlm_ray.sandbox.guest.child import ReplChannel
from rlm_ray.sandbox.guest.clock import CellTimeout
from rlm_ray.sandbox.guest.context_parts import parts_of
from rlm_ray.sandbox.wire.frames import Decoder, Frame, encode
from rlm_ray.sandbox.wire.messages import EXIT_BROKEN, EXIT_MEMORY, write_outcomes

CALL = SubCallRequest("llm", ("q",), ("t",), False)
OUTCOMES = [SubCallAnswer("a"), Failed("Kind", "why")]


class Timer:
    """Notes in which order clocks are stopped and the time is checked."""

    def __init__(self, *, is_over=False):
        self.events, self.is_over = [], is_over

    def check(self):
        self.events.append("check")
        if self.is_over:
            raise CellTimeout("the cell ran longer than 1 s")

    @contextmanager
    def uninterrupted(self):
        self.events.append("uninterrupted")
        yield
        self.events.append("interruptible again")

    @contextmanager
    def stopped_clock(self):
        self.events.append("stopped")
        yield
        self.events.append("goes on")


@pytest.fixture
def ends():
    host, child = socket.socketpair()
    with host, child:
        host.setblocking(False)
        yield host, child


def sent(host):
    decoder = Decoder()
    try:
        decoder.feed(host.recv(1 << 20))
    except BlockingIOError:
        return None
    return decoder.next()


@pytest.mark.parametrize(
    ("request_", "kind", "waits"),
    [(CALL, "calls", True), (ToolRequest("f", "[]"), "tool", True), (CitationRequest("w"), "cite", False)],
)
def test_clock_stands_still_while_others_work(ends, request_, kind, waits):
    host, child = ends
    channel = ReplChannel(child.fileno())
    channel.timer = Timer()
    host.sendall(write_outcomes(OUTCOMES))
    assert channel.call(request_) == OUTCOMES
    assert sent(host).kind == kind
    between = ["stopped", "goes on"] if waits else []
    assert channel.timer.events == ["check", "uninterrupted", *between, "interruptible again"]


def test_cell_whose_time_is_over_asks_nobody(ends):
    host, child = ends
    channel = ReplChannel(child.fileno())
    channel.timer = Timer(is_over=True)
    with pytest.raises(CellTimeout):
        channel.call(CALL)
    assert sent(host) is None


def test_more_text_than_a_frame_holds_is_refused_before_anything_is_sent(ends, monkeypatch):
    host, child = ends
    channel = ReplChannel(child.fileno())
    channel.timer = Timer()
    monkeypatch.setattr("rlm_ray.sandbox.wire.frames.MAX_FRAME_BYTES", 20)
    with pytest.raises(ValueError, match="make fewer at a time"):
        channel.call(CALL)
    assert (sent(host), channel.timer.events) == (None, [])


def test_answer_and_output_are_sent_without_being_interrupted(ends):
    host, child = ends
    channel = ReplChannel(child.fileno())
    channel.timer = Timer()
    channel.final("42")
    assert sent(host) == Frame("final", {}, ("42",))
    channel.printed("out", 9)
    assert sent(host) == Frame("printed", {"chars": 9}, ("out",))
    assert channel.timer.events == ["uninterrupted", "interruptible again"] * 2


def test_frame_is_sent_whole_however_little_goes_at_a_time(ends, monkeypatch):
    host, child = ends
    write = child_module.os.write
    monkeypatch.setattr(child_module.os, "write", lambda to, data: write(to, data[:3]))
    channel = ReplChannel(child.fileno())
    channel.send(b"0123456789")
    channel.send(b"")
    assert host.recv(100) == b"0123456789"


def test_frames_are_received_one_at_a_time_and_the_process_ends_with_its_host(ends, monkeypatch):
    host, child = ends
    channel = ReplChannel(child.fileno())
    host.sendall(encode("one") + encode("two", ["x" * 10]))
    assert [channel.receive(), channel.receive()] == [Frame("one"), Frame("two", {}, ("x" * 10,))]
    host.close()

    def end(code):
        raise SystemExit(code)

    monkeypatch.setattr(child_module.os, "_exit", end)
    with pytest.raises(SystemExit) as ended:
        channel.receive()
    assert ended.value.code == 0


@pytest.mark.parametrize(
    ("fields", "texts", "content"),
    [
        ({"documents": False, "ids": None}, ("text",), "text"),
        ({"documents": True, "ids": None}, ("a", "b"), ["a", "b"]),
        ({"documents": True, "ids": ["x"]}, ("a",), [{"id": "x", "text": "a"}]),
        ({"documents": True, "ids": []}, (), []),
    ],
)
def test_context_comes_behind_the_question(fields, texts, content):
    assert child_module._decode_context(Frame("start", fields, ("the question", *texts))) == content


class Ended(BaseException):
    """The process ends with this code."""


@pytest.fixture
def exits(monkeypatch):
    def end(code):
        raise Ended(code)

    monkeypatch.setattr(child_module.os, "_exit", end)


@pytest.mark.parametrize(("error", "code"), [(MemoryError(), EXIT_MEMORY), (BrokenPipeError(), 0)])
def test_child_ends_with_a_code_that_says_why(exits, monkeypatch, error, code):
    def fail(*_):
        raise error

    monkeypatch.setattr(child_module.jail, "enter_jail", lambda *_: None)
    monkeypatch.setattr(child_module, "_serve", fail)
    with pytest.raises(Ended) as ended:
        child_module.run_child(9, None, None, None)
    assert ended.value.args == (code,)


def test_child_without_its_jail_says_so_and_runs_nothing(ends, exits, monkeypatch):
    def fail(limits, descriptor):
        assert (limits, descriptor) == ("limits", 9)
        raise PermissionError(1, "no seccomp")

    monkeypatch.setattr(child_module.jail, "enter_jail", fail)
    monkeypatch.setattr(child_module.jail, "CHANNEL_FD", ends[1].fileno())
    monkeypatch.setattr(child_module, "_serve", lambda *_: pytest.fail("it runs"))
    with pytest.raises(Ended) as ended:
        child_module.run_child(9, "limits", None, None)
    assert ended.value.args == (EXIT_BROKEN,)
    frame = sent(ends[0])
    assert (
        frame.kind,
        "a wall of the jail cannot be put up" in frame.texts[0],
        "no seccomp" in frame.texts[0],
    ) == (
        "broken",
        True,
        True,
    )


class CellTimes(Timer):
    """Notes when cells begin and end."""

    interruptible = False

    def __init__(self, *limits):
        super().__init__()
        self.limits = limits

    def install(self):
        self.events.append("install")

    def start(self):
        self.events.append("start")

    def stop(self):
        self.events.append("stop")


@pytest.mark.parametrize("is_read_before", [False, True])
def test_child_runs_cell_after_cell_of_its_session(ends, exits, monkeypatch, is_read_before):
    host, child = ends
    made = []
    monkeypatch.setattr(
        child_module, "CellTimer", lambda *limits: made.append(CellTimes(*limits)) or made[-1]
    )
    start = {
        "timeout_s": 3.0, "cpu_s": 2.0, "cpu_grace_s": 1.0, "seed": 5, "memory_mb": 64, "tools": ["add"], "argument_bytes": 100,
        "output_chars": 50, "documents": False, "ids": None,
    }  # fmt: skip
    host.sendall(encode("start", ["who?", "the text"], **start))
    host.sendall(encode("run", ["and now?", "print(context, query, add.__name__)", "x = 1"], now=7.0))
    host.sendall(encode("run", ["why?", "print(past, x, query)\n1/0", "[1, 2]"], now=8.0, history="past"))
    host.shutdown(socket.SHUT_WR)
    parts = parts_of("read before") if is_read_before else None
    with pytest.raises(Ended) as ended:
        child_module._serve(ReplChannel(child.fileno()), parts, CellLanguage())
    assert ended.value.args == (0,)
    (timer,) = made
    assert timer.limits == (3.0, 2.0, 1.0)
    assert [event for event in timer.events if event in ("install", "start", "stop")] == [
        "install",
        *["start", "stop"] * 2,
    ]
    decoder = Decoder()
    decoder.feed(host.recv(1 << 20))
    frames = list(iter(decoder.next, None))
    assert [frame.kind for frame in frames] == ["ready", "printed", "done", "printed", "done"]
    first, second = frames[2], frames[4]
    assert first.texts[0] == f"{'read before' if is_read_before else 'the text'} and now? add\n"
    assert (second.texts[0], second.fields["failed"]) == ("[1, 2] 1 why?\n", True)
    assert [name for name, _, _ in second.fields["variables"]] == ["x"]
