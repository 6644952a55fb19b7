"""Models that say what a test tells them to: no network, no provider, no waiting.

    ScriptedModel(["```python\\nprint(1)\\n```", "FINAL(1)"])     replies in order
    FunctionModel(lambda request: request.messages[-1].content)   a function of the request

A reply that is an exception is raised. Both remember the requests they were asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from rlm_ray.core.llm import ModelReply, ModelRequest, Usage

ScriptedReply: TypeAlias = "str | ModelReply | BaseException"

_CHARS_PER_TOKEN = 4


class FunctionModel:
    """Answers each request with what a function makes of it."""

    def __init__(self, function: Callable[[ModelRequest], ScriptedReply]) -> None:
        self._function = function
        self._requests: list[ModelRequest] = []

    @property
    def requests(self) -> tuple[ModelRequest, ...]:
        return tuple(self._requests)

    async def complete(self, request: ModelRequest) -> ModelReply:
        self._requests.append(request)
        said = self._function(request)
        match said:
            case BaseException():
                raise said
            case ModelReply():
                return said
            case str():
                return _reply(request, said)


class ScriptedModel(FunctionModel):
    """Answers requests with these replies, in the order in which they come."""

    def __init__(self, replies: Sequence[ScriptedReply]) -> None:
        super().__init__(self._next)
        self._rest = list(replies)

    @property
    def remaining(self) -> int:
        """Return how many replies were not asked for."""
        return len(self._rest)

    def _next(self, request: ModelRequest) -> ScriptedReply:
        if not self._rest:
            raise AssertionError(
                f"the script has no more replies; request {len(self._requests)} ends with: "
                f"{request.messages[-1].content[-300:]!r}"
            )
        return self._rest.pop(0)


def _reply(request: ModelRequest, text: str) -> ModelReply:
    """Make a reply that costs nothing and counts a token for four characters."""
    usage = Usage(request.chars // _CHARS_PER_TOKEN, len(text) // _CHARS_PER_TOKEN)
    return ModelReply(text, usage=usage, cost_usd=0.0)
