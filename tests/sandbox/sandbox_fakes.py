"""A fake session and the corpora, for the tests of the sandbox."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlm_ray.core.repl_types import Answered, CellResult, Outcome, SubCalls
from rlm_ray.sandbox.host.sandbox import Repl, Sandbox

DATA = Path(__file__).parent / "data"

QUICK = Sandbox(cell_timeout_s=5.0, cell_cpu_s=2.0, memory_mb=128)


def corpus(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


class Served:
    """Answers every sub-call with its query in capitals, and keeps what was asked."""

    def __init__(self, answer: Callable[[str], Outcome] | None = None) -> None:
        self.calls: list[SubCalls] = []
        self._answer = answer or (lambda query: Answered(query.upper()))

    async def __call__(self, calls: SubCalls) -> Sequence[Outcome]:
        self.calls.append(calls)
        return [self._answer(query) for query in calls.queries]


class Cells:
    """A REPL and its fake session, so that a test is code in and result out."""

    def __init__(self, repl: Repl, served: Served) -> None:
        self.repl = repl
        self.served = served

    async def __call__(self, *blocks: str) -> CellResult:
        return await self.repl.run(blocks, self.served)

    async def prints(self, *blocks: str) -> str:
        result = await self(*blocks)
        assert (result.error, result.killed) == (None, None)
        return result.output
