"""Runs for tests of tracing: records as a run writes them, and the spans they must become."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rlm_ray.config import Tracing
from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import Usage
from rlm_ray.events.records import (
    CallEnded,
    CallSent,
    CellEnded,
    MapEnded,
    MapOpened,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
)
from rlm_ray.tracing.tracer import Tracer

BEGIN = 1_800_000_000.0
MODEL = "openai/gpt-5"
SESSION = "invoke_agent rlm"
RUN = "invoke_workflow rlm"
CHAT = "chat gpt-5"
CELL = "execute_tool python"


@dataclass(frozen=True)
class Leaf:
    fails: bool = False


@dataclass(frozen=True)
class Child:
    turns: tuple[tuple[Any, ...], ...] = ()
    """For each turn what its map sends out; empty for no map."""
    dies: bool = False
    """Its first actor dies after its first call was sent; a second one does the work."""


def children(depth: int = 2) -> st.SearchStrategy[Child]:
    below = st.builds(Leaf, st.booleans())
    if depth:
        below |= children(depth - 1)
    turns = st.lists(st.lists(below, max_size=3).map(tuple), min_size=1, max_size=2).map(tuple)
    return st.builds(Child, turns, st.booleans())


@dataclass
class Played:
    """What a run wrote and what must be seen of it."""

    step_s: float = 0.001
    records: list[Any] = field(default_factory=list)
    spans: set[tuple[str, float, float | None, bool]] = field(default_factory=set)
    """Name, start, start of the parent, failed. No two starts are the same."""
    _at: float = BEGIN

    def tick(self) -> float:
        self._at += self.step_s
        return self._at

    def write(self, record: Any) -> Any:
        self.records.append(record)
        return record

    def run(self, root: Child) -> Played:
        start = self._at
        self.write(RunStarted(start, "run-1", "why?", {}, InputSummary(chars=9), "1.0", id="run"))
        self.session((), root, start)
        self.spans.add((RUN, start, None, False))
        self.write(RunFinished(self.tick(), "answered", answer="because", id="end"))
        return self

    def session(self, path: tuple[int, ...], child: Child, parent: float) -> None:
        attempt = 1
        if child.dies:
            start = self.opened(path, attempt)
            sent = self.write(CallSent(self.tick(), path, 1, "turn", MODEL, "k", id=f"s{path}1"))
            self.ended(path, attempt, start, parent, "ClusterError")
            self.spans.add((CHAT, sent.at, start, True))
            attempt = 2
        start = self.opened(path, attempt)
        ordinal = 0
        for turn, below in enumerate(child.turns, 1):
            self.call(path, turn, "turn", start)
            cell = self.tick()
            if below:
                self.map(path, turn, ordinal, below, start)
                ordinal += len(below)
            self.spans.add((CELL, cell, start, False))
            self.write(
                CellEnded(
                    self.tick(), path, turn, started=cell, code="code", output="output", id=f"x{path}{turn}"
                )
            )
        self.ended(path, attempt, start, parent)

    def opened(self, path, attempt: int) -> float:
        start = self.tick()
        self.write(
            SessionOpened(
                start, path, "why?", InputSummary(), MODEL, "actor", attempt, id=f"o{path}{attempt}"
            )
        )
        return start

    def ended(self, path, attempt: int, start: float, parent: float, error: str = "") -> None:
        reason = "lost" if error else "answered"
        self.write(
            SessionEnded(self.tick(), path, reason, error_kind=error, attempt=attempt, id=f"e{path}{attempt}")
        )
        self.spans.add((SESSION, start, parent, bool(error)))

    def call(self, path, number: int, role: str, parent: float, *, fails: bool = False) -> None:
        wanted = self.tick()
        sent = self.tick()
        self.write(CallSent(sent, path, number, role, MODEL, "k", id=f"s{path}{number}{sent}"))
        self.write(
            CallEnded(
                self.tick(), path, number, role, MODEL, "k", wanted, "openai", usage=Usage(100, 10), cost_usd=0.5,
                text="the reply", query="a question", error_kind="QuotaError" if fails else "",
                id=f"c{path}{number}{sent}",
            )
        )  # fmt: skip
        self.spans.add((CHAT, wanted, parent, fails))

    def map(self, path, turn: int, first: int, below: tuple[Any, ...], parent: float) -> None:
        start = self.tick()
        sessions = sum(isinstance(one, Child) for one in below)
        self.write(
            MapOpened(
                start, path, turn, first, len(below), sessions, "sub-question", id=f"m{path}{first}{start}"
            )
        )
        self.spans.add(("recursive_map", start, parent, False))
        for ordinal, one in enumerate(below, first):
            if isinstance(one, Child):
                self.session((*path, ordinal), one, start)
            else:
                self.call((*path, ordinal), 1, "leaf", start, fails=one.fails)
        failed = sum(isinstance(one, Leaf) and one.fails for one in below)
        self.write(
            MapEnded(self.tick(), path, first, len(below) - failed, failed, id=f"n{path}{first}{start}")
        )


def in_memory() -> tuple[InMemorySpanExporter, TracerProvider]:
    """A provider and what it was given."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    return kept, provider


def spans_of(records, *, options: Tracing | None = None, content: bool = False) -> tuple[ReadableSpan, ...]:
    """What a tracer makes of records that come in this order."""
    kept, provider = in_memory()
    tracer = Tracer(provider, "run-1", options=options, capture_content=content)
    for record in records:
        tracer.add(record)
    tracer.finish()
    return kept.get_finished_spans()


def facts(spans) -> set[tuple[str, float, float | None, bool]]:
    """As `Played.spans`, with starts rounded to what a float of seconds can say."""
    starts = {span.context.span_id: span.start_time for span in spans}
    return {
        (
            span.name,
            span.start_time,
            None if span.parent is None else starts[span.parent.span_id],
            span.status.status_code.name == "ERROR",
        )
        for span in spans
    }


def expected(played: Played) -> set[tuple[str, float, float | None, bool]]:
    return {
        (name, int(start * 1e9), None if parent is None else int(parent * 1e9), failed)
        for name, start, parent, failed in played.spans
    }


def named(spans, name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]
