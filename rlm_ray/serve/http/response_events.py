"""The events of a streamed response: its progress as the summary of a reasoning item, then its message."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from rlm_ray.core.records import RunEnded
from rlm_ray.serve.http import sse
from rlm_ray.serve.http.chat import pieces_of
from rlm_ray.serve.http.progress import progress_of
from rlm_ray.serve.http.response_object import message_of, response_of
from rlm_ray.serve.http.service import Service
from rlm_ray.serve.request import Noted, State, state_of

_ENDS: dict[State, str] = {"answered": "completed", "stopped": "incomplete"}


async def response_events(service: Service, noted: Noted) -> AsyncGenerator[str]:
    """From `response.created` to the event that says how it ended."""
    sender = _Sender(noted)
    async with service.runs.attended(noted.run_id):
        begun = [sender.whole(name, None, "running") for name in ("created", "in_progress")]
        yield "".join([*begun, sender.reasoning_added()])
        end: RunEnded | None = None
        async with contextlib.aclosing(progress_of(service, noted.run_id)) as progress:
            async for said in progress:
                if isinstance(said, RunEnded):
                    end = said
                else:
                    yield sender.progress(said) if said else sse.KEEP_ALIVE
    assert end is not None
    state = state_of(end, is_open=False)
    last = list(sender.reasoning_done())
    if state in _ENDS:
        last += sender.message(end.answer or "", complete=state == "answered")
    yield "".join([*last, sender.whole(_ENDS.get(state, "failed"), end, state)])


class _Sender:
    """Numbers the events, and knows the items they belong to."""

    def __init__(self, noted: Noted) -> None:
        self._noted = noted
        self._numbers = itertools.count()
        self._reasoning_id = f"rs_{noted.run_id}"
        self._told = ""

    def whole(self, name: str, end: RunEnded | None, state: State) -> str:
        return self._event(name, response=response_of(self._noted, end, state).model_dump())

    def reasoning_added(self) -> str:
        item = {"type": "reasoning", "id": self._reasoning_id, "summary": []}
        part = {"type": "summary_text", "text": ""}
        return self._event("output_item.added", output_index=0, item=item) + self._of_reasoning(
            "part.added", part=part
        )

    def progress(self, text: str) -> str:
        self._told += text
        return self._of_reasoning("text.delta", delta=text)

    def reasoning_done(self) -> Iterator[str]:
        part = {"type": "summary_text", "text": self._told}
        item = {"type": "reasoning", "id": self._reasoning_id, "summary": [part]}
        yield self._of_reasoning("text.done", text=self._told)
        yield self._of_reasoning("part.done", part=part)
        yield self._event("output_item.done", output_index=0, item=item)

    def message(self, answer: str, *, complete: bool) -> Iterator[str]:
        whole = message_of(self._noted.run_id, answer, complete=complete).model_dump()
        place = {"item_id": whole["id"], "output_index": 1, "content_index": 0}
        empty = whole["content"][0] | {"text": ""}
        yield self._event(
            "output_item.added", output_index=1, item=whole | {"status": "in_progress", "content": []}
        )
        yield self._event("content_part.added", part=empty, **place)
        for piece in pieces_of(answer):
            yield self._event("output_text.delta", delta=piece, logprobs=[], **place)
        yield self._event("output_text.done", text=answer, logprobs=[], **place)
        yield self._event("content_part.done", part=whole["content"][0], **place)
        yield self._event("output_item.done", output_index=1, item=whole)

    def _of_reasoning(self, name: str, **fields: Any) -> str:
        place = {"item_id": self._reasoning_id, "output_index": 0, "summary_index": 0}
        return self._event(f"reasoning_summary_{name}", **place, **fields)

    def _event(self, name: str, **fields: Any) -> str:
        name = f"response.{name}"
        return sse.event({"type": name, "sequence_number": next(self._numbers)} | fields, name)
