"""Calls of a plan: numbered, in order, and what does not fit put right once."""

from __future__ import annotations

import pytest

from rlm_ray.core.context import make_context
from rlm_ray.core.repl_types import Failed, SubCallAnswer
from rlm_ray.core.reply import CUT_MARK
from rlm_ray.mapreduce.piece_calls import NUMBERS, Ask, PieceAnswer, PieceCaller, drive
from rlm_ray.mapreduce.spec import parse_spec

SCHEMA = parse_spec(
    "q",
    reduce="count:status",
    schema={"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]},
).schema


class Backend:
    """Answers from a list, in order; keeps the numbers and questions."""

    def __init__(self, *answers):
        self.answers, self.numbers, self.questions = list(answers), [], []

    async def llm_calls(self, calls):
        self.numbers += [number for _, number, *_ in calls]
        self.questions += [question for _, _, question, *_ in calls]
        return [self.answers.pop(0) for _ in calls]


def answered(text, cut=""):
    return SubCallAnswer(text, cut)


async def test_answers_come_in_order_under_numbers_that_leave_room_for_repairs():
    backend = Backend(*map(answered, "abc"))
    caller = PieceCaller(backend, None, make_context("x"), first=10)
    assert await caller.call_all("q", ["1", "2"]) == [PieceAnswer("a"), PieceAnswer("b")]
    assert await caller.call_all("q", ["3"]) == [PieceAnswer("c")]
    assert backend.numbers == [10, 10 + NUMBERS, 10 + 2 * NUMBERS]
    assert (caller.asked, caller.cut, caller.why_cut) == (3, 0, "")
    assert await caller.call_all("q", []) == []


async def test_answer_that_does_not_fit_is_repaired_once_under_the_next_number():
    backend = Backend(answered("no"), answered('{"status": "ok"}'), answered('{"status": "late"}'))
    caller = PieceCaller(backend, SCHEMA, make_context("x"))
    first, second = await caller.call_all("q", ["1", "2"])
    assert (first.value, second.value) == ({"status": "late"}, {"status": "ok"})
    assert backend.numbers == [0, NUMBERS, 1]
    assert "no" in backend.questions[2]


async def test_answer_that_cannot_be_repaired_is_a_failure_and_so_is_a_failed_call():
    down = Failed("ModelError", "is down")
    backend = Backend(answered("no"), down, answered("no again"))
    first, second = await PieceCaller(backend, SCHEMA, make_context("x")).call_all("q", ["1", "2"])
    assert isinstance(first, Failed)
    assert second == down


async def test_answer_that_was_cut_is_marked_or_whole_or_a_failure():
    cut = "cut off at 5 tokens"
    backend = Backend(answered("half", cut), answered("whole"))
    caller = PieceCaller(backend, None, make_context("x"))
    first, second = await caller.call_all("q", ["1", "2"])
    assert (first.value, first.cut, second) == (f"half\n{CUT_MARK}", cut, PieceAnswer("whole"))
    assert (caller.asked, caller.cut, caller.why_cut) == (2, 1, cut)
    backend = Backend(answered('{"status": "ok"} and', cut), answered('{"stat', cut))
    caller = PieceCaller(backend, SCHEMA, make_context("x"))
    whole, torn = await caller.call_all("q", ["1", "2"])
    assert whole.value == {"status": "ok"}
    assert torn == Failed("ReplyError", cut)
    assert backend.numbers == [0, NUMBERS]


@pytest.mark.parametrize(
    ("value", "text"), [("as it is", "as it is"), ({"Maß": "ü"}, '{"Maß": "ü"}'), (["a"], '["a"]'), (3, "3"), (None, "null")]
)  # fmt: skip
def test_answer_as_text_is_json_where_it_is_none(value, text):
    assert PieceAnswer(value).text == text


async def test_a_question_of_its_own_has_its_own_schema_and_its_own_reading():
    cut = "cut off at 5 tokens"
    backend = Backend(
        answered("1 2"), answered('{"status": "ok"}'), answered("3 4", cut), answered("half", cut)
    )
    caller = PieceCaller(backend, None, make_context("x"))
    asks = [
        Ask(7, "first", "a", None, str.split), Ask(2, "second", "b", SCHEMA), Ask(0, "third", "c", None, str.split),
        Ask(3, "fourth", "d", None),
    ]  # fmt: skip
    assert await caller.each(asks) == [
        PieceAnswer(["1", "2"]), PieceAnswer({"status": "ok"}), PieceAnswer(["3", "4"]), PieceAnswer(f"half\n{CUT_MARK}", cut),
    ]  # fmt: skip
    assert (backend.numbers, backend.questions) == ([7, 2, 0, 3], ["first", "second", "third", "fourth"])
    assert (caller.asked, caller.cut, caller.why_cut) == (4, 1, cut)


async def test_cut_answers_are_counted_over_all_rounds_and_told_by_the_first():
    backend = Backend(answered("a", "first"), answered("b"), answered("c", "second"), answered("d", "third"))
    caller = PieceCaller(backend, None, make_context("x"))
    for parts in (["1", "2"], ["3", "4"]):
        await caller.call_all("q", parts)
    assert (caller.asked, caller.cut, caller.why_cut) == (4, 3, "first")


async def test_calls_are_driven_round_by_round_until_there_is_a_result():
    def steps():
        first = yield [1, 2]
        second = yield []
        return first, second

    rounds = []

    async def ask(calls):
        rounds.append(calls)
        return [10 * each for each in calls]

    assert await drive(steps(), ask) == ([10, 20], [])
    assert rounds == [[1, 2], []]
