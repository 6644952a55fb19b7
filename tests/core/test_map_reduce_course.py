"""The course of a map-reduce, driven by hand: which calls come, and what becomes of their answers."""

from __future__ import annotations

import pytest

from rlm_ray.core.map_reduce import (
    DocumentCall,
    DocumentPiece,
    JoinedAnswer,
    answer_documents,
    cited_parts,
    field_prompt,
    is_empty_answer,
    join_answers,
    map_prompt,
    reduce_prompt,
)


class Answers:
    """Answers that are texts: `1=a 2=b` about several documents; parts that differ are disputed."""

    def split(self, piece, answer):
        return {int(number): text for number, text in (each.split("=") for each in answer.split())}

    def part_of(self, piece, number):
        return None if number in self.blank else f"only {number}"

    def merge(self, answers):
        return answers[0] if len(set(answers)) == 1 else None

    def text(self, answer):
        return answer

    blank = frozenset()


def drive(steps, *rounds):
    """Return the calls of each round and the result of all."""
    calls, answers = [next(steps)], list(rounds)
    while True:
        try:
            calls.append(steps.send(answers.pop(0)))
        except StopIteration as done:
            return calls, done.value


def test_documents_are_asked_about_once_and_those_left_out_alone():
    pieces = [
        DocumentPiece("p0", (0,)),
        DocumentPiece("p1", (1, 2, 3), ("a", "b", "c")),
        DocumentPiece("p2", (4,)),
    ]
    answers = Answers()
    answers.blank = {3}
    calls, found = drive(answer_documents(pieces, answers, 100), ["zero", "2=two", "four"], ["one"], [])
    assert calls[0] == [
        DocumentCall("document", "p0", 0, (0,)),
        DocumentCall("each", "p1", 1, (1, 2, 3), ("a", "b", "c")),
        DocumentCall("document", "p2", 2, (4,)),
    ]
    assert calls[1] == [DocumentCall("alone", "only 1", 1)]
    assert calls[2] == []
    assert found == {0: "zero", 1: "one", 2: "two", 4: "four"}


def test_parts_are_merged_and_disputed_ones_put_to_the_model():
    pieces = [DocumentPiece(f"p{at}", (number,), is_part=True) for at, number in enumerate((0, 0, 1, 1))]
    calls, found = drive(
        answer_documents(pieces, Answers(), 100), ["same", "same", "x" * 500, "other"], [], ["settled"]
    )
    assert [call.kind for call in calls[0]] == ["part"] * 4
    (over,) = calls[2]
    assert (over.kind, over.place) == ("over parts", 1)
    assert [each["id"] for each in over.part] == ["1", "2"]
    assert over.part[0]["text"].startswith("x" * 133 + "\n… 301 characters left out")
    assert over.part[1]["text"] == "other"
    assert found == {0: "same", 1: "settled"}


def test_answers_over_parts_share_the_size():
    pieces = [DocumentPiece("p", (0,), is_part=True)] * 2
    calls, _ = drive(answer_documents(pieces, Answers(), 900), ["a" * 450, "b" * 451], [], ["c"])
    assert len(calls[2][0].part[0]["text"]) == 450
    assert "characters left out" in calls[2][0].part[1]["text"]


def test_one_answer_needs_no_call():
    with pytest.raises(StopIteration) as done:
        next(join_answers([(3, "alone")], str, 1_000))
    assert done.value.value == ("alone", {3})


def test_answers_that_hold_nothing_are_left_out_unless_all_are():
    with pytest.raises(StopIteration) as done:
        next(join_answers([(1, "nothing here"), (2, "found"), (3, "Nothing here.")], str, 1_000))
    assert done.value.value == ("found", {2})
    with pytest.raises(StopIteration) as done:
        next(join_answers([(1, "nothing here"), (2, "nothing here")], str, 1_000))
    assert done.value.value == ("nothing here", {1})


def test_answers_are_joined_level_by_level_under_their_numbers():
    steps = join_answers([(number, "x" * 300) for number in (1, 2, 4, 5)], str, 700)
    first = next(steps)
    assert [[each["id"] for each in group] for group in first] == [["1", "2"], ["4", "5"]]
    second = steps.send(["left", "right"])
    assert [[each["id"] for each in group] for group in second] == [["1-2", "4-5"]]
    with pytest.raises(StopIteration) as done:
        steps.send(["all"])
    assert done.value.value == ("all", {1, 2, 4, 5})


@pytest.mark.parametrize(("first", "last", "label"), [(1, 1, "1"), (1, 3, "1-3")])
def test_label_is_the_range_of_pieces(first, last, label):
    assert JoinedAnswer("x", first, last).label == label


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ("as [1] says", [1]), ("[2-4]", [2, 3, 4]), ("[4–5] and [1]", [1, 4, 5]), ("[3 - 3]", [3]), ("none", [1, 2, 3, 4, 5]),  # noqa: RUF001
        ("[0] [6] [5]", [5]), ("[4-2]", [1, 2, 3, 4, 5]), ("[5-6]", [1, 2, 3, 4, 5]), ("[1-5]", [1, 2, 3, 4, 5]),
    ],
)  # fmt: skip
def test_cited_parts_are_those_that_exist(answer, parts):
    assert cited_parts(answer, 5) == parts


@pytest.mark.parametrize(
    ("answer", "empty"),
    [("nothing here", True), ("**Nothing here.**", True), ("nothing here but this", False), ("", False)],
)
def test_answer_that_says_nothing_is_empty(answer, empty):
    assert is_empty_answer(answer) is empty


def test_prompts_say_fields_and_citations_where_they_are_wanted():
    assert map_prompt("q").startswith("q\n\nThe context is one part of a larger input.")
    assert map_prompt("q").endswith("say only: nothing here.")
    assert field_prompt("q", ()) == "q"
    assert "these fields: a, b." in field_prompt("q", ("a", "b"))
    assert "numbers of the parts" in reduce_prompt("q")
    assert "numbers of the parts" not in reduce_prompt("q", cite=False)
    assert reduce_prompt("q", "Do this") == "Do this\n\nThe question was: q"
