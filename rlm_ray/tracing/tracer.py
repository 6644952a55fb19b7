"""The spans of a run, made from its records as they arrive.

    invoke_workflow rlm                      the run
    └─ invoke_agent rlm                      a session, once for each actor it was tried in
       ├─ chat gpt-5                         a model call of its own
       ├─ execute_tool python                a cell
       └─ recursive_map                      sub-calls of a cell: counts of all, and below it
          ├─ chat gpt-5-mini                 plain calls: all of them, or a sample of many
          └─ invoke_agent rlm                child sessions

Rules:
- One process makes all spans, with the times of the records, so a killed actor loses none.
- Records may come in any order and more than once. A span is made when its parent is known; what is left at the end
  goes below its nearest known ancestor, and what never ended ends as an error: no orphan, nothing lost.
- Not thread-safe: feed it from one thread.
"""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, TracerProvider, format_trace_id

from rlm_ray.config import Tracing
from rlm_ray.core.context import InputSummary
from rlm_ray.events.metrics import model_name
from rlm_ray.events.records import (
    CallEnded,
    CallSent,
    CellEnded,
    MapEnded,
    MapOpened,
    NodePath,
    Record,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
    ToolEnded,
)
from rlm_ray.events.tree import SeenRecords
from rlm_ray.tracing import conventions as names
from rlm_ray.tracing.attributes import Failure, SpanAttributes
from rlm_ray.tracing.reorder_buffer import ReorderBuffer
from rlm_ray.tracing.span_state import Attempt, Attempts, MapSpan, TraceShards
from rlm_ray.tracing.spans import ActiveSpan, Spans, parse_traceparent


class Tracer:
    """Takes the records of one run and makes its spans; they go where `provider` sends them."""

    def __init__(
        self,
        provider: TracerProvider,
        run_id: str,
        *,
        options: Tracing | None = None,
        parent: Context | None = None,
        capture_content: bool = False,
    ) -> None:
        self._options = options or Tracing()
        self._parent = parent or Context()
        self._describe = SpanAttributes(run_id, capture_content)
        self._spans = Spans(provider)
        self._order = ReorderBuffer()
        self._seen = SeenRecords()
        self._run: ActiveSpan | None = None
        self._shards: TraceShards | None = None
        self._ended: RunFinished | None = None
        self._last = 0.0
        self._attempts = Attempts()
        self._waiting: dict[NodePath, list[Record]] = {}
        """Records of sessions whose beginning has not come yet, by the session's path."""

    @property
    def trace_id(self) -> str:
        """Return the trace id in hexadecimal; empty until the first record."""
        return "" if self._run is None else format_trace_id(self._run.span_context.trace_id)

    def add(self, record: Record) -> None:
        """Take a record in; spans that need not wait for others are made."""
        if not self._seen.is_new(record):
            return
        if isinstance(record, RunStarted) and self._run is None:
            self._open_run(record.at, record)  # at once: the trace has its name
            return
        for ready in self._order.add(record):
            self._handle(ready)

    def finish(self, record: RunFinished | None = None) -> None:
        """End all that is open: no more records come."""
        if record is not None:
            self.add(record)
        for ready in self._order.flush():
            self._handle(ready)
        if self._run is None:
            return
        self._attach_orphans()
        at = self._last if self._ended is None else self._ended.at
        self._close_open_spans(at)
        assert self._shards is not None
        self._shards.end(at)
        if self._ended is None:
            self._run.end(at, failure=Failure(names.NOT_FINISHED))
        else:
            self._run.end(at, self._describe.run_end(self._ended), self._describe.failure(self._ended))

    def _open_run(self, at: float, record: RunStarted | None) -> None:
        caller = parse_traceparent(record.traceparent) if record is not None and not self._parent else None
        attributes, links = self._describe.run(record), [] if caller is None else [caller]
        self._run = self._spans.start(f"{names.WORKFLOW} rlm", at, attributes, self._parent, links=links)
        limit = self._options.max_sessions_per_trace
        self._shards = TraceShards(self._spans, self._describe.run_id, self._run, limit)
        self._last = max(self._last, at)

    def _handle(self, record: Record) -> None:
        if self._run is None:
            self._open_run(record.at, None)
        match record:
            case RunStarted():
                self._resume(record)
            case RunFinished():
                self._ended = record
            case SessionOpened(path=()):
                self._open_session(record, None)
            case SessionEnded():
                self._end_session(record)
            case _:
                owner = _owner(record)
                attempt = self._attempts.active_at(owner, _beginning(record))
                if attempt is None:
                    self._waiting.setdefault(owner, []).append(record)
                else:
                    self._handle_child(attempt, record)
        self._last = max(self._last, record.at)

    def _handle_child(self, attempt: Attempt, record: Record) -> None:
        match record:
            case SessionOpened():
                self._open_session(record, attempt)
            case CallSent():
                pending = attempt.pending_calls.get((record.path, record.call))
                attempt.pending_calls[record.path, record.call] = record
                if pending is not None:
                    self._end_lost_call(attempt, pending, record.at, names.LOST)
            case CallEnded():
                self._forget_sent(record)
                self._call(attempt, record)
            case CellEnded():
                self._cell(attempt, record)
            case ToolEnded():
                self._tool(attempt, record)
            case MapOpened():
                self._open_map(attempt, record)
            case MapEnded():
                self._end_map(attempt, record)
            case _:
                raise AssertionError(record)

    def _resume(self, record: RunStarted) -> None:
        """Take the run up again: what the attempt before left open is over."""
        assert self._run is not None
        self._close_open_spans(self._last)
        self._ended = None
        self._run.event(names.RESUMED, record.at, {names.LIFE: record.life})

    def _open_session(
        self, record: SessionOpened, parent: Attempt | None, *, incomplete: bool = False
    ) -> None:
        assert self._run is not None
        assert self._shards is not None
        parent_span, parent_shard = self._run, self._shards.primary
        if parent is not None:
            open_map = parent.map_of(record.path[-1]) if record.path[:-1] == parent.path else None
            parent_span, parent_shard = (open_map or parent).span, parent.shard
        shard = self._shards.assign(parent_shard, record.at)
        is_new_shard = shard is not parent_shard
        context, links = (
            (shard.root.context, [parent_span.span_context]) if is_new_shard else (parent_span.context, [])
        )
        attributes = self._describe.session(record, incomplete=incomplete)
        span = self._spans.start(f"{names.AGENT} rlm", record.at, attributes, context, links=links)
        self._attempts.add(Attempt(record.path, record.attempt, span, shard, parent))
        for waiting in self._waiting.pop(record.path, []):
            self._handle(waiting)

    def _end_session(self, record: SessionEnded) -> None:
        attempt = self._attempts.open_attempts(record.path, record.attempt)
        if attempt is None:
            self._waiting.setdefault(record.path, []).append(record)
            return
        attempt.end = record
        attempt.span.end(record.at, self._describe.session_end(record), self._describe.failure(record))

    def _call(self, attempt: Attempt, record: CallEnded) -> None:
        if record.role != "leaf":
            attempt.shard.sums.add(record)
            self._chat(record, attempt.span)
            return
        open_map = attempt.map_of(record.path[-1])
        if open_map is None:
            attempt.deferred.append(record)
            return
        attempt.shard.sums.add(record)
        if open_map.add(record):
            self._chat(record, open_map.span)
        if open_map.complete:
            self._close_map(open_map, record.at)

    def _chat(self, record: CallEnded, below: ActiveSpan) -> None:
        name = f"{names.CHAT} {model_name(record.model, record.provider)}"
        attributes = self._describe.call(record)
        span = self._spans.start(name, record.started, attributes, below.context, kind=SpanKind.CLIENT)
        for failed in record.tries:
            span.event(names.ATTEMPT_FAILED, failed.at, self._describe.attempt(failed))
        span.end(record.at, failure=self._describe.failure(record))

    def _cell(self, attempt: Attempt, record: CellEnded) -> None:
        name = f"{names.TOOL} python"
        span = self._spans.start(name, record.started, self._describe.cell(record), attempt.span.context)
        span.end(record.at, failure=self._describe.failure(record))

    def _tool(self, attempt: Attempt, record: ToolEnded) -> None:
        attributes = self._describe.tool(record)
        span = self._spans.start(
            f"{names.TOOL} {record.name}", record.started, attributes, attempt.span.context
        )
        span.end(record.at, failure=self._describe.failure(record))

    def _open_map(self, attempt: Attempt, record: MapOpened) -> None:
        span = self._spans.start(
            names.RECURSIVE_MAP, record.at, self._describe.map(record), attempt.span.context
        )
        attempt.maps.append(MapSpan(record, span, self._options.max_spans_per_map))
        held, attempt.deferred = attempt.deferred, []
        for waiting in held:
            self._handle_child(attempt, waiting)

    def _end_map(self, attempt: Attempt, record: MapEnded) -> None:
        open_map = next((found for found in attempt.maps if found.record.first == record.first), None)
        if open_map is None:
            attempt.deferred.append(record)
            return
        open_map.end = record
        if open_map.complete:
            self._close_map(open_map, record.at)

    def _close_map(self, open_map: MapSpan, at: float, failure: Failure | None = None) -> None:
        if open_map.span.ended is None:
            for call in open_map.close(at, failure):
                self._chat(call, open_map.span)

    def _forget_sent(self, record: CallEnded) -> None:
        key = (record.path, record.call)
        for attempt in self._attempts.for_path(_owner(record)):
            sent = attempt.pending_calls.get(key)
            if sent is not None and record.started <= sent.at <= record.at:
                del attempt.pending_calls[key]

    def _end_lost_call(self, attempt: Attempt, sent: CallSent, at: float, kind: str) -> None:
        """End a call that was sent and never ended as an error."""
        common = {name: getattr(sent, name) for name in ("path", "call", "role", "model", "key")}
        record = CallEnded(at=max(at, sent.at), started=sent.at, error_kind=kind, **common)
        open_map = attempt.map_of(sent.path[-1]) if sent.role == "leaf" else None
        attempt.shard.sums.add(record)
        if open_map is None or open_map.add(record, lost=True):
            self._chat(record, (open_map or attempt).span)

    def _attach_orphans(self) -> None:
        """Give sessions whose beginning never came spans from their first record, below what is known."""
        while self._waiting:
            path = min(self._waiting, key=lambda path: (len(path), path))
            records = self._waiting[path]
            at = min(_beginning(record) for record in records)
            numbers = [record.attempt for record in records if isinstance(record, SessionEnded)]
            opened = SessionOpened(at, path, "", InputSummary(), "", "", attempt=numbers[0] if numbers else 1)
            self._open_session(opened, self._attempts.nearest_ancestor(path, at), incomplete=True)

    def _close_open_spans(self, at: float) -> None:
        """End all that is open as an error: when the session it ran below ended, or now."""
        for attempt in self._attempts:
            ended, kind = attempt.final_state
            self._settle_below(attempt, at if ended is None else ended, kind)
        for attempt in self._attempts:
            ended, kind = attempt.final_state
            attempt.span.end(at if ended is None else ended, failure=Failure(kind))

    def _settle_below(self, attempt: Attempt, at: float, kind: str) -> None:
        held, attempt.deferred = attempt.deferred, []
        for record in held:
            match record:
                case MapEnded():
                    count = record.answered + record.failed
                    self._open_map(attempt, MapOpened(record.at, attempt.path, 0, record.first, count, count))
                    self._end_map(attempt, record)
                case CallEnded():
                    attempt.shard.sums.add(record)
                    self._chat(record, attempt.span)
        sent, attempt.pending_calls = attempt.pending_calls, {}
        for call in sent.values():
            self._end_lost_call(attempt, call, at, kind)
        for open_map in attempt.maps:
            self._close_map(open_map, at, Failure(kind) if open_map.end is None else None)


def _owner(record: Record) -> NodePath:
    """Return the session a record belongs to: a leaf's and a session's parent, else its own."""
    path: NodePath = getattr(record, "path", ())
    match record:
        case SessionOpened() | CallSent(role="leaf") | CallEnded(role="leaf"):
            return path[:-1]
        case _:
            return path


def _beginning(record: Record) -> float:
    return record.started if isinstance(record, CallEnded | CellEnded | ToolEnded) else record.at
