"""The most a reply may hold: what models and providers say about it.

A provider that refuses a request because it asks for too long a reply names the bound it would take, each in words of
its own. `named_limit` reads it, so that the request can be sent once more with that bound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MIN_NAMED_TOKENS = 16
"""A smaller number in a refusal is no bound that anybody could use."""


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
        """Both of them."""
        return OutputLimit(
            _smaller(self.max_tokens, other.max_tokens),
            _smaller(self.window_tokens, other.window_tokens),
            other.name or self.name,
        )

    def bound(self, input_tokens: int) -> int | None:
        """The most a reply to so long a prompt may hold; None where nothing is known, or the prompt fills the window."""
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
    """What a refusal in these words says of a reply's length; None where it is about something else.

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
    """What may be meant as the maximum, the surest first."""
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
    return int(re.sub(r"\D", "", text)[:15] or 0)
