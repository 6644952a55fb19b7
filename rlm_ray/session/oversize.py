"""Sub-calls about more than the window of their model holds: split and put together again, or refused with the numbers.

Decided before anything is sent, by an estimate of the tokens. A window nobody knows refuses nothing: the provider will.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rlm_ray.core.chunking import text_chunks
from rlm_ray.core.context import Document
from rlm_ray.core.llm import text_tokens
from rlm_ray.core.map_reduce import is_empty_answer, map_prompt, reduce_prompt
from rlm_ray.core.prompts import truncate_middle
from rlm_ray.core.reduce import MIN_GROUP, reduce_groups
from rlm_ray.core.repl_types import Failed, SubCallAnswer, SubCallOutcome

MIN_CHARS = 8_000
"""What is shorter fits every window."""
_PROMPT_TOKENS = 300
"""Of our own words around a question and a piece."""
_MIN_ROOM_TOKENS = 500
_SAFETY = 0.85
"""Tokens are estimated, and pieces differ."""


@dataclass(frozen=True, slots=True)
class Window:
    """What a plain sub-call may hold."""

    model: str
    tokens: int
    reply_tokens: int | None = None
    """The most its reply may be."""

    def free_tokens(self, query: str) -> int:
        """Return the tokens left for a piece beside this question and the reply."""
        reply = min(self.reply_tokens or 1_024, self.tokens // 4)
        return self.tokens - reply - _PROMPT_TOKENS - text_tokens(query, self.model)


@dataclass(frozen=True, slots=True)
class Oversize:
    """A question about a text that is too long for one call."""

    query: str
    text: str
    tokens: int
    """Of the text, about."""
    window: Window

    @property
    def piece_chars(self) -> int:
        """Return how many characters one call may read; 0 where the question alone fills the window."""
        free_tokens = self.window.free_tokens(self.query)
        return (
            int(len(self.text) * free_tokens / self.tokens * _SAFETY)
            if free_tokens >= _MIN_ROOM_TOKENS and self.text
            else 0
        )

    def pieces(self) -> list[str]:
        """Return the text in pieces that fit."""
        return [self.text[start:stop] for start, stop in text_chunks(self.text, self.piece_chars)]

    def map_query(self) -> str:
        """Return what is asked of each piece."""
        return map_prompt(self.query)

    def refusal(self) -> Failed:
        """Return the failure that a REPL is told, with the numbers."""
        window, size = self.window, self.piece_chars
        given = f"the piece has {len(self.text):,} characters, about {self.tokens:,} tokens"
        advice = f"pass pieces of at most {size:,} characters, or map_reduce(query, [piece], size={size:_})"
        if not size:
            given = f"the question alone has {len(self.query):,} characters, about {text_tokens(self.query, window.model):,} tokens"
            advice = "ask a shorter question, and pass the text to be read as the context"
        return Failed(
            "ContextWindowError",
            f"{given}, and the window of {window.model} holds {window.tokens:,}: {advice}",
        )


def measure(query: str, text: str, window: Window) -> Oversize | None:
    """Return the question as one that is too long; None where it fits."""
    if len(query) + len(text) < MIN_CHARS:
        return None
    tokens, free_tokens = text_tokens(text, window.model), window.free_tokens(query)
    return Oversize(query, text, tokens, window) if tokens > free_tokens else None


def failed_first(outcomes: Sequence[SubCallOutcome]) -> Failed | None:
    """Return the first failure among the outcomes of pieces."""
    return next((outcome for outcome in outcomes if isinstance(outcome, Failed)), None)


@dataclass(frozen=True, slots=True)
class AnswersOfPieces:
    """What the pieces of one text said, on the way to one answer."""

    query: str
    answers: tuple[str, ...]
    size: int
    """Characters that one call may read."""

    @classmethod
    def of(cls, oversize: Oversize, outcomes: Sequence[SubCallOutcome]) -> AnswersOfPieces:
        """Take the answers of pieces; those that hold nothing are left out, unless all do."""
        said = [outcome.text for outcome in outcomes if isinstance(outcome, SubCallAnswer)]
        speaking = [text for text in said if not is_empty_answer(text)] or said[:1]
        return cls(oversize.query, tuple(speaking), oversize.piece_chars)

    @property
    def is_one(self) -> bool:
        return len(self.answers) <= 1

    def questions(self) -> Iterator[tuple[str, list[Document]]]:
        """Yield what is asked about each group of answers of this level that has more than one."""
        most = self.size // MIN_GROUP
        for group in self._groups():
            if len(group) > 1:
                yield (
                    reduce_prompt(self.query, cite=False),
                    [{"id": str(at + 1), "text": truncate_middle(self.answers[at], most)} for at in group],
                )

    def reduced(self, outcomes: Sequence[SubCallOutcome]) -> AnswersOfPieces:
        """Return the next level, where these are the answers to `questions`."""
        texts = iter(outcome.text for outcome in outcomes if isinstance(outcome, SubCallAnswer))
        level = tuple(
            next(texts) if len(group) > 1 else self.answers[group.start] for group in self._groups()
        )
        return replace(self, answers=level)

    def _groups(self) -> list[range]:
        return reduce_groups([len(text) for text in self.answers], self.size)
