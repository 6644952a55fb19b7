"""What a model is told about its last turn besides what its code did: the cause, and the words that it reads."""

from __future__ import annotations

import pytest

from rlm_ray.core import prompts, remarks
from rlm_ray.core.context import ContextInfo
from rlm_ray.core.llm import ModelReply
from rlm_ray.core.repl_types import CellResult
from rlm_ray.core.state_machine import Generate, Task, Trajectory, next_step, repeats_itself

SAMPLE = "".join(f"2026-11-01 12:00:{n:02} INFO worker {n} took job {n * 7}\n" for n in range(20))
INFO = ContextInfo("text", 400_000, 1, with_ids=False, sample=SAMPLE)
END_OR_OTHER = (
    "If it answers the question, end now:\n```python\nFINAL(<the answer>)\n```\nIf not, write different code."
)
NONE_ERROR = (
    "cell 1, line 1: m.group()\nAttributeError: 'NoneType' object has no attribute 'group'\nHint: test it."
)


def turns(*given, version=2, task=None):
    """A session of these turns: code and what came of it; a `ModelReply` stays as it is."""
    trajectory = task or Trajectory(Task("q", INFO, prompt_version=version))
    for code, result in given:
        reply = code if isinstance(code, ModelReply) else ModelReply(f"```python\n{code}\n```")
        trajectory = trajectory.with_reply(reply, "Turn 1 of 20.")
        trajectory = trajectory.with_result(result) if result else trajectory
    return trajectory


def told(*given, **options):
    return prompts.session_messages(turns(*given, **options), "Turn 2 of 20.")[-1].content


def out(text):
    return CellResult(output=text, output_chars=len(text), context_was_read=True)


def cut(text):
    return ModelReply(text, finish_reason="length")


COUNT = "print(context.count('INFO'))"
TABLE = {
    "the same code, the same output": (
        [(COUNT, out("20\n")), (COUNT, out("20\n"))],
        f"This is the same code as in turn 1, with the same output. {END_OR_OTHER}",
    ),
    "the same code but for blanks": (
        [(COUNT, out("20\n")), (f"\n{COUNT}\n\n", out("20\n"))],
        "the same code as in turn 1, with the same output",
    ),
    "the same code as some turns ago": (
        [(COUNT, out("20\n")), ("print(1)", out("1\n")), (COUNT, out("20\n"))],
        "the same code as in turn 1, with the same output",
    ),
    "the same code, the same error": (
        [("m.group()", CellResult(error=NONE_ERROR)), ("m.group()", CellResult(error=NONE_ERROR))],
        "with the same error. Running it again changes nothing. Look at what the failing line works on, with print(repr(",
    ),
    "the same code, the same error in another cell": (
        [
            ("m.group()", CellResult(error=NONE_ERROR)),
            ("m.group()", CellResult(error=NONE_ERROR.replace("cell 1", "cell 2"))),
        ],
        "the same code as in turn 1, with the same error",
    ),
    "the same code, silent": ([("x = 1", out("")), ("x = 1", out(""))], "again it printed nothing"),
    "other code, the same output": (
        [(COUNT, out("20\n")), ("print(len([1] * 20))", out("20\n"))],
        f"This is the same output as in turn 1. {END_OR_OTHER}",
    ),
    "other code, the same error": (
        [("m.group()", CellResult(error=NONE_ERROR)), ("m.group(0)", CellResult(error=NONE_ERROR))],
        "This is the same error as in turn 1. Running it again changes nothing.",
    ),
    "a cut message that assigns the context": (
        [(cut('```python\ncontext = """2026-11-01 12:00'), None)],
        "cut off at the token limit because you copied text of the input into it",
    ),
    "a cut message that assigns a list": (
        [(cut("```python\ncontext = [\n  'one', 'two',"), None)],
        "never write `context = ...`",
    ),
    "a cut message that pastes the sample elsewhere": (
        [(cut(f"```python\ntext = '''{SAMPLE}"), None)],
        "because you copied text of the input",
    ),
    "a cut message that pastes the sample in prose": (
        [(cut(f"The log is:\n{SAMPLE}"), None)],
        "because you copied",
    ),
    "code that assigns the context": (
        [('context = """2026-11-01"""\nprint(len(context))', out("10\n"))],
        "All of it is in the variable `context` already",
    ),
    **{
        f"nothing found: {text!r}": (
            [(COUNT, out(text))],
            "Nothing was found. The text may write it in another way than your code does: print some lines",
        )
        for text in ("0\n", "[]\n", "0 []\n0\n", "None\n", "Counter()\n", "{} 0.0\n", "''\n", "set()\n")
    },
    "code that pastes the sample": ([(f"t = '''{SAMPLE}'''\nprint(len(t))", out("900\n"))], "use that"),
}

SILENT = {
    "other code, other output": [(COUNT, out("20\n")), ("print(1)", out("1\n"))],
    "the same code, another output": [(COUNT, out("20\n")), (COUNT, out("21\n"))],
    "another error": [
        ("m.group()", CellResult(error=NONE_ERROR)),
        ("m.group()", CellResult(error="cell 2, line 1: m\nNameError: name 'm' is not defined")),
    ],
    "the first turn": [(COUNT, out("20\n"))],
    "nothing in a sentence": [(COUNT, out("0 of 20\n"))],
    "silent code that fails the second time": [("x = 1", out("")), ("x = 1", CellResult(error=NONE_ERROR))],
    "silent code that failed the first time": [("x = 1", CellResult(error=NONE_ERROR)), ("x = 1", out(""))],
    "a list that holds nothing": [(COUNT, out("[0, 0]\n"))],
    "a number that ends in 0": [(COUNT, out("10\n"))],
    "two silent cells": [("x = 1", out("")), ("y = 2", out(""))],
    "the same output some turns ago": [
        (COUNT, out("20\n")),
        ("print(1)", out("1\n")),
        ("print(20)", out("20\n")),
    ],
    "a slice of the context": [("context_lines = context.splitlines()\nprint(3)", out("3\n"))],
    "a comparison with the context": [("print(context == 'abc')", out("False\n"))],
}


@pytest.mark.parametrize("name", TABLE)
def test_a_cause_is_told_at_once(name):
    given, said = TABLE[name]
    assert said in told(*given)


@pytest.mark.parametrize("name", SILENT)
def test_what_is_no_repetition_is_not_spoken_of(name):
    text = told(*SILENT[name])
    assert "same" not in text
    assert "already" not in text


@pytest.mark.parametrize("name", TABLE)
def test_a_run_of_the_first_version_is_told_what_it_was_told(name):
    given, _ = TABLE[name]
    text = told(*given, version=1)
    assert not any(said in text for said in ("This is the same", "already", "copied text"))


def test_a_new_question_begins_anew():
    talk = turns((COUNT, out("20\n"))).with_question("And again?")
    assert "same" not in told((COUNT, out("20\n")), task=talk)
    assert "same code as in turn 1" in told((COUNT, out("20\n")), (COUNT, out("20\n")), task=talk)


def test_a_remark_is_said_the_same_way_in_every_later_message():
    given = [(COUNT, out("20\n")), (COUNT, out("20\n")), ("print(2)", out("2\n"))]
    before = prompts.session_messages(turns(*given[:2]), "Turn 1 of 20.")
    assert prompts.session_messages(turns(*given), "Turn 1 of 20.")[: len(before)] == before


ENDING = {
    (20, 1): "",
    (20, 15): "",
    (20, 16): " Only 4 more turns after this one: call FINAL as soon as you can, with what you know.",
    (20, 19): " Only 1 more turn after this one: call FINAL as soon as you can, with what you know.",
    (20, 20): " This is your last turn: call FINAL in this message.",
    (8, 6): " Only 2 more turns after this one: call FINAL as soon as you can, with what you know.",
    (3, 2): "",
    (1, 1): " This is your last turn: call FINAL in this message.",
    (300, 295): "",
    (300, 296): " Only 4 more turns after this one: call FINAL as soon as you can, with what you know.",
}


@pytest.mark.parametrize(("turns_allowed", "turn"), ENDING)
def test_the_end_of_the_turns_is_announced_early(turns_allowed, turn):
    line = prompts.status_line(Task("q", INFO, max_iterations=turns_allowed), turn, "")
    assert line == f"Turn {turn} of {turns_allowed}.{ENDING[turns_allowed, turn]}"


UNSEEN = "your whole answer is: not found"


@pytest.mark.parametrize(
    ("given", "is_unseen"),
    [
        ([], True),
        ([("x = 1", out(""))], True),
        ([("m.group()", CellResult(error=NONE_ERROR))], True),
        ([(cut("```python\ncontext = '''abc"), None)] * 3, True),
        ([(COUNT, out("20\n"))], False),
        ([(COUNT, out("20\n")), ("m.group()", CellResult(error=NONE_ERROR))], False),
    ],
)
def test_a_last_call_that_has_seen_nothing_is_told_to_say_so(given, is_unseen):
    talk = turns(*given)
    assert (UNSEEN in prompts.last_call_messages(talk, "it is over")[-1].content) == is_unseen
    in_short = is_unseen or not given[-1][1].output  # only the last turn is history there
    assert (UNSEEN in prompts.short_last_call_messages(talk, "it is over")[-1].content) == in_short
    assert UNSEEN not in prompts.last_call_messages(turns(*given, version=1), "it is over")[-1].content


def test_a_context_that_the_prompt_shows_whole_has_been_seen():
    whole = ContextInfo("text", 3, 1, with_ids=False, sample="abc")
    assert UNSEEN not in prompts.last_call_messages(Trajectory(Task("q", whole)), "over")[-1].content


@pytest.mark.parametrize(("between", "is_remarked"), [(0, True), (8, True), (9, True), (10, False)])
def test_code_is_compared_with_that_of_the_ten_turns_before(between, is_remarked):
    others = [(f"print({n})", out(f"{n}\n")) for n in range(between)]
    said = told((COUNT, out("20\n")), *others, (COUNT, out("20\n")))
    assert ("the same code as in turn 1" in said) is is_remarked


def test_a_small_model_is_reminded_to_end_after_a_cell_that_went_well():
    small = Trajectory(Task("q", INFO, profile="short"))
    reminder = "The question is: q\nIf this output answers it, end now with FINAL(answer)."
    assert reminder in told((COUNT, out("20\n")), task=small)
    assert reminder not in told(("m.group()", CellResult(error=NONE_ERROR)), task=small)
    assert reminder not in told(("x = 1", out("")), task=small)
    assert reminder not in told((COUNT, out("20\n")), (COUNT, out("20\n")), task=small)  # told more exactly
    assert reminder not in told((COUNT, out("20\n")))


# A small model that repeats itself

SMALL = Trajectory(Task("q", INFO, profile="short"))


def restarted(*given):
    """The conversation that begins anew after these turns."""
    trajectory = turns(*given, task=SMALL)
    assert repeats_itself(trajectory)
    return trajectory.with_compaction("", repeated=True)


RESTARTS = {
    "an output": (out("20\n"), "printed:\n20\n", "write only\n```python\nFINAL(<the answer>)\n```"),
    "nothing found": (out("0\n"), "found nothing:\n0\n", "look for other words"),
    "nothing printed": (
        out(""),
        "printed nothing.",
        "Begin with a short block that prints some of `context`.",
    ),
    "an error": (
        CellResult(error=NONE_ERROR),
        "failed:\nAttributeError: 'NoneType' object",
        "in another way",
    ),
    "a kill": (CellResult(kill_reason="it was killed"), "failed:\nit was killed", "in another way"),
}


@pytest.mark.parametrize("name", RESTARTS)
def test_a_small_model_that_repeats_itself_reads_the_question_and_what_came_of_its_code(name):
    result, outcome, advice = RESTARTS[name]
    trajectory = restarted((COUNT, result), (COUNT, result))
    system, asked = prompts.session_messages(trajectory, "Turn 3 of 20.")
    assert system.role == "system"
    assert asked.content.startswith("Question: q\n")
    assert f"The last code {outcome}" in asked.content
    assert "Do not write that code again." in asked.content
    assert advice in asked.content
    assert "assistant" not in {message.role for message in prompts.session_messages(trajectory, "")}


def test_the_conversation_grows_from_where_it_began_anew():
    trajectory = restarted((COUNT, out("20\n")), (COUNT, out("20\n")))
    begun = prompts.session_messages(trajectory, "Turn 3 of 20.")
    grown = prompts.session_messages(
        trajectory.with_reply(ModelReply("```python\nprint(2)\n```"), "Turn 3 of 20.").with_result(
            out("2\n")
        ),
        "Turn 4 of 20.",
    )
    assert grown[: len(begun)] == begun
    assert len(grown) == len(begun) + 2


@pytest.mark.parametrize("profile", ["full", "cautious", "small-window"])
def test_a_strong_model_may_repeat_itself(profile):
    task = Trajectory(Task("q", INFO, profile=profile))
    assert not repeats_itself(turns(*[(COUNT, out("20\n"))] * 5, task=task))


def test_turns_before_a_restart_and_of_an_earlier_question_are_no_repetition():
    trajectory = restarted((COUNT, out("20\n")), (COUNT, out("20\n")))
    assert not repeats_itself(trajectory)
    assert not repeats_itself(turns((COUNT, out("20\n")), task=trajectory))
    asked = turns((COUNT, out("20\n")), task=SMALL).with_question("another")
    assert not repeats_itself(turns((COUNT, out("20\n")), task=asked))


def test_a_model_that_still_repeats_itself_after_two_restarts_ends_the_session():
    trajectory = SMALL
    for _ in range(2):
        trajectory = turns(*[(COUNT, out("20\n"))] * 2, task=trajectory)
        assert next_step(trajectory) == Generate()
        trajectory = trajectory.with_compaction("", repeated=True)
    trajectory = turns((COUNT, out("20\n")), task=trajectory)
    assert next_step(trajectory) == Generate()
    stop = next_step(turns((COUNT, out("20\n")), task=trajectory))
    assert stop.reason == "no_progress"


# An answer that is written beside the code that was to find it

BESIDE_CODE = [
    ('print(context.count("x"))\nFINAL("bob")', "3\n", True),
    ("print(context.count('x'))\nFINAL(7)", "3\n", True),
    ("n = context.count('x')\nprint(n)\nFINAL(n)", "3\n", False),
    ("n = context.count('x')\nprint(n)\nFINAL(f'{n} times')", "3\n", False),
    ('x = 1\nFINAL("bob")', "", False),
    ('FINAL("bob")', "", False),
]


@pytest.mark.parametrize(("code", "output", "is_unseen"), BESIDE_CODE)
def test_a_small_model_sees_the_output_before_its_answer_is_taken(code, output, is_unseen):
    result = CellResult(output=output, output_chars=len(output), final_answer="given", context_was_read=True)
    assert prompts.answered_before_output(turns((code, result), task=SMALL)) is is_unseen
    assert not prompts.answered_before_output(turns((code, result)))  # a strong model may


def test_an_answer_that_stood_in_an_earlier_output_may_stand_beside_code():
    result = CellResult(output="ok\n", output_chars=3, final_answer="bob", context_was_read=True)
    assert not prompts.answered_before_output(
        turns(("print(context)", out("ann bob\n")), ('print("ok")\nFINAL("bob")', result), task=SMALL)
    )


def test_an_answer_beside_code_is_sent_back_once():
    result = CellResult(output="3\n", output_chars=2, final_answer="bob", context_was_read=True)
    code = 'print(context.count("x"))\nFINAL("bob")'
    trajectory = turns((code, result), task=SMALL).with_refusal(prompts.UNSEEN)
    told_now = prompts.session_messages(trajectory, "Turn 2 of 20.")[-1].content
    assert told_now.startswith(f"That answer was not accepted. {prompts.UNSEEN}\n")
    assert "Output:\n3\n" in told_now
    assert not prompts.answered_before_output(turns((code, result), task=trajectory))


@pytest.mark.parametrize(
    ("text", "sample", "is_pasted"),
    [
        (SAMPLE[:120], SAMPLE, True), (SAMPLE[:119], SAMPLE, False), (SAMPLE[120:240], SAMPLE, True), (SAMPLE[60:180], SAMPLE, False), (SAMPLE[60:320], SAMPLE, True),
        ("x" * 120, f"  {'x' * 120}\n", True), ("x" * 119, "x" * 119, False), ("", "", False), ("words", "", False),
        ("context = 'a b'", "", True), ("context = ['a']", "", True), ("  context = f'a'", "", True), ("context_2 = 'a'", "", False), ("context = read()", "", False),
    ],
)  # fmt: skip
def test_long_stretch_of_the_sample_in_a_message_is_pasted(text, sample, is_pasted):
    info = ContextInfo("text", 400_000, 1, with_ids=False, sample=sample)
    trajectory = Trajectory(Task("q", info)).with_reply(ModelReply(f"```python\n{text}\n```"), "")
    assert remarks.pastes_context(trajectory) is is_pasted


@pytest.mark.parametrize(
    ("result", "is_nothing"),
    [
        (CellResult(output="0\n"), True), (CellResult(output="[]\nNone 0.0 {} set()"), True), (CellResult(output=""), False), (CellResult(output="1"), False),
        (CellResult(output="0", error="E"), False), (CellResult(output="0", kill_reason="timeout"), False), (CellResult(output="0 hits"), False),
    ],
)  # fmt: skip
def test_output_of_zeros_and_empty_lists_is_nothing(result, is_nothing):
    assert remarks.found_nothing(result) is is_nothing


@pytest.mark.parametrize(("chars", "is_whole"), [(1_000, True), (1_001, False)])
def test_thousand_characters_of_what_repeated_code_printed_are_shown(chars, is_whole):
    for result in (out("x" * chars), CellResult(error="x" * chars), CellResult(kill_reason="x" * chars)):
        asked = prompts.session_messages(restarted((COUNT, result), (COUNT, result)), "s")[-1].content
        assert ("x" * chars in asked) is is_whole


def test_cut_message_without_a_fence_that_assigns_the_context_is_told_so():
    assert "because you copied text of the input" in told((cut('context = """2026-11-01 12:00'), None))


def test_restarts_of_an_earlier_question_do_not_end_the_next_one():
    twice = [(COUNT, out("20\n"))] * 2
    trajectory = restarted(*twice).with_compaction("", repeated=True)
    assert next_step(turns(*twice, task=trajectory)).reason == "no_progress"
    assert next_step(turns(*twice, task=trajectory.with_question("and?"))) == Generate()
