"""What of a reply is shown as the answer while it is written."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.answer_preview import AnswerDelta, AnswerPreview, AnswerRestarted, Form, ShownAnswer
from rlm_ray.core.parsing import parse
from rlm_ray.core.thinking import split_thinking

FENCE = "```"


def shown_of(reply: str, form: Form, size: int) -> str:
    news: list[object] = []
    preview = AnswerPreview(news.append)
    preview.expect(form)
    for at in range(0, len(reply), size):
        preview.feed(reply[at : at + size])
    return "".join(each.text for each in news if isinstance(each, AnswerDelta))


ANSWERS = {
    'FINAL("The monster hides in the hovel.")': "The monster hides in the hovel.",
    "FINAL('it\\'s here, in it')": "it's here, in it",
    'FINAL("""a long\nanswer here """)': "a long\nanswer here ",
    "FINAL('''two\nlines''')": "two\nlines",
    'FINAL("two words\nand a raw line")': "two words\nand a raw line",
    'FINAL("The \\u00e9t\\x41 \\n next \\101b \\d")': "The étA \n next Ab \\d",
    'FINAL( "The  monster hides" )': "The  monster hides",
    'FINAL("About 50% of the people hide.")': "About 50% of the people hide.",
    'FINAL("As JSON: {1, 2}")': "As JSON: {1, 2}",
    "FINAL(The answer is in the hovel (near the cottage).)": "The answer is in the hovel (near the cottage).",
    "FINAL(Victor is the creator of it)": "Victor is the creator of it",
    "**FINAL(The monster hides in a hovel)**": "The monster hides in a hovel",
    'Final answer: FINAL("a b c d")': "a b c d",
    'I am sure.\n\nFINAL("The monster hides")\n': "The monster hides",
    'FINAL("It is \\U0001f642 here")': "It is 🙂 here",
    'FINAL("It is \\ud7ff\\ue000\\377\\0 here")': "It is \ud7ff\ue000\xff\0 here",
    'FINAL("It is \\\nhere")': "It is here",
    '<think>hm\nFINAL("no no no")\n</think>\nFINAL("yes this one")': "yes this one",
    f'{FENCE}python\nFINAL("The monster hides")\n{FENCE}': "The monster hides",
    f'I know it.\n{FENCE}repl\n# so\n\nFINAL("The monster hides")\n{FENCE}': "The monster hides",
}  # fmt: skip


@pytest.mark.parametrize("reply", ANSWERS)
@pytest.mark.parametrize("size", [1, 4, 1_000])
def test_the_text_in_a_final_is_shown_while_it_is_written(reply: str, size: int):
    assert shown_of(reply, "final", size) == ANSWERS[reply]
    beginning = reply[: reply.rindex(ANSWERS[reply][-2:])]
    assert shown_of(beginning, "final", size) or set("%{") & set(reply)


NO_ANSWERS = [
    "FINAL(answer)", "FINAL(not x)", "FINAL(x for x in y)", "FINAL(42)", "FINAL_VAR(answer)", "FINAL: the monster is here",
    'FINAL(f"The count is {n}")', 'FINAL(answer="a b c")', 'FINAL({"a b": 1})', 'FINAL("")', 'FINAL("...")',
    'FINAL("your answer here")', 'FINAL("<the answer>")', "FINAL(your final answer here)", "FINAL(<your answer here>)",
    f'{FENCE}python\nx = 1\nFINAL("The monster hides")\n{FENCE}', f'{FENCE}python\nif x:\n    FINAL("The monster")\n{FENCE}',
    'if x:\n    FINAL("The monster")\nelse:\n    FINAL("Nobody is")', f"{FENCE}python\nFINAL(The monster hides)\n{FENCE}",
    f'{FENCE}python\nprint(context[:100])\n{FENCE}\nFINAL("The monster hides")', '{"code": "1"}\nFINAL("The monster hides")',
    f'{FENCE}python\n# look\n{FENCE}\nFINAL("The monster hides")', f'so {FENCE}x{FENCE}\nFINAL("The monster hides")',
    'so ~~~x~~~\nFINAL("The monster hides")', '  [1]\nFINAL("The monster hides")', "FINAL(not x) and so on, for a while",
    '<code>\nFINAL("The monster hides")\n</code>', "Let me look first.", "", '# FINAL("a comment here")', '<think>\nFINAL("The monster hides")',
]  # fmt: skip


@pytest.mark.parametrize("reply", NO_ANSWERS)
@pytest.mark.parametrize("size", [1, 4, 1_000])
def test_what_may_be_no_answer_is_not_shown(reply: str, size: int):
    assert shown_of(reply, "final", size) == ""


TEXTS = {
    "hello world": "hello world",
    "  led by space": "  led by space",
    "<think>hm</think>\n\nThe answer [1] is <b> ": "The answer [1] is <b>",
    "<think>\nlong\n</think>\nYes and no ": "Yes and no",
    "◁think▷a◁/think▷b c": "b c",
    "It is 4.\n\n<think>hm</think>\n": "It is 4.",
    "It is 4. \n[THINK]": "It is 4.",
    "It is\n\n4.\n ": "It is\n\n4.",
    "[THINK]a[/THINK]b c": "b c",
    "<p>x</p> and so on for a while": "<p>x</p> and so on for a while",
    "a < b and c > d": "a < b and c > d",
    "Analysis of it": "Analysis of it",
    "analysis of it": "",
    "analogy of it": "analogy of it",
    "<p>24 characters, no tag": "<p>24 characters, no tag",
    "<p>23 characters no tag": "",
    "<|24 characters, no tag>": "",
    "<think>never ends, and goes on": "",
    "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b": "",
}


@pytest.mark.parametrize("reply", TEXTS)
@pytest.mark.parametrize("size", [1, 4, 1_000])
def test_the_text_of_a_plain_call_is_shown_without_its_thinking(reply: str, size: int):
    shown = shown_of(reply, "text", size)
    assert shown == TEXTS[reply]
    assert split_thinking(reply)[0].startswith(shown)


@pytest.mark.parametrize("form", ["text", "final"])
@pytest.mark.parametrize(
    ("begin", "piece"),
    [("<think>x</think>a", "\n"), ("a", " "), ("FINAL(The answer ", " "), ("FINAL(a", "b"), ("FINAL(", "b"), ('FINAL("<', "b"), ("<think>", " a")],
)  # fmt: skip
def test_a_reply_that_goes_on_with_the_same_is_read_in_linear_time(form: Form, begin: str, piece: str):
    preview = AnswerPreview(lambda _: None)
    preview.expect(form)
    preview.feed(begin)
    began = time.thread_time()
    for _ in range(10_000):
        preview.feed(piece)
    assert time.thread_time() - began < 1  # 2.4 s where all is looked at with each piece


PIECES = st.sampled_from(
    ["FINAL(", '"', "'", '"""', ")", "\n", " ", "The ", "monster ", "hides", "\\n", "\\", "{", "%s", FENCE, "python\n", "<think>",
     "</think>", "x = 1", "#", "(", "é", "answer"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=14).map("".join))
def test_how_a_reply_is_cut_changes_at_most_how_much_is_shown(reply: str):
    one_by_one, at_once = shown_of(reply, "final", 1), shown_of(reply, "final", 1_000)
    assert one_by_one.startswith(at_once)


@given(st.text(max_size=60))
def test_a_string_in_a_final_is_shown_as_python_reads_it(text: str):
    reply = f"FINAL({text!r})"
    answer = parse(reply).answer
    assert answer is None or answer.startswith(shown_of(reply, "final", 3))


def test_a_thought_without_a_beginning_is_taken_back_and_awaited_the_next_time():
    news: list[object] = []
    preview, thinkers = None, set[str]()
    for _ in range(2):
        preview = AnswerPreview(news.append, thinkers)
        preview.expect("text", "qwen")
        for piece in ("Let me", " think.\n</think>\n", "\nIt is", " 4."):
            preview.feed(piece)
    assert news == [AnswerDelta("Let me"), AnswerDelta(" think."), AnswerDelta("It is"), AnswerDelta(" 4.")]
    assert thinkers == {"qwen"}


def test_another_attempt_and_another_call_take_back_what_was_shown():
    news: list[object] = []
    preview = AnswerPreview(news.append)
    assert preview.expect("text")
    preview.restart()
    preview.feed("one")
    preview.restart()
    preview.restart()
    preview.feed("two")
    assert not preview.expect(None)
    preview.feed("three")
    assert news == [AnswerDelta("one"), AnswerRestarted(), AnswerDelta("two"), AnswerRestarted()]


@given(
    st.lists(st.one_of(st.builds(AnswerDelta, st.sampled_from(["", "a", "b", "ab"])), st.just(AnswerRestarted()))),
    st.sampled_from([None, "", "a", "ab", "abab"]),
)  # fmt: skip
def test_the_deltas_since_the_last_restart_are_the_answer(news, answer):
    shown, text = ShownAnswer(), ""
    for each in [*filter(None, map(shown.take, news)), *shown.complete(answer)]:
        if isinstance(each, AnswerRestarted):
            assert text
            text = ""
        else:
            assert each.text
            text += each.text
    assert text == (answer or "")


@pytest.mark.parametrize(("chars", "is_placeholder"), [(80, True), (81, False)])
def test_words_in_angle_brackets_are_shown_where_they_are_too_long_for_a_placeholder(chars, is_placeholder):
    text = f"<{('it is ' * 20)[: chars - 1]}.>"
    reply = f'FINAL("{text}")'
    assert shown_of(reply, "final", 1) == shown_of(reply, "final", 1_000) == ("" if is_placeholder else text)
    assert parse(reply).answer == (None if is_placeholder else text)


@pytest.mark.parametrize(("chars", "is_shown"), [(199, False), (200, True)])
def test_words_that_may_become_a_placeholder_are_shown_from_two_hundred_characters_on(chars, is_shown):
    text = ("the answer is my answer " * 10)[:chars].replace("is", "of")
    assert bool(shown_of(f'FINAL("{text}', "final", 1)) is is_shown


def test_nothing_is_shown_of_what_may_be_a_format_however_long_it_is():
    reply = 'FINAL("It is here, {} and ' + "so on " * 500
    assert shown_of(reply, "final", 19) == "It is here,"
    news: list[object] = []
    preview = AnswerPreview(news.append)
    preview.expect("final")
    preview.feed(reply[:19])
    preview.feed(reply[19:])
    assert news == [AnswerDelta("It is here,")]


@pytest.mark.parametrize(
    "escape", ["\\ud800", "\\udfff", "\\U00110000", "\\N{BULLET}", "\\xZZ and on", "\\u12"]
)
def test_escape_that_gives_no_character_is_not_shown_as_one(escape):
    shown = shown_of(f'FINAL("It is {escape} here")', "final", 1)
    assert shown.encode()
    assert shown in ("It is ", f"It is {escape} here")
