"""Conversations into questions and contexts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.errors import InputError
from rlm_ray.serve.prompt import (
    CONTEXT_THRESHOLD_CHARS,
    DIRECT_CHARS,
    FileData,
    FileRef,
    Message,
    NamedContext,
    Text,
    direct_messages,
    split_messages,
)

LONG = "long " * CONTEXT_THRESHOLD_CHARS


def user(*texts):
    return Message("user", tuple(Text(text) for text in texts))


def test_one_short_message_is_the_question_and_nothing_else():
    assert split_messages([user("Who?")]).query == "Who?"
    assert split_messages([user("Who?")]).context == ()


def test_a_long_message_is_context_and_the_last_of_the_user_the_question():
    found = split_messages([user(LONG), user("Who?")])
    assert found.query == "Who?"
    assert found.context == (NamedContext("message 1 (user), part 1", Text(LONG)),)


def test_instructions_and_talk_stay_with_the_question():
    found = split_messages(
        [
            Message("system", (Text("Be brief."),)),
            user("Hi"),
            Message("assistant", (Text("Hello"),)),
            user("Who?"),
        ]
    )
    assert found.query == (
        "Instructions:\nBe brief.\n\nThe conversation so far:\nuser: Hi\n\nassistant: Hello\n\nThe question now:\nWho?"
    )


def test_a_question_that_is_itself_too_long_is_context_and_shown_by_its_edges():
    found = split_messages([user("Beginning. " + LONG + " What is the end?")])
    assert "Beginning." in found.query
    assert "What is the end?" in found.query
    assert len(found.query) < CONTEXT_THRESHOLD_CHARS
    [piece] = found.context
    assert piece.source.text.startswith("Beginning.")


def test_a_long_talk_of_short_messages_is_context_but_its_instructions_are_not():
    talk = [user(f"remark {number} " * 50) for number in range(40)]
    found = split_messages([Message("system", (Text("Be brief."),)), *talk, user("Who?")])
    assert found.query == "Instructions:\nBe brief.\n\nThe question now:\nWho?"
    [piece] = found.context
    assert piece.name == "conversation"
    assert "remark 39" in piece.source.text


def test_files_are_context_by_name():
    message = Message("user", (FileRef("file-1"), FileData("a.txt", b"a"), FileData("", b"b"), Text("Who?")))
    found = split_messages([message], [NamedContext("given", Text("x"))])
    assert [piece.name for piece in found.context] == [
        "given",
        "message 1 (user), part 1",
        "a.txt",
        "message 1 (user), part 3",
    ]


@pytest.mark.parametrize("messages", [[Message("system", (Text("x"),))], [user("  ")], [user()]])
def test_a_user_who_says_nothing_is_reported(messages):
    with pytest.raises(InputError, match="ask a question"):
        split_messages(messages)


ROLES = st.sampled_from(["system", "user", "assistant", "tool"])
TEXTS = st.one_of(st.text(max_size=30), st.integers(1, 4).map(lambda n: f"{n} words " * n * 600))


@given(st.lists(st.tuples(ROLES, TEXTS), max_size=8))
def test_nothing_that_is_said_is_lost_and_the_question_stays_short(said):
    messages = [Message(role, (Text(text),)) for role, text in said] + [user("What now?")]
    found = split_messages(messages)
    everywhere = [found.query, *(piece.source.text for piece in found.context)]
    for _, text in said:
        assert any(text in place for place in everywhere)
    assert found.query.endswith("What now?")
    assert len(found.query) <= 2 * CONTEXT_THRESHOLD_CHARS + 200 * len(said)


def test_a_short_conversation_is_one_plain_call_with_its_roles():
    found = direct_messages(
        [
            user("Hi", "there"),
            Message("assistant", (Text("Hello"),)),
            Message("developer", (Text("Be brief."),)),
            Message("tool", (Text("42"),)),
            user("Who?"),
            Message("system", (Text("Answer in JSON."),)),
            Message("assistant", ()),
        ]
    )
    assert found == (
        ("system", "Be brief.\n\nAnswer in JSON."),
        ("user", "Hi\n\nthere"),
        ("assistant", "Hello"),
        ("user", "42\n\nWho?"),
    )


@pytest.mark.parametrize(
    "messages",
    [
        [user(LONG), user("Who?")],
        [Message("user", (FileRef("file-1"), Text("Who?")))],
        [Message("user", (FileData("a", b"a"),)), user("Who?")],
        [user("x" * (CONTEXT_THRESHOLD_CHARS + 1))],
        [user("remark " * 500) for _ in range(DIRECT_CHARS // 3000)],
    ],
)
def test_what_has_something_to_read_is_no_plain_call(messages):
    assert direct_messages(messages) == ()


def test_a_talk_of_short_messages_is_a_plain_call_though_it_is_long_in_all():
    assert (
        len(direct_messages([user("remark " * 500), Message("assistant", (Text("x" * 4000),)), user("Who?")]))
        == 3
    )
