"""The prompts when one question is asked of many parts and the answers are put together."""

from __future__ import annotations

import re
from collections.abc import Sequence

_OF_A_PART = """

The context is one part of a larger input. Answer for this part alone, with all that is needed to put the answers of \
the parts together. If it holds nothing about the question, say only: nothing here."""

_TOGETHER = """\
The context holds answers to one question, each from another part of a large input; the number of the part stands \
before it in square brackets. Put them together into one answer: keep what matters, add up what belongs together, \
say where parts contradict each other, and leave out parts that hold nothing about the question."""

_CITE = " Write behind each statement the numbers of the parts it rests on, such as [3] or [3-5]."

_FIELDS = """

Answer with one JSON object and nothing else, with these fields: {fields}. Leave out what the context does not hold."""

_NOTHING = re.compile(r"\W*nothing here\W*", re.IGNORECASE)
_CITED = re.compile(r"\[(\d+)(?:\s*[-–]\s*(\d+))?\]")  # noqa: RUF001 - models write ranges either way


def map_prompt(query: str) -> str:
    """The question as it is asked of one part, where a model will put the answers together."""
    return query + _OF_A_PART


def field_prompt(query: str, fields: Sequence[str]) -> str:
    """The question whose answers code will put together, field by field."""
    return query + _FIELDS.format(fields=", ".join(fields)) if fields else query


def reduce_prompt(query: str, own: str = "", *, cite: bool = True) -> str:
    """What is asked about the answers; `own` words in place of ours."""
    return f"{own or _TOGETHER + (_CITE if cite else '')}\n\nThe question was: {query}"


def is_empty_answer(answer: str) -> bool:
    return _NOTHING.fullmatch(answer) is not None


def cited_parts(answer: str, parts: int) -> list[int]:
    """The parts an answer names, by number from 1; all of them where it names none."""
    named: set[int] = set()
    for first, last in _CITED.findall(answer):
        start, stop = int(first), int(last or first)
        if 1 <= start <= stop <= parts:
            named.update(range(start, stop + 1))
    return sorted(named) or list(range(1, parts + 1))
