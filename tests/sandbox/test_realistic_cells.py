"""Cells as models write them print what plain Python prints."""

from __future__ import annotations

import contextlib
import io

import pytest
from sandbox_fakes import Cells, Served, corpus

from rlm_ray.core.context import make_context
from rlm_ray.sandbox.host.sandbox import SandboxManager

CONTEXT = "\n".join(f"2024 ERROR 2024-01-{day % 28 + 1:02d} user=u{day}" for day in range(500))

ADVICE = {
    "r40 ThreadPool": "recursive_map",
    "r41 asyncio.gather": "recursive_map",
    "r45 numpy/pandas": "csv, statistics",
    "r48 globals()/locals()": "SHOW_VARS()",
}


def plain(code: str) -> str:
    """What CPython prints for the cell, with the same fake answers."""
    printed = io.StringIO()
    names = {
        "__name__": "__main__",
        "context": CONTEXT,
        "recursive_llm": lambda query, context="": query.upper(),
        "recursive_map": lambda queries, contexts: [query.upper() for query in queries],
    }
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    return printed.getvalue()


REALISTIC = [
    pytest.param(cell["code"], ADVICE.get(cell["id"]), id=cell["id"])
    for cell in corpus("realistic_cells.jsonl")
]


async def test_realistic_cells_print_what_python_prints_or_get_advice(host: SandboxManager) -> None:
    """One REPL each, all in one zygote."""
    for parameters in REALISTIC:
        code, advice = parameters.values
        repl = await host.open(make_context(CONTEXT), "q")
        result = await Cells(repl, Served())(str(code))
        if advice is not None:
            assert str(advice) in (result.error or "")
        else:
            assert (parameters.id, result.error, result.output) == (parameters.id, None, plain(str(code)))
        await repl.aclose()
