"""Writes the record of one model call, from its request to its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import ModelReply, ModelRequest, sum_of
from rlm_ray.errors import ModelError, ReplyError, TransientModelError
from rlm_ray.events.records import CallEnded, CallSent, FailedAttempt, NodePath, Role
from rlm_ray.events.usage import CANCELLED
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.journal.replay import to_reply


@dataclass(frozen=True, slots=True)
class CallSite:
    """Where in the recursion tree a call is made, and what it is about."""

    path: NodePath
    call: int
    """Its number in the node, from 1."""
    role: Role
    status: str = ""
    query: str = ""
    input: InputSummary | None = None
    refused: str = ""
    """Why the answer of the turn before was not taken."""


class CallRecorder:
    """Records one call."""

    place: CallSite

    def __init__(  # noqa: PLR0913 - a call, and where it is
        self,
        recorder: NullRecorder,
        place: CallSite,
        model: str,
        key: str,
        *,
        fallback_from: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.place = place
        self._recorder, self._clock = recorder, clock
        self._model, self._key = model, key
        self._fields: dict[str, Any] = {"started": clock(), "fallback_from": fallback_from}
        """What is known before the end."""
        self._tries: list[FailedAttempt] = []
        self._waits = [0.0, 0.0]
        self._paid: list[ModelReply] = []
        """Replies that were paid for and are no answer."""
        self._sent = False
        self.provider = ""
        # Asked once: what is on record later may be this very attempt.
        self.possibly_double_billed = recorder.replay.was_in_flight(place.path, place.call, key)
        """It was under way when its process died."""

    def replayed_reply(self) -> ModelReply | None:
        """Return the recorded reply of this very call, from an earlier attempt of the run; None where there is none."""
        call = self._recorder.replay.call(self.place.path, self.place.call, self._key)
        return None if call is None else to_reply(call)

    def raise_if_failed(self) -> None:
        """Raise `JournalError` where it is known that the call cannot be recorded."""
        self._recorder.raise_if_failed()

    def on_sent(
        self,
        queue_wait_s: float,
        rate_wait_s: float,
        max_cost_usd: float | None = None,
        request: ModelRequest | None = None,
    ) -> None:
        """Record that the first attempt has its permit and is sent; note what this attempt asks for."""
        if request is not None:
            temperature = request.params.get("temperature")
            is_number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
            self._fields["max_tokens"] = request.output_bound
            self._fields["temperature"] = temperature if is_number else None
        self._waits[0] += queue_wait_s
        self._waits[1] += rate_wait_s
        if not self._sent:
            self._sent = True
            place = self.place
            self._recorder.append(
                CallSent(
                    self._clock(),
                    place.path,
                    place.call,
                    place.role,
                    self._model,
                    self._key,
                    max_cost_usd=max_cost_usd or None,
                )
            )

    def on_attempt_failed(self, error: TransientModelError | ReplyError) -> None:
        """Note a failed attempt; another one may follow."""
        self._tries.append(FailedAttempt(self._clock(), error.kind, error.why))

    def wasted(self, reply: ModelReply) -> None:
        """Note a reply that is no answer and was paid for all the same."""
        self._paid.append(reply)

    async def on_reply(self, reply: ModelReply, *, cache_hit: bool) -> ModelReply:
        """Record the reply and return it once it is safe: it may be used then."""
        at = self._clock()
        self._recorder.append(self._end(at, **self._reply_fields(reply), cache_hit=cache_hit))
        await self._recorder.flush()
        return replace(reply, at=at)

    def on_failure(self, error: BaseException) -> None:
        """Record that the call failed for good."""
        kind = type(error).__name__ if isinstance(error, Exception) else CANCELLED
        why = error.why if isinstance(error, ModelError) else str(error)
        paid = self._reply_fields(self._paid.pop()) if self._paid else {}
        self._recorder.append(self._end(self._clock(), error_kind=kind, why=why, **paid))

    def _reply_fields(self, reply: ModelReply) -> dict[str, Any]:
        """Return the fields of the last reply, with the cost of all replies of the call."""
        replies = [*self._paid, reply]
        costs = [each.cost_usd for each in replies]
        return {
            "usage": sum_of(each.usage for each in replies),
            "cost_usd": None if None in costs else sum(cost for cost in costs if cost is not None),
            "finish_reason": reply.finish_reason, "text": reply.text, "tool_call": reply.tool_call,
            "reasoning": reply.reasoning, "response_model": reply.model, "response_id": reply.id,
        }  # fmt: skip

    def _end(self, at: float, **fields: Any) -> CallEnded:
        place = self.place
        return CallEnded(
            at, place.path, place.call, place.role, self._model, self._key,
            status=place.status, query=place.query, input=place.input, refused=place.refused,
            provider=self.provider, queue_wait_s=self._waits[0], rate_wait_s=self._waits[1], tries=tuple(self._tries),
            repaid=self._sent and self.possibly_double_billed, **self._fields, **fields,
        )  # fmt: skip
