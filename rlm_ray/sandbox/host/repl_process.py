"""The host's end of one REPL: sends code, serves its sub-calls, holds it to its limits.

A child that is lost, whatever the cause, costs its variables and nothing else: the result says
why in `kill_reason`, and the next run forks a fresh one. Nothing that a child sends is used unchecked.

`ReplSpec` is what a child gets at its start, the first time and after each loss.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from rlm_ray.core.context import Context
from rlm_ray.core.repl_types import (
    CellResult,
    CitationRequest,
    ReplHistory,
    ReplRequest,
    SubCallOutcome,
    SubCallRequest,
    ToolRequest,
)
from rlm_ray.errors import SandboxError
from rlm_ray.sandbox.host.context_zygotes import ContextZygote, ContextZygotes
from rlm_ray.sandbox.host.zygote_client import (
    UNKNOWN_STATUS,
    ReplChild,
    ZygoteClient,
    deadline_exceeded,
    from_wait_status,
    protocol_violation,
    was_external_kill,
)
from rlm_ray.sandbox.settings import Sandbox
from rlm_ray.sandbox.wire import messages
from rlm_ray.sandbox.wire.frames import Decoder, FrameError, encode

_T = TypeVar("_T")

SubcallHandler: TypeAlias = Callable[[ReplRequest], Awaitable[Sequence[SubCallOutcome]]]

_READ_BYTES = 256 << 10
_READY_TIMEOUT_S = 60.0
_EXIT_TIMEOUT_S = 10.0
_AFTER_CITATION_S = 2.0
"""What a check of a quote leaves a cell of its time, once."""
_LARGE_BYTES = 1 << 20
"""A longer frame is decoded in a thread, so that others' sessions go on meanwhile."""
_MESSAGES, _MESSAGES_PER_S = 100, 8.0
"""Of one cell, sub-calls aside: an honest one sends its first twenty prints at once and then four a second."""


class ReplDied(Exception):  # noqa: N818 - becomes the sentence in CellResult.killed
    """The child is gone or must go; the sentence says why."""

    def __init__(self, why: str, *, outside: bool = False) -> None:
        super().__init__(why)
        self.external = outside
        """Something else than its code ended it, as far as is known."""


@dataclass(eq=False, slots=True)
class _CellState:
    """What is known of the cell that runs now."""

    left_s: float
    """Of the wall clock, which stands still during sub-calls."""
    printed: messages.OutputSoFar = field(default_factory=lambda: messages.OutputSoFar("", 0))
    final: str | None = None
    messages: int = 0
    began: float = 0.0
    """By the clock of the loop."""


class ReplProcess:
    """One session's interpreter. One `run` at a time."""

    def __init__(
        self, opening: ReplSpec, branches: ContextZygotes, closed: Callable[[ReplProcess], None]
    ) -> None:
        self._opening = opening
        self._context = opening.context
        self._settings = opening.settings
        self._branches = branches
        self._branch: ContextZygote | None = branches.acquire(opening.context)
        self._on_close = closed
        self._zygote_client: ZygoteClient | None = None
        self._child: ReplChild | None = None
        self._bounds = messages.bounds_of(opening.settings.output_chars, opening.argument_bytes)
        self._decoder = Decoder(bounds=self._bounds)
        self._sent_history: ReplHistory | None = None
        """What the child has of the turns that were left out."""
        self._looked = False
        self._lost_variables = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    async def ready(self) -> None:
        """Return once there is a child that stands in its jail; fork one if there is none."""
        if self._child is not None:
            return
        try:
            await self._fork()
        except ReplDied:
            # A zygote that died a moment ago is found out by asking it; the next one is new.
            try:
                await self._fork()
            except ReplDied as lost:
                raise SandboxError(str(lost)) from lost

    async def run(
        self,
        blocks: Sequence[str],
        serve: SubcallHandler,
        *,
        now: float | None = None,
        query: str | None = None,
        history: ReplHistory | None = None,
    ) -> CellResult:
        """Run all blocks of one message, in order, up to the first error or FINAL.

        `now` is the Unix time that they see, None: it is the real one; `query` the question, None: the one at the opening;
        `history` the turns that were left out of the conversation.
        """
        if not self._idle.is_set():
            raise SandboxError("this REPL runs a cell already")
        self._idle.clear()
        running = _CellState(self._settings.kill_after_s, began=asyncio.get_running_loop().time())
        notes = self._pop_notes()
        try:
            await self.ready()
            question = self._opening.query if query is None else query
            is_new = history is not None and history != self._sent_history
            texts = (
                [question, *blocks, history.items] if history is not None and is_new else [question, *blocks]
            )
            name = history.name if history is not None and is_new else ""
            code = encode("run", texts, now=time.time() if now is None else now, history=name)
            self._sent_history = history
            child, zygote_client = self._require_child()
            zygote_client.mark_busy(child)
            done = await self._run_cell(child, code, serve, running)
            zygote_client.mark_idle(child)
        except ReplDied as lost:
            await self._kill_and_reap()
            return self._killed(running, blocks, notes, lost)
        except BaseException:
            self._lost_variables = True
            await self._kill_and_reap()
            raise
        finally:
            self._idle.set()
        return self._result(done, running, notes)

    async def aclose(self) -> None:
        """Kill and reap it, also in the middle of a cell; idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            # A cell that runs sees its child die, and takes it away itself.
            self._kill()
            await asyncio.wait_for(self._idle.wait(), _EXIT_TIMEOUT_S)
            await self._kill_and_reap()
        finally:
            if self._branch is not None:
                self._branches.release(self._branch)
            self._on_close(self)

    # One cell

    async def _run_cell(
        self, child: ReplChild, code: bytes, serve: SubcallHandler, running: _CellState
    ) -> messages.CellDone:
        if child.exited.done():
            raise await self._exit_reason(child)
        await self._charge_time(running, self._write(child, code))
        while True:
            message = await self._charge_time(running, self._read(child))
            match message:
                case messages.CellDone():
                    return message
                case messages.OutputSoFar():
                    running.printed = message
                case messages.Final(answer):
                    if running.final is not None:
                        raise ReplDied(protocol_violation("a second answer"))
                    running.final = answer
                case CitationRequest():
                    outcomes = await self._serve_citation(running, child, message, serve)
                    await self._charge_time(running, self._write(child, messages.write_outcomes(outcomes)))
                    continue
                case SubCallRequest() | ToolRequest():
                    outcomes = await self._serve(child, message, serve)
                    await self._charge_time(running, self._write(child, messages.write_outcomes(outcomes)))
                    continue
                case _:
                    raise ReplDied(protocol_violation(f"a {type(message).__name__} in the middle of a cell"))
            # Reading does not yield while there is data: a child that floods must not hold the loop.
            await asyncio.sleep(0)
            running.messages += 1
            elapsed_s = asyncio.get_running_loop().time() - running.began
            if running.messages > _MESSAGES + _MESSAGES_PER_S * elapsed_s:
                raise ReplDied(protocol_violation("too many messages"))

    async def _charge_time(self, running: _CellState, work: Awaitable[_T]) -> _T:
        """Charge the wait to the cell."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(max(0.0, running.left_s)):
                return await work
        except TimeoutError:
            raise ReplDied(deadline_exceeded(self._settings)) from None
        finally:
            running.left_s -= loop.time() - started

    async def _serve_citation(
        self, running: _CellState, child: ReplChild, request: CitationRequest, serve: SubcallHandler
    ) -> Sequence[SubCallOutcome]:
        """Charge the check to the cell; the one that uses up its time leaves enough for the child to end it itself."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        outcomes = await self._serve(child, request, serve)
        left_s = running.left_s - (loop.time() - started)
        running.left_s = max(left_s, min(running.left_s, _AFTER_CITATION_S))
        return outcomes

    async def _serve(
        self, child: ReplChild, request: ReplRequest, serve: SubcallHandler
    ) -> Sequence[SubCallOutcome]:
        """Return the session's answers, unless the child dies first."""
        task = asyncio.ensure_future(serve(request))
        try:
            await asyncio.wait((task, child.exited), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise await self._exit_reason(child)
            outcomes = task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        wanted = len(request.queries) if isinstance(request, SubCallRequest) else 1
        if len(outcomes) != wanted:
            raise SandboxError(f"{len(outcomes)} outcomes were served for {wanted} requests")
        return outcomes

    # Results

    def _result(self, done: messages.CellDone, running: _CellState, notes: tuple[str, ...]) -> CellResult:
        self._looked = self._looked or done.looked
        return CellResult(
            output=self._bounded(done.output),
            output_chars=done.chars,
            error=done.error,
            final_answer=running.final,
            context_was_read=self._looked,
            variables=done.variables,
            notes=notes + done.notes,
        )

    def _killed(
        self, running: _CellState, blocks: Sequence[str], notes: tuple[str, ...], lost: ReplDied
    ) -> CellResult:
        # The child can no longer tell whether it looked; its source can, roughly.
        self._looked = self._looked or any(re.search(r"\bcontext\b", block) for block in blocks)
        return CellResult(
            output=self._bounded(running.printed.output),
            output_chars=running.printed.chars,
            final_answer=running.final,
            context_was_read=self._looked,
            kill_reason=str(lost),
            killed_externally=lost.external,
            notes=notes,
        )

    def _bounded(self, output: str) -> str:
        return output[: self._settings.output_chars + messages.OUTPUT_MARGIN_CHARS]

    def _pop_notes(self) -> tuple[str, ...]:
        lost, self._lost_variables = self._lost_variables, False
        return ("the interpreter was restarted: variables of earlier cells are lost",) if lost else ()

    # The child

    async def _fork(self) -> None:
        if self._closed:
            raise SandboxError("this REPL is closed")
        zygote_client = await self._branches.get_client(self._branch)
        child = zygote_client.fork_repl(
            memory=(self._settings.memory_mb << 20) + 4 * self._context.nbytes,
            landlock=self._opening.landlock,
            filtered=self._opening.filtered,
        )
        self._zygote_client, self._child, self._decoder = zygote_client, child, Decoder(bounds=self._bounds)
        self._sent_history = None
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                await self._write(child, self._opening.start_frame(with_context=self._branch is None))
                message = await self._read(child)
            _check_ready(message)
        except TimeoutError:
            await self._kill_and_reap()
            raise SandboxError("a REPL did not come up in time: the machine is overloaded") from None
        except BaseException:
            await self._kill_and_reap()
            raise

    def _require_child(self) -> tuple[ReplChild, ZygoteClient]:
        assert self._child is not None
        assert self._zygote_client is not None
        return self._child, self._zygote_client

    async def _write(self, child: ReplChild, data: bytes) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(child.channel, data)
        except OSError:
            raise await self._exit_reason(child) from None

    async def _read(self, child: ReplChild) -> messages.Message:
        loop = asyncio.get_running_loop()
        decoder = self._decoder
        try:
            while (whole := decoder.whole_bytes()) is None:
                data = await loop.sock_recv(child.channel, _READ_BYTES)
                if not data:
                    raise await self._exit_reason(child)
                decoder.feed(data)
                if len(data) == _READ_BYTES:
                    await asyncio.sleep(0)
            if whole > _LARGE_BYTES:
                return await asyncio.to_thread(_next_message, decoder, self._context)
            return _next_message(decoder, self._context)
        except FrameError as bad:
            raise ReplDied(protocol_violation(str(bad))) from bad
        except OSError:
            raise await self._exit_reason(child) from None

    async def _exit_reason(self, child: ReplChild) -> ReplDied:
        """Say why the child is gone."""
        await asyncio.wait((child.exited,), timeout=_EXIT_TIMEOUT_S)
        status = child.exited.result() if child.exited.done() else UNKNOWN_STATUS
        return ReplDied(
            from_wait_status(status, self._settings),
            outside=was_external_kill(status),
        )

    def _kill(self) -> None:
        if self._child is not None and self._zygote_client is not None:
            self._zygote_client.kill(self._child)

    async def _kill_and_reap(self) -> None:
        """Kill, then wait until it is reaped; cancelled meanwhile, the kill is under way all the same."""
        child, zygote_client = self._child, self._zygote_client
        self._child = None
        if child is None or zygote_client is None:
            return
        zygote_client.kill(child)
        child.channel.close()
        await asyncio.wait((child.exited,), timeout=_EXIT_TIMEOUT_S)


def _next_message(decoder: Decoder, context: Context) -> messages.Message:
    frame = decoder.next()
    assert frame is not None
    return messages.decode_message(frame, context)


def _check_ready(message: messages.Message) -> None:
    match message:
        case messages.Ready():
            return
        case messages.StartFailed(why):
            raise SandboxError(why)
        case _:
            raise SandboxError("a REPL said something else than that it is ready")


@dataclass(frozen=True, slots=True)
class ReplSpec:
    """One session's context, question and limits."""

    context: Context
    query: str
    settings: Sandbox
    seed: int = 0
    landlock: bool = True
    filtered: bool = True
    tools: tuple[str, ...] = ()
    """Names of the tools that its code can call."""
    argument_bytes: int = 0
    """The most that the arguments of one call may take."""

    def start_frame(self, *, with_context: bool) -> bytes:
        """Return the first frame; without the context where the child has it from its zygote."""
        context, settings = self.context, self.settings
        documents = context.offsets is not None
        texts = [self.query]
        if with_context and documents:
            texts += [d["text"] if isinstance(d, dict) else d for d in context.documents()]
        elif with_context:
            texts.append(context.text())
        return encode(
            "open",
            texts,
            documents=documents,
            ids=context.ids if with_context else None,
            seed=self.seed,
            output_chars=settings.output_chars,
            memory_mb=settings.memory_mb,
            timeout_s=settings.cell_timeout_s,
            cpu_s=settings.cell_cpu_s,
            cpu_grace_s=settings.cpu_grace_s,
            tools=self.tools,
            argument_bytes=self.argument_bytes,
        )
