"""What the spans of a run say, from its records: values that are small, and without content unless it is asked for.

Content is what users, models or their code wrote: questions, replies, code, output, answers, and sentences of errors
that may quote them.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rlm_ray.core.context import InputSummary
from rlm_ray.events.metrics import cell_error_type, model_name, provider_name
from rlm_ray.events.records import (
    CallEnded,
    CellEnded,
    FailedAttempt,
    MapEnded,
    MapOpened,
    NodePath,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
    ToolEnded,
)
from rlm_ray.tracing import conventions as names

MAX_ATTRIBUTE_BYTES = 4096
"""Bytes of one attribute: collectors drop requests that are too large."""
_CUT = "…"

Value: TypeAlias = "str | int | float | bool | Sequence[str]"
Attributes: TypeAlias = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a span has the status ERROR."""

    kind: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class SpanAttributes:
    """The attributes of the spans of one run."""

    run_id: str
    content: bool = False

    def run(self, record: RunStarted | None) -> Attributes:
        found: Attributes = {
            names.OPERATION: names.WORKFLOW,
            names.WORKFLOW_NAME: "rlm",
            names.CONVERSATION_ID: self.run_id,
        }
        if record is None:
            return found
        found |= _input(record.input) | {names.AGENT_VERSION: record.version, names.LIFE: record.life}
        return truncate_all(found | self._message(names.INPUT_MESSAGES, "user", record.query))

    def run_end(self, record: RunFinished) -> Attributes:
        """Return what the run's span says at its end: stop reason, turns, sums of the usage, and the answer if content is wanted."""
        found: Attributes = {names.STOP_REASON: record.stop_reason, names.TURNS: record.turns}
        sums = record.usage.get("total", {})
        for name in ("calls", "retries", "input_tokens", "output_tokens", "cached_tokens", "cost_usd"):
            if name in sums:
                found[f"{names.TOTAL}.{name}"] = sums[name]
        for name in ("sessions", "cache_hits"):
            if name in record.usage:
                found[f"{names.TOTAL}.{name}"] = record.usage[name]
        return truncate_all(found | self._message(names.OUTPUT_MESSAGES, "assistant", record.answer))

    def session(self, record: SessionOpened, *, incomplete: bool = False) -> Attributes:
        found: Attributes = {
            names.OPERATION: names.AGENT,
            names.AGENT_NAME: "rlm",
            names.CONVERSATION_ID: self.run_id,
            names.ATTEMPT: record.attempt,
        }
        found |= _place(record.path) | _input(record.input)
        if record.model:
            found |= {
                names.MODEL: model_name(record.model),
                names.PROVIDER: provider_name("", record.model),
                names.ACTOR: record.actor,
            }
        if incomplete:
            found[names.INCOMPLETE] = True
        return truncate_all(found | self._message(names.INPUT_MESSAGES, "user", record.query))

    def session_end(self, record: SessionEnded) -> Attributes:
        found: Attributes = {names.STOP_REASON: record.stop_reason, names.TURNS: record.turns}
        return truncate_all(found | self._message(names.OUTPUT_MESSAGES, "assistant", record.answer))

    def call(self, record: CallEnded) -> Attributes:
        usage = record.usage
        found = self._request(record.model, record.provider, record.path, record.role, record.call)
        found |= {
            names.QUEUE_WAIT_S: record.queue_wait_s,
            names.RATE_WAIT_S: record.rate_wait_s,
            names.RETRIES: len(record.tries),
            names.CACHE_HIT: record.cache_hit,
        }
        if usage.tokens:
            found |= {names.INPUT_TOKENS: usage.input_tokens, names.OUTPUT_TOKENS: usage.output_tokens}
        optional: dict[str, Value] = {
            names.CACHED_TOKENS: usage.cached_tokens,
            names.REASONING_TOKENS: usage.reasoning_tokens,
            names.TOOL_CALL: record.tool_call,
            names.FALLBACK_FROM: record.fallback_from,
            names.RESPONSE_MODEL: record.response_model,
            names.RESPONSE_ID: record.response_id,
            names.MAX_TOKENS: record.max_tokens or 0,
            names.FINISH_REASONS: (truncate_utf8(record.finish_reason, 100),) if record.finish_reason else (),
        }
        found |= {name: value for name, value in optional.items() if value}
        if record.temperature is not None:
            found[names.TEMPERATURE] = float(record.temperature)
        if record.cost_usd is not None:
            found |= dict.fromkeys((names.COST, *names.COST_READ_BY_VIEWERS), record.cost_usd)
        found |= _input(record.input) if record.input is not None else {}
        asked = record.query or record.status
        finish = truncate_utf8(record.finish_reason, 100)
        found |= self._message(names.INPUT_MESSAGES, "user", asked)
        return truncate_all(
            found | self._message(names.OUTPUT_MESSAGES, "assistant", record.text, finish_reason=finish)
        )

    def attempt(self, record: FailedAttempt) -> Attributes:
        found: Attributes = {names.ERROR_TYPE: record.kind}
        return truncate_all(found | ({"error.message": record.why} if self.content else {}))

    def cell(self, record: CellEnded) -> Attributes:
        found: Attributes = {
            names.OPERATION: names.TOOL,
            names.TOOL_NAME: "python",
            names.TOOL_TYPE: "function",
            names.CONVERSATION_ID: self.run_id,
            names.TURN: record.turn,
            names.WAITED_S: record.waited_s,
            names.OUTPUT_CHARS: record.output_chars,
        }
        found |= _place(record.path)
        if record.killed is not None:
            found[names.KILLED] = True
        if self.content:
            found[names.TOOL_ARGUMENTS] = _json(lambda text: {"code": text}, record.code)
            found[names.TOOL_RESULT] = record.output
        return truncate_all(found)

    def tool(self, record: ToolEnded) -> Attributes:
        found: Attributes = {
            names.OPERATION: names.TOOL,
            names.TOOL_NAME: record.name,
            names.TOOL_TYPE: "function",
            names.CONVERSATION_ID: self.run_id,
            names.TURN: record.turn,
        }
        found |= _place(record.path)
        if self.content:
            found[names.TOOL_ARGUMENTS] = record.arguments
            found[names.TOOL_RESULT] = record.result
        return truncate_all(found)

    def map(self, record: MapOpened) -> Attributes:
        found: Attributes = {
            names.CONVERSATION_ID: self.run_id,
            names.TURN: record.turn,
            f"{names.MAP}.first": record.first,
            f"{names.MAP}.count": record.count,
            f"{names.MAP}.sessions": record.sessions,
        }
        found |= _place(record.path)
        if self.content and record.query:
            found[f"{names.MAP}.query"] = (
                record.query
            )  # as messages, viewers would take the map for a model call
        return truncate_all(found)

    def failure(
        self, record: CallEnded | SessionEnded | CellEnded | ToolEnded | RunFinished
    ) -> Failure | None:
        """Return the failure; None where it did not fail."""
        match record:
            case CellEnded():
                if record.killed is None and record.error is None:
                    return None
                why = record.killed or record.error or ""
                return Failure(cell_error_type(record), why if self.content else "")
            case _:
                return (
                    Failure(record.error_kind, record.why if self.content else "")
                    if record.error_kind
                    else None
                )

    def _request(self, model: str, provider: str, path: NodePath, role: str, call: int) -> Attributes:
        found: Attributes = {
            names.OPERATION: names.CHAT,
            names.CONVERSATION_ID: self.run_id,
            names.MODEL: model_name(model, provider),
            names.PROVIDER: provider_name(provider, model),
            names.ROLE: role,
            names.CALL: call,
        }
        return found | _place(path)

    def _message(self, name: str, role: str, text: str | None, **more: str) -> Attributes:
        if not self.content or not text:
            return {}
        return {
            name: _json(
                lambda part: [{"role": role, "parts": [{"type": "text", "content": part}], **more}], text
            )
        }


@dataclass(slots=True)
class CallTotals:
    """Counts over calls that may have no span of their own."""

    calls: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    seconds: array[float] = field(default_factory=lambda: array("d"))
    """How long each took."""

    def add(self, call: CallEnded) -> None:
        self.calls += 1
        self.errors += bool(call.error_kind)
        self.input_tokens += call.usage.input_tokens
        self.output_tokens += call.usage.output_tokens
        self.cost_usd += call.cost_usd or 0.0
        self.seconds.append(max(0.0, call.at - call.started))

    def attributes(self, prefix: str) -> Attributes:
        found: Attributes = {
            f"{prefix}.calls": self.calls,
            f"{prefix}.errors": self.errors,
            f"{prefix}.input_tokens": self.input_tokens,
            f"{prefix}.output_tokens": self.output_tokens,
            f"{prefix}.cost_usd": self.cost_usd,
        }
        for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1.0)):
            if self.seconds:
                found[f"{prefix}.call_s_{name}"] = _quantile(self.seconds, share)
        return found


def map_end_attributes(record: MapEnded | None, sums: CallTotals, kept: int) -> Attributes:
    """Return the counts of a map that is over; `kept` of its calls have spans of their own."""
    found = sums.attributes(names.MAP) | {f"{names.MAP}.kept": kept}
    if record is not None:
        found |= {f"{names.MAP}.answered": record.answered, f"{names.MAP}.failed": record.failed}
    return found


def truncate_all(found: Mapping[str, Any]) -> Attributes:
    """Return the attributes with every text cut to `MAX_ATTRIBUTE_BYTES` bytes."""
    return {name: truncate_utf8(value) if isinstance(value, str) else value for name, value in found.items()}


def truncate_utf8(text: str, most: int = MAX_ATTRIBUTE_BYTES) -> str:
    """Return the text in at most so many bytes of UTF-8; half characters, which no exporter can send, are replaced."""
    if len(text) <= most and text.isascii():
        return text
    encoded = text[: most + 1].encode("utf-8", "replace")
    if len(encoded) <= most:
        return encoded.decode()
    return encoded[: most - len(_CUT.encode())].decode("utf-8", "ignore") + _CUT


def _json(shape: Any, text: str) -> str:
    """Return the JSON of `shape(text)`, with the text cut so that the JSON is whole and not too long."""
    most = MAX_ATTRIBUTE_BYTES
    while True:
        written = json.dumps(shape(truncate_utf8(text, most)), ensure_ascii=False)
        size = len(written.encode())
        if size <= MAX_ATTRIBUTE_BYTES:
            return written
        most = most * MAX_ATTRIBUTE_BYTES // size  # escapes make some texts longer than others


def _place(path: Iterable[int]) -> Attributes:
    ordinals = tuple(path)
    return {names.PATH: "/".join(map(str, ordinals)), names.DEPTH: len(ordinals)}


def _input(given: InputSummary) -> Attributes:
    return {names.CONTEXT_CHARS: given.chars, names.CONTEXT_KIND: given.kind}


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
