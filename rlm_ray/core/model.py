"""What is asked of a model and what it answers, whoever carries it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

OUTPUT_BOUNDS = ("max_completion_tokens", "max_tokens")
"""The names under which providers take the most a reply may hold."""


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

    @property
    def output_bound(self) -> int | None:
        """The most the reply may hold, by whichever name it was given; None: the provider's own limit."""
        named = (self.params.get(name) for name in OUTPUT_BOUNDS)
        return self.max_tokens or next((bound for bound in named if _is_count(bound)), None)

    def with_output_bound(self, tokens: int) -> ModelRequest:
        """The same request with another bound, by the name it has or by `max_tokens`."""
        names = [name for name in OUTPUT_BOUNDS if name in self.params]
        if not names:
            return replace(self, max_tokens=tokens)
        params = {name: value for name, value in self.params.items() if name not in OUTPUT_BOUNDS}
        return replace(self, max_tokens=None, params={**params, names[0]: tokens})

    def with_bound_named(self, name: str) -> ModelRequest:
        """The same request, with the bound of its reply under this name."""
        bound = self.output_bound
        if bound is None:
            return self
        params = {key: value for key, value in self.params.items() if key not in OUTPUT_BOUNDS}
        if name == "max_tokens":
            return replace(self, max_tokens=bound, params=params)
        return replace(self, max_tokens=None, params={**params, name: bound})


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Input tokens the provider served from its prefix cache; part of `input_tokens`."""
    reasoning_tokens: int = 0
    """Output tokens spent on thinking; part of `output_tokens`."""
    estimated: bool = False
    """The provider counted nothing, or nothing that can be: some of these numbers are our estimates."""

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


def sum_of(usages: Iterable[Usage]) -> Usage:
    """The tokens of several replies."""
    total = Usage()
    for each in usages:
        total = Usage(
            total.input_tokens + each.input_tokens,
            total.output_tokens + each.output_tokens,
            total.cached_tokens + each.cached_tokens,
            total.reasoning_tokens + each.reasoning_tokens,
            total.estimated or each.estimated,
        )
    return total


@dataclass(frozen=True, slots=True)
class ModelReply:
    """One reply, as it came; `core.reply` says what it is worth. `text` is empty where the provider sent none."""

    text: str
    finish_reason: str = "stop"
    """The provider's own word: `stop`, `length`, `MAX_TOKENS`, `content_filter`, `refusal`, `error` ..."""
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
    reasoning: str = ""
    """What the model thought, where that is known; for the record, never part of an answer."""
    refusal: str = ""
    """Why the model will not answer, in its own words."""
    code: str = ""
    """Python that a tool call holds."""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


class Model(Protocol):
    """Carries one request to a model, once: no retry, no waiting in line.

    Raises `ModelError` (or a subclass that says more) when there is no answer.
    """

    async def complete(self, request: ModelRequest) -> ModelReply: ...
