"""What the code of a session asks for while it runs: sub-calls, tools and citations.

A sub-call that its model's window does not hold is split, or refused with the numbers (`oversize.py`). Failures are outcomes, exceptions
in the REPL; only what nobody in the tree can mend (a limit, a refused key, an empty account) is raised, and ends the session.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, assert_never

from rlm_ray.config import Settings
from rlm_ray.core import citations
from rlm_ray.core.context import ByteRange, Context, ContextPart, DocumentRange
from rlm_ray.core.profiles import window_of_params
from rlm_ray.core.repl_types import (
    CitationRequest,
    Failed,
    ReplRequest,
    SubCallAnswer,
    SubCallOutcome,
    SubCallRequest,
    ToolRequest,
)
from rlm_ray.core.reply import marked
from rlm_ray.core.tools import ToolSpec
from rlm_ray.errors import InputError
from rlm_ray.journal.cell_replay import CellExecution, CellReplay
from rlm_ray.llm.gateway import Gateway
from rlm_ray.session.oversize import MIN_CHARS, AnswersOfPieces, Oversize, Window, failed_first, measure
from rlm_ray.structured.schema import AnswerSchema


@dataclass(frozen=True, slots=True)
class SubCall:
    """One question for a child session, or for a model directly."""

    query: str
    part: ContextPart
    is_session: bool
    schema: str = ""
    """As `SubCallRequest.schema`."""
    model: str = ""
    """As `SubCallRequest.model`."""


class SessionTools(Protocol):
    """The tools that the code of a session can call."""

    @property
    def specs(self) -> tuple[ToolSpec, ...]: ...

    async def call(self, request: ToolRequest) -> SubCallOutcome:
        """Call one; a failure is an outcome."""
        ...


class Dispatch(Protocol):
    """Dispatches sub-calls and puts each outcome into its place in `slots` as it comes.

    `first` is the ordinal of the first one in the session.
    """

    async def __call__(
        self, calls: Sequence[SubCall], slots: list[SubCallOutcome | None], *, first: int, stop_on_error: bool
    ) -> None: ...


@dataclass
class CellRequests:
    """Answers what the cells of one session ask for."""

    settings: Settings
    depth: int
    context: Context
    gateway: Gateway
    spawn: Dispatch
    tools: SessionTools | None
    history: CellReplay
    children_are_sessions: bool
    """Sub-calls may be sessions: their depth is below the limit."""

    slots: list[SubCallOutcome | None] = field(default_factory=list, init=False)
    """The outcomes of the sub-calls of the cell that runs, None where there is none yet."""
    _tool_calls: int = field(default=0, init=False)

    async def serve(self, cell: CellExecution, request: ReplRequest) -> Sequence[SubCallOutcome]:
        """Answer what a cell asks for."""
        match request:
            case SubCallRequest():
                return await self._dispatch_subcalls(cell, request)
            case ToolRequest():
                return [await self.history.call_tool(cell, request, self._call_tool)]
            case CitationRequest():
                return [await self._cite(cell, request)]
            case never:
                assert_never(never)

    async def _call_tool(self, request: ToolRequest) -> SubCallOutcome:
        self._tool_calls += 1
        most = self.settings.tool_limits.max_calls
        if self.tools is None or request.name not in {spec.name for spec in self.tools.specs}:
            return Failed("ToolError", "there is no such tool")
        if self._tool_calls > most:
            return Failed("ToolError", f"this session has made its {most:,} calls of tools; go on without")
        return await self.tools.call(request)

    async def _cite(self, cell: CellExecution, request: CitationRequest) -> SubCallOutcome:
        """Look for the words here: what a cell says of its context is the word of a model's code."""
        if len(cell.citations) >= citations.MAX_CITATIONS:
            return Failed("CitationError", f"a cell cites {citations.MAX_CITATIONS:,} times at most")
        found = await asyncio.to_thread(citations.check, request, self.context, time.monotonic)
        if isinstance(found, citations.Refused):
            return Failed("CitationError", found.why)
        cell.citations.append(found)
        return SubCallAnswer(citations.to_json(found))

    async def _dispatch_subcalls(
        self, cell: CellExecution, calls: SubCallRequest
    ) -> Sequence[SubCallOutcome]:
        """Answer a cell's sub-calls, in order."""
        if why := _schema_fault(calls.schema) or self._model_fault(calls.model):
            return [Failed("InputError", why)] * len(calls.queries)
        planned = [
            SubCall(query, part, self._as_session(calls, part), calls.schema, calls.model)
            for query, part in zip(calls.queries, calls.contexts, strict=True)
        ]
        oversize = self._oversize(planned)
        if oversize:
            outcomes = await self._answer_oversize(cell, planned, oversize, stop_on_error=calls.stop_on_error)
        else:
            outcomes = await self._spawn_map(cell, planned, stop_on_error=calls.stop_on_error)
        return [_shown(outcome) for outcome in outcomes]

    async def _spawn_map(
        self, cell: CellExecution, planned: Sequence[SubCall], *, stop_on_error: bool
    ) -> list[SubCallOutcome]:
        """Dispatch sub-calls as one map of the cell. Raises what nobody in the tree can mend."""
        self.slots = [None] * len(planned)
        sessions = sum(call.is_session for call in planned)
        with self.history.record_map(cell, [call.query for call in planned], sessions, self.slots) as first:
            await self.spawn(planned, self.slots, first=first, stop_on_error=stop_on_error)
        outcomes = [
            slot or Failed("Cancelled", "another sub-call of the same map failed") for slot in self.slots
        ]
        for outcome in outcomes:
            if isinstance(outcome, Failed) and outcome.fatal_error is not None:
                raise outcome.fatal_error
        cell.cut += sum(isinstance(outcome, SubCallAnswer) and bool(outcome.cut) for outcome in outcomes)
        return outcomes

    def _oversize(self, planned: Sequence[SubCall]) -> dict[int, Oversize]:
        """Return the plain calls that their model's window does not hold, by their place in the map."""
        long = [
            at
            for at, call in enumerate(planned)
            if not call.is_session and len(call.query) + part_length(call.part, self.context) >= MIN_CHARS
        ]
        window = self._leaf_window(planned[0].model) if long and self.settings.oversize != "send" else None
        if window is None:
            return {}
        found = {at: self._measure(planned[at], window) for at in long}
        return {at: oversize for at, oversize in found.items() if oversize is not None}

    def _leaf_window(self, chosen: str) -> Window | None:
        """Return the window of the model of plain sub-calls, where the settings, the parameters or litellm tell."""
        settings = self.settings
        model, params = settings.model_named(chosen) if chosen else settings.model_at(self.depth + 1)
        tokens = window_tokens(settings, self.gateway, model, params)
        return Window(model, tokens, settings.max_tokens) if tokens else None

    def _measure(self, call: SubCall, window: Window) -> Oversize | None:
        if len(call.query) + part_length(call.part, self.context) <= window.tokens // 2:
            return None  # a character is hardly ever more than a token
        text = call.part if isinstance(call.part, str) else self.context.slice(call.part).text()
        return measure(call.query, text, window)

    async def _answer_oversize(
        self,
        cell: CellExecution,
        planned: Sequence[SubCall],
        oversize: Mapping[int, Oversize],
        *,
        stop_on_error: bool,
    ) -> list[SubCallOutcome]:
        """Answer a map some of whose calls are too long: these piece by piece, or with a refusal."""
        split = {
            at: [
                SubCall(each.map_query(), piece, is_session=False, model=planned[at].model)
                for piece in each.pieces()
            ]
            for at, each in oversize.items()
            if each.piece_chars and self.settings.oversize == "split"
        }
        refused = {at: each.refusal() for at, each in oversize.items() if at not in split}
        if refused and stop_on_error:
            return [
                refused.get(at) or Failed("Cancelled", "another piece is too long")
                for at in range(len(planned))
            ]
        calls = [own for at, call in enumerate(planned) if at not in refused for own in split.get(at, [call])]
        answers = iter(await self._spawn_map(cell, calls, stop_on_error=stop_on_error) if calls else ())
        outcomes: list[SubCallOutcome] = []
        for at in range(len(planned)):
            if at in refused:
                outcomes.append(refused[at])
            elif at in split:
                of_pieces = [next(answers) for _ in split[at]]
                outcomes.append(await self._put_together(cell, planned[at], oversize[at], of_pieces))
            else:
                outcomes.append(next(answers))
        return outcomes

    async def _put_together(
        self, cell: CellExecution, call: SubCall, oversize: Oversize, of_pieces: Sequence[SubCallOutcome]
    ) -> SubCallOutcome:
        """Make one answer of those of the pieces of a text; at the end one that matches the schema of the call."""
        level, outcomes = AnswersOfPieces.of(oversize, of_pieces), of_pieces
        while (failure := failed_first(outcomes)) is None and not level.is_one:
            calls = [
                SubCall(query, part, is_session=False, model=call.model) for query, part in level.questions()
            ]
            outcomes = await self._spawn_map(cell, calls, stop_on_error=True)
            if failed_first(outcomes) is None:
                level = level.reduced(outcomes)
        if failure is None and call.schema:
            typed = replace(call, part=level.answers[0], is_session=False)
            return (await self._spawn_map(cell, [typed], stop_on_error=True))[0]
        return failure or SubCallAnswer(level.answers[0])

    def _model_fault(self, model: str) -> str:
        """Return what is wrong with the model that code chose; empty where it may."""
        allowed = self.settings.models
        if not model or model in allowed:
            return ""
        known = f"allowed are {', '.join(allowed)}" if allowed else "none can be chosen here; leave it out"
        return f"model: {model!r} is not one of the models of this run; {known}"

    def _as_session(self, calls: SubCallRequest, part: ContextPart) -> bool:
        match calls.kind:
            case "llm":
                return False
            case "rlm":
                return self.children_are_sessions
            case "recursive":
                size = part_length(part, self.context)
                return self.children_are_sessions and size > self.settings.max_leaf_chars
            case never:
                assert_never(never)


def window_tokens(settings: Settings, gateway: Gateway, model: str, params: Mapping[str, Any]) -> int | None:
    """Return what the window of a model holds, where the settings, the parameters or litellm tell."""
    told = settings.window_tokens or window_of_params(params)
    return told or gateway.window_tokens(model, params)


def _schema_fault(schema: str) -> str:
    """Return what is wrong with a schema that code gave; empty where it can be used."""
    try:
        AnswerSchema.parse(schema or "{}", trusted=False)
    except InputError as error:
        return str(error)
    return ""


def part_length(part: ContextPart, context: Context) -> int:
    """Return the length of a part: characters of a text, bytes of what is passed by reference (never less)."""
    match part:
        case str():
            return len(part)
        case ByteRange(start, stop):
            return stop - start
        case DocumentRange(start, stop):
            offsets = context.offsets
            return offsets[stop] - offsets[start] if offsets is not None else context.nbytes
        case _:
            return sum(len(item) if isinstance(item, str) else len(item["text"]) for item in part)


def _shown(outcome: SubCallOutcome) -> SubCallOutcome:
    """Return an outcome as code gets it: text that was cut off says so itself."""
    return (
        SubCallAnswer(marked(outcome.text)) if isinstance(outcome, SubCallAnswer) and outcome.cut else outcome
    )
