"""A conversation that goes on from a summary, and a trajectory as it was at an earlier turn."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlm_ray.core.context import ContextInfo
from rlm_ray.core.llm import ModelReply
from rlm_ray.core.prompts import (
    compaction_messages,
    history_items,
    last_call_messages,
    session_messages,
    short_last_call_messages,
)
from rlm_ray.core.repl_types import CellResult, Citation, Variable
from rlm_ray.core.state_machine import Task, Trajectory

LARGE = ContextInfo("text", 1_000_000, 1, with_ids=False, sample="Call me")


def worked(turns, names=(), trajectory=None, chars=3):
    trajectory = trajectory or Trajectory(Task("first question", LARGE))
    for _ in range(turns):
        number = len(trajectory.turns) + 1
        held = tuple(Variable(name, "list", None) for name in names)
        trajectory = trajectory.with_reply(
            ModelReply(f"```python\nprint('m{number}')\n```"), f"status {number}"
        )
        trajectory = trajectory.with_result(CellResult(f"o{number}" + "x" * chars, chars + 2, variables=held))
    return trajectory


def test_turns_before_a_compaction_leave_the_conversation():
    trajectory = worked(3)
    assert (trajectory.compaction, trajectory.turns_in_conversation) == (None, 3)
    compacted = trajectory.with_compaction("what I found")
    assert (compacted.compaction.after_turn, compacted.compaction.summary, compacted.compaction.name) == (
        3,
        "what I found",
        "history",
    )
    assert compacted.turns_in_conversation == 0
    assert worked(2, trajectory=compacted).turns_in_conversation == 2
    assert worked(2, trajectory=compacted).with_compaction("more").compaction.after_turn == 5


@pytest.mark.parametrize(
    ("names", "name"), [((), "history"), (("rows",), "history"), (("history",), "full_history")]
)
def test_variable_of_the_turns_takes_no_name_of_the_models(names, name):
    trajectory = worked(1, names)
    assert trajectory.with_compaction("").compaction.name == name
    assert f"the list `{name}`" in compaction_messages(trajectory)[-1].content


def test_next_message_after_a_compaction_holds_question_summary_and_last_output():
    trajectory = worked(2).with_compaction("what I found")
    system, asked = session_messages(trajectory, "status 3")
    assert system.role == "system"
    for part in (
        "first question",
        "on this for 2 turns",
        "Your summary of them:\nwhat I found",
        "o2xxx",
        "`history` is a list of those 2 turns",
    ):
        assert part in asked.content
    assert asked.content.endswith("\n\nstatus 3")
    assert "o1xxx" not in asked.content
    unsummarised = session_messages(worked(2).with_compaction(""), "s")[-1].content
    assert "There is no summary of them" in unsummarised
    assert "Your summary" not in unsummarised


def test_conversation_after_a_compaction_grows_by_two_messages_a_turn():
    before = session_messages(worked(2).with_compaction("s"), "status 3")
    after = session_messages(worked(1, trajectory=worked(2).with_compaction("s")), "status 4")
    assert after[: len(before)] == before
    assert [message.role for message in after] == ["system", "user", "assistant", "user"]
    assert "o3xxx" in after[-1].content
    assert "turns, which are left out" not in after[-1].content


def test_summary_is_asked_for_behind_the_whole_conversation():
    trajectory = worked(2)
    messages = compaction_messages(trajectory)
    assert messages[:-1] == session_messages(trajectory, "")[:-1]
    assert "o2xxx" in messages[-1].content
    assert "Write no code." in messages[-1].content


@pytest.mark.parametrize(("turns", "left_out"), [(0, 0), (1, 1), (3, 3)])
def test_variable_holds_the_turns_that_were_left_out(turns, left_out):
    trajectory = worked(turns).with_compaction("s") if turns else worked(2)
    items = history_items(worked(2, trajectory=trajectory) if turns else trajectory)
    assert [item["turn"] for item in items] == list(range(1, left_out + 1))
    for number, item in enumerate(items, 1):
        assert f"m{number}" in item["message"]
        assert f"o{number}xxx" in item["output"]


def test_long_outputs_of_many_turns_are_bounded_each(monkeypatch):
    monkeypatch.setattr("rlm_ray.core.prompts.MAX_HISTORY_CHARS", 4_000)
    outputs = [item["output"] for item in history_items(worked(4, chars=5_000).with_compaction("s"))]
    assert all(len(output.split("\n… ")[0]) == 666 and len(output) < 1_100 for output in outputs)
    monkeypatch.setattr("rlm_ray.core.prompts.MAX_HISTORY_CHARS", 4)
    outputs = [item["output"] for item in history_items(worked(4, chars=5_000).with_compaction("s"))]
    assert all(len(output.split("\n… ")[0]) == 333 and len(output) < 600 for output in outputs)


def test_earlier_trajectory_has_the_questions_and_compactions_of_its_time():
    trajectory = worked(2, trajectory=worked(2).with_question("second").with_compaction("s"))
    assert trajectory.truncated_to(4) == trajectory
    at_two = trajectory.truncated_to(2)
    assert (len(at_two.turns), len(at_two.follow_ups), len(at_two.compactions)) == (2, 1, 1)
    at_one = trajectory.truncated_to(1)
    assert (len(at_one.turns), at_one.follow_ups, at_one.compactions) == (1, (), ())
    assert (at_one.query, at_two.query) == ("first question", "second")


def test_question_and_schema_are_those_of_the_last_question():
    trajectory = Trajectory(Task("first", LARGE, schema="{1}"))
    assert (trajectory.query, trajectory.schema, trajectory.turns_of_earlier_questions) == ("first", "{1}", 0)
    later = worked(2, trajectory=trajectory).with_question("second", "{2}")
    assert (later.query, later.schema, later.turns_of_earlier_questions) == ("second", "{2}", 2)
    assert later.turns_of_this_question == ()
    assert len(worked(1, trajectory=later).turns_of_this_question) == 1
    assert later.with_question("third").schema == ""


def test_last_call_asks_for_the_schema_of_its_question():
    later = worked(2).with_question("second", "{2}")
    for messages in (
        last_call_messages(later, "out of time"),
        short_last_call_messages(later, "out of time"),
    ):
        assert "out of time" in messages[-1].content
        assert messages[-1].content.endswith("matches this JSON Schema, and with nothing else:\n{2}")
    assert "JSON Schema" not in last_call_messages(worked(2), "out of time")[-1].content
    assert len(short_last_call_messages(worked(5), "out of time")) == 4


def test_citations_are_each_place_once_and_variables_those_of_the_last_cell():
    one, other = Citation("a", start=0, end=1), Citation("b", start=5, end=6)
    trajectory = worked(1, ("old",))
    for cited in ((one, other), (one,)):
        trajectory = trajectory.with_reply(ModelReply("```python\nx\n```"), "s").with_result(
            CellResult(citations=cited, variables=(Variable("new", "int", None),))
        )
    assert trajectory.citations == (one, other)
    assert trajectory.variables == {"new"}
    assert trajectory.with_reply(ModelReply("no code"), "s").variables == {"new"}
    assert Trajectory(trajectory.task).variables == frozenset()


@pytest.mark.parametrize(
    ("depth", "max_depth", "sessions"), [(0, 1, False), (0, 2, True), (1, 2, False), (1, 3, True)]
)
def test_children_are_sessions_where_depth_allows(depth, max_depth, sessions):
    assert replace(Task("q", LARGE), depth=depth, max_depth=max_depth).children_are_sessions is sessions
