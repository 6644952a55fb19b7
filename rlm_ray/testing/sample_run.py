"""A made-up run of any size, for tests, benchmarks and for looking at the page without a model.

It has what real runs have: waits, retries, failures, a session whose actor died, code that raises, plain calls and
child sessions down to depth 3, and texts as a hostile model would write them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count
from random import Random

from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import Usage
from rlm_ray.core.repl_types import Citation, Variable
from rlm_ray.events.records import (
    CallEnded,
    CallSent,
    CellEnded,
    FailedAttempt,
    MapEnded,
    MapOpened,
    NodePath,
    Record,
    Role,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
    ToolEnded,
)

XSS_PAYLOAD = (
    "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=2'>\u2028\x00 &lt;b&gt;"
)
QUESTION = "Which of the parties changed their position between the first reading and the vote, and why?"
BEGAN = 1_790_000_000.0
BYTES_PER_NODE = 40_000
LEAVES = 12
"""Plain calls of a child session."""
SLOTS = 24
"""Sub-calls of one map at work at a time."""
CITED = (
    Citation("Three of them did.", "minutes.pdf", 4, 120, 138, 3, "Who changed? ", " The others", 4_120),
    Citation(XSS_PAYLOAD, "letters.txt", 7, 5, 5 + len(XSS_PAYLOAD), None, "", XSS_PAYLOAD, 9_005),
)
"""What its root cites: words of its answer, and what a hostile document holds."""
_TEXT = "the motion was carried after a long debate about costs roads water schools and a vote of the council"
_WORDS = tuple(_TEXT.split())


def example_run(
    nodes: int = 300, *, seed: int = 7, run_id: str = "example", ended: bool = True
) -> list[Record]:
    """Make a run of about so many nodes; the same for the same seed."""
    maker = SampleRunBuilder(nodes, Random(seed), run_id)  # noqa: S311 - nothing here is secret
    records = sorted(maker.run(), key=lambda record: record.at)
    return records if ended else records[: len(records) * 2 // 3]


class SampleRunBuilder:
    def __init__(self, nodes: int, random: Random, run_id: str) -> None:
        self._nodes = nodes
        self._random = random
        self._run_id = run_id
        self._records: list[Record] = []
        self._ids = count(1)

    def run(self) -> list[Record]:
        whole = InputSummary(
            "text", self._nodes * BYTES_PER_NODE, 1, 0, self._nodes * BYTES_PER_NODE, self._text(40)
        )
        settings = {"model": "big/model", "recursive_model": "small/model", "max_depth": 3}
        self._add(RunStarted(BEGAN, self._run_id, QUESTION, settings, whole, "0.1.0", id=self._id()))
        end = self._session((), QUESTION, whole, BEGAN + 0.1, self._nodes - 1)
        answer = f"Three of them did. {self._text(60)} {XSS_PAYLOAD}"
        self._add(
            RunFinished(end + 0.1, "answered", answer=answer, turns=3, seconds=end - BEGAN, id=self._id())
        )
        return self._records

    def _session(self, path: NodePath, query: str, given: InputSummary, at: float, below: int) -> float:
        """Add a session with so many nodes below it; return when it ends."""
        model = "small/model" if path else "big/model"
        attempt = 1
        if path == (1,):
            at = self._lost(path, query, given, at, model)
            attempt = 2
        self._add(SessionOpened(at, path, query, given, model, "actor-1", attempt, id=self._id()))
        at = self._turn(path, 1, at + 0.05, given, 0)
        at = self._turn(path, 2, at, given, below)
        at = self._turn(path, 3, at, given, 0, last=True)
        failed = bool(path) and self._random.random() < 0.03
        self._add(self._session_end(at, path, attempt, failed=failed))
        return at

    def _lost(self, path: NodePath, query: str, given: InputSummary, at: float, model: str) -> float:
        self._add(SessionOpened(at, path, query, given, model, "actor-0", id=self._id()))
        at = self._turn(path, 1, at, given, 0)
        why = "the actor of the session died"
        self._add(SessionEnded(at + 1, path, "lost", why, error_kind="ClusterError", id=self._id()))
        return at + 1.5

    def _session_end(self, at: float, path: NodePath, attempt: int, *, failed: bool) -> SessionEnded:
        if failed:
            why = "the reply had no code three times"
            return SessionEnded(at, path, "error", why, None, 3, "SubCallError", attempt, id=self._id())
        return SessionEnded(at, path, "answered", "", self._text(30), 3, "", attempt, id=self._id())

    def _turn(  # noqa: PLR0913 - the facts of one turn
        self, path: NodePath, turn: int, at: float, given: InputSummary, below: int, *, last: bool = False
    ) -> float:
        code = f"parts = split(context, {max(below, 1)})\nnotes = recursive_map('What is said?', parts)\nprint(len(notes))"
        at = self._call(path, turn, "turn", at, f"I look at it.\n```python\n{code}\n```", None)
        started = at
        at = (
            self._map(path, turn, at + 0.01, given, below) if below else at + self._random.uniform(0.005, 0.2)
        )
        error = "NameError: name 'sumary' is not defined (line 2)" if self._random.random() < 0.08 else None
        done = CellEnded(
            at + 0.01,
            path,
            turn,
            started,
            at - started - 0.01 if below else 0.0,
            code,
            f"{self._text(20)}\n{XSS_PAYLOAD}",
            5_000,
            error,
            final="the notes say so" if last else None,
            variables=(Variable("parts", "list", below), Variable("notes", "list", below)),
            notes=("`context` was put back",) if turn == 2 else (),
            id=self._id(),
            citations=CITED if last and not path else (),
        )
        if last and not path:
            call = ("add", "k", started + 0.002, "[[1, 2], {}]", "3")
            self._add(ToolEnded(started + 0.004, path, turn, 0, *call, id=self._id()))
        self._add(done)
        return at + 0.01

    def _map(self, path: NodePath, turn: int, at: float, given: InputSummary, below: int) -> float:
        shares = list(self._shares(len(path), below))
        sessions = sum(share > 1 for share in shares)
        query = self._text(10)
        self._add(MapOpened(at, path, turn, 0, len(shares), sessions, query, id=self._id()))
        free = [at] * SLOTS
        for ordinal, (share, piece) in enumerate(zip(shares, _pieces(given, len(shares)), strict=True)):
            start, child = heapq.heappop(free), (*path, ordinal)
            if share > 1:
                end = self._session(child, f"{query} ({ordinal})", piece, start, share - 1)
            else:
                end = self._call(child, 1, "leaf", start, self._text(40), piece, query)
            heapq.heappush(free, end)
        end = max(free)
        self._add(MapEnded(end, path, 0, len(shares), 0, id=self._id()))
        return end

    def _shares(self, depth: int, below: int) -> Iterator[int]:
        """Yield how many nodes each sub-call stands for; 1 is a plain call."""
        while below > 0:
            if depth >= 2 or (depth == 1 and self._random.random() < 0.9):
                share = 1
            else:
                share = LEAVES + 1 if depth else 4 * LEAVES
            share = min(share, below)
            yield share
            below -= share

    def _call(  # noqa: PLR0913, PLR0917 - the facts of one call
        self,
        path: NodePath,
        number: int,
        role: Role,
        at: float,
        text: str,
        given: InputSummary | None,
        query: str = "",
    ) -> float:
        queue = self._random.choice((0.0, 0.0, 0.05, 0.4))
        rate = self._random.choice((0.0, 0.0, 0.0, 0.8))
        sent = at + queue + rate
        model = "small/model" if path else "big/model"
        tries = (
            (FailedAttempt(sent + 0.3, "rate_limited", f"429 {XSS_PAYLOAD}"),)
            if self._random.random() < 0.06
            else ()
        )
        end = sent + len(tries) + self._random.uniform(0.4, 2.5)
        failed = role == "leaf" and self._random.random() < 0.02
        usage = (
            Usage() if failed else Usage(self._random.randint(500, 9_000), self._random.randint(20, 700), 256)
        )
        self._add(CallSent(sent, path, number, role, model, "k", id=self._id()))
        self._add(
            CallEnded(
                *(end, path, number, role, model, "k", at, "openai", queue, rate, tries, usage),
                cost_usd=None if failed else usage.tokens * 2e-6,
                finish_reason="" if failed else "stop",
                text="" if failed else text,
                status=f"Turn {number}: you have not seen the context yet" if role == "turn" else "",
                error_kind="ModelUnavailableError" if failed else "",
                why="the provider kept failing; try again later" if failed else "",
                query=query,
                input=given,
                id=self._id(),
            )
        )
        return end

    def _text(self, words: int) -> str:
        return " ".join(self._random.choices(_WORDS, k=words)).capitalize() + "."

    def _add(self, record: Record) -> None:
        self._records.append(record)

    def _id(self) -> str:
        return f"r{next(self._ids)}"


def _pieces(given: InputSummary, pieces: int) -> Iterator[InputSummary]:
    """Yield nine tenths of the input in equal pieces: the rest nobody reads."""
    first, last = given.start or 0, given.stop or 0
    size = max(1, (last - first) * 9 // 10 // pieces)
    for start in range(first, first + size * pieces, size):
        yield InputSummary("text", size, 1, start, start + size, "The council met on Monday.")
