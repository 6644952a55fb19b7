"""Which facts of earlier lives hold again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import ModelReply, Usage
from rlm_ray.core.repl_types import CellResult, Citation, Failed, SubCallAnswer, Variable
from rlm_ray.errors import InputError, LimitReached, ModelUnavailableError, QuotaError
from rlm_ray.events.records import (
    SUMMARY_CALLS,
    CallEnded,
    CallSent,
    CellEnded,
    MapEnded,
    MapOpened,
    SessionEnded,
    SessionOpened,
    ToolEnded,
    to_line,
)
from rlm_ray.journal.call_recorder import CallRecorder, CallSite
from rlm_ray.journal.recorder import NullRecorder
from rlm_ray.journal.replay import CANCELLED, ReplayIndex, outcome_from_record, to_cell_result, to_reply


def replay_of(*records):
    replay = ReplayIndex()
    replay.ingest(b"".join(to_line(record, f"w:{number}") for number, record in enumerate(records)))
    return replay


def sent(at, path=(), number=1, key="k"):
    return CallSent(at, path, number, "turn", "m", key)


def ended(at, path=(), number=1, key="k", **rest):
    return CallEnded(at, path, number, "turn", "m", key, at - 1, **rest)


def cell(at, turn=1, path=(), **rest):
    return CellEnded(at, path, turn, at - 1, **rest)


def tool(at, *, turn=1, number=0, key="k", path=(), result="[1]", **rest):
    result = "" if rest else result
    return ToolEnded(at, path, turn, number, "add", key, at - 1, result=result, **rest)


def map_(at, turn, first, count, path=()):
    return MapOpened(at, path, turn, first, count, 0)


@pytest.mark.parametrize(
    ("path", "number", "key", "is_known"),
    [
        ((1,), 2, "k", True),
        ((1,), 2, "other", False),
        ((1,), 1, "k", False),
        ((2,), 2, "k", False),
        ((), 2, "k", False),
        ((1, 1), 2, "k", False),
    ],
)
def test_a_reply_holds_for_the_same_call_of_the_same_node_only(path, number, key, is_known):
    replay = replay_of(ended(2, (1,), 2, text="yes"))
    assert (replay.call(path, number, key) is not None) is is_known


@pytest.mark.parametrize("kind", ["QuotaError", CANCELLED])
def test_a_call_that_failed_has_no_reply_and_no_status(kind):
    replay = replay_of(ended(2, error_kind=kind, status="Turn 1 of 9."))
    assert replay.call((), 1, "k") is None
    assert replay.status((), 1) is None


def test_a_turn_is_asked_again_under_its_recorded_status_whatever_its_key():
    assert replay_of(ended(2, status="Turn 1 of 9.")).status((), 1) == "Turn 1 of 9."
    assert ReplayIndex().status((), 1) is None


@pytest.mark.parametrize(
    ("records", "is_under_way"),
    [
        ([], False),
        ([sent(1)], True),
        ([sent(1, key="other")], False),
        ([sent(1), ended(2, text="yes")], False),
        ([sent(1), ended(2, error_kind="QuotaError")], False),
        ([sent(1), ended(2, error_kind=CANCELLED)], True),
        ([ended(2, error_kind=CANCELLED)], False),  # it never went out
        ([sent(1), ended(2, error_kind="QuotaError"), sent(3)], True),  # the next life's, which died
        ([sent(1, key="old"), ended(2, key="old", text="yes"), sent(3)], True),
        ([sent(1), sent(3), ended(4, text="yes")], False),
        ([sent(1), ended(1, text="yes")], False),  # within the clock's resolution
    ],
)
def test_a_call_that_went_out_and_never_came_back_is_under_way(records, is_under_way):
    assert replay_of(*records).was_in_flight((), 1, "k") is is_under_way


def test_a_later_attempt_overrides():
    replay = replay_of(
        ended(2, text="old"), cell(3, output="old"), ended(5, text="new"), cell(6, output="new")
    )
    assert replay.call((), 1, "k").text == "new"
    assert replay.cell((), 1).output == "new"


def test_a_cell_holds_with_the_reply_it_came_from_and_with_no_later_one():
    life_one = [ended(2, key="old", text="old"), cell(3, output="old")]
    assert replay_of(*life_one).cell((), 1).output == "old"
    assert replay_of(*life_one, ended(5, key="new", text="new")).cell((), 1) is None
    assert replay_of(*life_one, ended(3, key="new", text="new")).cell((), 1) is not None
    assert replay_of(cell(3)).cell((), 1) is None
    assert replay_of(ended(2, text="new")).cell((), 1) is None
    assert ReplayIndex().cell((), 1) is None


@pytest.mark.parametrize(
    ("after", "holds"),
    [
        ([], False),
        ([ended(4, number=2, error_kind="QuotaError")], False),
        ([ended(4, number=2, text="I see")], True),
        ([ended(3, number=2, text="I see")], True),  # within the clock's resolution
        ([ended(2.5, number=2, text="of an earlier life")], False),
    ],
)
def test_code_that_was_killed_is_run_again_until_the_model_has_heard_of_it(after, holds):
    killed = cell(3, killed="it was ended from outside")
    assert (replay_of(ended(2), killed, *after).cell((), 1) is not None) is holds
    assert replay_of(ended(2), cell(3), *after).cell((), 1) is not None


@pytest.mark.parametrize(
    ("maps", "counts"),
    [
        ([], {1: 0}),
        ([map_(1, 1, 0, 5), map_(2, 1, 5, 2), map_(3, 2, 7, 1)], {1: 7, 2: 1}),
        ([map_(1, 1, 0, 5), map_(2, 1, 5, 2), map_(3, 1, 0, 4)], {1: 4}),  # run again, it made fewer
        ([map_(1, 1, 0, 5), map_(2, 2, 5, 2), map_(3, 1, 0, 7), map_(4, 2, 7, 3)], {1: 7, 2: 3}),
        ([map_(1, 1, 0, 3), map_(2, 2, 3, 4), map_(3, 2, 3, 4)], {1: 3, 2: 4}),  # turn 2 only was run again
    ],
)
def test_the_sub_calls_of_a_turn_are_those_of_the_last_time_it_ran(maps, counts):
    replay = replay_of(*maps)
    assert {turn: replay.sub_calls((), turn) for turn in counts} == counts


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 4), max_size=8))
def test_the_sub_calls_of_turns_that_ran_once_add_up(counts):
    first, maps = 0, []
    for turn, count in enumerate(counts, 1):
        maps.append(map_(turn, turn, first, count))
        first += count
    replay = replay_of(*(sent_ for sent_ in maps if sent_.count))
    assert [replay.sub_calls((), turn) for turn in range(1, len(counts) + 1)] == counts


@pytest.mark.parametrize(("failed", "heard", "holds"), [(0, False, True), (2, False, False), (2, True, True)])
def test_code_whose_sub_calls_failed_is_run_again_until_the_model_has_heard_of_it(failed, heard, holds):
    over = [ended(2), map_(3, 1, 0, 8), MapEnded(8, (), 0, 8 - failed, failed), cell(9)]
    assert (replay_of(*over, *[NEXT_TURN] * heard).cell((), 1) is not None) is holds


FAILED_LEAF = ended(2, (0,), error_kind="QuotaError", why="empty")
NEXT_TURN = ended(20, number=2, text="I see")


@pytest.mark.parametrize(
    ("records", "is_seen"),
    [
        ([], False),
        ([map_(1, 1, 0, 1)], False),
        ([map_(1, 1, 0, 1), cell(3)], False),
        ([map_(1, 1, 0, 1), cell(3), NEXT_TURN], True),
        ([map_(1, 1, 0, 1), cell(3, final="done")], True),
        ([map_(1, 1, 0, 1), cell(3), ended(20, number=2, error_kind="QuotaError")], False),
        ([map_(1, 1, 0, 1), NEXT_TURN, cell(30)], False),  # the code has run again since
        ([map_(1, 1, 1, 5), cell(3), NEXT_TURN], False),  # another sub-call's map
        ([map_(1, 1, 0, 1), cell(3, turn=2), NEXT_TURN], False),
        ([map_(1, 1, 0, 1), cell(3, path=(7,)), NEXT_TURN], False),
        ([map_(1, 1, 0, 2), cell(3), map_(5, 2, 0, 1)], False),  # sent out anew, by a turn that is not over
    ],
)
def test_a_failure_holds_once_the_model_has_heard_of_it(records, is_seen):
    failure = replay_of(*records, FAILED_LEAF).seen_failure((0,))
    assert failure == (Failed("QuotaError", "m: empty") if is_seen else None)


def test_a_failure_is_that_of_its_call_and_an_answer_is_none():
    seen = [map_(1, 1, 0, 2), cell(3), NEXT_TURN]
    assert replay_of(*seen, FAILED_LEAF).seen_failure((0,), "k") is not None
    assert replay_of(*seen, FAILED_LEAF).seen_failure((0,), "another question") is None
    assert replay_of(*seen, ended(2, (0,), text="fine")).seen_failure((0,)) is None
    assert replay_of(*seen).seen_failure((1,)) is None


@pytest.mark.parametrize(
    "error",
    [QuotaError("m", "empty"), ModelUnavailableError("m", "gave up"), InputError("context", "is not UTF-8"),
     LimitReached("calls", "none left")],
)  # fmt: skip
def test_a_failure_reads_as_it_did_the_first_time(error):
    recorder = Collected()
    CallRecorder(recorder, CallSite((0,), 1, "leaf"), "m", "k", clock=lambda: 2.0).on_failure(error)
    failure = replay_of(map_(1, 1, 0, 1), cell(3), NEXT_TURN, *recorder.records).seen_failure((0,))
    assert failure == Failed(type(error).__name__, str(error))


@pytest.mark.parametrize("kind", ["AnErrorOfALaterVersion", "annotations", "RlmError"])
def test_a_failure_that_is_no_error_of_a_model_reads_as_it_is_recorded(kind):
    failed = ended(2, (0,), error_kind=kind, why="no")
    assert replay_of(map_(1, 1, 0, 1), cell(3), NEXT_TURN, failed).seen_failure((0,)) == Failed(kind, "no")


@pytest.mark.parametrize(
    ("end", "is_cancelled"),
    [
        (None, False),
        (ended(2, (0,), error_kind=CANCELLED), True),
        (ended(2, (0,), error_kind="QuotaError"), False),
        (ended(2, (0,), text="fine"), False),
        (SessionEnded(2, (0,), "cancelled", error_kind=CANCELLED), True),
        (SessionEnded(2, (0,), "answered", answer="a"), False),
    ],
)
def test_a_sub_call_that_was_cancelled_is_no_failure_and_holds_once_the_model_has_heard(end, is_cancelled):
    ends = [] if end is None else [end]
    seen = replay_of(map_(1, 1, 0, 1), cell(3), NEXT_TURN, *ends)
    assert seen.seen_cancelled((0,)) is is_cancelled
    assert replay_of(map_(1, 1, 0, 1), cell(3), *ends).seen_cancelled((0,)) is False
    if is_cancelled:
        assert seen.seen_failure((0,)) is None


def test_the_end_of_a_child_says_more_of_it_than_its_first_call():
    seen = [map_(1, 1, 0, 1), cell(3), NEXT_TURN, ended(2, (0,), error_kind=CANCELLED)]
    assert replay_of(*seen, SessionEnded(2, (0,), "answered", answer="a")).seen_cancelled((0,)) is False


class Collected(NullRecorder):
    """Keeps what is put."""

    def __init__(self):
        self.records = []

    def append(self, record):
        self.records.append(record)


def child(stop_reason, attempt=1, key="k", **rest):
    return SessionEnded(4, (0,), stop_reason, attempt=attempt, key=key, **rest)


LOST = child("lost", error_kind="ActorLostError")


@pytest.mark.parametrize(
    ("ends", "unseen", "seen"),
    [
        ([], None, None),
        ([child("answered", answer="a")], SubCallAnswer("a"), SubCallAnswer("a")),
        ([child("answered", answer="")], SubCallAnswer(""), SubCallAnswer("")),
        ([child("answered", answer="a", key="another question")], None, None),
        ([child("max_iterations", answer="a")], SubCallAnswer("a"), SubCallAnswer("a")),
        ([child("cost_usd", "spent", answer="half")], None, SubCallAnswer("half")),
        ([child("max_iterations", why="no")], None, Failed("max_iterations", "no")),
        ([child("error", why="no", error_kind="QuotaError")], None, Failed("QuotaError", "no")),
        ([LOST, child("answered", 2, answer="a")], SubCallAnswer("a"), SubCallAnswer("a")),
        ([child("answered", answer="a"), child("answered", 2, "another question", answer="b")], *[SubCallAnswer("a")] * 2),
        ([child("answered", answer="old"), child("answered", 2, answer="new")], *[SubCallAnswer("new")] * 2),
    ],
)  # fmt: skip
def test_a_childs_end_holds_for_the_same_question_if_it_is_final_or_was_seen(ends, unseen, seen):
    for records, outcome in (([], unseen), ([map_(1, 1, 0, 1), cell(9), NEXT_TURN], seen)):
        end = replay_of(*records, *ends).end((0,), "k")
        assert (end and outcome_from_record(end)) == outcome


@pytest.mark.parametrize(
    ("tool", "outcome"),
    [
        (tool(3), SubCallAnswer("[1]")),
        (tool(3, error_kind="ValueError", why="no"), Failed("ValueError", "no")),
        (tool(3, number=1), None),
        (tool(3, turn=2), None),
        (tool(3, key="of other arguments"), None),
        (tool(3, path=(0,)), None),
        (tool(1), None),
        (tool(2), SubCallAnswer("[1]")),  # within the clock's resolution
    ],
)
def test_a_tool_s_outcome_holds_for_the_same_call_of_the_same_cell(tool, outcome):
    replay = replay_of(sent(1), ended(2), tool)
    assert replay.tool((), 1, 0, "k") == outcome


def test_a_tool_s_outcome_does_not_hold_for_the_code_of_a_later_reply():
    replay = replay_of(ended(2), tool(3), ended(4))
    assert replay.tool((), 1, 0, "k") is None
    assert replay_of(tool(3)).tool((), 1, 0, "k") is None
    assert ReplayIndex().tool((), 1, 0, "k") is None


def test_why_an_answer_was_not_taken_is_what_the_next_call_was_told():
    replay = replay_of(ended(2), ended(4, number=2, refused="it is no JSON"))
    assert [replay.refusal((), turn) for turn in (0, 1, 2)] == ["", "it is no JSON", ""]
    assert replay.refusal((1,), 1) == ReplayIndex().refusal((), 1) == ""


@pytest.mark.parametrize("rest", [{"text": "so far"}, {"error_kind": "QuotaError"}])
def test_a_summary_is_that_of_so_many_turns_whether_it_worked_or_not(rest):
    replay = replay_of(ended(2, number=SUMMARY_CALLS + 3, **rest))
    assert replay.summary((), 3) is replay.tree.root.calls[SUMMARY_CALLS + 3]
    assert [replay.summary((), turns) for turns in (2, 4)] == [None, None]
    assert replay.summary((1,), 3) is ReplayIndex().summary((), 3) is None


def test_attempts_are_counted_over_all_attempts():
    opened = [SessionOpened(at, (0,), "q", InputSummary(), "m", "a", at) for at in (1, 2, 3)]
    assert replay_of(*opened).attempts((0,)) == 3
    assert ReplayIndex().attempts((0,)) == 0


def test_what_is_on_record_twice_counts_once():
    line = to_line(SessionOpened(1, (0,), "q", InputSummary(), "m", "a"), "w:1")
    replay = ReplayIndex()
    replay.ingest(line + line)
    replay.ingest(line)
    assert replay.attempts((0,)) == 1
    assert replay.offset == 3 * len(line)


def test_line_breaks_of_all_kinds_in_texts_are_no_ends_of_lines():
    text = "a\nb\r\nc\rd\u2028e\u2029f\x85g\x0bh\x0ci\x1cj"
    assert replay_of(ended(2, text=text)).call((), 1, "k").text == text


def test_what_is_no_record_is_refused():
    with pytest.raises(InputError, match="no record"):
        ReplayIndex().ingest(b"nonsense\n")


def test_a_recorded_reply_is_the_reply():
    usage = Usage(10, 5, 3, 2)
    call = ended(
        7.5, usage=usage, cost_usd=0.25, finish_reason="length", text="yes", tool_call=True, reasoning="hm"
    )
    assert to_reply(call) == ModelReply(
        "yes", "length", usage, 0.25, tool_call=True, at=7.5, recorded=True, reasoning="hm"
    )
    assert to_reply(ended(1)).finish_reason == "stop"


def test_a_recorded_result_is_the_result():
    result = CellResult(
        "out", 3, "error", "final", True, "killed", (Variable("x", "str", 1),), ("note",), citations=(Citation("words"),)
    )  # fmt: skip
    record = CellEnded(
        2, (), 1, 1, output="out", output_chars=3, error="error", killed="killed", final="final", looked=True,
        variables=result.variables, notes=result.notes, citations=result.citations,
    )  # fmt: skip
    assert to_cell_result(record) == result


UNUSABLE = [
    {"text": ""},
    {"text": "part", "finish_reason": "length"},
    {"text": "part", "finish_reason": "content_filter"},
]


@pytest.mark.parametrize("said", UNUSABLE, ids=["empty", "cut", "filtered"])
def test_a_recorded_reply_that_was_no_whole_answer_is_asked_for_again(said):
    for role in ("direct", "turn", "last", "leaf"):
        end = CallEnded(2.0, (5,), 1, role, "m", "k", 1.0, **said)
        assert replay_of(sent(1.0, (5,)), end).call((5,), 1, "k") is None


@pytest.mark.parametrize(
    ("role", "is_used"), [("turn", True), ("leaf", False), ("direct", False), ("last", False)]
)
def test_a_recorded_call_of_a_tool_is_an_answer_only_to_who_runs_its_code(role, is_used):
    text = "```python\nprint(1)\n```"
    end = CallEnded(2.0, (5,), 1, role, "m", "k", 1.0, text=text, tool_call=True)
    assert (replay_of(end).call((5,), 1, "k") is not None) is is_used


@pytest.mark.parametrize("said", UNUSABLE, ids=["empty", "cut", "filtered"])
def test_it_is_history_where_the_session_went_on_from_it(said):
    went_on = replay_of(ended(2.0, **said), ended(4.0, number=2, text="next"))
    assert went_on.call((), 1, "k") is not None
    assert replay_of(ended(2.0, **said), cell(3.0)).call((), 1, "k") is not None


def test_a_cut_answer_of_a_sub_call_is_history_once_the_model_has_seen_it():
    leaf = CallEnded(3.0, (0,), 1, "leaf", "m", "k", 2.0, text="part", finish_reason="length")
    before = [ended(1.0, text="code"), map_(2.0, 1, 0, 1), leaf]
    assert replay_of(*before).call((0,), 1, "k") is None
    assert replay_of(*before, cell(4.0), ended(5.0, number=2, text="next")).call((0,), 1, "k") is not None


def test_an_empty_summary_is_history_once_anything_of_its_session_came_after_it():
    summary = CallEnded(4.0, (), SUMMARY_CALLS + 1, "summary", "m", "k", 3.0)
    before = [ended(1.0, text="code"), summary]
    assert replay_of(*before).call((), SUMMARY_CALLS + 1, "k") is None
    assert replay_of(*before, ended(5.0, number=2, text="x")).call((), SUMMARY_CALLS + 1, "k") is not None


@pytest.mark.parametrize(("at", "is_history"), [(1.9, False), (2.0, True), (2.1, True)])
def test_an_unusable_reply_is_history_of_calls_that_ended_after_it(at, is_history):
    replay = replay_of(ended(2.0, text=""), ended(at, number=2, text="next"))
    assert (replay.call((), 1, "k") is not None) is is_history
    assert replay_of(ended(2.0, number=2, text=""), ended(at, text="before")).call((), 2, "k") is None


def test_maps_are_taken_in_the_order_of_their_times():
    replay = replay_of(map_(2, 1, 5, 2), map_(1, 1, 0, 5), map_(3, 2, 7, 1))
    assert [replay.sub_calls((), turn) for turn in (1, 2)] == [7, 1]


@pytest.mark.parametrize(
    ("ends", "holds"),
    [
        ([], True),  # it was killed before its map ended
        ([MapEnded(8, (), 0, 2, 0), MapEnded(8.5, (), 2, 0, 3)], False),
        ([MapEnded(8, (), 0, 2, 0), MapEnded(8.5, (), 5, 0, 3)], True),  # of another turn's map
    ],
)
def test_the_failures_of_a_cell_are_those_of_its_own_maps(ends, holds):
    maps = [map_(3, 1, 0, 2), map_(4, 1, 2, 3), map_(20, 2, 5, 3)]
    assert (replay_of(ended(2), *maps, *ends, cell(9)).cell((), 1) is not None) is holds


def test_a_reply_that_an_older_version_recorded_comes_without_its_thinking():
    reply = to_reply(ended(2.0, text="<think>hm</think>4"))
    assert reply.text == "4"
