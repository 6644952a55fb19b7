"""What a model is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core import prompts
from rlm_ray.core.context import ContextInfo, make_context
from rlm_ray.core.limits import Amount, Limits
from rlm_ray.core.llm import Message, ModelReply
from rlm_ray.core.repl_types import CellResult, Variable
from rlm_ray.core.state_machine import Task, Trajectory
from rlm_ray.core.tools import ToolSpec

INFO = ContextInfo("text", 1_234_567, 1, with_ids=False, sample="Call me Ishmael")


def last(trajectory, status="Turn 1 of 20."):
    return prompts.session_messages(trajectory, status)[-1].content


def after(result=None, reply="```python\nx\n```", **task):
    trajectory = Trajectory(Task("q", INFO, **task)).with_reply(
        reply if isinstance(reply, ModelReply) else ModelReply(reply), "Turn 1 of 20."
    )
    return trajectory.with_result(result) if result else trajectory


def test_the_first_prompt_says_question_size_and_head_but_not_the_context():
    text = last(Trajectory(Task("Who?", INFO)))
    assert "Question: Who?" in text
    assert "1,234,567 characters" in text
    assert "Call me Ishmael" in text


def test_documents_are_told_by_number_and_kind():
    info = make_context([{"id": "a", "text": "x" * 5000}, {"id": "b", "text": "y"}]).info
    text = last(Trajectory(Task("q", info)))
    assert "2 documents, 5,001 characters in all" in text
    assert "'id', 'text'" in text


def test_history_only_grows():
    first = Trajectory(Task("q", INFO))
    asked = prompts.session_messages(first, "Turn 1 of 20.")
    second = first.with_reply(ModelReply("```python\nx\n```"), "Turn 1 of 20.").with_result(
        CellResult(output="1")
    )
    again = prompts.session_messages(second, "Turn 2 of 20.")
    assert again[: len(asked)] == asked


def test_output_is_shown_as_head_and_tail_with_its_true_length():
    text = last(after(CellResult(output="a" * 9_000 + "b" * 9_000, output_chars=5_000_000)))
    assert "head and tail of 5,000,000 characters" in text
    assert "4,990,001 characters left out" in text
    assert len(text) < 11_000


def test_an_error_a_kill_notes_and_variables_are_shown():
    result = CellResult(
        error="ValueError: no (line 3)",
        kill_reason="it ran for 60 s; all variables are lost",
        notes=("`context` was put back",),
        variables=(Variable("chunks", "list", 1_200), Variable("f", "function", None)),
    )
    text = last(after(result))
    for said in (
        "ValueError: no (line 3)",
        "variables are lost",
        "put back",
        "chunks (list, 1,200), f (function)",
    ):
        assert said in text


def test_silent_code_is_told_to_print():
    assert "printed nothing" in last(after(CellResult()))


def test_each_way_to_write_no_code_gets_its_own_advice():
    assert "```python block" in last(after(reply="just prose"))
    assert "empty" in last(after(reply=""))
    assert "only thinking" in last(after(reply=ModelReply("", reasoning="hm")))
    assert "cut off" in last(after(reply=ModelReply("I think that", "length")))
    assert "content filter" in last(after(reply=ModelReply("", "content_filter")))
    assert "refusal" in last(after(reply=ModelReply("", refusal="no")))
    assert "tool" in last(after(reply=ModelReply("", tool_call=True)))
    assert "cut off" in last(after(reply=ModelReply("```python\nx = (", finish_reason="length")))


def test_an_unseen_answer_is_refused_with_what_to_do():
    assert "have not looked at `context`" in last(after(reply="FINAL('guess')"))


def test_the_system_prompt_names_one_size_for_sub_calls():
    system = prompts.session_messages(Trajectory(Task("q", INFO, max_leaf_chars=54_321)), "")[0].content
    assert system.count("54,321") == 1


def test_the_depth_decides_what_a_large_piece_gets():
    deep = prompts.session_messages(Trajectory(Task("q", INFO, depth=0, max_depth=2)), "")[0].content
    flat = prompts.session_messages(Trajectory(Task("q", INFO, depth=1, max_depth=2)), "")[0].content
    assert "REPL session of its own" in deep
    assert "one plain model call" in flat


def test_the_last_turn_is_announced():
    assert "last turn" in prompts.status_line(Task("q", INFO, max_iterations=3), 3, "")
    assert "last turn" not in prompts.status_line(Task("q", INFO, max_iterations=3), 2, "")


def test_the_status_line_says_what_is_left():
    assert prompts.status_line(Task("q", INFO), 2, "$1.20") == "Turn 2 of 20. Left for the whole run: $1.20."


def test_the_last_call_says_why_and_asks_for_no_code():
    messages = prompts.last_call_messages(after(CellResult(output="seen")), "the budget is spent")
    assert "seen" in messages[-1].content
    assert "the budget is spent" in messages[-1].content
    assert "Do not write code" in messages[-1].content


def test_the_short_last_call_keeps_only_the_last_turn():
    trajectory = after(CellResult(output="alpha"))
    trajectory = trajectory.with_reply(ModelReply("```python\ny\n```"), "t").with_result(
        CellResult(output="omega")
    )
    text = "".join(message.content for message in prompts.short_last_call_messages(trajectory, "no room"))
    assert "omega" in text
    assert "alpha" not in text


def test_a_leaf_without_context_is_the_bare_query():
    assert prompts.leaf_messages("q", "") == (Message("user", "q"),)


def test_profiles_change_advice_and_size():
    cautious = prompts.session_messages(Trajectory(Task("q", INFO, profile="cautious")), "")[0].content
    assert "Count before you call" in cautious
    small = last(after(CellResult(output="z" * 9_000, output_chars=9_000), profile="small-window"))
    assert len(small) < 3_500


@given(st.text(max_size=300), st.integers(3, 100))
def test_bounded_text_keeps_head_and_tail_and_counts_the_rest(text, limit):
    shown = prompts.truncate_middle(text, limit)
    if len(text) <= limit:
        assert shown == text
    else:
        assert shown.startswith(text[: limit * 2 // 3])
        assert shown.endswith(text[-(limit // 3) :])
        assert f"{len(text) - limit * 2 // 3 - limit // 3:,} characters left out" in shown


def test_a_further_question_follows_what_came_of_the_one_before():
    talk = Trajectory(Task("Who?", INFO)).with_reply(ModelReply("```python\nFINAL('a')\n```"), "s1")
    talk = talk.with_result(
        CellResult(final_answer="a", context_was_read=True, variables=(Variable("names", "list", 3),))
    )
    asked = talk.with_question("And where?")
    text = last(asked)
    assert text.startswith(
        "Your answer was taken.\nVariables: names (list, 3)\n\nNext question: And where?\n"
    )
    later = asked.with_reply(ModelReply("```python\nx\n```"), "s2").with_result(
        CellResult(output="1", context_was_read=True)
    )
    assert prompts.session_messages(later, "")[: len(prompts.session_messages(asked, "s2"))] == (
        prompts.session_messages(asked, "s2")
    )
    assert "And where?" in prompts.short_last_call_messages(later, "it is over")[1].content


def test_a_final_that_holds_no_answer_is_told_the_exact_form():
    told = last(after(reply="FINAL(<your answer>)"))
    assert "FINAL(<your answer>) ended nothing" in told
    assert "```python\nFINAL(variable)\n```" in told
    assert 'FINAL("the words of your answer")' in told


def first_prompt(**info):
    facts = {"kind": "documents", "chars": 1_000, "documents": 100, "with_ids": True, "sample": "x"} | info
    return prompts.session_messages(Trajectory(Task("q", ContextInfo(**facts), max_leaf_chars=100_000)), "")[
        0
    ].content


def test_the_model_hears_of_helpers_only_where_they_help():
    assert "bm25" in first_prompt(documents=8)
    assert "bm25" not in first_prompt(documents=7)
    assert "bm25" not in first_prompt(kind="text", documents=1)
    assert "map_reduce" in first_prompt(chars=400_000)
    assert "map_reduce" not in first_prompt(chars=399_999)


def test_cite_is_told_where_citations_are_wanted():
    def system(citations):
        return prompts.session_messages(Trajectory(Task("q", INFO, citations=citations)), "")[0].content

    assert "cite" not in system("off")
    assert "`cite(words)`" in system("optional")
    assert "must rest on citations" not in system("optional")
    assert "must rest on citations" in system("required")


def test_tools_are_told_with_signature_and_docstring():
    spec = ToolSpec("weather", "(city: str) -> dict", "Says the weather.\n\nOf a city." + " long" * 1_000)
    system = prompts.session_messages(Trajectory(Task("q", INFO, tools=(spec,))), "")[0].content
    assert "- `weather(city: str) -> dict`: Says the weather." in system
    assert len(system) < len(prompts.session_messages(Trajectory(Task("q", INFO)), "")[0].content) + 2_000


def system_prompt(sample="x", kind="text", chars=500, documents=1, **task):
    info = ContextInfo(kind, chars, documents, with_ids=False, sample=sample)
    return prompts.session_messages(Trajectory(Task("q", info, profile="short", **task)), "")[0].content


@pytest.mark.parametrize(
    ("sample", "delimiter"),
    [
        ("id,name\n1,a", ""), ("id;name\n1;2", ", delimiter=';'"), ("id\tname\n1\t2", ", delimiter='\\t'"), ("id,name", ""),
        ('"id" , "na me"\n1,2', ""), ("id,name\n1,2\nx", ""), ("id,name\n1", None), ("1,2\n3,4", None), ("id,,x\n1,2,3", None), ("id,2x\n1,2", None),
        ("Dear all, hello\nnext", None), ("id", None), ("", None), ("a,b;c;d\n1;2;3,4", ", delimiter=';'"),
    ],
)  # fmt: skip
def test_example_reads_a_table_where_the_context_begins_with_names_of_columns(sample, delimiter):
    found = system_prompt(sample)
    assert ("csv.DictReader(context.splitlines()" in found) is (delimiter is not None)
    assert delimiter is None or f"csv.DictReader(context.splitlines(){delimiter}))" in found
    assert "csv.DictReader" not in system_prompt(sample, "documents")
    if delimiter is not None:
        assert f"row['{'a,b' if sample[1] == ',' and ';' in delimiter else 'id'}'] ==" in found


@pytest.mark.parametrize(("chars", "helpers"), [(9_999, []), (10_000, ["recursive_llm"]), (79_999, ["recursive_llm"]), (80_000, ["recursive_llm", "map_reduce"])])  # fmt: skip
def test_helpers_are_named_where_the_context_is_long_enough(chars, helpers):
    found = system_prompt(chars=chars)
    assert [name for name in ("recursive_llm", "map_reduce") if name in found] == helpers


def test_documents_are_explained_where_there_are_eight():
    seven, eight = (system_prompt(kind="documents", documents=count) for count in (7, 8))
    assert len(eight) > len(seven)


@pytest.mark.parametrize(
    ("max_leaf_chars", "size"), [(100_000, "20_000"), (20_000, "20_000"), (5_000, "5_000")]
)
def test_size_of_a_piece_is_what_a_subcall_reads(max_leaf_chars, size):
    assert f"`map_reduce(question, size={size})`" in system_prompt(chars=10**7, max_leaf_chars=max_leaf_chars)


@pytest.mark.parametrize(("chars", "is_whole"), [(500, True), (501, False)])
def test_small_model_reads_its_question_again_behind_an_output(chars, is_whole):
    text = last(after(CellResult(output="1\n", output_chars=2), profile="short").with_question("?" * chars))
    assert ("?" * chars) in text
    trajectory = Trajectory(Task("?" * chars, INFO, profile="short")).with_reply(
        ModelReply("```python\nx\n```"), "s"
    )
    assert ("?" * chars in last(trajectory.with_result(CellResult(output="1\n", output_chars=2)))) is is_whole


def test_output_that_is_shown_whole_is_not_called_head_and_tail():
    whole, cut = (
        last(after(CellResult(output="x" * chars, output_chars=chars))) for chars in (10_000, 10_001)
    )
    assert f"Output:\n{'x' * 10_000}\n" in whole
    assert "Output (head and tail of 10,001 characters):\n" in cut
    assert "Output (head and tail of 9 characters):\n" in last(after(CellResult(output="x", output_chars=9)))


@pytest.mark.parametrize(("chars", "is_whole"), [(5_000, True), (5_001, False)])
def test_error_is_shown_up_to_half_of_what_an_output_may_have(chars, is_whole):
    assert ("x" * chars in last(after(CellResult(error="x" * chars)))) is is_whole


@pytest.mark.parametrize(
    ("limits", "spent", "left"),
    [
        (Limits(), Amount(1, 1, 1), ""), (Limits(cost_usd=2, tokens=5_000, calls=9), Amount(500_000_000, 1_000, 2), "$1.50, 4,000 tokens, 7 model calls"),
        (Limits(cost_usd=1, tokens=1, calls=1), Amount(2 * 10**9, 3, 3), "$0.00, 0 tokens, 0 model calls"), (Limits(tokens=5), Amount(0, 5, 0), "0 tokens"),
    ],
)  # fmt: skip
def test_what_is_left_of_a_budget_is_never_below_zero(limits, spent, left):
    assert prompts.format_budget(limits, spent) == left
