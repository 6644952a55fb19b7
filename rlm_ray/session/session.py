"""A session: the one loop that carries out the steps of a trajectory.

    Generate → gateway → reply          Execute → REPL ⇄ sub-calls → observation
    Finish   → SessionResult            Stop    → one last call for the best answer from what is known

It is given all it needs: a gateway to models, a function that opens a REPL (`repl.py`), and `spawn`, which dispatches the sub-calls
that its code asks for (`cell_requests.py`). How it ends is in `result.py`.
Errors: the model's mistakes are observations; what nobody in the tree can mend (a limit, a refused key, an empty
account) goes up to the root at once; any other failure of a child is an exception in its parent's REPL.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, assert_never

from rlm_ray.config import Settings
from rlm_ray.core import prompts
from rlm_ray.core.answer_preview import AnswerPreview, Form
from rlm_ray.core.context import Context
from rlm_ray.core.llm import Message, ModelReply, ModelRequest, request_tokens, text_tokens
from rlm_ray.core.profiles import profile_name
from rlm_ray.core.repl_types import (
    CellResult,
    ReplHistory,
    SubCallAnswer,
)
from rlm_ray.core.reply import judge
from rlm_ray.core.state_machine import (
    MISFIT,
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
from rlm_ray.errors import ContextWindowError, LimitReached, ReplyError
from rlm_ray.events.records import SUMMARY_CALLS, NodePath, Role
from rlm_ray.journal.call_recorder import CallSite
from rlm_ray.journal.cell_replay import CellExecution, CellReplay
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.llm.gateway import Gateway
from rlm_ray.llm.run_context import RunContext
from rlm_ray.session.cell_requests import CellRequests, Dispatch, SessionTools, window_tokens
from rlm_ray.session.repl import OpenRepl, PrefetchedRepl
from rlm_ray.session.result import CUT, LastAnswer, SessionResult, conform_answer
from rlm_ray.structured.conform import (
    DIRECT_REPAIRS,
    check_answer,
)
from rlm_ray.structured.schema import AnswerSchema

PARSED_ON_THE_LOOP = 50_000
"""A longer message is parsed in a thread: sessions of the same actor share the loop."""
COMPACT_AT = 0.75
"""The part of a model's window above which a conversation is compacted: what is left holds the summary."""
MIN_COMPACTED_TURNS = 2
"""So few turns are left out at least: where one turn alone fills the window, no summary helps."""


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

    _work: asyncio.Task[SessionResult] | None = field(default=None, init=False)
    _left_out: tuple[Compaction, ReplHistory] | None = field(default=None, init=False)
    """The last compaction, and the turns before it as the REPL gets them."""
    _typed_answer: str | None = field(default=None, init=False)
    """The answer of the last turn as JSON, where it matches the schema."""
    _stopped: Stop | None = field(default=None, init=False)
    _trajectory: Trajectory = field(init=False)
    _history: CellReplay = field(init=False)
    _requests: CellRequests = field(init=False)

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
        self._requests = CellRequests(
            settings=settings,
            depth=self.depth,
            context=self.context,
            gateway=self.gateway,
            spawn=self.spawn,
            tools=self.tools,
            history=self._history,
            children_are_sessions=self._trajectory.task.children_are_sessions,
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

    def partial_answer(self) -> str | None:
        """Return what is known so far, without a call: the last output and the answers of running sub-calls."""
        answers = [slot.text for slot in self._requests.slots if isinstance(slot, SubCallAnswer)]
        outputs = [
            turn.result.output for turn in self._trajectory.turns if turn.result and turn.result.output
        ]
        parts = [f"Last output:\n{prompts.truncate_middle(outputs[-1], 4_000)}"] if outputs else []
        if answers:
            shown = "\n".join(f"- {prompts.truncate_middle(answer, 500)}" for answer in answers[:10])
            parts.append(
                f"{len(answers)} of {len(self._requests.slots)} sub-calls had answered, such as:\n{shown}"
            )
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
            window = window_tokens(self.settings, self.gateway, model, params)
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
        self._requests.slots = []
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
            partial(self._requests.serve, cell),
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
        typed = await conform_answer(schema, messages, reply, place, ask=self._ask, repairs=DIRECT_REPAIRS)
        if not typed.why:
            return SessionResult(typed.parsed.text, "answered", trajectory=self._trajectory)
        reason = CUT if typed.cut else MISFIT
        return SessionResult(typed.text, reason, typed.why, trajectory=self._trajectory)

    async def _best_effort_answer(self, stop: Stop) -> SessionResult:
        """Return the best answer from what is known."""
        last = LastAnswer(
            trajectory=self._trajectory,
            stop=stop,
            path=self.path,
            is_root=self.depth == 0,
            schema=self._schema_of(len(self._trajectory.follow_ups)),
            typed_answer=self._typed_answer,
            partial_answer=self.partial_answer(),
        )
        return await last.result(self._ask)


def _context_window_stop(trajectory: Trajectory, error: ContextWindowError) -> Stop:
    """Return the stop of a conversation that no longer fits the model's window; raise the error if it never did."""
    if not trajectory.turns:
        raise error
    return Stop(
        "context_window", f"the conversation outgrew the model's window after {len(trajectory.turns)} turns"
    )
