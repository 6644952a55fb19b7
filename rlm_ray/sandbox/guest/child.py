"""A REPL's process after the fork: into the jail, then cell after cell until it is killed.

Ends without a word when the host closes the channel. `EXIT_MEMORY` says that even this loop found
no memory, `EXIT_BROKEN` that a wall could not be put up.
"""

from __future__ import annotations

import gc
import json
import os
from contextlib import nullcontext
from typing import NoReturn

from rlm_ray.core.context import Document
from rlm_ray.core.repl_types import CitationRequest, ReplRequest, SubCallOutcome
from rlm_ray.sandbox import jail
from rlm_ray.sandbox.guest.cell_language import CellLanguage
from rlm_ray.sandbox.guest.clock import CellTimer
from rlm_ray.sandbox.guest.context_parts import Content, ContextReferences, parts_of
from rlm_ray.sandbox.guest.interpreter import Interpreter, InterpreterConfig
from rlm_ray.sandbox.guest.output import Output
from rlm_ray.sandbox.wire import messages
from rlm_ray.sandbox.wire.frames import MAX_FRAME_BYTES, Decoder, Frame, encode, is_within_limits

_READ_BYTES = 65_536


class ReplChannel:
    """The child's end of its socket: blocking, one frame at a time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.timer: CellTimer | None = None
        """Of the cell that speaks here."""
        self._decoder = Decoder(max_bytes=1 << 40, max_head=1 << 32)

    def send(self, data: bytes) -> None:
        with memoryview(data) as view:
            at = 0
            while at < len(view):
                at += os.write(self._descriptor, view[at:])

    def receive(self) -> Frame:
        while (frame := self._decoder.next()) is None:
            data = os.read(self._descriptor, _READ_BYTES)
            if not data:
                os._exit(0)
            self._decoder.feed(data)
        return frame

    def call(self, request: ReplRequest) -> list[SubCallOutcome]:
        """Block until the host has the answers. Raises `ValueError` when the texts are too much for a frame."""
        data = messages.write_request(request)
        if not is_within_limits(data):
            raise ValueError(
                f"these sub-calls make {len(data):,} bytes, more than {MAX_FRAME_BYTES:,}: make fewer at a time"
            )
        assert self.timer is not None
        self.timer.check()
        # A check of a quote is work for the cell, and no wait for others.
        clock = nullcontext() if isinstance(request, CitationRequest) else self.timer.stopped_clock()
        with self.timer.uninterrupted(), clock:
            self.send(data)
            return messages.read_outcomes(self.receive())

    def final(self, answer: str) -> None:
        self._send_frame(encode("final", [answer]))

    def printed(self, text: str, chars: int) -> None:
        self._send_frame(encode("printed", [text], chars=chars))

    def _send_frame(self, data: bytes) -> None:
        assert self.timer is not None
        with self.timer.uninterrupted():
            self.send(data)


def run_child(
    descriptor: int, limits: jail.JailLimits, parts: ContextReferences | None, language: CellLanguage
) -> NoReturn:
    """Do everything that this process does from the fork to its end."""
    try:
        jail.enter_jail(limits, descriptor)
    except OSError as error:
        ReplChannel(jail.CHANNEL_FD).send(encode("broken", [f"a wall of the jail cannot be put up: {error}"]))
        os._exit(messages.EXIT_BROKEN)
    try:
        gc.enable()
        _serve(ReplChannel(jail.CHANNEL_FD), parts, language)
    except MemoryError:
        os._exit(messages.EXIT_MEMORY)
    except BrokenPipeError:
        os._exit(0)


def _serve(channel: ReplChannel, parts: ContextReferences | None, language: CellLanguage) -> NoReturn:
    frame = channel.receive()
    facts = frame.fields
    timer = CellTimer(facts["timeout_s"], facts["cpu_s"], facts["cpu_grace_s"])
    timer.install()
    channel.timer = timer
    repl = Interpreter(
        parts_of(_decode_context(frame)) if parts is None else parts,
        InterpreterConfig(
            frame.texts[0],
            facts["seed"],
            facts["memory_mb"],
            tuple(facts["tools"]),
            facts["argument_bytes"],
        ),
        channel,
        Output(facts["output_chars"], channel.printed),
        timer,
        language,
    )
    channel.send(encode("ready"))
    while True:
        frame = channel.receive()
        query, *blocks = frame.texts
        if name := frame.fields.get("history"):
            repl.set_history(name, json.loads(blocks.pop()))
        timer.start()
        done = messages.write_done(repl.run(blocks, frame.fields["now"], query))
        timer.stop()
        channel.send(done)


def _decode_context(frame: Frame) -> Content:
    texts = frame.texts[1:]
    if not frame.fields["documents"]:
        return texts[0]
    ids = frame.fields["ids"]
    if ids is None:
        documents: list[Document] = list(texts)
        return documents
    return [{"id": name, "text": text} for name, text in zip(ids, texts, strict=True)]
