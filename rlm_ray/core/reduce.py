"""Answers of many pieces put together in code: exactly, at no cost, and with what each result came from.

    collect   all values, in the order of the pieces; a list is its items
    count     how often each value occurs; a list is its items, and a mapping of numbers is counts already
    union     the different values
    sum       numbers added; a mapping of numbers key by key

`"count:status"` reduces one field of each answer, `"count:status,union:authors"` or a mapping several. Alone, `collect`
takes whole answers, and the others each field of them.

Laws: what pieces say may be merged in any grouping and any order (`merge` is associative and commutative), so a
reduction can be spread. Sums are exact: 0.1 ten times is 1.0 in any order.

`reduce_groups` and `plan_levels` group many answers so that each group fits a window, level by level, until one is left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from heapq import merge as merged
from math import isfinite
from typing import Any, TypeAlias

from rlm_ray.errors import InputError

OPERATIONS = ("collect", "count", "union", "sum")
WHOLE_ANSWER = ""
"""In place of a field's name: the answer itself."""

_Number: TypeAlias = "int | Fraction"
_Key: TypeAlias = "tuple[str, str, tuple[int, int]]"
"""A field, what is counted there, and where `collect` has it from."""
_NOWHERE = (0, 0)
_NUMERAL = re.compile(r"\s*[-+]?\d[\d,]*(\.\d+)?\s*", re.ASCII)
"""A text that is a number: plain answers are texts."""


LABEL_CHARS = 12
"""Around an answer: its number, and what stands between two."""
MIN_GROUP = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One result of a field."""

    value: Any
    amount: _Number
    """How often, or how much."""
    pieces: tuple[int, ...]
    """The pieces it comes from, by number."""


PartialResult: TypeAlias = "Mapping[_Key, Entry]"
"""What some pieces say."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """How answers become one."""

    operations: tuple[tuple[str, str], ...]
    """Fields, each with one of `WAYS`; `WHOLE` for the answer itself or each of its fields."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the fields it needs by name."""
        return tuple(field for field, _ in self.operations if field != WHOLE_ANSWER)

    def map_piece(self, piece: int, answer: Any) -> PartialResult:
        """Return what one piece says. Raises `InputError` where a way does not fit its value."""
        state: dict[_Key, Entry] = {}
        for field, way, value in self._values(answer):
            for at, (key, amount, item) in enumerate(_items(way, field, value)):
                place = (piece, at) if way == "collect" else _NOWHERE
                entry = Entry(item, amount, (piece,))
                known = state.get((field, key, place))
                state[field, key, place] = entry if known is None else _combine_same_piece(known, entry)
        return state

    def merge(self, states: Iterable[PartialResult]) -> PartialResult:
        """Return what all of them say together."""
        gathered: dict[_Key, list[Entry]] = {}
        for state in states:
            for key, entry in state.items():
                gathered.setdefault(key, []).append(entry)
        return {key: _sum(entries) for key, entries in gathered.items()}

    def value(self, state: PartialResult) -> Any:
        """Return what the partial results come to: one value where the reduction is of whole answers, else one by field."""
        found: dict[str, Any] = {
            field: _finalize(way, []) for field, way in self.operations if field != WHOLE_ANSWER
        }
        for field, entries in _by_field(state).items():
            found[field] = _finalize(self._way(field), entries)
        if WHOLE_ANSWER in found or not found:
            return found.get(WHOLE_ANSWER, _finalize(self.operations[0][1], []))
        return found

    def provenance(self, state: PartialResult) -> dict[str, dict[str, tuple[int, ...]]]:
        """Return, by field and result, the numbers of the pieces it comes from."""
        found: dict[str, dict[str, set[int]]] = {}
        for field, entries in _by_field(state).items():
            keyed = self._way(field) in ("count", "sum")
            results = found.setdefault(field, {})
            for key, entry in entries:
                results.setdefault(key if keyed else key_of(entry.value), set()).update(entry.pieces)
        return {
            field: {key: tuple(sorted(pieces)) for key, pieces in results.items()}
            for field, results in found.items()
        }

    def _values(self, answer: Any) -> Iterator[tuple[str, str, Any]]:
        for field, way in self.operations:
            if field != WHOLE_ANSWER:
                yield field, way, answer.get(field) if isinstance(answer, Mapping) else None
            elif isinstance(answer, Mapping) and way != "collect":
                yield from ((name, way, value) for name, value in answer.items())
            else:
                yield WHOLE_ANSWER, way, answer

    def _way(self, field: str) -> str:
        ways = dict(self.operations)
        return ways.get(field) or ways[WHOLE_ANSWER]


def parse_reduction(spec: str | Mapping[str, str]) -> Reduction:
    """Read a way to reduce. Raises `InputError` that says how one is written."""
    if isinstance(spec, Mapping):
        ways = tuple((field, way) for field, way in spec.items())
    else:
        parts = (part.strip().partition(":") for part in spec.split(","))
        ways = tuple((field.strip(), way.strip()) for way, _, field in parts)
    wrong = [way for _, way in ways if way not in OPERATIONS]
    if wrong or not ways:
        known = f"{', '.join(OPERATIONS)}, or one of a field such as count:status"
        raise InputError("reduce", f"must be model, {known}; got {spec!r}")
    if len(dict(ways)) < len(ways) or (len(ways) > 1 and WHOLE_ANSWER in dict(ways)):
        raise InputError("reduce", f"names one field twice, or a field and the whole; got {spec!r}")
    return Reduction(ways)


def key_of(value: Any) -> str:
    """Return a value as a key of JSON: texts as they are."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _items(way: str, field: str, value: Any) -> Iterator[tuple[str, _Number, Any]]:
    """Yield key, amount and value of each thing a field's value says."""
    if value is None:
        return
    if way == "sum":
        yield from _sums(field, value)
    elif way == "count" and _is_counts(value):
        yield from ((str(key), _exact(field, number), key) for key, number in value.items())
    else:
        for item in value if isinstance(value, list) else [value]:
            text = item.strip() if isinstance(item, str) else item
            # A text "1" and a number 1 are two values of a union, but one key of a count
            yield json.dumps(text, sort_keys=True) if way == "union" else key_of(text), 1, text


def _sums(field: str, value: Any) -> Iterator[tuple[str, _Number, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(key), _exact(field, number), key) for key, number in value.items())
    else:
        for number in value if isinstance(value, list) else [value]:
            yield "", _exact(field, number), None


def _is_counts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(type(number) in (int, float) for number in value.values())


def _exact(field: str, number: Any) -> _Number:
    if isinstance(number, str) and _NUMERAL.fullmatch(number):
        number = float(number.replace(",", ""))
    if isinstance(number, float) and isfinite(number):
        exact = Fraction(number)
        return exact.numerator if exact.denominator == 1 else exact
    if isinstance(number, int):
        return int(number)
    raise InputError("reduce", f"{field or 'the answer'} cannot be added up: {number!r} is no number")


def _combine_same_piece(known: Entry, entry: Entry) -> Entry:
    """Combine two entries of the same piece, which says something once more."""
    return Entry(known.value, known.amount + entry.amount, known.pieces)


def _sum(entries: list[Entry]) -> Entry:
    if len(entries) == 1:
        return entries[0]
    amount = sum((entry.amount for entry in entries), start=0)
    return Entry(entries[0].value, amount, tuple(merged(*(entry.pieces for entry in entries))))


def _by_field(state: PartialResult) -> dict[str, list[tuple[str, Entry]]]:
    """Return the results by field, in an order that does not depend on that of the merges."""
    found: dict[str, list[tuple[_Key, Entry]]] = {}
    for key, entry in state.items():
        found.setdefault(key[0], []).append((key, entry))
    return {
        field: [(key[1], entry) for key, entry in sorted(entries, key=lambda item: _order(*item))]
        for field, entries in sorted(found.items())
    }


def _order(key: _Key, entry: Entry) -> tuple[tuple[int, int], int, str]:
    """Return the key by which entries are put in order: as collected; else by the first piece that says it."""
    return key[2], entry.pieces[0], key[1]


def _finalize(way: str, entries: list[tuple[str, Entry]]) -> Any:
    match way:
        case "collect" | "union":
            return [entry.value for _, entry in entries]
        case "count":
            return {
                key: _plain(entry.amount) for key, entry in sorted(entries, key=lambda item: -item[1].amount)
            }
        case _ if [key for key, _ in entries] in ([], [""]):
            return _plain(entries[0][1].amount) if entries else 0
        case _:
            return {key: _plain(entry.amount) for key, entry in entries}


def _plain(number: _Number) -> int | float:
    return number if isinstance(number, int) else float(number)


def reduce_groups(lengths: Sequence[int], size: int) -> list[range]:
    """Put neighbours together, up to `size` characters in all and never fewer than two, so that each level has less.

    An answer longer than half of `size` counts as half: it is to be cut.
    """
    found: list[range] = []
    room = 0
    for at, length in enumerate(lengths):
        wanted = min(length, size // MIN_GROUP) + LABEL_CHARS
        if found and (wanted <= room or len(found[-1]) < MIN_GROUP):
            found[-1] = range(found[-1].start, at + 1)
            room -= wanted
        else:
            found.append(range(at, at + 1))
            room = size - wanted
    return found


def plan_levels(answers: int, length: float, size: int) -> list[list[int]]:
    """Return the groups of each level, by how many answers they have, where all answers are about so long."""
    fan_in = max(MIN_GROUP, int(size // (min(length, size // MIN_GROUP) + LABEL_CHARS)))
    levels = []
    while answers > 1:
        full, rest = divmod(answers, fan_in)
        levels.append([fan_in] * full + [rest] * bool(rest))
        answers = len(levels[-1])
    return levels
