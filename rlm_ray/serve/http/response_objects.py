"""Responses as OpenAI's clients read them, whole and as the events of a stream."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel, JsonValue

from rlm_ray.core.answer_preview import AnswerNews
from rlm_ray.core.repl_types import Citation
from rlm_ray.events.records import RunFinished
from rlm_ray.serve.http import streaming
from rlm_ray.serve.http.errors import error_from_run_end
from rlm_ray.serve.http.schemas import file_citations, total_usage
from rlm_ray.serve.run_store import State, StoredRequest, state_of

Status = Literal["in_progress", "completed", "incomplete", "failed", "cancelled"]

_STATUS: dict[State, Status] = {
    "running": "in_progress",
    "answered": "completed",
    "stopped": "incomplete",
    "failed": "failed",
    "cancelled": "cancelled",
}


class OutputText(BaseModel):
    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[dict[str, JsonValue]] = []
    logprobs: list[JsonValue] = []


class OutputMessage(BaseModel):
    type: Literal["message"] = "message"
    id: str
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class InputDetails(BaseModel):
    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(BaseModel):
    reasoning_tokens: int


class ResponseUsage(BaseModel):
    """What the whole tree used."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseError(BaseModel):
    code: str
    message: str


class Incomplete(BaseModel):
    reason: str


class ResponseObject(BaseModel):
    id: str
    object: Literal["response"] = "response"
    created_at: float
    status: Status
    model: str
    output: list[OutputMessage]
    error: ResponseError | None
    incomplete_details: Incomplete | None
    usage: ResponseUsage | None
    background: bool
    metadata: dict[str, str]
    instructions: str | None = None
    parallel_tool_calls: bool = False
    tool_choice: Literal["none"] = "none"
    tools: list[JsonValue] = []
    temperature: float | None = None
    top_p: float | None = None
    rlm: dict[str, Any] = {}


def response_of(request: StoredRequest, end: RunFinished | None, state: State) -> ResponseObject:
    """Return the response for a run as it stands."""
    answer = end.answer if end is not None and state in {"answered", "stopped"} else None
    return ResponseObject(
        id=f"resp_{request.run_id}",
        created_at=request.created,
        status=_STATUS[state],
        model=request.model,
        output=[]
        if answer is None or end is None
        else [message_of(request.run_id, answer, end.citations, complete=state == "answered")],
        error=_error(end) if state == "failed" else None,
        incomplete_details=Incomplete(reason=end.stop_reason)
        if end is not None and state == "stopped"
        else None,
        usage=None if end is None else _usage(end),
        background=request.background,
        metadata=dict(request.metadata),
        temperature=request.params.get("temperature"),
        rlm={"run_id": request.run_id},
    )


def message_of(run_id: str, text: str, citations: Sequence[Citation], *, complete: bool) -> OutputMessage:
    status: Literal["completed", "incomplete"] = "completed" if complete else "incomplete"
    content = OutputText(text=text, annotations=file_citations(citations))
    return OutputMessage(id=f"msg_{run_id}", status=status, content=[content])


def _error(end: RunFinished | None) -> ResponseError:
    refusal = error_from_run_end(end) if end is not None else None
    if refusal is None:
        return ResponseError(code="server_error", message="the process that had this run died; ask again")
    return ResponseError(code=refusal.error.code or "server_error", message=refusal.error.message)


def _usage(end: RunFinished) -> ResponseUsage:
    total = total_usage(end.usage)
    return ResponseUsage(
        input_tokens=total["input_tokens"],
        input_tokens_details=InputDetails(
            cached_tokens=total["cached_tokens"], cache_write_tokens=total["cache_write_tokens"]
        ),
        output_tokens=total["output_tokens"],
        output_tokens_details=OutputDetails(reasoning_tokens=total["reasoning_tokens"]),
        total_tokens=total["input_tokens"] + total["output_tokens"],
    )


_ENDS: dict[State, str] = {"answered": "completed", "stopped": "incomplete"}


class ResponseStream:
    """Writes the events of a response, numbered: its progress as the summary of a reasoning item, then its message."""

    def __init__(self, request: StoredRequest) -> None:
        self._request = request
        self._numbers = itertools.count()
        self._reasoning_id = f"rs_{request.run_id}"
        self._summary = ""
        self._message_id = f"msg_{request.run_id}"
        self._sent = streaming.SentAnswer()
        self._is_message_begun = False

    def opening(self) -> str:
        running = response_of(self._request, None, "running")
        begun = [self._response(name, running) for name in ("created", "in_progress")]
        return "".join([*begun, self._reasoning_added()])

    def progress(self, text: str) -> str:
        if self._is_message_begun:
            return ""  # the reasoning is over
        self._summary += text
        return self._of_reasoning("text.delta", delta=text)

    def answer(self, news: Sequence[AnswerNews]) -> str:
        more = self._sent.take(news)
        return "".join([*self._begin_message(), self._delta(more)]) if more else ""

    def ending(self, end: RunFinished) -> str:
        state = state_of(end, is_open=False)
        response = response_of(self._request, end, state)
        if state not in _ENDS:
            reasoning = () if self._is_message_begun else self._reasoning_done()
            return "".join([*reasoning, self._response("failed", response)])
        rest = self._sent.rest(end.answer or "")
        if rest is None:
            error = ResponseError(code="answer_restarted", message=self._sent.RESTARTED)
            failed = response.model_copy(update={"status": "failed", "output": [], "error": error})
            return self._response("failed", failed)
        events = [*self._begin_message(), *map(self._delta, rest), *self._end_message(response.output[0])]
        return "".join([*events, self._response(_ENDS[state], response)])

    def _response(self, name: str, response: ResponseObject) -> str:
        return self._event(name, response=response.model_dump())

    def _reasoning_added(self) -> str:
        item = {"type": "reasoning", "id": self._reasoning_id, "summary": []}
        part = {"type": "summary_text", "text": ""}
        return self._event("output_item.added", output_index=0, item=item) + self._of_reasoning(
            "part.added", part=part
        )

    def _reasoning_done(self) -> Iterator[str]:
        part = {"type": "summary_text", "text": self._summary}
        item = {"type": "reasoning", "id": self._reasoning_id, "summary": [part]}
        yield self._of_reasoning("text.done", text=self._summary)
        yield self._of_reasoning("part.done", part=part)
        yield self._event("output_item.done", output_index=0, item=item)

    def _begin_message(self) -> Iterator[str]:
        """End the reasoning and begin the message, once."""
        if self._is_message_begun:
            return
        self._is_message_begun = True
        yield from self._reasoning_done()
        message = OutputMessage(id=self._message_id, status="in_progress", content=[]).model_dump()
        yield self._event("output_item.added", output_index=1, item=message)
        yield self._of_message("content_part.added", part=OutputText(text="", annotations=[]).model_dump())

    def _delta(self, text: str) -> str:
        return self._of_message("output_text.delta", delta=text, logprobs=[])

    def _end_message(self, message: OutputMessage) -> Iterator[str]:
        whole = message.model_dump()
        (part,) = whole["content"]
        for number, annotation in enumerate(part["annotations"]):
            yield self._of_message(
                "output_text.annotation.added", annotation=annotation, annotation_index=number
            )
        yield self._of_message("output_text.done", text=part["text"], logprobs=[])
        yield self._of_message("content_part.done", part=part)
        yield self._event("output_item.done", output_index=1, item=whole)

    def _of_message(self, name: str, **fields: Any) -> str:
        return self._event(name, item_id=self._message_id, output_index=1, content_index=0, **fields)

    def _of_reasoning(self, name: str, **fields: Any) -> str:
        place = {"item_id": self._reasoning_id, "output_index": 0, "summary_index": 0}
        return self._event(f"reasoning_summary_{name}", **place, **fields)

    def _event(self, name: str, **fields: Any) -> str:
        name = f"response.{name}"
        return streaming.event({"type": name, "sequence_number": next(self._numbers)} | fields, name)
