"""A run of 300 turns whose conversation is compacted twice, and that answers from what was left out of it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from rlm_ray.events.records import CallEnded
from rlm_ray.testing import ModelServer

pytestmark = pytest.mark.ray

TEXT = "word " * 2_000
TURNS = 300
SECRET_TURN = 20


def code(text):
    return f"```python\n{text}\n```"


class LongModel:
    """Looks at the context 299 times, and then answers from `history`."""

    def __init__(self):
        self.turn = 0

    def __call__(self, request):
        if "Write the summary" in request.last:
            return f"So far {self.turn} turns; the word of turn {SECRET_TURN} is in the history."
        self.turn += 1
        if self.turn == SECRET_TURN:
            return code("print('the word is', ''.join(map(chr, [104, 101, 114, 111, 110])))")
        if self.turn < TURNS:
            return code(f"seen = {self.turn}\nprint('turn', seen, context[seen:seen + 300])")
        return code(
            "found = [item for item in history if 'the word is' in item['output']]\n"
            f"assert found[0]['turn'] == {SECRET_TURN} and len(found) == 1\n"
            "FINAL(f\"{found[0]['output'].split('the word is ')[1].split()[0]} {len(history)} {seen}\")"
        )


def test_run_of_300_turns_is_compacted_twice_and_answers_from_history(ask):
    with ModelServer(LongModel()) as server:
        result = ask(server, max_iterations=400, compact_above_tokens=14_000).run("Which word?", TEXT)
        bodies = [request.body["messages"] for request in server.requests]
    calls = [
        call
        for call in sorted(result.tree.root.calls.values(), key=lambda call: call.at)
        if isinstance(call, CallEnded)
    ]
    roles = [call.role for call in calls]
    assert (result.stop_reason, result.turns) == ("answered", TURNS)
    assert roles.count("summary") == 2
    word, left_out, seen = result.answer.split()
    assert (word, int(seen)) == ("heron", TURNS - 1)
    assert SECRET_TURN < int(left_out) < TURNS

    assert len(bodies) == len(calls)
    restarts = [
        at for at, (before, after) in enumerate(pairwise(bodies), 1) if after[: len(before)] != before
    ]
    assert [roles[at - 1] for at in restarts] == ["summary", "summary"]
    assert all(bodies[at][0] == bodies[0][0] for at in restarts)
    assert max(call.usage.input_tokens for call in calls) < 15_000
