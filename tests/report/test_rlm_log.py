"""Logs of the official RLM library, written here after its true format.

That format: `rlm/logger/rlm_logger.py`, `rlm/core/types.py` and `docs/examples/trace-log-example.jsonl` of
github.com/alexzhang13/rlm; of older versions what its `visualizer/src/lib/types.ts` still understands.
"""

import json
from copy import deepcopy
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.llm import Usage
from rlm_ray.errors import InputError
from rlm_ray.events.records import CallEnded, RunFinished, RunStarted, from_line, to_line
from rlm_ray.events.tree import RunTree
from rlm_ray.report.rlm_log import is_rlm_log, read

METADATA = {
    "type": "metadata", "timestamp": "2026-01-13T13:25:30.000000", "root_model": "gpt-4o", "max_depth": 2,
    "max_iterations": 3, "backend": "openai", "backend_kwargs": {"model_name": "gpt-4o", "api_key": "sk-secret"},
    "environment_type": "local", "environment_kwargs": {}, "other_backends": None,
}  # fmt: skip
ASKED = [
    {"role": "system", "content": "You are tasked with answering a query with associated context ..."},
    {"role": "user", "content": "Your context is a list with 4200 total characters, and is broken up into chunks of "
                                "char lengths: [1400, 1400, 1400]."},
    {"role": "user", "content": "You have not interacted with the REPL environment yet.\n\nThink step-by-step on what "
                                'to do using the REPL environment (which contains the context) to answer the original '
                                'prompt: "Who said "yes"?".\n\nContinue using the REPL environment ... Your next action:'},
]  # fmt: skip


def at(second):
    return datetime(2026, 1, 13, 13, 25, second).timestamp()  # noqa: DTZ001 - the library writes local times


def iteration(number, second, **more):
    return {
        "type": "iteration", "iteration": number, "timestamp": f"2026-01-13T13:25:{second:02}.000000", "prompt": ASKED,
        "response": f"answer {number}", "code_blocks": [], "final_answer": None, "iteration_time": 2.0,
    } | more  # fmt: skip


def block(code="print(1)", *, stdout="1\n", stderr="", seconds=0.5, calls=(), **values):
    result = {
        "stdout": stdout, "stderr": stderr, "locals": values, "execution_time": seconds, "rlm_calls": list(calls)
    }  # fmt: skip
    return {"code": code, "result": result}


def sub_call(prompt="Summarize: ...", response="a summary", seconds=0.2, tokens=(100, 10), cost=None, **more):
    row = {"total_calls": 1, "total_input_tokens": tokens[0], "total_output_tokens": tokens[1]}
    row |= {} if cost is None else {"total_cost": cost}
    return {
        "root_model": "gpt-4o-mini", "prompt": prompt, "response": response, "execution_time": seconds,
        "usage_summary": {"model_usage_summaries": {"gpt-4o-mini": row}},
    } | more  # fmt: skip


@pytest.fixture
def log(tmp_path):
    """Write entries as a log; strings as they are."""

    def write(*entries):
        path = tmp_path / "rlm_2026-01-13_13-25-30_ab12cd34.jsonl"
        path.write_text(
            "".join(each if isinstance(each, str) else json.dumps(each) + "\n" for each in entries)
        )
        return path

    return write


def calls(records):
    return {(call.path, call.call): call for call in records if isinstance(call, CallEnded)}


def test_turns_cells_and_the_answer_of_a_plain_run(log):
    path = log(
        METADATA,
        iteration(
            1,
            40,
            code_blocks=[block("x = 1", x=[1, 2], f="<function 'f'>"), block("print(x)", stdout="[1, 2]\n")],
        ),
        iteration(2, 45, final_answer="Nobody"),
    )
    records = read(path)
    opened, tree, ended = records[0], RunTree(records), records[-1]
    assert isinstance(opened, RunStarted)
    assert (opened.run_id, opened.query, opened.at) == (path.stem, 'Who said "yes"?', at(38))
    assert (opened.input.kind, opened.input.chars, opened.input.documents) == ("documents", 4200, 3)
    assert opened.settings["model"] == "gpt-4o"
    assert "secret" not in str(opened)
    root = tree.root
    assert (root.state, root.answer, root.started, root.ended) == ("ok", "Nobody", at(38), at(45))
    first, second = root.calls[1], root.calls[2]
    assert (first.started, first.at, first.text, first.role) == (at(38), at(39), "answer 1", "turn")
    assert (second.started, second.at, second.provider, second.model) == (at(43), at(45), "openai", "gpt-4o")
    cell = root.cells[1]
    assert (cell.started, cell.at) == (at(39), at(40))
    assert (cell.code, cell.output, cell.error, cell.final) == (
        "x = 1\n\nprint(x)",
        "1\n[1, 2]\n",
        None,
        None,
    )
    assert list(root.cells) == [1]
    assert isinstance(ended, RunFinished)
    assert (ended.stop_reason, ended.answer, ended.turns, ended.seconds) == ("answered", "Nobody", 2, 7.0)


def test_what_a_cell_left_behind_is_described(log):
    variables = {"x": [1, 2], "f": "<function 'f'>", "s": "abc", "n": 3}
    records = read(log(METADATA, iteration(1, 40, code_blocks=[block(**variables)])))
    described = [(each.name, each.kind, each.size) for each in RunTree(records).root.cells[1].variables]
    assert described == [("x", "list", 2), ("f", "object", None), ("s", "str", 3), ("n", "int", None)]


def test_sub_calls_are_leaves_one_after_the_other_where_there_was_time(log):
    first = block(calls=[sub_call(seconds=0.2), sub_call("Other", seconds=0.3, cost=0.25)], seconds=1.0)
    second = block(stderr="ValueError: no", calls=[sub_call(seconds=0.4)] * 3, seconds=0.5)
    records = read(log(METADATA, iteration(1, 40, code_blocks=[first, second])))
    root = RunTree(records).root
    one, two, three = (calls(records)[(place,), 1] for place in (0, 1, 2))
    assert (one.role, one.model, one.query, one.text) == (
        "leaf",
        "gpt-4o-mini",
        "Summarize: ...",
        "a summary",
    )
    assert (one.usage, one.cost_usd, two.cost_usd) == (Usage(100, 10), None, 0.25)
    assert (one.started, one.at, two.started, two.at) == pytest.approx(
        (at(38) + 0.5, at(38) + 0.7, at(38) + 0.7, at(38) + 1.0)
    )
    assert three.started == at(38) + 1.5 == calls(records)[(4,), 1].started
    maps = [(each.first, each.count, each.sessions, each.turn) for each in root.maps.values()]
    assert maps == [(0, 2, 0, 1), (2, 3, 0, 1)]
    assert [(each.answered, each.failed) for each in root.map_ends.values()] == [(2, 0), (3, 0)]
    assert root.cells[1].error == "ValueError: no"
    assert root.cells[1].waited_s == pytest.approx(1.0)


@pytest.mark.parametrize(
    "failed",
    [
        {"error": "it broke", "error_type": "Timeout", "response": ""},
        {"response": "Error: LM query failed at max depth - it broke"},
        {"response": "Error: Child RLM completion failed - it broke"},
    ],
)
def test_a_failure_is_not_an_answer(log, failed):
    answers = [sub_call(**failed), sub_call(response="Error: is the first word of an answer")]
    records = read(log(METADATA, iteration(1, 40, code_blocks=[block(calls=answers)])))
    tree = RunTree(records)
    assert [tree.nodes[(place,)].state for place in (0, 1)] == ["error", "ok"]
    assert "it broke" in tree.nodes[(0,)].error
    assert tree.nodes[(0,)].answer is None
    assert [(each.answered, each.failed) for each in tree.root.map_ends.values()] == [(1, 1)]


def test_a_call_that_was_a_session_is_a_child_with_turns(log):
    trajectory = {
        "run_metadata": METADATA | {"root_model": "gpt-4o-mini"},
        "iterations": [
            iteration(
                1, 36, code_blocks=[block(calls=[sub_call(tokens=(60, 6), cost=0.1)])], iteration_time=1.0
            ),
            iteration(2, 37, final_answer="deep", iteration_time=1.0),
        ],
    }
    child = sub_call("Think hard", "deep", 3.0, tokens=(1_000, 100), cost=0.5, metadata=trajectory)
    records = read(
        log(METADATA, iteration(1, 40, code_blocks=[block(calls=[child], seconds=4.0)], iteration_time=5.0))
    )
    tree = RunTree(records)
    node = tree.nodes[(0,)]
    assert (node.query, node.model, node.state, node.answer) == ("Think hard", "gpt-4o-mini", "ok", "deep")
    assert (node.started, node.ended, len(node.calls), len(node.cells)) == (at(35), at(38), 2, 1)
    assert tree.nodes[(0, 0)].is_leaf
    assert node.calls[2].usage == Usage(940, 94)
    assert node.calls[2].cost_usd == pytest.approx(0.4)
    assert sum(call.usage.input_tokens for call in calls(records).values()) == 1_000
    assert tree.root.maps[0].sessions == 1


def test_a_failed_child_keeps_its_turns(log):
    trajectory = {"run_metadata": METADATA, "iterations": [iteration(1, 36)]}
    child = sub_call(response="Error: Child RLM completion failed - gone", metadata=trajectory)
    records = read(log(METADATA, iteration(1, 40, code_blocks=[block(calls=[child])])))
    node = RunTree(records).nodes[(0,)]
    assert (node.state, node.answer, len(node.calls)) == ("error", None, 1)


def test_the_answer_after_the_last_iteration_is_not_the_models_own_end(log):
    turns = [iteration(number, 40 + number) for number in (1, 2, 3)]
    records = read(log(METADATA, *turns, iteration(4, 50, final_answer="perhaps", iteration_time=None)))
    root = RunTree(records).root
    assert (root.state, root.end.stop_reason, root.answer) == ("stopped", "max_iterations", "perhaps")
    assert [call.role for call in root.calls.values()] == ["turn", "turn", "turn", "last"]
    assert (root.calls[4].started, root.calls[4].at) == (at(43), at(50))


def test_a_log_that_just_ends_is_a_lost_run(log):
    records = read(log(METADATA, iteration(1, 40), '{"type": "iteration", "iter'))
    ended = records[-1]
    assert (ended.stop_reason, ended.answer, ended.turns) == ("lost", None, 1)
    assert RunTree(records).root.state == "stopped"


def test_several_completions_in_one_log_are_sessions_below_one_root(log):
    second = {
        "type": "run_context",
        "timestamp": "2026-01-13T13:25:50",
        "prompt": "What was it?",
        "root_prompt": None,
    }
    asked = [ASKED[0]]
    records = read(
        log(
            METADATA,
            {
                "type": "run_context",
                "timestamp": "2026-01-13T13:25:31",
                "prompt": "a text",
                "root_prompt": "Who?",
            },
            iteration(1, 40, prompt=asked, final_answer="Nobody"),
            second,
            iteration(2, 55, prompt=asked),
            METADATA,
            iteration(1, 58, prompt=asked, final_answer=["FINAL", "it"]),
        )
    )
    tree = RunTree(records)
    told = [(node.query, node.state, node.answer, node.input.sample) for node in tree.root.children]
    assert told == [
        ("Who?", "ok", "Nobody", "a text"),
        ("What was it?", "stopped", None, "What was it?"),
        ("", "ok", "it", ""),
    ]
    assert (tree.root.answer, tree.root.query, tree.root.ended) == ("it", "3 completions of one log", at(58))
    assert tree.root.map_ends[0].answered == 2


def test_the_oldest_version_has_no_types_and_counts_tokens_in_the_call(log):
    old = {"prompt": "p", "response": "r", "prompt_tokens": 7, "completion_tokens": 3, "execution_time": 1.0}
    entry = iteration(
        1, 40, code_blocks=[block(calls=[old], context="a short question?")], prompt="?", iteration_time=None
    )
    del entry["type"], entry["timestamp"]
    records = read(log(entry, {"iteration": 2, "response": "done", "final_answer": ["FINAL_VAR", "it"]}))
    tree = RunTree(records)
    assert tree.nodes[(0,)].calls[1].usage == Usage(7, 3)
    assert (tree.root.query, tree.root.answer, tree.root.state) == ("a short question?", "it", "ok")
    assert (tree.root.started, tree.root.ended) == (0.0, 0.5)


def test_unknown_fields_and_lines_are_passed_over(log):
    new = iteration(
        1, 40, final_answer={"value": 1}, reasoning="hm", code_blocks=[{"result": None}, 7], prompt=None
    )
    records = read(log({**METADATA, "schema_version": 9}, {"type": "news"}, "[1]\n", "\n", new, "\n"))
    assert records[-1].answer == '{"value": 1}'


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "holds no iteration"),
        (json.dumps(METADATA) + "\n", "holds no iteration"),
        ('{"type": "iter\n' + json.dumps(iteration(1, 40)) + "\n", "line 1 is no JSON"),
        ("[" * 100_000 + "\n{}\n", "line 1 is no JSON"),
    ],
    ids=["empty", "no iteration", "torn in the middle", "too deep"],
)
def test_what_is_no_log_is_refused_in_a_sentence(log, content, why):
    with pytest.raises(InputError, match=why):
        read(log(content))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("line", "known"),
    [
        (json.dumps(METADATA), True),
        (json.dumps(iteration(1, 40)), True),
        (json.dumps({"iteration": 1, "response": "r"}), True),
        (json.dumps({"type": "run_context", "prompt": "p"}), True),
        (json.dumps({"type": "metadata", "timestamp": "2026"}), False),
        (json.dumps({"kind": "run", "run_id": "r", "type": "metadata", "root_model": "m"}), False),
        (json.dumps([1]), False),
        ("{", False),
        ("", False),
        ("[" * 100_000, False),
    ],
)
def test_only_its_own_logs_are_recognised(line, known):
    assert is_rlm_log(line) is known


def test_the_records_survive_being_written_and_read(log):
    records = read(
        log(METADATA, iteration(1, 40, code_blocks=[block(calls=[sub_call()], x=1)], final_answer="a"))
    )
    assert [from_line(to_line(record)) for record in records] == records


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(), st.text(max_size=5), st.just([]), st.just({}),
    st.just([[1], {"a": None}]), st.just({"iterations": [7, {}]}),
)  # fmt: skip


def places(value):
    """Every container in it with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


@given(st.lists(st.tuples(st.integers(0, 10_000), JUNK), max_size=8))
def test_whatever_the_fields_hold_there_are_records_of_one_run_or_a_refusal(tmp_path_factory, changes):
    child = sub_call(
        metadata={"run_metadata": METADATA, "iterations": [iteration(1, 36, code_blocks=[block()])]}
    )
    entries = [
        METADATA,
        iteration(1, 40, code_blocks=[block(calls=[sub_call(), child], x=1)]),
        iteration(2, 45),
    ]
    entries = json.loads(json.dumps(entries))
    for number, junk in changes:
        found = list(places(entries))
        container, key = found[number % len(found)]
        container[key] = deepcopy(junk)
    path = tmp_path_factory.getbasetemp() / "changed.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    try:
        records = read(path)
    except InputError:
        assert not any(isinstance(entry, dict) and entry.get("type") == "iteration" for entry in entries)
        return
    times = [record.at for record in records]
    assert times == sorted(times)
    tree = RunTree(records)
    assert all(node.started is not None for node in tree.root.walk())
    assert (len(tree.opened), tree.ended is not None) == (1, True)
