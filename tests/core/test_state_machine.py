"""What a session does next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlm_ray.core.context import ContextInfo
from rlm_ray.core.llm import ModelReply, Usage
from rlm_ray.core.prompts import session_messages
from rlm_ray.core.repl_types import CellResult, Citation, Variable
from rlm_ray.core.state_machine import Execute, Finish, Generate, Stop, Task, Trajectory, next_step

LARGE = ContextInfo("text", 1_000_000, 1, with_ids=False, sample="Call me")
SMALL = ContextInfo("text", 7, 1, with_ids=False, sample="Call me")
EMPTY = ContextInfo("text", 0, 1, with_ids=False, sample="")


class Then(str):
    """A further question."""

    __slots__ = ()


def session(*events, info=LARGE, **rules):
    """A trajectory from model messages (str or ModelReply), what their code did (CellResult), and further questions."""
    trajectory = Trajectory(Task("q", info, **rules))
    for event in events:
        if isinstance(event, CellResult):
            trajectory = trajectory.with_result(event)
        elif isinstance(event, Then):
            trajectory = trajectory.with_question(event)
        else:
            reply = event if isinstance(event, ModelReply) else ModelReply(event)
            trajectory = trajectory.with_reply(reply, "status")
    return trajectory


CODE = "```python\nprint(len(context))\n```"
LOOKED = CellResult(output="1000000", context_was_read=True)


def test_a_new_session_asks_the_model():
    assert next_step(session()) == Generate()


def test_code_is_run():
    assert next_step(session(CODE)) == Execute(("print(len(context))\n",))


def test_after_code_the_model_is_asked_again():
    assert next_step(session(CODE, LOOKED)) == Generate()


def test_final_in_code_finishes():
    assert next_step(session(CODE, CellResult(final_answer="x", context_was_read=True))) == Finish("x")


def test_an_answer_on_turn_one_without_a_look_is_refused():
    assert next_step(session("FINAL('guess')")) == Generate()
    assert next_step(session('```python\nFINAL("g")\n```', CellResult(final_answer="g"))) == Generate()


def test_an_answer_on_turn_one_counts_when_the_context_is_empty_or_shown_whole():
    assert next_step(session("FINAL('x')", info=EMPTY)) == Finish("x")
    assert next_step(session("FINAL('x')", info=SMALL)) == Finish("x")


def test_an_answer_on_turn_two_counts():
    assert next_step(session("FINAL('guess')", "FINAL('sure')")) == Finish("sure")


def test_an_empty_answer_is_an_answer():
    assert next_step(session(CODE, CellResult(final_answer="", context_was_read=True))) == Finish("")


def test_code_cut_at_the_token_limit_is_not_run():
    assert next_step(session(ModelReply("```python\nx = [1,", finish_reason="length"))) == Generate()


def test_code_whose_fence_was_forgotten_is_run():
    assert next_step(session("```python\nx = 1")) == Execute(("x = 1",))


def test_the_last_iteration_stops():
    step = next_step(session(CODE, LOOKED, CODE, LOOKED, max_iterations=2))
    assert isinstance(step, Stop)
    assert step.reason == "max_iterations"
    assert step.message == "the model did not finish within 2 turns; raise max_iterations"
    one = next_step(session(CODE, LOOKED, max_iterations=1))
    assert one.message == "the model did not finish within 1 turn; raise max_iterations"


def test_an_answer_on_the_last_iteration_finishes():
    assert next_step(
        session(CODE, CellResult(final_answer="x", context_was_read=True), max_iterations=1)
    ) == Finish("x")


def test_a_model_that_writes_only_prose_is_stopped_after_three_messages():
    assert next_step(session("hm", "hm")) == Generate()
    step = next_step(session("hm", "hm", "hm"))
    assert isinstance(step, Stop)
    assert step.reason == "no_code"


def test_an_empty_message_or_a_tool_call_is_asked_again():
    assert next_step(session(ModelReply(""))) == Generate()
    assert next_step(session(ModelReply("", tool_call=True))) == Generate()


def test_final_of_a_variable_in_prose_runs_as_code():
    result = CellResult(context_was_read=True, variables=(Variable("found", "str", 3),))
    assert next_step(session(CODE, result, "FINAL(found)")) == Execute(("FINAL(found)",))


ANSWERED = CellResult(final_answer="x", context_was_read=True)


def test_a_further_question_asks_the_model_again():
    assert next_step(session(CODE, ANSWERED, Then("and?"))) == Generate()
    assert next_step(session(CODE, ANSWERED, Then("and?"), CODE, CellResult(final_answer="y"))) == Finish("y")


def test_turns_and_idle_messages_are_counted_for_each_question():
    talk = ["hm", "hm", CODE, ANSWERED, Then("and?"), "hm", "hm"]
    assert next_step(session(*talk, max_iterations=3)) == Generate()
    assert next_step(session(*talk, "hm", max_iterations=9)).reason == "no_code"
    assert next_step(session(*talk, "hm", max_iterations=3)).reason == "max_iterations"


@pytest.mark.parametrize("reason", ["length", "MAX_TOKENS", "incomplete"])
def test_words_that_the_token_limit_cut_off_are_no_answer(reason):
    cut = ModelReply("FINAL(The answer is", reason)
    assert next_step(session(CODE, LOOKED, cut)) == Generate()
    assert next_step(session(CODE, LOOKED, ModelReply(CODE[:-4], reason))) == Generate()
    assert next_step(session(CODE, LOOKED, ModelReply(CODE, reason))) == Execute(("print(len(context))\n",))


@pytest.mark.parametrize("reply", [ModelReply(CODE, "content_filter"), ModelReply(CODE, refusal="no")])
def test_nothing_of_a_message_that_was_withheld_or_refused_is_run(reply):
    assert next_step(session(CODE, LOOKED, reply)) == Generate()


def test_a_session_that_only_thinks_says_so_in_the_end():
    thought = ModelReply("", "length", Usage(5, 900, 0, 900))
    stop = next_step(session(thought, thought, thought))
    assert stop.reason == "no_code"
    assert "3 messages; all 900 output tokens went into reasoning; raise max_tokens" in stop.message


def test_a_word_that_is_no_variable_is_an_answer_once_the_model_insists():
    assert next_step(session(CODE, LOOKED, "FINAL(blue)")) == Generate()
    assert next_step(session(CODE, LOOKED, "FINAL(blue)", "FINAL(blue)")) == Finish("blue")
    assert next_step(session(CODE, LOOKED, "FINAL(blue)", "FINAL(green)")) == Generate()


def test_a_placeholder_is_no_answer_however_often_it_is_said():
    assert next_step(session(CODE, LOOKED, "FINAL(answer)", "FINAL(answer)")) == Generate()


def test_an_expression_in_prose_runs_as_code():
    assert next_step(session(CODE, LOOKED, "FINAL(len(context))")) == Execute(("FINAL(len(context))",))


UNCITED = CellResult(final_answer="x", context_was_read=True)
CITED = CellResult(final_answer="x", context_was_read=True, citations=(Citation("words", start=0, end=5),))


def test_an_answer_that_cites_nothing_is_sent_back_twice_where_it_must_cite():
    answer = "```python\nFINAL('x')\n```"
    assert next_step(session(answer, UNCITED)) == Finish("x")
    assert next_step(session(answer, CITED, citations="required")) == Finish("x")
    back = [answer, UNCITED]
    assert next_step(session(*back, citations="required")) == Generate()
    assert next_step(session(*back * 2, citations="required")) == Generate()
    assert next_step(session(*back * 2, answer, CITED, citations="required")) == Finish("x")
    stop = next_step(session(*back * 3, citations="required"))
    assert (stop.reason, "cites nothing" in stop.message) == ("no_citations", True)
    assert next_step(session(*back, citations="required", max_iterations=1)).reason == "no_citations"


def test_citations_of_an_earlier_turn_count_and_those_of_an_earlier_question_do_not():
    looked = replace(CITED, final_answer=None)
    answer = "```python\nFINAL('x')\n```"
    assert next_step(session(CODE, looked, answer, UNCITED, citations="required")) == Finish("x")
    later = session(answer, CITED, Then("and?"), answer, UNCITED, citations="required")
    assert next_step(later) == Generate()


def test_words_without_code_that_must_cite_are_sent_back():
    said = session(CODE, LOOKED, "FINAL('x')", citations="required")
    assert next_step(said) == Generate()
    assert "it cites nothing" in session_messages(said, "status")[-1].content


WORDS = [
    ("FINAL(XKL-9040)", "The code is XKL-9040.\n", "XKL-9040"),
    ("FINAL(bob)", "bob 3\n", "bob"),
    ("FINAL(Farid 004)", "", "Farid 004"),
    ("FINAL(2026-01-03)", "", "2026-01-03"),
    ("FINAL(The answer is 3)", "", "The answer is 3"),
    ("FINAL(bob)", "ann 3\n", None),
    ("FINAL(...)", "...\n", None),
    ("FINAL(answer)", "answer\n", None),
]


@pytest.mark.parametrize(("message", "shown", "answer"), WORDS)
@pytest.mark.parametrize("form", ["{}", "```python\n{}\n```"])
def test_words_without_quotes_are_an_answer_where_code_has_printed_them(message, shown, answer, form):
    looked = CellResult(output=shown, output_chars=len(shown), context_was_read=True)
    step = next_step(session(CODE, looked, form.format(message)))
    assert step == (Finish(answer) if answer is not None else step)
    assert isinstance(step, Finish) is (answer is not None)


@pytest.mark.parametrize(
    "code", ["FINAL(n)", "FINAL(n + 1)", "FINAL(-3)", 'FINAL("bob")', "FINAL(len(rows))", "FINAL(12)"]
)
def test_a_block_that_gives_a_value_to_final_is_run(code):
    looked = CellResult(
        output="n\n", output_chars=2, context_was_read=True, variables=(Variable("n", "int", None),)
    )
    assert next_step(session(CODE, looked, f"```python\n{code}\n```")) == Execute((f"{code}\n",))
