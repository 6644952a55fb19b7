"""What one question would take, before anything is spent: an order of magnitude, from looking around to reading it all.

A session looks at its context by code that costs nothing, and asks models about the pieces that it chooses. So a run costs
between a few turns (`least`) and all of the context read once by sub-calls, with as many turns as are allowed (`most`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rlm_ray.config import Settings
from rlm_ray.core.context import Context
from rlm_ray.core.llm import BYTES_PER_TOKEN, Usage
from rlm_ray.llm.model_check import price_of

_PROMPT_TOKENS = 2_500
"""The instructions and the head of the context, which every turn begins with."""
_TURN_TOKENS, _ANSWER_TOKENS = 800, 300
"""What a turn adds to the messages: code and what it printed; and what a sub-call answers."""
_LEAST_TURNS, _MOST_TURNS = 2, 10


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """What a run would use."""

    documents: int
    chars: int
    context_tokens: int
    least_tokens: int
    most_tokens: int
    least_usd: float | None
    """None where the price is not known."""
    most_usd: float | None
    limit_usd: float | None
    """`limits.cost_usd`, which ends the run before it costs more."""

    @property
    def risk_usd(self) -> float | None:
        """The most that can be lost: what it would take, or its limit."""
        known = [usd for usd in (self.most_usd, self.limit_usd) if usd is not None]
        return min(known, default=None)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate_run(settings: Settings, question: str, context: Context) -> RunEstimate:
    """Estimate a run by the sizes of its question and its context; asks nobody."""
    question_tokens = len(question.encode("utf-8", "replace")) // BYTES_PER_TOKEN
    tokens = context.nbytes // BYTES_PER_TOKEN
    if settings.answers_directly(context.info):
        once = Usage(tokens + question_tokens + _ANSWER_TOKENS, _ANSWER_TOKENS)
        root, most_root, leaves = once, once, Usage()
    else:
        turns = min(_MOST_TURNS, settings.max_iterations)
        root = _turns(min(_LEAST_TURNS, turns), question_tokens)
        most_root = _turns(turns, question_tokens)
        piece_bytes = max(settings.max_leaf_chars, 1)
        pieces = -(-context.nbytes // piece_bytes)
        leaves = Usage(tokens + pieces * (question_tokens + _ANSWER_TOKENS), pieces * _ANSWER_TOKENS)
    prices = [price_of(settings.model_at(depth)[0], settings) for depth in (0, 1)]
    leaf_usd = 0.0 if leaves == Usage() else None if prices[1] is None else prices[1].cost(leaves)
    most_usd = None if prices[0] is None or leaf_usd is None else prices[0].cost(most_root) + leaf_usd
    return RunEstimate(
        context.info.documents,
        context.info.chars,
        tokens,
        _total(root),
        _total(most_root) + _total(leaves),
        None if prices[0] is None else prices[0].cost(root),
        most_usd,
        settings.limits.cost_usd,
    )


def _turns(count: int, question_tokens: int) -> Usage:
    """So many turns, each of which reads all that were before."""
    read = sum(_PROMPT_TOKENS + question_tokens + turn * _TURN_TOKENS for turn in range(count))
    return Usage(read, count * _TURN_TOKENS // 2)


def _total(usage: Usage) -> int:
    return usage.input_tokens + usage.output_tokens
