"""The most a reply may hold: by the request, by what models and providers say, and by what a budget leaves.

A budget on cost or tokens needs a bound, so that what is reserved is the worst case: the user's, else the smallest of ours,
the model's and the account's. Without a budget a reply is bounded only by what the provider has said before.

A provider that refuses a request because it asks for too long a reply names the bound it would take, each in words of
its own. `named_limit` reads it, so that the request can be sent once more with that bound; `ReplyBounds` remembers it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rlm_ray.core.limits import Limits
from rlm_ray.core.llm import BUDGET_OUTPUT_TOKENS, LAST_CALL_TOKENS, ModelRequest, request_tokens
from rlm_ray.errors import ModelError, ReplyError, RLMError, TransientModelError

MIN_NAMED_TOKENS = 16
"""A smaller number in a refusal is no bound that anybody could use."""
MIN_OUTPUT_TOKENS = 64
"""A budget that leaves less of a reply than this leaves no call."""
MAX_LEARNED = 1_000
TOO_LONG_STATUSES = frozenset({400, 402, 403, 413, 422, None})
"""Refusals that may be about the length of the reply."""


@dataclass(frozen=True, slots=True)
class OutputLimit:
    """Of a model, as far as it is known."""

    max_tokens: int | None = None
    """Of a reply."""
    window_tokens: int | None = None
    """Of a prompt and its reply together."""
    name: str = ""
    """The parameter the provider wants it under; empty: any."""

    def narrowed_by(self, other: OutputLimit) -> OutputLimit:
        """Return what holds where both do."""
        return OutputLimit(
            _smaller(self.max_tokens, other.max_tokens),
            _smaller(self.window_tokens, other.window_tokens),
            other.name or self.name,
        )

    def bound(self, input_tokens: int) -> int | None:
        """Return the most a reply to so long a prompt may hold; None where nothing is known, or the prompt fills the window."""
        room = None if self.window_tokens is None else self.window_tokens - input_tokens
        known = [
            tokens for tokens in (self.max_tokens, room) if tokens is not None and tokens >= MIN_NAMED_TOKENS
        ]
        return min(known, default=None)


@dataclass(frozen=True, slots=True)
class NamedLimit:
    """What a refusal names."""

    tokens: int | None
    """For this request; None where only the parameter's name is wrong."""
    learned: OutputLimit = OutputLimit()
    """For all later ones."""


_OUTPUT = re.compile(
    r"max[_ ]?(?:imum )?(?:completion|output|new|generated?)?[_ ]?tokens|maxOutputTokens|completion|output|afford|draft tokens",
    re.IGNORECASE,
)
_N = r"`?'?(\d[\d,_]*)"
_WINDOWS = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        rf"(?:context|window|model)[ _]len(?:gth)?(?: is| of|:|=)? ?(?P<window>{_N})\b.{{0,120}}?\(?(?P<input>{_N}) (?:tokens )?(?:in|of|from) the (?:messages|prompt|input)",
        rf"(?:context|window|model)[ _]len(?:gth)?(?: is| of|:|=)? ?(?P<window>{_N})\b.{{0,120}}?(?P<input>{_N}) (?:input|prompt)[ _]tokens",
        rf"must be (?:<=|at most|less than or equal to) (?P<window>{_N})\b.{{0,60}}?(?P<input>{_N}) `?inputs?`? tokens",
        rf"prompt contains (?P<input>{_N}) tokens.{{0,120}}?(?P<window>{_N}) maximum context",
    )
)
_AFFORD = re.compile(rf"(?:only|can) afford (?:up to )?{_N}", re.IGNORECASE)
_AT_MOST = (
    "at most|up to and including|(?:less|lower|smaller) than or equal to|no more than|not exceed|cannot exceed|"
    "(?:cannot|can't|must not|should not) be (?:greater|larger|more|higher) than|<=|≤"
)
_MAXIMUM = r"(?:limit|maximum|max)(?: allowed| supported| value| output| completion| new)*(?: tokens)?(?: \([^)]{0,30}\))?"
_LIMITS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\[ ?\d+ ?, ?{_N} ?\]",
        rf"to {_N} \(inclusive\)",
        rf"(?:between|from) \d+ (?:and|to) {_N}(?! \(exclusive)",
        rf"(?:{_AT_MOST}) ?(?:the )?(?:[a-z_]+ ?= ?)*(?:limit of )?{_N}",
        rf"\d > {_N}",
        rf"{_MAXIMUM}(?: for this model| for [\w./:-]{{1,60}})? ?(?:is|of|:|=)? ?{_N}",
        rf"(?:supports?|allows?|accepts?)(?: only)?(?: up to| a maximum of)? {_N}",
        rf"(?:less|lower|smaller) than {_N}",
    )
)
_EXCLUSIVE = re.compile(rf"to {_N} \(exclusive\)", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.-])\d[\d,_]*(?![\w.]*\d)")
_NOT_LIMITS = frozenset({400, 402, 413, 422, 429})
_OTHER_NAME = (
    (re.compile(r"max_tokens\W.{0,80}(?:unsupported|not supported|deprecated|not compatible).{0,80}max_completion_tokens|"
                r"use\W+max_completion_tokens", re.IGNORECASE), "max_completion_tokens"),
    (re.compile(r"(?:unsupported|unrecognized|unknown|unexpected|extra|invalid)[^.]{0,60}max_completion_tokens|max_completion_tokens"
                r"\W.{0,60}(?:unsupported|not supported|not permitted|unexpected|unrecognized)", re.IGNORECASE), "max_tokens"),
)  # fmt: skip


def _smaller(one: int | None, other: int | None) -> int | None:
    return min((tokens for tokens in (one, other) if tokens is not None), default=None)


def named_limit(sentence: str, asked: int | None) -> NamedLimit | None:
    """Return what a refusal in these words says of a reply's length; None where it is about something else.

    `asked` is what the request asked for; only a smaller bound is of use.
    """
    name = next((name for pattern, name in _OTHER_NAME if pattern.search(sentence)), "")
    if name:
        return NamedLimit(None, OutputLimit(name=name))
    if not _OUTPUT.search(sentence):
        return None
    if match := next(filter(None, (pattern.search(sentence) for pattern in _WINDOWS)), None):
        window = _int(match["window"])
        return _useful(window - _int(match["input"]), asked, OutputLimit(window_tokens=window))
    if match := _AFFORD.search(sentence):
        return _useful(_int(match[1]), asked, OutputLimit())
    return next(filter(None, (_learned(tokens, asked) for tokens in _maxima(sentence, asked))), None)


def _maxima(sentence: str, asked: int | None) -> Iterator[int]:
    """Yield what may be meant as the maximum, the surest first."""
    if match := _EXCLUSIVE.search(sentence):
        yield _int(match[1]) - 1
    for pattern in _LIMITS:
        yield from (_int(match[1]) for match in pattern.finditer(sentence))
    others = {_int(text) for text in _NUMBER.findall(sentence)} - _NOT_LIMITS
    fitting = [number for number in others if asked is not None and asked in others and number < asked]
    if len(fitting) == 1:
        yield fitting[0]


def _learned(tokens: int, asked: int | None) -> NamedLimit | None:
    return _useful(tokens, asked, OutputLimit(max_tokens=tokens))


def _useful(tokens: int, asked: int | None, learned: OutputLimit) -> NamedLimit | None:
    if tokens < MIN_NAMED_TOKENS or (asked is not None and tokens >= asked):
        return None
    return NamedLimit(tokens, learned)


def _int(text: str) -> int:
    return int(re.sub(r"\D", "", text)[:15])


class ReplyBounds:
    """Remembers how long providers said a reply may be, by account and model."""

    def __init__(self) -> None:
        self._learned: dict[tuple[str, str], OutputLimit] = {}

    def bounded(
        self,
        request: ModelRequest,
        account: str,
        limits: Limits,
        of_model: Callable[[], OutputLimit],
        *,
        last_call: bool,
    ) -> tuple[ModelRequest, int]:
        """Return the request with the bound of its reply, and to how little a tight budget may lower that (0: not at all)."""
        learned = self._learned.get((account, request.model), OutputLimit())
        asked = request.output_bound
        has_budget = limits.cost_usd is not None or limits.tokens is not None
        if asked is None and not has_budget and learned == OutputLimit():
            return request, 0
        bounds = [asked]
        known = learned
        if asked is None and has_budget:
            bounds.append(LAST_CALL_TOKENS if last_call else BUDGET_OUTPUT_TOKENS)
            known = of_model().narrowed_by(learned)
        bounds.append(known.bound(request_tokens(request) if known.window_tokens else 0))
        bound = min((tokens for tokens in bounds if tokens is not None), default=None)
        if bound is not None and bound != asked:
            request = request.with_output_bound(bound)
        if learned.name:
            request = request.with_bound_named(learned.name)
        return request, MIN_OUTPUT_TOKENS if asked is None and has_budget else 0

    def corrected(self, request: ModelRequest, account: str, named: NamedLimit) -> ModelRequest:
        """Return the request with the bound that the provider named, and remember it for the model."""
        key = (account, request.model)
        if named.learned != OutputLimit():
            self._learned[key] = self._learned.pop(key, OutputLimit()).narrowed_by(named.learned)
            if len(self._learned) > MAX_LEARNED:
                del self._learned[next(iter(self._learned))]
        if named.learned.name:
            request = request.with_bound_named(named.learned.name)
        return request if named.tokens is None else request.with_output_bound(named.tokens)


class TooLongReplyError(Exception):
    """The provider refused a request for the reply it asked for, and named what it would take. Never leaves the gateway."""

    def __init__(self, error: RLMError, named: NamedLimit) -> None:
        super().__init__(error, named)
        assert isinstance(error, ModelError)
        self.error = TransientModelError(error.model, error.why, error.status, "output_limit")
        self.named = named


def limit_named_by(error: RLMError, request: ModelRequest) -> NamedLimit | None:
    """Return the shorter reply that a refusal names; None where it names none."""
    if not isinstance(error, ModelError) or isinstance(error, TransientModelError | ReplyError):
        return None
    return named_limit(error.why, request.output_bound) if error.status in TOO_LONG_STATUSES else None
