"""A session: the one loop that carries out the steps of a trajectory.

    Generate → gateway → reply          Execute → REPL ⇄ sub-calls → observation
    Finish   → SessionResult            Stop    → one last call for the best answer from what is known

It is given all it needs: a gateway to models, a function that opens a REPL, and `spawn`, which dispatches sub-calls.
Errors: the model's mistakes are observations; what nobody in the tree can mend (a limit, a refused key, an empty
account) goes up to the root at once; any other failure of a child is an exception in its parent's REPL.

`Repl` is what a session needs of its REPL; `PrefetchedRepl` opens one while the model thinks about its first message.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, Self, assert_never

from rlm_ray.config import Settings
from rlm_ray.core import citations, prompts
from rlm_ray.core.answer_preview import AnswerPreview, Form
from rlm_ray.core.context import ByteRange, Context, ContextPart, DocumentRange
from rlm_ray.core.llm import Message, ModelReply, ModelRequest, request_tokens, text_tokens
from rlm_ray.core.parsing import parse
from rlm_ray.core.profiles import profile_name, window_of_params
from rlm_ray.core.repl_types import (
    CellResult,
    Citation,
    CitationRequest,
    Failed,
    ReplHistory,
    ReplRequest,
    SubCallAnswer,
    SubCallOutcome,
    SubCallRequest,
    ToolRequest,
)
from rlm_ray.core.reply import judge, marked
from rlm_ray.core.state_machine import (
    MISFIT,
    NO_CITATIONS,
    Compaction,
    Execute,
    Finish,
    Generate,
    Stop,
    Task,
    Trajectory,
    answered_without_reading_context,
    final_answer,
    lacks_citations,
    next_step,
    repeats_itself,
)
from rlm_ray.core.tools import ToolSpec
from rlm_ray.errors import ContextWindowError, InputError, LimitReached, ReplyError, RLMError
from rlm_ray.events.records import SUMMARY_CALLS, NodePath, Role
from rlm_ray.events.usage import RunUsage
from rlm_ray.journal.call_recorder import CallSite
from rlm_ray.journal.cell_replay import CellExecution, CellReplay
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.llm.gateway import Gateway
from rlm_ray.llm.run_context import RunContext
from rlm_ray.session.oversize import MIN_CHARS, AnswersOfPieces, Oversize, Window, failed_first, measure
from rlm_ray.structured.conform import (
    DIRECT_REPAIRS,
    REPAIRS,
    Misfit,
    TypedAnswer,
    check_answer,
    conform_reply,
)
from rlm_ray.structured.schema import AnswerSchema

PARSED_ON_THE_LOOP = 50_000
"""A longer message is parsed in a thread: sessions of the same actor share the loop."""
CUT = "max_tokens"
"""The stop reason of an answer that was cut off at the token limit."""
COMPACT_AT = 0.75
"""The part of a model's window above which a conversation is compacted: what is left holds the summary."""
MIN_COMPACTED_TURNS = 2
"""So few turns are left out at least: where one turn alone fills the window, no summary helps."""


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


@dataclass(frozen=True, slots=True)
class SessionResult:
    """How a session ended."""

    answer: str | None
    stop_reason: str
    """`answered`, or what stopped it: `max_iterations`, `no_code`, `no_progress`, `context_window`, `max_tokens` (the answer was cut
    off), `schema` (no answer matched it), a limit, `interrupted`."""
    why: str = ""
    """One sentence where the stop was not the model's own."""
    trajectory: Trajectory | None = None
    turns: int = 0
    usage: RunUsage = field(default_factory=RunUsage)
    """Of the whole tree; a root's only."""
    citations: tuple[Citation, ...] = ()
    """What it cited for its answer."""


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
class Session:
    """Answers one question over one context, from its first prompt to its `SessionResult`.

    With `follow_ups` it is a conversation: the result is that of the last question, the others come before it.
    """

    path: NodePath
    run_context: RunContext
    query: str
    context: Context
    gateway: Gateway
    open_repl: OpenRepl
    spawn: Dispatch
    recorder: NullRecorder = field(default_factory=NullRecorder)
    """Of the run, in this process."""
    observe: Callable[[Trajectory], None] = lambda _: None
    """Called with every new state."""
    follow_ups: Sequence[str] = ()
    messages: tuple[Message, ...] = ()
    """What a direct answer is asked with, word by word; none: the question over the context."""
    tools: SessionTools | None = None
    schemas: Sequence[AnswerSchema | None] = ()
    """What the answer to each question looks like, the first and the further ones; answers are JSON texts then."""
    model: str = ""
    """The model that its parent chose for it, by its name in `models`; empty: the one of its depth."""
    preview: AnswerPreview | None = None
    """Tells the answer while a model writes it; None: nobody reads along."""

    _slots: list[SubCallOutcome | None] = field(default_factory=list, init=False)
    _work: asyncio.Task[SessionResult] | None = field(default=None, init=False)
    _left_out: tuple[Compaction, ReplHistory] | None = field(default=None, init=False)
    """The last compaction, and the turns before it as the REPL gets them."""
    _typed_answer: str | None = field(default=None, init=False)
    """The answer of the last turn as JSON, where it matches the schema."""
    _stopped: Stop | None = field(default=None, init=False)
    _trajectory: Trajectory = field(init=False)
    _history: CellReplay = field(init=False)
    _tool_calls: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._history = CellReplay(self.recorder, self.path)
        settings = self.settings
        self._trajectory = Trajectory(
            Task(
                query=self.query,
                info=self.context.info,
                depth=self.depth,
                max_depth=settings.max_depth,
                max_iterations=settings.max_iterations,
                max_leaf_chars=settings.max_leaf_chars,
                profile=profile_name(
                    settings.profile, settings.prompt_version, *settings.model_at(self.depth)
                ),
                prompt_version=settings.prompt_version,
                system_prompt=settings.system_prompt,
                instructions=settings.instructions,
                cell_timeout_s=settings.sandbox.cell_timeout_s,
                cell_cpu_s=settings.sandbox.cell_cpu_s,
                citations=self._citations_wanted(),
                tools=self.tools.specs if self.tools is not None else (),
                schema=self._schema_text(0),
                models=tuple(settings.models),
            )
        )

    def _citations_wanted(self) -> str:
        """Say whether the answer has to cite: only that of a root has to, which somebody reads."""
        wanted = self.settings.citations
        return "optional" if wanted == "required" and self.depth else wanted

    def _schema_of(self, question: int) -> AnswerSchema | None:
        """Return the schema of the answer to a question: 0 is the first."""
        return self.schemas[question] if question < len(self.schemas) else None

    def _schema_text(self, question: int) -> str:
        schema = self._schema_of(question)
        return "" if schema is None else schema.compact()

    @property
    def settings(self) -> Settings:
        return self.run_context.settings

    @property
    def depth(self) -> int:
        return self.run_context.depth(self.path)

    async def run(self) -> SessionResult:
        """Work until there is an answer or a reason to stop. Cancelling it leaves nothing behind."""
        direct = self.depth == 0 and self.settings.answers_directly(self.context.info)
        work = self._answer_directly() if direct else self._loop()
        self._work = asyncio.create_task(work, name=f"session depth={self.depth}")
        return replace(await self._result(), citations=self._trajectory.citations)

    async def _result(self) -> SessionResult:
        assert self._work is not None
        try:
            return await self._work
        except asyncio.CancelledError:
            if self._stopped is None:
                raise
            return await self._best_effort_answer(self._stopped)
        except LimitReached as limit:
            if self.path:
                raise  # the whole tree is out of means: its root decides
            return await self._best_effort_answer(Stop(limit.reason, limit.why))

    def stop(self, reason: str, why: str) -> None:
        """End the session early: what runs below it is cancelled, then it gives what it knows."""
        if self._stopped is None and self._work is not None:
            self._stopped = Stop(reason, why)
            self._work.cancel()

    @property
    def trajectory(self) -> Trajectory:
        return self._trajectory

    @property
    def slots(self) -> Sequence[SubCallOutcome | None]:
        """Return the outcomes of the sub-calls that run now, None where there is none yet."""
        return self._slots

    def partial_answer(self) -> str | None:
        """Return what is known so far, without a call: the last output and the answers of running sub-calls."""
        answers = [slot.text for slot in self._slots if isinstance(slot, SubCallAnswer)]
        outputs = [
            turn.result.output for turn in self._trajectory.turns if turn.result and turn.result.output
        ]
        parts = [f"Last output:\n{prompts.truncate_middle(outputs[-1], 4_000)}"] if outputs else []
        if answers:
            shown = "\n".join(f"- {prompts.truncate_middle(answer, 500)}" for answer in answers[:10])
            parts.append(f"{len(answers)} of {len(self._slots)} sub-calls had answered, such as:\n{shown}")
        return "\n\n".join(parts) or None

    async def _loop(self) -> SessionResult:
        async with PrefetchedRepl(self.open_repl, self.context, self.query) as repl:
            while True:
                self.observe(self._trajectory)
                match next_step(self._trajectory):
                    case Generate():
                        try:
                            await self._generate()
                            await self._check_answer()
                        except ContextWindowError as error:
                            if self._can_compact():
                                self._trajectory = self._trajectory.with_compaction("")
                                continue
                            return await self._best_effort_answer(
                                _context_window_stop(self._trajectory, error)
                            )
                    case Execute(blocks):
                        result = self._history.result(self._trajectory) or await self._execute(repl, blocks)
                        self._trajectory = self._trajectory.with_result(result)
                        await self._check_answer()
                    case Finish() | Stop() if self._take_next_question():
                        continue
                    case Finish(answer):
                        answer = answer if self._typed_answer is None else self._typed_answer
                        return SessionResult(answer, "answered", trajectory=self._trajectory)
                    case Stop() as stop:
                        return await self._best_effort_answer(stop)
                    case never:
                        assert_never(never)

    def _take_next_question(self) -> bool:
        """Begin the next question of a conversation; False where there is none."""
        asked = len(self._trajectory.follow_ups)
        if asked < len(self.follow_ups):
            schema = self._schema_text(asked + 1)
            self._trajectory = self._trajectory.with_question(self.follow_ups[asked], schema)
            return True
        return False

    async def _check_answer(self) -> None:
        """Refuse the answer of the last turn if it does not match the schema: the model is told why, and goes on."""
        trajectory, turn = self._trajectory, self._trajectory.turns[-1]
        schema, answer = self._schema_of(len(trajectory.follow_ups)), final_answer(turn)
        self._typed_answer = None
        if answer is None or answered_without_reading_context(trajectory):
            return
        if prompts.answered_before_output(trajectory):
            self._trajectory = trajectory.with_refusal(prompts.UNSEEN)
            return
        if schema is None:
            return
        why = self._history.refusal(len(trajectory.turns)) if turn.reply.recorded else ""
        if not why:
            parsed = await check_answer(schema, answer)
            why, self._typed_answer = parsed.why, parsed.text if parsed.fits else None
        if why:
            self._trajectory = trajectory.with_refusal(why)

    async def _generate(self) -> None:
        if self._must_compact():
            await self._compact()
        elif repeats_itself(self._trajectory):
            self._trajectory = self._trajectory.with_compaction("", repeated=True)
        trajectory, turn = self._trajectory, len(self._trajectory.turns) + 1
        status = self._history.status(turn) or prompts.status_line(
            trajectory.task,
            turn - trajectory.turns_of_earlier_questions,
            self.gateway.budget_left(self.run_context.run_id),
        )
        messages = prompts.session_messages(self._trajectory, status)
        refused = trajectory.turns[-1].refusal if trajectory.turns else ""
        reply = await self._ask(messages, CallSite(self.path, turn, "turn", status, refused=refused))
        if len(reply.text) > PARSED_ON_THE_LOOP:
            self._trajectory = await asyncio.to_thread(trajectory.with_reply, reply, status)
        else:
            self._trajectory = trajectory.with_reply(reply, status)

    def _can_compact(self) -> bool:
        """Tell whether leaving turns out would make the conversation shorter."""
        wanted = self.settings.compact_above_tokens != 0
        return wanted and self._trajectory.turns_in_conversation >= MIN_COMPACTED_TURNS

    def _must_compact(self) -> bool:
        """Tell whether the next request nears the model's window; of recorded turns, what was decided then."""
        turns = len(self._trajectory.turns)
        if self._history.summary(turns) is not None:
            return True
        if not self._can_compact() or self._history.status(turns + 1) is not None:
            return False
        limit = self.settings.compact_above_tokens
        model, params = self._model()
        if limit is None:
            window = self._window_tokens(model, params)
            limit = None if window is None else int(window * COMPACT_AT)
        return limit is not None and self._conversation_tokens(model) > limit

    def _conversation_tokens(self, model: str) -> int:
        """Count the tokens of the next request: by the usage of the last one, where it was counted, else by estimate."""
        messages = prompts.session_messages(self._trajectory, "")
        usage = self._trajectory.turns[-1].reply.usage
        if usage.input_tokens and not usage.estimated and self._trajectory.turns_in_conversation:
            return usage.tokens - usage.reasoning_tokens + text_tokens(messages[-1].content, model)
        return request_tokens(ModelRequest(model, messages))

    async def _compact(self) -> None:
        """Let the conversation go on from a summary by the model, or from none where it cannot make one."""
        turns = len(self._trajectory.turns)
        known, summary = self._history.summary(turns), ""
        if known is None or not known.error_kind:
            try:
                place = CallSite(self.path, SUMMARY_CALLS + turns, "summary")
                reply = await self._ask(prompts.compaction_messages(self._trajectory), place)
                summary = reply.text.strip()
            except (ContextWindowError, ReplyError):
                summary = ""
        self._trajectory = self._trajectory.with_compaction(summary)

    def _repl_history(self, trajectory: Trajectory) -> dict[str, ReplHistory]:
        """Return the turns that were left out of the conversation, as an argument of the REPL; none where all are in it."""
        compaction = trajectory.summary
        if compaction is None:
            return {}
        if self._left_out is None or self._left_out[0] != compaction:
            items = json.dumps(prompts.history_items(trajectory), ensure_ascii=False)
            self._left_out = compaction, ReplHistory(compaction.name, items)
        return {"history": self._left_out[1]}

    async def _execute(self, repl: PrefetchedRepl, blocks: Sequence[str]) -> CellResult:
        """Run the code of the last turn, once more where its REPL was lost through no fault of it."""
        cell = await self._run_cells(repl, blocks)
        if cell.result.killed_externally and await self._history.on_repl_lost(cell):
            cell = await self._run_cells(repl, blocks)
        self._history.record(cell)
        self._slots = []
        return cell.result

    async def _run_cells(self, repl: PrefetchedRepl, blocks: Sequence[str]) -> CellExecution:
        """Run the code of the last turn, after the earlier code whose variables the REPL does not have."""
        trajectory = self._trajectory
        for number in self._history.turns_to_rerun():
            again = replace(trajectory.truncated_to(number - 1), turns=trajectory.turns[:number])
            await self._run_cell(repl, again, again.turns[-1].parsed.blocks, again=True)
        return await self._run_cell(repl, trajectory, blocks)

    async def _run_cell(
        self, repl: PrefetchedRepl, trajectory: Trajectory, blocks: Sequence[str], *, again: bool = False
    ) -> CellExecution:
        """Run the code of the last turn of `trajectory`."""
        cell = self._history.start(len(trajectory.turns), blocks, again=again)
        now = trajectory.turns[-1].reply.at or None
        opened = await repl.get()
        result = await opened.run(
            blocks,
            partial(self._serve, cell),
            now=now,
            query=trajectory.query,
            **self._repl_history(trajectory),
        )
        cell.result = replace(
            result,
            notes=(*result.notes, *prompts.cut_note(cell.cut)),
            citations=tuple(dict.fromkeys(cell.citations)),
        )
        return cell

    async def _ask(self, messages: tuple[Message, ...], place: CallSite) -> ModelReply:
        model, params = self._model()
        grows = place.role in {"turn", "summary", "last"}
        request = ModelRequest(model, messages, self.settings.max_tokens, params, grows)
        if self.preview is not None and self.preview.expect(self._answer_form(place.role), model):
            request = replace(request, listener=self.preview)
        return await self.gateway.complete(request, self.run_context, place, self.recorder)

    def _answer_form(self, role: Role) -> Form | None:
        """Return where in the next reply its answer would stand; None where that reply can be none as it stands."""
        trajectory = self._trajectory
        if self.schemas and any(self.schemas):
            return None
        if role == "direct":
            return "text"
        is_first_look = not trajectory.turns and not trajectory.context_was_read
        is_last_question = len(trajectory.follow_ups) == len(self.follow_ups)
        may_answer = not is_first_look and is_last_question and not lacks_citations(trajectory)
        return "final" if role == "turn" and may_answer else None

    def _model(self) -> tuple[str, dict[str, Any]]:
        """Return the model of this session and what it is called with."""
        settings = self.settings
        return settings.model_named(self.model) if self.model else settings.model_at(self.depth)

    async def _answer_directly(self) -> SessionResult:
        """Make one plain call over the whole context, without a REPL."""
        questions = (self.query, *self.follow_ups)
        schema = self._schema_of(len(questions) - 1)
        query = questions[-1] if schema is None else schema.ask(questions[-1])
        messages = self.messages or prompts.leaf_messages(
            query, self.context.text(), self.settings.prompt_version
        )
        place = CallSite(self.path, len(questions), "direct")
        reply = await self._ask(messages, place)
        judged = judge(reply)
        reason = CUT if judged.kind == "truncated" else "answered"
        if schema is None:
            return SessionResult(reply.text, reason, judged.why, trajectory=self._trajectory)
        typed = await self._conform(schema, messages, reply, place, DIRECT_REPAIRS)
        if not typed.why:
            return SessionResult(typed.parsed.text, "answered", trajectory=self._trajectory)
        reason = CUT if typed.cut else MISFIT
        return SessionResult(typed.text, reason, typed.why, trajectory=self._trajectory)

    async def _conform(
        self,
        schema: AnswerSchema,
        messages: Sequence[Message],
        reply: ModelReply,
        place: CallSite,
        repairs: int = REPAIRS,
    ) -> TypedAnswer:
        """Return the answer, put right by the model where it does not match."""

        def ask(said: tuple[Message, ...], misfit: Misfit) -> Awaitable[ModelReply]:
            return self._ask(said, replace(place, call=place.call + misfit.number, refused=misfit.why))

        return await conform_reply(schema, messages, reply, ask, repairs)

    async def _best_effort_answer(self, stop: Stop) -> SessionResult:
        """Make one last call for the best answer from what is known; what was printed if even that fails."""
        if stop.reason == NO_CITATIONS:
            answer = self._typed_answer or final_answer(self._trajectory.turns[-1])
            return SessionResult(answer, stop.reason, stop.message, self._trajectory)
        if stop.reason == "interrupted":
            return SessionResult(self._best_known_answer(), stop.reason, stop.message, self._trajectory)
        tries = [prompts.last_call_messages, prompts.short_last_call_messages]
        number = len(self._trajectory.turns)
        for messages_of in tries[stop.reason == "context_window" :]:
            number += 1
            try:
                messages = messages_of(self._trajectory, stop.message)
                place = CallSite(self.path, number, "last", refused=self._last_refusal())
                reply = await self._ask(messages, place)
                schema = self._schema_of(len(self._trajectory.follow_ups))
                if schema is not None:
                    return await self._typed_last_answer(schema, messages, reply, place, stop)
            except (ContextWindowError, ReplyError):
                continue
            except RLMError:
                break
            judged = judge(reply)
            why = f"{stop.message}; of the answer, {judged.why}" if judged.why else stop.message
            answer = _strip_final(reply.text) or self.partial_answer()
            return SessionResult(answer, stop.reason, why, self._trajectory)
        # For a user, bits are better than nothing; in a parent's code they would look like an answer.
        known = self._best_known_answer() if self.depth == 0 else None
        return SessionResult(known, stop.reason, stop.message, self._trajectory)

    async def _serve(self, cell: CellExecution, request: ReplRequest) -> Sequence[SubCallOutcome]:
        """Answer what a cell asks for."""
        match request:
            case SubCallRequest():
                return await self._dispatch_subcalls(cell, request)
            case ToolRequest():
                return [await self._history.call_tool(cell, request, self._call_tool)]
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

    def _best_known_answer(self) -> str | None:
        """Return what is known as an answer: bits of text are none where a schema was asked for."""
        typed = self._schema_of(len(self._trajectory.follow_ups)) is not None
        return None if typed else self.partial_answer()

    def _last_refusal(self) -> str:
        turns = self._trajectory.turns
        return turns[-1].refusal if turns else ""

    async def _typed_last_answer(
        self,
        schema: AnswerSchema,
        messages: tuple[Message, ...],
        reply: ModelReply,
        place: CallSite,
        stop: Stop,
    ) -> SessionResult:
        """Return the result of a last call whose answer has to match the schema."""
        reply = replace(reply, text=_strip_final(reply.text))
        typed = await self._conform(schema, messages, reply, place)
        if not typed.why:
            return SessionResult(typed.parsed.text, stop.reason, stop.message, self._trajectory)
        why = f"{stop.message}; of the last answer, {typed.why}"
        return SessionResult(typed.text, MISFIT, why, self._trajectory)

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
        self._slots = [None] * len(planned)
        sessions = sum(call.is_session for call in planned)
        with self._history.record_map(cell, [call.query for call in planned], sessions, self._slots) as first:
            await self.spawn(planned, self._slots, first=first, stop_on_error=stop_on_error)
        outcomes = [
            slot or Failed("Cancelled", "another sub-call of the same map failed") for slot in self._slots
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
        tokens = self._window_tokens(model, params)
        return Window(model, tokens, self.settings.max_tokens) if tokens else None

    def _window_tokens(self, model: str, params: Mapping[str, Any]) -> int | None:
        """Return what the window of a model holds, where the settings, the parameters or litellm tell."""
        told = self.settings.window_tokens or window_of_params(params)
        return told or self.gateway.window_tokens(model, params)

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
                return self._trajectory.task.children_are_sessions
            case "recursive":
                size = part_length(part, self.context)
                return self._trajectory.task.children_are_sessions and size > self.settings.max_leaf_chars
            case never:
                assert_never(never)


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


def _context_window_stop(trajectory: Trajectory, error: ContextWindowError) -> Stop:
    """Return the stop of a conversation that no longer fits the model's window; raise the error if it never did."""
    if not trajectory.turns:
        raise error
    return Stop(
        "context_window", f"the conversation outgrew the model's window after {len(trajectory.turns)} turns"
    )


def _strip_final(text: str) -> str:
    """Strip a FINAL around a last answer."""
    parsed = parse(text)
    answer = parsed.unresolved if parsed.is_word else parsed.answer
    return (answer if answer is not None else text).strip()


class Repl(Protocol):
    """An interpreter that runs a model's code for one session."""

    async def run(
        self,
        blocks: Sequence[str],
        serve: Callable[[ReplRequest], Awaitable[Sequence[SubCallOutcome]]],
        *,
        now: float | None = None,
        query: str | None = None,
        history: ReplHistory | None = None,
    ) -> CellResult:
        """`now` is the Unix time that the code sees, `query` the question; None: as they were."""
        ...

    async def aclose(self) -> None: ...


OpenRepl = Callable[[Context, str], Awaitable[Repl]]


class PrefetchedRepl:
    """Opens the REPL at once, for whoever asks for it later, and closes it whatever happens."""

    def __init__(self, open_repl: OpenRepl, context: Context, query: str) -> None:
        self._open = open_repl
        self._arguments = (context, query)
        self._opening: asyncio.Task[Repl] | None = None

    async def __aenter__(self) -> Self:
        self._opening = asyncio.ensure_future(self._open(*self._arguments))
        return self

    async def get(self) -> Repl:
        assert self._opening is not None
        return await asyncio.shield(self._opening)

    async def __aexit__(self, *_: object) -> None:
        # In a task of its own: a second cancel, at the moment when the REPL is there, would leave its process behind.
        closing = asyncio.create_task(self._close())
        _closings.add(closing)
        closing.add_done_callback(_closings.discard)
        await asyncio.shield(closing)

    async def _close(self) -> None:
        assert self._opening is not None
        try:
            repl = await self._opening
        except RLMError:
            return  # whoever asked for the REPL has seen it
        await repl.aclose()


_closings: set[asyncio.Task[None]] = set()
"""The event loop holds tasks weakly."""
