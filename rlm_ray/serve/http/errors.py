"""Errors as OpenAI's clients expect them: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from rlm_ray.core.state_machine import MISFIT
from rlm_ray.errors import ConfigError, InputError, RLMError
from rlm_ray.events.records import RunFinished
from rlm_ray.events.usage import CANCELLED
from rlm_ray.serve.file_store import PayloadTooLargeError
from rlm_ray.serve.run_manager import AdmissionRejected
from rlm_ray.serve.run_registry import Rejected

RETRY_S = 5.0

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    502: "upstream_error",
    503: "server_error",
}
_ERROR_STATUS = {
    CANCELLED: (400, CANCELLED),
    "InputError": (400, "invalid_request"),
    "ConfigError": (400, "invalid_request"),
    "TooLargeError": (400, "too_large"),
    "ContextWindowError": (400, "context_length_exceeded"),
    "LimitReached": (400, "limit_reached"),
    "AuthenticationError": (502, "model_error"),
    "QuotaError": (502, "model_error"),
    "ModelError": (502, "model_error"),
    "ModelUnavailableError": (503, "unavailable"),
    "TransientModelError": (503, "unavailable"),
    "ClusterError": (503, "unavailable"),
    "ActorLostError": (503, "unavailable"),
    "ContextLostError": (503, "unavailable"),
    "RemoteCallError": (503, "unavailable"),
    "VersionMismatchError": (503, "unavailable"),
    "JournalError": (503, "unavailable"),
}
"""What is said of a run that ended in an error, by the name of that."""


class Error(BaseModel):
    """An error as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorReply(BaseModel):
    """The body of a reply that is an error."""

    error: Error


class ApiError(Exception):
    """An error with the HTTP status and body it is answered with."""

    def __init__(
        self,
        status: int,
        code: str,
        why: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(why)
        self.status = status
        self.error = Error(
            message=why, type=_TYPES.get(status, "invalid_request_error"), param=param, code=code
        )
        self.retry_after_s = retry_after_s

    def reply(self) -> JSONResponse:
        headers = {} if self.retry_after_s is None else {"retry-after": str(math.ceil(self.retry_after_s))}
        return JSONResponse(self.body(), self.status, headers)

    def body(self) -> dict[str, Any]:
        return ErrorReply(error=self.error).model_dump()


def error_from_run_end(end: RunFinished) -> ApiError | None:
    """Return the error of a run that ended without an answer; None for one with an answer."""
    kind = end.error_kind
    if end.stop_reason == MISFIT:
        return ApiError(502, "schema_mismatch", end.why)
    if not kind and end.answer is not None:
        return None
    if not kind:
        return ApiError(
            400, end.stop_reason, end.why or f"the run ended without an answer: {end.stop_reason}"
        )
    status, code = _ERROR_STATUS.get(kind, (500, kind))
    return ApiError(
        status, code, end.why or f"the run was {kind}", retry_after_s=RETRY_S if status == 503 else None
    )


def error_from_exception(error: RLMError) -> ApiError:
    """Return the reply for an error of ours."""
    if isinstance(error, PayloadTooLargeError):
        return ApiError(413, "too_large", str(error))
    if isinstance(error, InputError | ConfigError):
        return ApiError(400, "invalid_request", str(error), param=error.what)
    return ApiError(503, "unavailable", str(error), retry_after_s=RETRY_S)


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the errors of a route, for the OpenAPI document."""
    return {
        status: {"model": ErrorReply, "description": _DESCRIPTIONS[status]}
        for status in sorted({*statuses, 401, 503})
    }


def register_error_handlers(api: FastAPI) -> None:
    """Turn every error of the service into a reply of that shape."""

    @api.exception_handler(ApiError)
    async def refused(_: Request, refusal: ApiError) -> JSONResponse:
        return refusal.reply()

    @api.exception_handler(AdmissionRejected)
    async def turned_away(_: Request, error: AdmissionRejected) -> JSONResponse:
        return _from_rejection(error.refused).reply()

    @api.exception_handler(RLMError)
    async def of_ours(_: Request, error: RLMError) -> JSONResponse:
        return error_from_exception(error).reply()

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _of_validation(error.errors()).reply()

    @api.exception_handler(HTTPException)
    async def of_http(_: Request, error: HTTPException) -> JSONResponse:
        if isinstance(
            error.__cause__, ApiError
        ):  # raised while the body was read, and wrapped by whoever read it
            return error.__cause__.reply()
        reply = ApiError(error.status_code, "http_error", str(error.detail)).reply()
        reply.headers.update(error.headers or {})
        return reply


def _from_rejection(refused: Rejected) -> ApiError:
    return ApiError(refused.status, refused.code, refused.why, retry_after_s=refused.retry_after_s)


def _of_validation(errors: Any) -> ApiError:
    first: Mapping[str, Any] = errors[0]
    if first["type"] == "json_invalid":
        return ApiError(400, "invalid_json", "the body is no JSON")
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return ApiError(422, first["type"], f"{where or 'the body'}: {first['msg']}", param=where or None)


_DESCRIPTIONS = {
    400: "The request cannot be used as it is.",
    401: "The key is missing or unknown.",
    403: "This key may not do this.",
    404: "There is no such thing, or not for this key.",
    413: "The body is too large.",
    422: "A field has a wrong value.",
    429: "Too many requests, or the budget of the key is spent.",
    500: "A bug.",
    502: "The model refused for good.",
    503: "Something failed for the moment; try again.",
}
