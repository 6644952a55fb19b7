"""What a batch would take, before anything is spent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from rlm_ray.batch.row_processor import make_task
from rlm_ray.batch.source import RowSource
from rlm_ray.batch.template import QueryTemplate
from rlm_ray.core.llm import BYTES_PER_TOKEN, Usage

ANSWER_TOKENS = 300
"""What an answer is taken to have."""

Cost = Callable[[Usage], float | None]


@dataclass(frozen=True, slots=True)
class BatchEstimate:
    """The rows of a batch and what reading each of them once would use.

    A session reads less than all of a long text, or several times the same: this is the order of magnitude.
    """

    rows: int
    bad_rows: int
    """Rows that cannot be read, or have not what the question needs."""
    chars: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    """None where the price is not known."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate_batch(
    corpus: RowSource, question: QueryTemplate, limit: int | None, cost: Cost
) -> BatchEstimate:
    """Reads all rows, and asks nobody."""
    rows = bad = chars = nbytes = 0
    for row in corpus:
        if limit is not None and row.number >= limit:
            break
        rows += 1
        todo = make_task(row, question)
        if todo.error:
            bad += 1
            continue
        chars += len(row.text)
        nbytes += len(row.text.encode("utf-8", "replace")) + len(todo.query.encode("utf-8", "replace"))
    usage = Usage(nbytes // BYTES_PER_TOKEN, (rows - bad) * ANSWER_TOKENS)
    return BatchEstimate(rows, bad, chars, usage.input_tokens, usage.output_tokens, cost(usage))
