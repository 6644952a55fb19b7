"""Answers that do not match their schemas are put right in one place, as often as it says."""

import threading

import pytest

from rlm_ray.core.llm import Message, ModelReply
from rlm_ray.core.repl_types import Failed, SubCallAnswer
from rlm_ray.structured import conform as conform_module
from rlm_ray.structured import schema as schema_module
from rlm_ray.structured.conform import CHECKED_ON_THE_LOOP, REPAIRS, check_answer, conform, conform_reply
from rlm_ray.structured.schema import AnswerSchema

YEAR = AnswerSchema.parse(
    {"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]}
)
NAMES = AnswerSchema.parse({"type": "array", "items": {"type": "string"}})
RIGHT, WRONG = '{"year": 1815}', '{"year": "never"}'
DOWN = Failed("ModelError", "is down")
CUT = "was cut off at 5 tokens"


class Model:
    """Repairs from a list for each answer; keeps what was asked in each wave."""

    def __init__(self, *repairs):
        self.repairs, self.waves = [list(each) for each in repairs], []

    async def __call__(self, misfits):
        self.waves.append([(misfit.at, misfit.number) for misfit in misfits])
        return [as_outcome(self.repairs[misfit.at].pop(0)) for misfit in misfits]


def as_outcome(said):
    return said if isinstance(said, Failed | SubCallAnswer) else SubCallAnswer(said)


@pytest.mark.parametrize(
    ("first", "repairs", "most", "asked", "why"),
    [
        (RIGHT, [], 1, 0, ""),
        (f"It is\n```json\n{RIGHT}\n```", [], 1, 0, ""),
        (WRONG, [RIGHT], 1, 1, ""),
        (WRONG, [WRONG], 1, 1, '`year`: found "never", wanted an integer'),
        (WRONG, [WRONG, RIGHT], 2, 2, ""),
        (WRONG, [WRONG, WRONG], 2, 2, '`year`: found "never", wanted an integer'),
        (WRONG, [], 0, 0, '`year`: found "never", wanted an integer'),
        ("", [RIGHT], 1, 1, ""),
        ("prose", ["more prose"], 1, 1, "holds no JSON object"),
        (SubCallAnswer(WRONG, CUT), [], 2, 0, CUT),  # it would be cut off again
        (SubCallAnswer(RIGHT, CUT), [], 2, 0, ""),  # what can be read is whole
        (WRONG, [SubCallAnswer('{"ye', CUT)], 2, 1, CUT),
        (WRONG, [SubCallAnswer(RIGHT, CUT)], 2, 1, ""),
        ("x" * (CHECKED_ON_THE_LOOP + 1), [RIGHT], 1, 1, ""),
    ],
)
async def test_answer_is_put_right_as_often_as_may_be_and_not_where_that_is_of_no_use(
    first, repairs, most, asked, why
):
    model = Model(repairs)
    (typed,) = await conform([YEAR], [as_outcome(first)], model, most)
    assert len(model.waves) == asked
    assert typed.parsed.value == (None if why else {"year": 1815})
    assert why in typed.why
    assert bool(typed.why) == bool(why)


@pytest.mark.parametrize(("first", "repairs"), [(DOWN, []), (WRONG, [DOWN])])
async def test_call_that_failed_is_its_failure(first, repairs):
    assert await conform([YEAR], [as_outcome(first)], Model(repairs)) == [DOWN]


async def test_many_answers_are_put_right_side_by_side_each_by_its_own_schema():
    firsts = [WRONG, "any text", '["Ada"]', DOWN, "no names", WRONG]
    model = Model([RIGHT], [], [], [], ['["Mary"]'], [WRONG, RIGHT])
    schemas = [YEAR, None, NAMES, YEAR, NAMES, YEAR]
    answers = await conform(schemas, list(map(as_outcome, firsts)), model, 2)
    assert model.waves == [[(0, 1), (4, 1), (5, 1)], [(5, 2)]]
    values = [answer if isinstance(answer, Failed) else answer.parsed.value for answer in answers]
    assert values == [{"year": 1815}, "any text", ["Ada"], DOWN, ["Mary"], {"year": 1815}]


async def test_without_answers_nothing_is_asked():
    assert await conform([], [], Model()) == []


async def test_reply_is_put_right_in_its_conversation():
    asked = []
    replies = iter([WRONG, RIGHT])

    async def ask(messages, misfit):
        asked.append((misfit.number, [message.role for message in messages], messages[-1].content))
        return ModelReply(next(replies))

    typed = await conform_reply(YEAR, (Message("user", "When?"),), ModelReply("in 1815"), ask, 2)
    assert typed.parsed.text == RIGHT
    assert [(number, roles) for number, roles, _ in asked] == [
        (1, ["user", "assistant", "user"]),
        (2, ["user", "assistant", "user", "assistant", "user"]),
    ]
    assert "holds no JSON object" in asked[0][2]
    assert '`year`: found "never"' in asked[1][2]


async def test_reply_that_was_cut_off_is_not_asked_for_again():
    async def ask(messages, misfit):
        raise AssertionError

    typed = await conform_reply(YEAR, (), ModelReply('{"year": 18', finish_reason="length"), ask)
    assert "cut off" in typed.why


async def test_what_ends_the_run_while_an_answer_is_put_right_is_raised():
    async def ask(messages, misfit):
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await conform_reply(YEAR, (), ModelReply(WRONG), ask)
    assert REPAIRS == 1  # the numbers of calls on record leave room for one


@pytest.mark.parametrize(("most_s", "is_beside"), [(60.0, False), (-1.0, True)])
async def test_an_answer_whose_check_takes_long_is_checked_beside_the_loop(most_s, is_beside, monkeypatch):
    checked_in, find_faults = [], schema_module.find_faults

    def noted(*arguments):
        checked_in.append(threading.current_thread())
        return find_faults(*arguments)

    monkeypatch.setattr(schema_module, "find_faults", noted)
    monkeypatch.setattr(conform_module, "ON_THE_LOOP_S", most_s)
    for answer, fits in ((RIGHT, True), (WRONG, False)):
        parsed = await check_answer(YEAR, answer)
        assert (parsed.fits, parsed.why == "") == (fits, fits)
        assert "too many steps" not in parsed.why
        assert (checked_in[-1] is not threading.main_thread()) is is_beside
