"""`map_reduce` of the REPL: pieces by reference, one answer for each document, and how answers become one."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rlm_ray.core.context import document_header, make_context
from rlm_ray.core.document_answers import MAX_DOCUMENTS_PER_CALL
from rlm_ray.core.map_reduce import DocumentPiece
from rlm_ray.core.reduce import parse_reduction
from rlm_ray.sandbox.guest.context_parts import parts_of
from rlm_ray.sandbox.guest.map_reduce import CodeReduction, MapReduce, Unread

PAPERS = [
    {"id": f"p{n}", "text": f"Paper {n}\nStatus: {'Final' if n % 2 else 'Draft'}\n" + "filler ä " * (100 * n)}
    for n in range(12)
]


class Asked:
    """`recursive_map` over a context, answered by a function of question and text."""

    def __init__(self, content, answer):
        self.context = make_context(content)
        self.parts = parts_of(self.context.documents() if isinstance(content, list) else content)
        self.read, self.kinds, self.on_error = [], [], []
        self._answer = answer

    def __call__(self, query, contexts, on_error):
        parts = [self.parts.to_part(item) for item in contexts]
        texts = [part if isinstance(part, str) else self._text(part) for part in parts]
        self.kinds += [type(part).__name__ for part in parts]
        self.on_error.append(on_error)
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


BETWEEN = len(document_header("0")) + 9
"""What a document takes beside its text, where several are read together."""


@pytest.mark.parametrize(
    ("more", "packs"), [(-1, [1] * 6), (0, [2] * 3), (BETWEEN + 19, [2] * 3), (BETWEEN + 20, [3] * 2)]
)
def test_documents_are_packed_while_they_fit_and_each_pack_begins_anew(more, packs):
    size = 2 * (BETWEEN + 20) + more
    asked = Asked([f"Status: Final {n}".ljust(20) for n in range(6)], one_status_each)
    asked.map_reduce("q", reduce="model", size=size)
    assert [text.count("Status") for text in asked.read[: len(packs)]] == packs


@pytest.mark.parametrize(
    ("count", "packs"), [(MAX_DOCUMENTS_PER_CALL, [50]), (MAX_DOCUMENTS_PER_CALL + 1, [50, 1])]
)
def test_a_call_that_answers_for_each_document_holds_fifty_at_most(count, packs):
    asked = Asked(["Status: Final"] * count, one_status_each)
    found = asked.map_reduce("q", reduce="count:status", size=1_000_000)
    assert found == {"status": {"Final": count}}
    assert [text.count("Status") for text in asked.read] == packs
    asked = Asked(["Status: Final"] * count, one_status_each)
    asked.map_reduce("q", reduce="model", size=1_000_000)
    assert asked.read[0].count("Status") == count


@pytest.mark.parametrize("is_named", [False, True])
def test_a_document_is_read_in_stretches_only_where_it_does_not_fit_alone(is_named):
    text, header = "word. " * 50, document_header("long") if is_named else ""
    documents = ["before", text, "after"]
    if is_named:
        documents = [
            {"id": name, "text": each} for name, each in zip(("a", "long", "z"), documents, strict=True)
        ]
    for size, is_whole in ((len(header + text), True), (len(header + text) - 1, False)):
        asked = Asked(documents, lambda *_: "x")
        asked.map_reduce("q", reduce="collect", size=size)
        read = [each for each in asked.read if "word" in each]
        assert read == [header + text] if is_whole else header + text not in read
        assert "".join(read).removeprefix(header) == text
        assert (
            sum("before" in each for each in asked.read) == sum("after" in each for each in asked.read) == 1
        )


@pytest.mark.parametrize(("on_error", "asked_with"), [("raise", "raise"), ("skip", "return")])
@pytest.mark.parametrize("reduce", ["model", "collect"])
def test_a_failure_ends_the_call_or_leaves_its_place_empty_as_it_was_asked_for(on_error, asked_with, reduce):
    asked = Asked("x" * 10, lambda *_: "yes")
    asked.map_reduce("q", reduce=reduce, on_error=on_error, size=4)
    assert asked.on_error[0] == asked_with
    assert set(asked.on_error[1:]) == ({"raise"} if reduce == "model" else set())


def test_a_pack_that_failed_is_asked_about_document_by_document():
    def failing(query, text):
        return None if "these ids" in query else one_status_each(query, text)

    asked = Asked(SMALL[:3], failing)
    with pytest.raises(RuntimeError, match="all 1 pieces failed"):
        asked.map_reduce("q", reduce="count:status")
    asked = Asked([*SMALL[:3], {"id": "long", "text": "Status: Final\n" + "word " * 500}], failing)
    assert asked.map_reduce("q", reduce="count:status", size=1_000)["status"] == {"Final": 2, "Draft": 2}
    assert (asked.on_error[0], set(asked.on_error[1:])) == ("return", {"raise"})


def test_a_piece_without_an_answer_is_named_or_left_out():
    def half(query, text):
        return None if "b" in text else "no object" if "c" in text else '{"n": 1}'

    texts = ["a", "b", "c", "a"]
    with pytest.raises(ValueError, match="the answer about piece 2 failed: None"):
        Asked("x", half).map_reduce("q", contexts=texts, reduce="sum:n")
    with pytest.raises(ValueError, match="the answer about piece 2 holds no JSON object: 'no object'"):
        Asked("x", half).map_reduce("q", contexts=["a", "c"], reduce="sum:n")
    assert Asked("x", half).map_reduce("q", contexts=texts, reduce="sum:n", on_error="skip") == {"n": 2}
    with pytest.raises(RuntimeError, match="all 2 pieces failed, the first with None"):
        Asked("x", half).map_reduce("q", contexts=["b", "b"], on_error="skip")
    assert Asked("x", half).map_reduce("q", contexts=["b", "c"], on_error="skip") == "no object"
    assert Asked("x", half).map_reduce("q", contexts=["", ""], reduce="sum:n") == {"n": 0}  # nothing to read


@pytest.mark.parametrize("wrong", ["", "return", None, True])
def test_another_way_with_failures_is_refused_before_anything_is_asked(wrong):
    asked = Asked("x", lambda *_: "yes")
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'skip'"):
        asked.map_reduce("q", on_error=wrong)
    assert asked.read == []


@pytest.mark.parametrize(
    ("reduce", "text", "words"),
    [
        ("count:status", "short", ["with these fields: status"]),
        ("count", "short", []),
        ("count:status", "long " * 50, ["one part of a longer document", "leave out each field", "fields: status"]),
        ("count", "long " * 50, ["one part of a longer document", "say only: nothing here"]),
    ],
)  # fmt: skip
def test_the_question_says_what_is_read_and_in_which_form_to_answer(reduce, text, words):
    questions = []

    def note(query, _):
        questions.append(query)
        return '{"status": "x"}'

    Asked([text], note).map_reduce("Which?", reduce=reduce, size=100)
    assert all(question.startswith("Which?") for question in questions)
    assert [word for word in words if word not in questions[0]] == []
    assert ("JSON object" in questions[0]) is (":" in reduce)


TWO = DocumentPiece([{"id": "a", "text": "one"}, {"id": "b", "text": ""}], (4, 5), ("a", "b"))


def reduction(way):
    return CodeReduction(None, parse_reduction(way), "q", 1_000, "raise")


@pytest.mark.parametrize(
    ("way", "answer", "found"),
    [
        ("count:s", '[{"id": "a", "answer": {"s": 1}}, {"id": "b", "s": 2}]', {4: {"s": 1}, 5: {"s": 2}}),
        ("count:s", '[{"id": "a", "answer": {"s": 1}}, {"id": "b", "answer": {"t": 2}}]', {4: {"s": 1}}),
        ("count:s", '{"a": {"s": 1}, "b": 5}', {4: {"s": 1}}), ("count:s", "no JSON", {}), ("count:s", None, {}), ("count:s", Unread("failed"), {}),
        ("collect", '[{"id": "a", "answer": "x"}, {"id": "b", "answer": 0}]', {4: "x", 5: 0}), ("collect", '{"a": "x"}', {4: "x"}), ("collect", '{"a": {}, "b": null}', {}),
        ("collect", '[{"id": "a", "answer": null}, {"id": "b"}]', {}), ("collect", '{"a": "", "b": []}', {}), ("collect", '{"a": 0, "b": false}', {4: 0, 5: False}),
        ("count:s,sum:n", '[{"id": "a", "answer": {"n": 1}}]', {4: {"n": 1}}),
    ],
)  # fmt: skip
def test_answer_about_several_documents_is_split_by_their_ids(way, answer, found):
    assert reduction(way).split(TWO, answer) == found


def test_document_that_was_left_out_is_asked_about_alone_if_it_holds_anything():
    assert reduction("collect").part_of(TWO, 4) == [{"id": "a", "text": "one"}]
    assert reduction("collect").part_of(TWO, 5) is None
    texts = DocumentPiece(["", "two"], (0, 1), ("0", "1"))
    assert [reduction("collect").part_of(texts, number) for number in (0, 1)] == [None, ["two"]]


def test_answers_about_the_parts_of_a_document_become_one():
    assert reduction("sum:n").merge([{"n": 1}, {"n": 2}]) == {"n": 3}
    assert reduction("count:s").merge([{"s": "x"}, {"s": "y"}]) is None  # the model is asked
    assert reduction("count:s").merge([{"s": "x"}, {}]) == {"s": "x"}
    assert reduction("collect").merge(["x", "nothing here"]) == "x"
    found = reduction("collect").merge(["x", Unread("failed: no"), Unread("failed: late")])
    assert found == Unread("part 2 of 3 failed: no")
    assert reduction("collect").text({"a": 1}) == "{'a': 1}"
