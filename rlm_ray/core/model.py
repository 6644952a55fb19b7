"""What is asked of a model and what it answers, whoever carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    """`system`, `user` or `assistant`."""
    content: str


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One chat completion."""

    model: str
    """Any litellm model name."""
    messages: tuple[Message, ...]
    max_tokens: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    """Further litellm parameters: temperature, api_base, api_key, timeout ..."""

    @property
    def chars(self) -> int:
        return sum(len(message.content) for message in self.messages)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Input tokens the provider served from its prefix cache; part of `input_tokens`."""
    reasoning_tokens: int = 0
    """Output tokens spent on thinking; part of `output_tokens`."""

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class ModelReply:
    """One answer. `text` is empty where the provider sent none."""

    text: str
    finish_reason: str = "stop"
    """`stop`, `length`, `tool_calls`, `content_filter` ..."""
    usage: Usage = Usage()
    cost_usd: float | None = None
    """None where the price is not known; never 0 for that."""
    tool_call: bool = False
    """The model called a tool although it was given none."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """The provider's rate-limit headers, lower case."""
    at: float = 0.0
    """Unix time at which it was there; the clock of the code it holds stands at that moment."""
    recorded: bool = False
    """It comes from the record of an earlier life of the run."""


class Model(Protocol):
    """Carries one request to a model, once: no retry, no waiting in line.

    Raises `ModelError` (or a subclass that says more) when there is no answer.
    """

    async def complete(self, request: ModelRequest) -> ModelReply: ...
