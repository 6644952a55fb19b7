"""`map_reduce` of the REPL: pieces by reference, one answer for each document, and how answers become one."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rlm_ray.core.context import make_context
from rlm_ray.sandbox.guest.context_parts import parts_of
from rlm_ray.sandbox.guest.map_reduce import MapReduce

PAPERS = [
    {"id": f"p{n}", "text": f"Paper {n}\nStatus: {'Final' if n % 2 else 'Draft'}\n" + "filler ä " * (100 * n)}
    for n in range(12)
]


class Asked:
    """`recursive_map` over a context, answered by a function of question and text."""

    def __init__(self, content, answer):
        self.context = make_context(content)
        self.parts = parts_of(self.context.documents() if isinstance(content, list) else content)
        self.read, self.kinds = [], []
        self._answer = answer

    def __call__(self, query, contexts, on_error):
        parts = [self.parts.to_part(item) for item in contexts]
        texts = [part if isinstance(part, str) else self._text(part) for part in parts]
        self.kinds += [type(part).__name__ for part in parts]
        self.read += texts
        queries = [query] * len(texts) if isinstance(query, str) else query
        return [self._answer(*each) for each in zip(queries, texts, strict=True)]

    def _text(self, part):
        return (make_context(part) if isinstance(part, list) else self.context.slice(part)).text()

    def map_reduce(self, query, **options):
        return MapReduce(self, self.parts).map_reduce(query, **options)


def statuses(query, text):
    return "So: " + json.dumps({"status": re.findall(r"^Status: (\w+)", text, re.MULTILINE)})


@settings(deadline=None, max_examples=30)  # every example reads all documents
@given(st.integers(300, 20_000))
@example(8122)  # the last paper fits, but not with its id above
def test_counting_over_all_documents_is_exact_at_any_size(size):
    asked = Asked(PAPERS, statuses)
    found = asked.map_reduce("Which status?", reduce="count:status", size=size)
    assert found == {"status": {"Draft": 6, "Final": 6}}
    assert all(len(text) <= size for text in asked.read)


def test_pieces_travel_by_reference():
    documents = [*PAPERS[:3], {"id": "long", "text": "ä word. " * 30_000}]
    asked = Asked(documents, lambda *_: "x")
    asked.map_reduce("q", reduce="model")
    assert asked.kinds[:4] == ["DocumentRange", "ByteRange", "ByteRange", "ByteRange"]
    asked = Asked(documents, lambda *_: "x")
    asked.map_reduce("q", reduce="collect")
    assert asked.kinds == [
        "DocumentRange",
        "ByteRange",
        "ByteRange",
        "ByteRange",
        "DocumentRange",
        "DocumentRange",
        "DocumentRange",
    ]  # no ids: each asked alone
    text = "A sentence here. " * 20_000
    asked = Asked(text, lambda *_: "x")
    asked.map_reduce("q", reduce="collect")
    assert asked.kinds == ["ByteRange"] * 3 + ["str"]
    assert "".join(asked.read) == text


def test_a_list_changed_by_code_is_asked_about_as_it_was_given():
    asked = Asked(PAPERS, statuses)
    asked.parts.content.clear()
    assert asked.map_reduce("q", reduce="count:status", contexts=asked.parts.content)["status"]["Final"] == 6


def test_a_model_puts_answers_together_level_by_level():
    def adding(query, text):
        numbers = [int(n) for n in re.findall(r"(\d+) are", text)]
        return f"{sum(numbers) if numbers else text.count('Status: Final')} are final"

    asked = Asked(PAPERS, adding)
    assert asked.map_reduce("How many?", size=1_000) == "6 are final"
    assert Asked("short", lambda *_: "yes").map_reduce("Is it?") == "yes"
    assert Asked([], lambda *_: "yes").map_reduce("Is it?") == ""


def test_given_texts_have_one_answer_each():
    asked = Asked("x", lambda _, text: text.strip())
    texts = ["a", "b b b", "b"]
    assert asked.map_reduce("q", contexts=texts, reduce="count", size=3) == {
        "a": 1,
        "b": 1,
        "[1]\nb\n\n[2]\nb b": 1,
    }
    documents = [{"id": "x", "text": "a"}, {"id": "y", "text": "b b"}]
    assert asked.map_reduce("q", contexts=documents, reduce="collect", size=3) == ["a", "b b"]


def one_status_each(query, text):
    """Truthful: an object for each document that is seen."""
    named = re.search(r"documents with these ids: (\[.*?\])\. Answer for each", query)
    found = re.findall(r"(?:^\[(.+)\]\n)?(?:.*\n)??Status: (\w+)", text, re.MULTILINE)
    if named:
        return json.dumps([{"id": name, "answer": {"status": status}} for name, status in found])
    return json.dumps({"status": found[0][1]} if found else {})


SMALL = [
    {"id": f"d{n}", "text": f"Status: {'Draft' if n % 3 else 'Final'}\n{'word ' * n}"} for n in range(60)
]


@pytest.mark.parametrize("size", [100, 400, 5_000, 100_000])
@pytest.mark.parametrize("kind", ["ids", "no ids", "same ids"])
def test_packed_documents_are_counted_one_by_one(size, kind):
    documents = {
        "ids": SMALL,
        "no ids": [each["text"] for each in SMALL],
        "same ids": [{**each, "id": "same"} for each in SMALL],
    }[kind]
    asked = Asked(documents, one_status_each)
    found = asked.map_reduce("Which status?", reduce="count:status", size=size)
    assert found == {"status": {"Draft": 40, "Final": 20}}
    assert len(asked.read) < 20 or size < 5_000


def test_a_pack_that_answers_with_one_object_counts_every_document():
    def careless(query, text):
        return '{"status": "Final"}' if "these ids" in query else one_status_each(query, text)

    found = Asked(SMALL, careless).map_reduce("Which status?", reduce="count:status")
    assert found == {"status": {"Draft": 40, "Final": 20}}


def test_parts_of_a_document_that_contradict_each_other_are_settled_once():
    settled = []

    def torn(query, text):
        if "another part of one document" in query:
            settled.append(text)
            return '{"status": "Final"}'
        return json.dumps({"status": "Draft" if "five" in text else "Active"})

    asked = Asked([{"id": "a", "text": "five hundred words. " * 20 + "others. " * 40}], torn)
    assert asked.map_reduce("q", reduce="count:status", size=300) == {"status": {"Final": 1}}
    assert len(settled) == 1
