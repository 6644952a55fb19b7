"""`/v1/chat/completions`: a run as a chat completion, whole or in chunks."""

import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field, JsonValue

from rlm_ray.core.answer_preview import AnswerNews
from rlm_ray.events.records import RunFinished
from rlm_ray.serve.api_keys import ApiKey
from rlm_ray.serve.http import streaming
from rlm_ray.serve.http.auth import BearerAuth
from rlm_ray.serve.http.errors import ApiError, error_from_run_end, error_responses
from rlm_ray.serve.http.middleware import RUN_HEADER
from rlm_ray.serve.http.run_service import ParsedRequest, RunService, in_turn
from rlm_ray.serve.http.schemas import (
    MAX_MESSAGES,
    Checked,
    FilePart,
    Metadata,
    RunOptions,
    Usage,
    last_of_user,
    readable,
    response_schema,
    total_usage,
    url_citations,
)
from rlm_ray.serve.prompt import ContentPart, Message, Text


class ChatPart(BaseModel):
    """A part of a message: `text` or `file`."""

    type: str
    text: str | None = None
    file: FilePart | None = None
    refusal: str | None = None

    def piece(self) -> ContentPart | None:
        if self.type == "text" and self.text is not None:
            return Text(self.text)
        if self.type == "refusal" and self.refusal is not None:
            return Text(self.refusal)
        return self.file.piece() if self.type == "file" and self.file is not None else None


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Checked[ChatPart] | None = None

    def message(self, *, is_question: bool) -> Message:
        if isinstance(self.content, list):
            parts = [(part.type, part.piece()) for part in self.content]
            return Message(self.role, readable(parts, is_question=is_question))
        return Message(self.role, (Text(self.content),) if self.content else ())


class StreamOptions(BaseModel):
    include_usage: bool = False


class ChatRequest(BaseModel):
    """As OpenAI's; what is not named here is ignored."""

    model: str
    messages: Annotated[Checked[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    tools: Annotated[list[JsonValue], Field(max_length=0)] | None = None
    """None: code is the only tool of a model here."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    response_format: dict[str, JsonValue] | None = None
    metadata: Metadata | None = None
    rlm: RunOptions = RunOptions()

    def parse(self) -> ParsedRequest:
        last = last_of_user([message.role for message in self.messages])
        messages = [message.message(is_question=place == last) for place, message in enumerate(self.messages)]
        params = {} if self.temperature is None else {"temperature": self.temperature}
        return ParsedRequest(
            "chat", self, self.model, messages, self.rlm, params,
            metadata=self.metadata or {}, schema=response_schema(self.response_format), reads_along=self.stream,
        )  # fmt: skip


class AssistantMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str
    annotations: list[dict[str, JsonValue]] = []
    """What the answer cites of its context."""


class Choice(BaseModel):
    index: int = 0
    message: AssistantMessage
    finish_reason: Literal["stop", "length"]
    """`length`: a limit stopped the run, and this is the best it knew."""
    logprobs: None = None


class ChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    rlm: dict[str, Any] = {}
    """The run: its id, why it stopped, and what it used by model and depth."""


def chat_routes(service: RunService, auth: BearerAuth) -> APIRouter:
    router = APIRouter(tags=["chat"])

    @router.post(
        "/v1/chat/completions",
        response_model=ChatCompletion,
        responses=error_responses(400, 403, 404, 413, 422, 429, 500, 502)
        | {200: {"content": {"text/event-stream": {}}, "description": "The answer; chunks with `stream`."}},
    )
    async def complete(
        request: Request, response: Response, body: ChatRequest, key: Annotated[ApiKey, Depends(auth)]
    ) -> Any:
        """Answer the last message of the user; long messages and files are the context."""
        # the schema of an answer may take seconds to check
        parsed = await in_turn(request, body.parse, may_last=body.response_format is not None)
        run_id = await service.start(request, key, parsed)
        if body.stream:
            return streaming.sse_response(
                streaming.stream_run(service, run_id, ChatStream(run_id, body)), run_id
            )
        response.headers[RUN_HEADER] = run_id
        end = await service.wait(run_id)
        return _completion(run_id, body.model, end)

    return router


def _completion(run_id: str, model: str, end: RunFinished) -> ChatCompletion:
    message = AssistantMessage(content=end.answer or "", annotations=_annotations(end))
    choice = Choice(message=message, finish_reason=_finish_reason(end))
    return ChatCompletion(
        id=f"chatcmpl-{run_id}", created=int(time.time()), model=model, choices=[choice],
        usage=_usage(end), rlm=run_metadata(run_id, end),
    )  # fmt: skip


class ChatStream:
    """Writes the chunks of a completion: the role, what the run does as reasoning, the answer, why it ended, its usage."""

    def __init__(self, run_id: str, body: ChatRequest) -> None:
        self._run_id = run_id
        self._has_usage_chunk = body.stream_options is not None and body.stream_options.include_usage
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{run_id}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": body.model,
        }
        if self._has_usage_chunk:  # as OpenAI's: null everywhere but in the one chunk that has it
            self._head["usage"] = None
        self._sent = streaming.SentAnswer()

    def opening(self) -> str:
        return self._chunk({"role": "assistant", "content": ""})

    def progress(self, text: str) -> str:
        return self._chunk({"reasoning_content": text})

    def answer(self, news: Sequence[AnswerNews]) -> str:
        more = self._sent.take(news)
        return self._chunk({"content": more}) if more else ""

    def ending(self, end: RunFinished) -> str:
        if (error := error_from_run_end(end)) is not None:
            return streaming.event(error.body())
        rest = self._sent.rest(end.answer or "")
        if rest is None:
            return streaming.event(ApiError(502, "answer_restarted", self._sent.RESTARTED).body())
        usage = _usage(end).model_dump()
        chunks = [self._chunk({"content": piece}) for piece in rest]
        in_last = {} if self._has_usage_chunk else {"usage": usage}
        annotations = _annotations(end)
        delta = {"annotations": annotations} if annotations else {}
        chunks.append(self._chunk(delta, _finish_reason(end), **in_last, rlm=run_metadata(self._run_id, end)))
        if self._has_usage_chunk:
            chunks.append(streaming.event(self._head | {"choices": [], "usage": usage}))
        return "".join([*chunks, streaming.DONE])

    def _chunk(self, delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return streaming.event(self._head | {"choices": [choice]} | more)


def run_metadata(run_id: str, end: RunFinished) -> dict[str, Any]:
    """Return what our own clients may want to know of the run."""
    return {
        "run_id": run_id, "stop_reason": end.stop_reason, "why": end.why, "turns": end.turns,
        "seconds": end.seconds, "usage": end.usage,
    }  # fmt: skip


def _annotations(end: RunFinished) -> list[dict[str, Any]]:
    return url_citations(end.answer or "", end.citations)


def _finish_reason(end: RunFinished) -> Literal["stop", "length"]:
    return "stop" if end.stop_reason == "answered" else "length"


def _usage(end: RunFinished) -> Usage:
    total = total_usage(end.usage)
    used, made = total["input_tokens"], total["output_tokens"]
    return Usage(prompt_tokens=used, completion_tokens=made, total_tokens=used + made)
