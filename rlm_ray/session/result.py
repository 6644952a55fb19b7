"""How a session ends: its result, and the best answer of one that was stopped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from rlm_ray.core import prompts
from rlm_ray.core.llm import Message, ModelReply
from rlm_ray.core.parsing import parse
from rlm_ray.core.repl_types import Citation
from rlm_ray.core.reply import judge
from rlm_ray.core.state_machine import MISFIT, NO_CITATIONS, Stop, Trajectory, final_answer
from rlm_ray.errors import ContextWindowError, ReplyError, RLMError
from rlm_ray.events.records import NodePath
from rlm_ray.events.usage import RunUsage
from rlm_ray.journal.call_recorder import CallSite
from rlm_ray.structured.conform import REPAIRS, Misfit, TypedAnswer, conform_reply
from rlm_ray.structured.schema import AnswerSchema

CUT = "max_tokens"
"""The stop reason of an answer that was cut off at the token limit."""

AskModel: TypeAlias = Callable[[tuple[Message, ...], CallSite], Awaitable[ModelReply]]
"""Makes a model call of the session."""


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


@dataclass(frozen=True, slots=True)
class LastAnswer:
    """The best answer of a session that a limit or its own model stopped, from what it knows."""

    trajectory: Trajectory
    stop: Stop
    path: NodePath
    is_root: bool
    schema: AnswerSchema | None
    typed_answer: str | None
    """The answer of the last turn as JSON, where it matches the schema."""
    partial_answer: str | None
    """What is known without a call."""

    async def result(self, ask: AskModel) -> SessionResult:
        """Make one last call for it; return what was printed if even that fails."""
        stop = self.stop
        if stop.reason == NO_CITATIONS:
            return self._ended(self.typed_answer or final_answer(self.trajectory.turns[-1]))
        if stop.reason == "interrupted":
            return self._ended(self._best_known())
        tries = [prompts.last_call_messages, prompts.short_last_call_messages]
        turns = self.trajectory.turns
        refused, number = turns[-1].refusal if turns else "", len(turns)
        for messages_of in tries[stop.reason == "context_window" :]:
            number += 1
            try:
                messages = messages_of(self.trajectory, stop.message)
                place = CallSite(self.path, number, "last", refused=refused)
                reply = await ask(messages, place)
                if self.schema is not None:
                    return await self._typed(self.schema, messages, reply, place, ask)
            except (ContextWindowError, ReplyError):
                continue
            except RLMError:
                break
            judged = judge(reply)
            why = f"{stop.message}; of the answer, {judged.why}" if judged.why else stop.message
            return self._ended(_strip_final(reply.text) or self.partial_answer, why)
        # For a user, bits are better than nothing; in a parent's code they would look like an answer.
        return self._ended(self._best_known() if self.is_root else None)

    def _ended(self, answer: str | None, why: str = "", reason: str = "") -> SessionResult:
        stop = self.stop
        return SessionResult(answer, reason or stop.reason, why or stop.message, self.trajectory)

    def _best_known(self) -> str | None:
        """Return what is known as an answer: bits of text are none where a schema was asked for."""
        return self.partial_answer if self.schema is None else None

    async def _typed(
        self,
        schema: AnswerSchema,
        messages: tuple[Message, ...],
        reply: ModelReply,
        place: CallSite,
        ask: AskModel,
    ) -> SessionResult:
        """Return the result of a last call whose answer has to match the schema."""
        reply = replace(reply, text=_strip_final(reply.text))
        typed = await conform_answer(schema, messages, reply, place, ask=ask)
        if not typed.why:
            return self._ended(typed.parsed.text)
        return self._ended(typed.text, f"{self.stop.message}; of the last answer, {typed.why}", MISFIT)


async def conform_answer(  # noqa: PLR0913 - a call, its reply and how to ask again
    schema: AnswerSchema,
    messages: Sequence[Message],
    reply: ModelReply,
    place: CallSite,
    *,
    ask: AskModel,
    repairs: int = REPAIRS,
) -> TypedAnswer:
    """Return the answer of a reply, put right by the model where it does not match."""

    def ask_again(said: tuple[Message, ...], misfit: Misfit) -> Awaitable[ModelReply]:
        return ask(said, replace(place, call=place.call + misfit.number, refused=misfit.why))

    return await conform_reply(schema, messages, reply, ask_again, repairs)


def _strip_final(text: str) -> str:
    """Strip a FINAL around a last answer."""
    parsed = parse(text)
    answer = parsed.unresolved if parsed.is_word else parsed.answer
    return (answer if answer is not None else text).strip()
