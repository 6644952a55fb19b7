"""A response as OpenAI's clients read it."""

from typing import Any, Literal

from pydantic import BaseModel, JsonValue

from rlm_ray.core.records import RunEnded
from rlm_ray.serve.http.refusals import refusal_of_end
from rlm_ray.serve.http.shapes import totals
from rlm_ray.serve.request import Noted, State

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
    annotations: list[JsonValue] = []
    logprobs: list[JsonValue] = []


class OutputMessage(BaseModel):
    type: Literal["message"] = "message"
    id: str
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class InputDetails(BaseModel):
    cached_tokens: int


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


def response_of(noted: Noted, end: RunEnded | None, state: State) -> ResponseObject:
    """How a run stands."""
    answer = end.answer if end is not None and state in {"answered", "stopped"} else None
    return ResponseObject(
        id=f"resp_{noted.run_id}",
        created_at=noted.created,
        status=_STATUS[state],
        model=noted.model,
        output=[] if answer is None else [message_of(noted.run_id, answer, complete=state == "answered")],
        error=_error(end) if state == "failed" else None,
        incomplete_details=Incomplete(reason=end.stop_reason)
        if end is not None and state == "stopped"
        else None,
        usage=None if end is None else _usage(end),
        background=noted.background,
        metadata=dict(noted.metadata),
        temperature=noted.params.get("temperature"),
        rlm={"run_id": noted.run_id},
    )


def message_of(run_id: str, text: str, *, complete: bool) -> OutputMessage:
    status: Literal["completed", "incomplete"] = "completed" if complete else "incomplete"
    return OutputMessage(id=f"msg_{run_id}", status=status, content=[OutputText(text=text)])


def _error(end: RunEnded | None) -> ResponseError:
    refusal = refusal_of_end(end) if end is not None else None
    if refusal is None:
        return ResponseError(code="server_error", message="the process that had this run died; ask again")
    return ResponseError(code=refusal.error.code or "server_error", message=refusal.error.message)


def _usage(end: RunEnded) -> ResponseUsage:
    total = totals(end.usage)
    return ResponseUsage(
        input_tokens=total["input_tokens"],
        input_tokens_details=InputDetails(cached_tokens=total["cached_tokens"]),
        output_tokens=total["output_tokens"],
        output_tokens_details=OutputDetails(reasoning_tokens=total["reasoning_tokens"]),
        total_tokens=total["input_tokens"] + total["output_tokens"],
    )
