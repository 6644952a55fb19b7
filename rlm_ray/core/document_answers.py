"""One answer for each document, however documents travel: several in one call, or one in several parts.

- Several in one call: the model is asked for a JSON array with one element a document, by id. `answers_by_id` reads it;
  an id that is missing, or is there twice with different answers, has no answer and is asked about alone.
- One in several parts: each part may leave out what it does not tell. `merge_parts` makes one answer of theirs in code;
  where they contradict each other it returns None, and the model is asked once over their answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlm_ray.core.context import Context
from rlm_ray.core.json_extraction import values_in
from rlm_ray.core.map_reduce import is_empty_answer

MAX_DOCUMENTS_PER_CALL = 50
"""Of documents that share a call and are answered one by one: longer lists lose elements."""
_ID_KEYS = ("id", "document", "document_id", "doc_id", "doc")

_OF_EACH = """

The context holds {count} documents with these ids: {ids}. Answer for each document on its own, from its own text. \
Answer with one JSON array and nothing else: no sentences, no code fence. It has exactly one element for each document, \
in this order: {{"id": "<id of the document>", "answer": {answer}}}."""

_OF_A_PART = """

The context is one part of a longer document. Answer for this part alone{how}, and invent nothing."""

_OF_ITS_PARTS = """\
The context holds answers to one question, each from another part of one document, in the order of the parts; the \
number of the part stands before it in square brackets. Give the one answer for the whole document. Where parts \
contradict each other, take what the document says about itself, which usually stands in its first part.

The question was: {query}"""


def of_each(query: str, ids: Sequence[str], answer: str = "<your answer>") -> str:
    """Ask a question about each of several documents; `answer` describes one answer."""
    return query + _OF_EACH.format(
        count=len(ids), ids=json.dumps(list(ids), ensure_ascii=False), answer=answer
    )


def of_a_document_part(query: str, *, in_fields: bool) -> str:
    """Ask a question about one part of a document."""
    nothing = "; if it holds nothing about the question, say only: nothing here"
    return query + _OF_A_PART.format(how=", leave out each field it does not tell" if in_fields else nothing)


def of_its_parts(query: str) -> str:
    """Ask for the one answer that answers about the parts of a document make together."""
    return _OF_ITS_PARTS.format(query=query)


def label_documents(context: Context) -> Context:
    """Return the context with an id for each document that no other has; shares its bytes."""
    if context.offsets is None:
        return context
    count = len(context.offsets) - 1
    names = [str(number) for number in range(count)] if context.ids is None else context.ids
    labels = unique_ids(names)
    return context if context.ids == labels else replace(context, ids=labels, key="")


def unique_ids(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names on one line each; a name that was there before gets a number: `a`, `a (2)`."""
    found: dict[str, int] = {}
    labels = []
    for name in names:
        label = plain = " ".join(name.split()) or "document"
        while label in found:
            found[plain] += 1
            label = f"{plain} ({found[plain]})"
        found[label] = 1
        labels.append(label)
    return tuple(labels)


def answers_by_id(answer: str, ids: Sequence[str]) -> dict[str, list[Any]]:
    """Return what an answer says about each document, as the readings to try in order.

    Reads an array of elements with an id, an object that holds one, an object by id, or an object a line.
    """
    best: dict[str, list[Any]] = {}
    for candidate in _candidates(answer):
        found = _unambiguous(candidate, ids)
        if len(found) > len(best):
            best = found
        if len(best) == len(ids):
            break
    return best


def says_nothing(reading: Any) -> bool:
    """Tell whether an element of an answer leaves open what it is asked about its document, which is asked alone then."""
    return reading in (None, {}, [], "")


def _candidates(answer: str) -> Iterator[list[Any]]:
    """Yield the JSON values of an answer, the last written first, because models think before they answer; then all together."""
    values = values_in(answer)
    yield from ([value] for value in reversed(values))
    yield values


def _unambiguous(values: Iterable[Any], ids: Sequence[str]) -> dict[str, list[Any]]:
    known = {_normal(name): name for name in ids}
    found: dict[str, list[Any]] = {}
    twice = set()
    for value in values:
        for name, readings in _records(value, known):
            if found.setdefault(name, readings) != readings:
                twice.add(name)
    return {name: readings for name, readings in found.items() if name not in twice}


def _records(value: Any, known: Mapping[str, str], depth: int = 0) -> Iterator[tuple[str, list[Any]]]:
    if isinstance(value, list):
        for item in value:
            yield from _records(item, known, depth + 1)
    elif isinstance(value, Mapping):
        if (record := _record(value, known)) is not None:
            yield record
        elif any(_normal(key) in known for key in value):
            yield from ((known[_normal(key)], [item]) for key, item in value.items() if _normal(key) in known)
        elif depth < 2:  # {"documents": [...]}
            for item in value.values():
                yield from _records(item, known, depth + 1)


def _record(value: Mapping[str, Any], known: Mapping[str, str]) -> tuple[str, list[Any]] | None:
    """Return the document of an element, and its answer: under `answer`, beside the id, or the element itself."""
    for key in _ID_KEYS:
        named = value.get(key)
        if isinstance(named, str | int) and (name := known.get(_normal(named))) is not None:
            beside = {field: item for field, item in value.items() if field != key}
            wrapped = [value["answer"]] if "answer" in value else []
            return name, [*wrapped, beside, dict(value)]
    return None


def _normal(name: object) -> str:
    """Return an id without what models change when they copy it: brackets and spacing."""
    text = " ".join(str(name).split())
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def merge_parts(answers: Sequence[Mapping[str, Any]], ways: Mapping[str, str]) -> dict[str, Any] | None:
    """Make one answer of those about the parts of a document; None where parts contradict each other.

    A field has what the only part that tells it says, or what all that tell it agree on. Lists are put together,
    without repeats unless the field is collected or added up; numbers are added where the field is added up, and
    mappings of numbers where it is counted or added up. `ways` are the reductions of fields.
    """
    merged = {}
    for field in dict.fromkeys(field for answer in answers for field in answer):
        given = [answer[field] for answer in answers if answer.get(field) is not None]
        if given:
            found = merge_values(given, ways.get(field, ways.get("", "")))
            if found is None:
                return None
            merged[field] = found
    return merged


def merge_texts(answers: Sequence[str], way: str) -> Any:
    """Make one answer of texts about the parts of a document; None where they contradict each other."""
    telling = [answer for answer in answers if not is_empty_answer(answer)] or answers[:1]
    return merge_values([_number_or_text(answer) for answer in telling], way)


def merge_values(given: Sequence[Any], way: str) -> Any:
    """Make one value of those that several parts tell; None where they contradict each other."""
    if len(given) == 1:
        return given[0]
    if all(isinstance(value, list) for value in given):
        return _joined([item for value in given for item in value], repeats=way in ("collect", "sum"))
    if way == "sum" and all(map(_is_number, given)):
        return sum(given)
    if way in ("sum", "count") and all(isinstance(value, Mapping) and _is_counts(value) for value in given):
        keys = dict.fromkeys(key for value in given for key in value)
        return {key: sum(value.get(key, 0) for value in given) for key in keys}
    return given[0] if len(set(map(_key, given))) == 1 else None


def _number_or_text(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return text.strip()


def _joined(items: list[Any], *, repeats: bool) -> list[Any]:
    return items if repeats else list({_key(item): item for item in items}.values())


def _is_counts(value: Mapping[str, Any]) -> bool:
    return all(map(_is_number, value.values()))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _key(value: Any) -> str:
    value = value.strip() if isinstance(value, str) else value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
