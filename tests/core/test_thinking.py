"""Thinking inside a reply is told apart from what the model says."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.thinking import split_thinking

F = "```"
RIGHT = f"{F}python\nFINAL('right')\n{F}"
GUESS = f"{F}python\nFINAL('guess')\n{F}"

THINKING = [
    ("<think>\nI might\n</think>\n\nanswer", "answer"),
    ("<think>bla</think>answer", "answer"),
    ("<think></think>answer", "answer"),
    ("<think>\n\n</think>\n\nanswer", "answer"),
    ("<think>bla", ""),
    (f"<think>\nI might run\n{GUESS}\nbut", ""),
    ("bla</think>answer", "answer"),
    ("</think>\n\nanswer", "answer"),
    ("It is 4.</think>\n\nanswer", "answer"),
    ("so it is done. </think> answer", "answer"),
    (f"Maybe:\n{GUESS}\nNo.\n</think>\n\n{RIGHT}", RIGHT),
    (f"Maybe\n{F}python\nprint(1)\n</think>\n\n{RIGHT}", RIGHT),
    (f"Sure.\n<think>\n{GUESS}\n</think>\n\n{RIGHT}", f"Sure.\n\n\n{RIGHT}"),
    (f"Sure.\n<think>\n{GUESS}", "Sure."),
    (f"<think>\n{GUESS}\n</think>\n\n{RIGHT}", RIGHT),
    (f"<think>\n{F}\nx\n</think>\n{F}\ny\n{F}", f"{F}\ny\n{F}"),
    ("<seed:think>a</seed:think>answer", "answer"),
    ("<thinking>a</thinking>answer", "answer"),
    ("<thinking>a</thinking>answer", "answer"),
    ("<thought>a</thought>answer", "answer"),
    ("<reasoning>\na\n</reasoning>\n\nanswer", "answer"),
    ("draft\n</reasoning>\n\nanswer", "answer"),
    ("Sure.\n<reasoning>\na\n</reasoning>\n\nanswer", "Sure.\n\n\nanswer"),
    ("<THINK>a</THINK>answer", "answer"),
    ("[THINK]a[/THINK]answer", "answer"),
    ("◁think▷a◁/think▷answer", "answer"),
    ("<|channel>thought\na<channel|>answer", "answer"),
    ("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>answer<|END_RESPONSE|>", "answer"),
    ("<|begin_of_thought|>a<|end_of_thought|><|begin_of_solution|>answer<|end_of_solution|>", "answer"),
    (
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>answer<|return|>",
        "answer",
    ),
    ("analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>answer", "answer"),
    ("<|start|>assistant<|channel|>final<|message|>answer<|return|>", "answer"),
    ("<|channel|>analysis<|message|>a", ""),
    ('<|channel|>commentary to=python <|constrain|>json<|message|>{"code": "1"}<|call|>', '{"code": "1"}'),
    ("analysisWe need a number.assistantfinalanswer", "answer"),
    ("<think>a <think>b</think> c</think> answer", "answer"),
    ("<think>\na\n<think>\nb\n</think>\nc\n</think>\nanswer", "answer"),
    ("<think>the user names the <think> tag ... </think> answer", "answer"),
    ("The draft names the <think> tag.\nSo.\n</think>\n\nanswer", "answer"),
    ("<think>a</think><think>b</think>answer", "answer"),
    ("<think>a</think>\n\n<think>b</think>\n\nanswer", "answer"),
    ("<think>a</think>\n\nanswer\n</think>", "answer"),
    ('<think>he said "x"</think>answer', "answer"),
    ("<think>a</think>\n<think> is a tag", "<think> is a tag"),
    ('<think>he wrote "</think>" there\n</think>\nanswer', "answer"),
    ('he wrote "x"</think>\nanswer', "answer"),
    ("<think>…</think>\nanswer", "answer"),
    (" \n     <think>a</think> \n\n     <thought>b</thought> answer", "answer"),
    ("<a>\n</a>\n<think>\nb\n</think>\nanswer", "<a>\n</a>\n\nanswer"),
    ("<think>\n<a>\n</think>\nSure.\n<think>\nb\n</think>\nanswer", "Sure.\n\nanswer"),
    ("<think> ... </think>\nanswer", "answer"),
    ("<reasoning>\na and so on", ""),
    ("<think>\na\n<think>\nb\n<think>\nc\n</think>\nd\n</think>\nanswer", "answer"),
    (f"<think>\n{F}\nx\n</thinking>\nz\n</think>\n{F}\ny\n{F}", f"{F}\ny\n{F}"),
    (f"<think>\n{F}\nx </think> z\n</think>\n{F}\ny\n{F}", f"{F}\ny\n{F}"),
    ("So `x` it is.\n</think>\nanswer", "answer"),
    ("Note.\n<|start|>assistant<|channel|>final<|message|>answer", "Note.\n\nanswer"),
    ("<|channel|>final<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b", "a\n\nb"),
    (f"{F}\na\n{F}\n<|channel|>final<|message|>b", f"{F}\na\n{F}\n\nb"),
    ("<|channel|>final<|message|>a<|return|>b", "a"),
]
SAID = [
    "",
    "answer",
    "The tag <think> opens thinking.",
    "Use `<think>` and `</think>`.",
    "- `<think>`: opens\n- `</think>`: closes",
    "The closing tag is </think>.",
    "Models end thinking with </think>, then answer.",
    "<think> is the opening tag, </think> the closing one.",
    "<think> and </think> are tags",
    "<think>: opens\n</think>: closes",
    "<think>...</think> tags are used",
    "It wraps with <think>reason</think> before answering.",
    'The output is "<think>a</think>b"',
    'They wrote ("</think>") there',
    "a < b and </think> b",
    f"Example:\n{F}html\n<think>\nx\n</think>\n{F}",
    f"{F}python\ns = '</think>'\nt = '''\n</think>\n'''\n{F}",
    's = "<think>"\nt = "</think>"',
    "<result>\n<reasoning>\nx\n</reasoning>\n<answer>4</answer>\n</result>",
    "<answer>4</answer>\n<reasoning>\nx\n</reasoning>",
    "<doc>\n<think>\nx\n</think>\n</doc>",
    "<thought>hello</thought>",
    "The token `<|channel|>final<|message|>` marks it",
    "The analysis shows that the assistant finally won.",
    "[THINK] is Mistral's tag, [/THINK] its end.",
    "so we have </think> answer",
    "<think> ... </think> tags are used",
    "<think>…</think> is used",
    "</b>\n<b>\n<think>\nx\n</think>\n</b>",
    "<a>\n<b>\n</b>\n<think>\nx\n</think>\n</a>",
    "Sure.\n<a>\n<think>\nx\n</think>\n</a>\n<a>\n<think>\nx\n</think>\n</a>",
    'he wrote "x"</think>answer',
    "draft</reasoning>answer",
    "bla</think> is a tag",
    "Sure.\n<reasoning>a</reasoning>\nanswer",
    "Sure.\n<think> hm so",
    "<thought>hello</thought>\n\n",
    "    <b>\n    </b>\nSure. <think>a</think> b",
    f"{F}\n<|channel|>final<|message|>x\n{F}",
    "He said <|channel|>final<|message|>x",
    "`a` and `</think>`",
]


@pytest.mark.parametrize(("text", "said"), THINKING)
def test_thinking_is_taken_off(text, said):
    assert split_thinking(text)[0] == said


@pytest.mark.parametrize("text", SAID)
def test_an_answer_about_such_tags_stays_as_it_is(text):
    assert split_thinking(text) == (text, "")


def test_what_was_thought_is_kept_beside():
    assert split_thinking("<think>\nhm\n</think>\n\n4") == ("4", "hm")
    assert split_thinking("a\n</think>\n<thought>\nb\n</thought>\n4") == ("4", "a\n\nb")


PIECES = [
    "<think>",
    "</think>",
    "[THINK]",
    "</reasoning>",
    "<thought>",
    "\n",
    " ",
    "```",
    "`",
    '"',
    "a",
    "is",
    "4.",
    "<b>",
]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_what_is_said_holds_no_more_thinking(text):
    said, _ = split_thinking(text)
    assert split_thinking(said)[0] == said


@given(st.text(alphabet=st.characters(blacklist_characters="<>[]◁▷|")))
def test_text_without_tags_is_said_as_it_is(text):
    said, thought = split_thinking(text)
    assert (said, thought) == (text, "") or "assistant" in text


@given(
    st.text(alphabet=st.characters(blacklist_characters="<>[]◁▷|`~")), st.text(alphabet="abc \n.", min_size=1)
)
def test_an_answer_behind_a_closed_block_is_never_lost(thought, answer):
    said, _ = split_thinking(f"<think>\n{thought}\n</think>\n{answer}")
    assert said == answer.strip()


@given(st.text(alphabet="abc \n<>/thinkTHINK[]."))
def test_a_code_block_is_never_touched(inside):
    text = f"Here it is:\n{F}html\n{inside}\n{F}\nDone"
    assert split_thinking(text) == (text, "")


@pytest.mark.parametrize(
    "text",
    [
        "<think>a</think>" * 6_000,
        "<think>\n" * 10_000,
        "</think>\n" * 10_000,
        "<think> is\n" * 9_000,
        "a <think>b</think>" * 5_000,
        f"{F}\n<think>\n" * 8_000,
        "<a>\n<think>\nx\n</think>\n" * 4_000,
        "<|channel|>analysis<|message|>" * 3_000,
        "x\n</think>y" * 9_000,
        "\n" * 200_000 + "<think> is\n" * 9_000,
        "<think> is" + " \n" * 200_000 + "x",
    ],
)
def test_a_reply_full_of_tags_takes_no_time(text):
    began = time.process_time()
    split_thinking(text)
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize(
    ("text", "said", "thought"),
    [
        ("a</think>", "", "a"),
        ("<reasoning>a and so on", "<reasoning>a and so on", ""),
        ('x = """\n<think>\nb\n</think>\n"""', 'x = """\n<think>\nb\n</think>\n"""', ""),
        ('x = """a"""\n<think>\nb\n</think>\nanswer', 'x = """a"""\n\nanswer', "b"),
        ('"""a"""\n"""\n<think>\nb\n</think>\n"""', '"""a"""\n"""\n<think>\nb\n</think>\n"""', ""),
        ('<think>a """ b</think>\nSure.\n<think>\nc\n</think>\nanswer', "Sure.\n\nanswer", 'a """ b\n\nc'),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>c<|end|><|start|>assistant<|channel|>final<|message|>answer<|return|>", "answer", "a\n\nc"),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>c<|end|>", "c", "a"),
        ("Sure. <think>\nb\n</think> x", "x", "Sure. \nb"),
        ("<think>a\n\nSo <think> b\n</think>\nanswer", "answer", "a\n\nSo  b"),
        ("Hi\n   <think>\nb\n</think>\nanswer", "Hi\n   \nanswer", "b"),
        ("Hi\n    <think>\nb\n</think>\nanswer", "answer", "Hi\n    \nb"),
        ("<b>\nx\n</b>\n<think>\nb\n</think>\nanswer", "<b>\nx\n</b>\n\nanswer", "b"),
        ("<b>\n<think>\nb\n</think>\n</b>", "<b>\n<think>\nb\n</think>\n</b>", ""),
        ("<br>\n<think>\nb\n</think>\nanswer", "<br>\n\nanswer", "b"),
    ],
)  # fmt: skip
def test_thinking_and_what_is_said_are_both_kept(text, said, thought):
    assert split_thinking(text) == (said, thought)
