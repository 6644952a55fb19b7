"""Cells as models write them, through the real engine: sub-calls cross Ray, the gateway and HTTP and come back."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest

from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import is_session

pytestmark = pytest.mark.ray

CORPUS = Path(__file__).parents[1] / "sandbox" / "data" / "realistic_cells.jsonl"
CELLS = {cell["id"]: cell["code"] for cell in map(json.loads, CORPUS.read_text().splitlines())}
CONTEXT = "\n".join(f"2024 ERROR 2024-01-{day % 28 + 1:02d} user=u{day}" for day in range(500))


def model_of(code):
    """A model that runs the cell and ends on its next turn; its leaves read what they get."""

    def script(request):
        if not is_session(request):
            return leaf_answer(request.last)
        return f"```python\n{code}\n```" if request.turn == 1 else "```python\nFINAL('seen')\n```"

    return script


def leaf_answer(text):
    """Depends on every line of the log in the text, and on no word around it."""
    lines = [line for line in text.splitlines() if "user=u" in line]
    return f"{len(lines)} lines, {sum(map(len, lines))} chars"


def plain(code):
    """What CPython prints for the cell where sub-calls are plain functions."""
    printed = io.StringIO()
    names = {
        "__name__": "__main__",
        "context": CONTEXT,
        "recursive_llm": lambda query, context: leaf_answer(context),
        "recursive_map": lambda queries, contexts: list(map(leaf_answer, contexts)),
    }
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    return printed.getvalue()


def shown_for(ask, code, **options):
    """What the model is shown of the cell on its next turn, and what its leaves were asked."""
    with ModelServer(model_of(code)) as server:
        assert ask(server, **options).completion("what is in the log?", CONTEXT) == "seen"
        observation = next(
            request.last for request in server.requests if is_session(request) and request.turn == 2
        )
        return observation, [request.last for request in server.requests if not is_session(request)]


@pytest.mark.parametrize("name", ["r01 peek", "r02 regex findall", "r09 chunk+map", "r28 recursion sub-call"])
def test_a_realistic_cell_shows_the_model_what_python_prints(ask, name):
    shown, _ = shown_for(ask, CELLS[name])
    assert plain(CELLS[name]).strip() in shown
    assert "Error" not in shown.replace("ERROR", "")


def test_every_chunk_of_a_map_is_read_by_one_plain_call(ask):
    _, leaves = shown_for(ask, CELLS["r09 chunk+map"])
    chunks = [CONTEXT[start : start + 1000] for start in range(0, len(CONTEXT), 1000)]
    assert [sum(chunk in leaf for leaf in leaves) for chunk in chunks] == [1] * len(chunks)
    assert len(leaves) == len(chunks)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("r40 ThreadPool", "recursive_map"),
        ("r41 asyncio.gather", "recursive_map"),
        ("r45 numpy/pandas", "csv, statistics"),
        ("r48 globals()/locals()", "SHOW_VARS()"),
    ],
)
def test_a_cell_that_cannot_run_here_is_told_what_to_write_instead(ask, name, advice):
    shown, leaves = shown_for(ask, CELLS[name])
    assert shown.startswith("Error:")
    assert advice in shown
    assert leaves == []
