"""`/v1/responses`: a run as a response, also in the background: asked for later, or cancelled."""

from typing import Annotated, Any, Literal, TypeAlias

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag

from rlm_ray.errors import InputError
from rlm_ray.serve.api_keys import ApiKey
from rlm_ray.serve.http import streaming
from rlm_ray.serve.http.auth import BearerAuth
from rlm_ray.serve.http.errors import error_responses
from rlm_ray.serve.http.middleware import RUN_HEADER
from rlm_ray.serve.http.response_objects import ResponseObject, ResponseStream, response_of
from rlm_ray.serve.http.run_service import ParsedRequest, RunService, in_turn
from rlm_ray.serve.http.schemas import (
    MAX_MESSAGES,
    Checked,
    FilePart,
    Metadata,
    RunOptions,
    last_of_user,
    readable,
    response_schema,
)
from rlm_ray.serve.prompt import ContentPart, Message, Text
from rlm_ray.serve.run_store import state_of

PREFIX = "resp_"


class InputPart(FilePart):
    """`input_text`, `output_text` or `input_file`."""

    type: str
    text: str | None = None

    def read(self) -> ContentPart | None:
        if self.type in {"input_text", "output_text", "text"} and self.text is not None:
            return Text(self.text)
        return self.piece() if self.type == "input_file" else None


class InputMessage(BaseModel):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Checked[InputPart]

    def message(self, *, is_question: bool) -> Message:
        if isinstance(self.content, str):
            return Message(self.role, (Text(self.content),) if self.content else ())
        parts = [(part.type, part.read()) for part in self.content]
        return Message(self.role, readable(parts, is_question=is_question))


class OtherItem(BaseModel):
    """What earlier responses hold beside messages; it is passed over."""

    model_config = ConfigDict(extra="allow")

    type: Literal["reasoning"]


def _kind(item: Any) -> str:
    """Decide by one look: to try both for each of thousands of items takes a tenth of a second."""
    kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    return "reasoning" if kind == "reasoning" else "message"


InputItem: TypeAlias = Annotated[
    Annotated[InputMessage, Tag("message")] | Annotated[OtherItem, Tag("reasoning")], Discriminator(_kind)
]
Input: TypeAlias = str | Annotated[Checked[InputItem], Field(min_length=1, max_length=MAX_MESSAGES)]


class TextFormat(BaseModel):
    format: dict[str, JsonValue] | None = None


class ResponseRequest(BaseModel):
    """As OpenAI's; what is not named here is ignored."""

    model: str
    input: Input
    instructions: str | None = None
    stream: bool = False
    background: bool = False
    tools: Annotated[list[JsonValue], Field(max_length=0)] | None = None
    """None: code is the only tool of a model here."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    text: TextFormat | None = None
    metadata: Metadata | None = None
    previous_response_id: str | None = None
    rlm: RunOptions = RunOptions()

    def parse(self) -> ParsedRequest:
        if self.previous_response_id is not None:
            raise InputError(
                "previous_response_id", "is not followed: contexts are not kept; send the whole conversation"
            )
        messages = [Message("system", (Text(self.instructions),))] if self.instructions else []
        if isinstance(self.input, str):
            messages.append(Message("user", (Text(self.input),)))
        else:
            items = [item for item in self.input if isinstance(item, InputMessage)]
            last = last_of_user([item.role for item in items])
            messages += [item.message(is_question=place == last) for place, item in enumerate(items)]
        params = {} if self.temperature is None else {"temperature": self.temperature}
        return ParsedRequest(
            "response", self, self.model, messages, self.rlm, params, self.background, self.metadata or {},
            response_schema(self.text.format if self.text else None), reads_along=self.stream,
        )  # fmt: skip


def response_routes(service: RunService, auth: BearerAuth) -> APIRouter:
    router = APIRouter(tags=["responses"])

    @router.post(
        "/v1/responses",
        response_model=ResponseObject,
        responses=error_responses(400, 403, 404, 413, 422, 429, 500, 502)
        | {200: {"content": {"text/event-stream": {}}, "description": "The response; events with `stream`."}},
    )
    async def create(
        request: Request, response: Response, body: ResponseRequest, key: Annotated[ApiKey, Depends(auth)]
    ) -> Any:
        """Answer, or with `background` say at once where the answer will be."""
        # the schema of an answer may take seconds to check
        parsed = await in_turn(request, body.parse, may_last=body.text is not None)
        run_id = await service.start(request, key, parsed)
        stored = await service.get_request(run_id, key)
        if body.stream:
            events = streaming.stream_run(service, run_id, ResponseStream(stored))
            return streaming.sse_response(events, run_id)
        response.headers[RUN_HEADER] = run_id
        if body.background:
            return response_of(stored, None, "running")
        end = await service.wait(run_id)
        return response_of(stored, end, state_of(end, is_open=False))

    @router.get("/v1/responses/{response_id}", responses=error_responses(404))
    async def retrieve(response_id: str, key: Annotated[ApiKey, Depends(auth)]) -> ResponseObject:
        """Return how it stands, and the answer when there is one."""
        return response_of(*await service.get(response_id.removeprefix(PREFIX), key))

    @router.post("/v1/responses/{response_id}/cancel", responses=error_responses(404))
    async def cancel(response_id: str, key: Annotated[ApiKey, Depends(auth)]) -> ResponseObject:
        """End it; what it has not spent yet is not spent. One that is over stays as it is."""
        return response_of(*await service.cancel(response_id.removeprefix(PREFIX), key))

    return router
