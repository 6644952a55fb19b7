"""Turns the records of a run into measurements: named numbers with attributes, for any metrics library.

`measure_record` reads one record by itself; `MetricsReducer` also pairs beginnings with ends, for one run. The names are
those of the GenAI semantic conventions where there is one (`rlm_ray.tracing.conventions`), else `rlm.*`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

from rlm_ray.events.records import (
    CallEnded,
    CallSent,
    CellEnded,
    NodePath,
    Record,
    RunFinished,
    SessionEnded,
    SessionOpened,
)

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
MODEL = "gen_ai.request.model"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - no password
ERROR_TYPE = "error.type"
CHAT = "chat"
DEPTH = "rlm.depth"
ROLE = "rlm.role"
STOP_REASON = "rlm.stop_reason"

TOKEN_USAGE = "gen_ai.client.token.usage"  # noqa: S105 - no password
OPERATION_DURATION = "gen_ai.client.operation.duration"
SESSION_DURATION = "rlm.session.duration"
CELL_DURATION = "rlm.cell.duration"
CALLS_IN_FLIGHT = "rlm.calls.in_flight"
QUEUE_WAIT = "rlm.queue.wait"
RATE_WAIT = "rlm.rate.wait"
RATE_LIMITED = "rlm.rate_limited"
COST = "rlm.cost"

Value: TypeAlias = "str | int | float | bool"

_TOKEN_BUCKETS = tuple(float(4**power) for power in range(14))
_CALL_BUCKETS = tuple(0.01 * 2**power for power in range(14))
_LONG_BUCKETS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 10800.0)
_CELL_BUCKETS = (0.001, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)


@dataclass(frozen=True, slots=True)
class Instrument:
    """How the measurements of one name are counted."""

    kind: Literal["histogram", "counter", "up_down_counter"]
    unit: str
    description: str
    buckets: tuple[float, ...] = ()
    """Upper bounds, of a histogram."""


INSTRUMENTS: Mapping[str, Instrument] = MappingProxyType(
    {
        TOKEN_USAGE: Instrument(
            "histogram", "{token}", "Input and output tokens of a model call", _TOKEN_BUCKETS
        ),
        OPERATION_DURATION: Instrument(
            "histogram", "s", "Duration of a model call, without waits for its admission", _CALL_BUCKETS
        ),
        SESSION_DURATION: Instrument("histogram", "s", "Duration of a session", _LONG_BUCKETS),
        CELL_DURATION: Instrument(
            "histogram", "s", "Duration of a cell, its sub-calls included", _CELL_BUCKETS
        ),
        CALLS_IN_FLIGHT: Instrument("up_down_counter", "{call}", "Model calls sent and not answered yet"),
        QUEUE_WAIT: Instrument(
            "histogram", "s", "Wait of a model call for a free place or the budget", _CALL_BUCKETS
        ),
        RATE_WAIT: Instrument(
            "histogram", "s", "Wait of a model call for the rate of the account", _CALL_BUCKETS
        ),
        RATE_LIMITED: Instrument("counter", "{attempt}", "Attempts the provider refused for its rate limit"),
        COST: Instrument("counter", "{USD}", "Cost of the model calls whose price is known"),
    }
)

_PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""litellm's names by those of the conventions, where they differ."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number for the instrument of this name."""

    name: str
    value: float
    attributes: Mapping[str, Value] = field(default_factory=dict)


def provider_name(provider: str, model: str) -> str:
    """Return the provider as the conventions call it; taken from the model's name where it is not known."""
    found = provider or (model.split("/", 1)[0] if "/" in model else "_OTHER")
    return _PROVIDERS.get(found, found)


def model_name(model: str, provider: str = "") -> str:
    """Return the model as its provider calls it: litellm's prefix is the provider's name."""
    prefix, slash, rest = model.partition("/")
    return rest if slash and rest and (prefix == provider or not provider) else model


def measure_record(record: Record) -> list[Measurement]:
    """Return the measurements of one record by itself."""
    match record:
        case CallEnded(cache_hit=False):
            return _measure_call(record)
        case CellEnded():
            failed: dict[str, Value] = {}
            if record.killed is not None or record.error is not None:
                failed = {ERROR_TYPE: cell_error_type(record)}
            return [
                Measurement(CELL_DURATION, max(0.0, record.at - record.started), _depth(record.path) | failed)
            ]
        case _:
            return []


class MetricsReducer:
    """Computes the measurements of one run: of single records, durations of sessions, calls in flight."""

    def __init__(self) -> None:
        self._opened: dict[tuple[NodePath, int], float] = {}
        self._sent: dict[tuple[NodePath, int], CallSent] = {}

    def add(self, record: Record) -> list[Measurement]:
        match record:
            case SessionOpened():
                self._opened[record.path, record.attempt] = record.at
                return []
            case SessionEnded():
                return self._session(record)
            case CallSent():
                known = (record.path, record.call) in self._sent
                self._sent[record.path, record.call] = record
                return [] if known else [_in_flight(record, 1)]
            case CallEnded():
                sent = self._sent.pop((record.path, record.call), None)
                return measure_record(record) + ([] if sent is None else [_in_flight(sent, -1)])
            case RunFinished():
                return self._forget(())
            case _:
                return measure_record(record)

    def _session(self, record: SessionEnded) -> list[Measurement]:
        gone = self._forget(record.path) if record.error_kind else []
        opened = self._opened.pop((record.path, record.attempt), None)
        if opened is None:
            return gone
        attributes = _depth(record.path) | {STOP_REASON: record.stop_reason}
        if record.error_kind:
            attributes[ERROR_TYPE] = record.error_kind
        return [Measurement(SESSION_DURATION, max(0.0, record.at - opened), attributes), *gone]

    def _forget(self, path: NodePath) -> list[Measurement]:
        """Count the open calls of a failed node and of all below it as no longer in flight."""
        below = [key for key in self._sent if key[0][: len(path)] == path]
        return [_in_flight(self._sent.pop(key), -1) for key in below]


def cell_error_type(cell: CellEnded) -> str:
    """Return the class of a cell's failure, for `error.type`."""
    return "killed" if cell.killed is not None else "code_error"


def _measure_call(call: CallEnded) -> list[Measurement]:
    labels = _labels(call.model, call.provider)
    waited = call.queue_wait_s + call.rate_wait_s
    seconds = max(0.0, call.at - call.started - waited)
    failed = labels.call | {ERROR_TYPE: call.error_kind} if call.error_kind else labels.call
    found = [
        Measurement(OPERATION_DURATION, seconds, failed),
        Measurement(QUEUE_WAIT, call.queue_wait_s, labels.model),
        Measurement(RATE_WAIT, call.rate_wait_s, labels.model),
    ]
    if call.usage.tokens:
        found.append(Measurement(TOKEN_USAGE, call.usage.input_tokens, labels.input))
        found.append(Measurement(TOKEN_USAGE, call.usage.output_tokens, labels.output))
    refused = sum(attempt.kind == "rate_limited" for attempt in call.tries)
    if refused:
        found.append(Measurement(RATE_LIMITED, refused, labels.model))
    if call.cost_usd:
        found.append(Measurement(COST, call.cost_usd, labels.call | _depth(call.path) | {ROLE: call.role}))
    return found


class _Labels(NamedTuple):
    """What the measurements of calls of one model share. Of our own metrics, the model alone: each label costs time."""

    model: dict[str, Value]
    call: dict[str, Value]
    input: dict[str, Value]
    output: dict[str, Value]


@functools.lru_cache(1000)
def _labels(model: str, provider: str) -> _Labels:
    named: dict[str, Value] = {MODEL: model_name(model, provider)}
    call = {OPERATION: CHAT, PROVIDER: provider_name(provider, model)} | named
    return _Labels(named, call, call | {TOKEN_TYPE: "input"}, call | {TOKEN_TYPE: "output"})


def _in_flight(sent: CallSent, change: int) -> Measurement:
    return Measurement(CALLS_IN_FLIGHT, change, _labels(sent.model, "").model)


def _depth(path: NodePath) -> dict[str, Value]:
    return {DEPTH: len(path)}
