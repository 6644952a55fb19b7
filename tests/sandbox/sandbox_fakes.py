"""A fake session and the corpora, for the tests of the sandbox."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlm_ray.core.repl_types import CellResult, SubCallAnswer, SubCallOutcome, SubCallRequest
from rlm_ray.sandbox.host.sandbox import ReplProcess, Sandbox

DATA = Path(__file__).parent / "data"

QUICK = Sandbox(cell_timeout_s=5.0, cell_cpu_s=2.0, memory_mb=128)


def corpus(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


class Served:
    """Answers every sub-call with its query in capitals, and keeps what was asked."""

    def __init__(self, answer: Callable[[str], SubCallOutcome] | None = None) -> None:
        self.calls: list[SubCallRequest] = []
        self._answer = answer or (lambda query: SubCallAnswer(query.upper()))

    async def __call__(self, calls: SubCallRequest) -> Sequence[SubCallOutcome]:
        self.calls.append(calls)
        return [self._answer(query) for query in calls.queries]


class Cells:
    """A REPL and its fake session, so that a test is code in and result out."""

    def __init__(self, repl: ReplProcess, served: Served) -> None:
        self.repl = repl
        self.on_success = served

    async def __call__(self, *blocks: str) -> CellResult:
        return await self.repl.run(blocks, self.on_success)

    async def prints(self, *blocks: str) -> str:
        result = await self(*blocks)
        assert (result.error, result.kill_reason) == (None, None)
        return result.output
