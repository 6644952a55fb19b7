"""Makes records of a log of the official RLM library, as if the run had been ours.

- A log with several completions becomes a root with a session for each.
- Times are the log's; what it does not time is laid out by how long it took.
- Tokens and costs are known of sub-calls only. Of a child session only the sum is: it stands at its last turn.
- A completion whose log just ends has the stop reason `lost`: the library writes nothing when it fails.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import Usage
from rlm_ray.errors import InputError
from rlm_ray.events.records import (
    CallEnded,
    CellEnded,
    MapEnded,
    MapOpened,
    Record,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
)
from rlm_ray.report.rlm_log_parser import (
    Call,
    Completion,
    Iteration,
    completions_of,
    is_rlm_log,
    text_of,
)

VERSION = "official rlm"
ERROR_KIND = "SubCallError"
_SETTINGS = ("max_depth", "max_iterations", "backend", "environment_type", "other_backends")
"""What is kept of its configuration; its keyword arguments may hold keys."""
_Place: TypeAlias = tuple[int, ...]

__all__ = ["is_rlm_log", "read"]


def read(path: Path) -> list[Record]:
    """Return the records of a log, in the order of their times. Raises `InputError` where it is none."""
    completions = completions_of(path)
    if not completions:
        raise InputError(str(path), "holds no iteration of the RLM library; is it the right file?")
    writer, first = _Writer(), completions[0]
    over = writer.completion((), first) if len(completions) == 1 else writer.completions(completions)
    records = sorted(writer.records, key=lambda record: record.at)
    began, last = records[0].at, records[-1].at
    root = next(record for record in records if isinstance(record, SessionOpened) and not record.path)
    settings = {"model": first.model} | {
        name: first.config[name] for name in _SETTINGS if name in first.config
    }
    opened = RunStarted(began, path.stem, root.query, settings, root.input, VERSION)
    ended = RunFinished(last, over.stop_reason, over.why, over.answer, over.turns, last - began)
    return [opened, *records, ended]


class _Writer:
    """Gathers records."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def completions(self, completions: list[Completion]) -> SessionEnded:
        """Add a root that stands for the log itself."""
        count, query = len(completions), f"{len(completions)} completions of one log"
        began = _start_time(completions[0])
        self.records.append(
            SessionOpened(began, (), query, InputSummary(documents=count), completions[0].model, "")
        )
        self.records.append(MapOpened(began, (), 1, 0, count, count, completions[0].query))
        ends = [self.completion((place,), one) for place, one in enumerate(completions)]
        answered = sum(1 for end in ends if end.stop_reason == "answered")
        last = max(end.at for end in ends)
        self.records.append(MapEnded(last, (), 0, answered, count - answered))
        over = replace(ends[-1], at=last, path=(), turns=0)
        self.records.append(over)
        return over

    def completion(self, place: _Place, completion: Completion) -> SessionEnded:
        """Add a session that answers to nobody."""
        began = _start_time(completion)
        self.records.append(
            SessionOpened(began, place, completion.query, completion.input, completion.model, "")
        )
        last = completion.iterations[-1]
        reason, why = "answered", ""
        if last.final is None:
            reason, why = "lost", "the log ends without an answer"
        elif _is_last(completion, len(completion.iterations)):
            reason, why = (
                "max_iterations",
                "the model did not finish in time and was asked for its best answer",
            )
        ended_at = self._turns(place, completion, began)
        over = SessionEnded(ended_at, place, reason, why, last.final, len(completion.iterations))
        self.records.append(over)
        return over

    def _child(self, place: _Place, call: Call, child: Completion, at: float) -> None:
        """Add a sub-call that was a session."""
        began = _start_time(child) or at
        self.records.append(SessionOpened(began, place, call.query, call.input, child.model, ""))
        since = len(self.records)
        ended_at = max(self._turns(place, child, began), began + call.seconds)
        self._end_call(since, place, call)
        reason, kind = ("error", ERROR_KIND) if call.error else ("answered", "")
        answer = None if call.error else call.answer
        self.records.append(
            SessionEnded(ended_at, place, reason, call.error, answer, len(child.iterations), kind)
        )

    def _end_call(self, since: int, place: _Place, call: Call) -> None:
        """Add what a child used besides its plain calls."""
        calls = [
            (at, record)
            for at, record in enumerate(self.records[since:], since)
            if isinstance(record, CallEnded)
        ]
        leaves = [leaf for _, leaf in calls if leaf.role == "leaf" and leaf.path[:-1] == place]
        where, turn = [(at, turn) for at, turn in calls if turn.path == place][-1]
        usage, cost_usd = call.usage, call.cost_usd
        own = Usage(
            max(usage.input_tokens - sum(leaf.usage.input_tokens for leaf in leaves), 0),
            max(usage.output_tokens - sum(leaf.usage.output_tokens for leaf in leaves), 0),
        )
        if cost_usd is not None:
            cost_usd = max(cost_usd - sum(leaf.cost_usd or 0.0 for leaf in leaves), 0.0)
        self.records[where] = replace(turn, usage=own, cost_usd=cost_usd)

    def _turns(self, place: _Place, completion: Completion, now: float) -> float:
        """Add all iterations; return when the last was over."""
        ordinal = 0
        for turn, iteration in enumerate(completion.iterations, 1):
            began, now = _span(iteration, now)
            at = max(now - sum(block.seconds for block in iteration.blocks), began)
            call = CallEnded(
                at, place, turn, "last" if _is_last(completion, turn) else "turn", completion.model, "", began,
                provider=text_of(completion.config.get("backend")), text=iteration.text,
            )  # fmt: skip
            self.records.append(call)
            if iteration.blocks:
                self.records.append(_cell(place, turn, iteration, at, now))
            for block in iteration.blocks:
                if block.calls:
                    self._map(place, turn, ordinal, block.calls, (at, at + block.seconds))
                ordinal += len(block.calls)
                at += block.seconds
        return now

    def _map(
        self, place: _Place, turn: int, first: int, calls: tuple[Call, ...], span: tuple[float, float]
    ) -> None:
        """Add the sub-calls of a block: one after the other where there was time for that, else all at once."""
        began, ended = span
        serial = sum(call.seconds for call in calls) <= ended - began
        sessions = sum(1 for call in calls if call.child)
        failed = sum(1 for call in calls if call.error)
        self.records.append(MapOpened(began, place, turn, first, len(calls), sessions, calls[0].query))
        for ordinal, call in enumerate(calls, first):
            if call.child:
                self._child((*place, ordinal), call, call.child, began)
            else:
                self.records.append(_leaf((*place, ordinal), call, began))
            began += call.seconds if serial else 0.0
        self.records.append(MapEnded(ended, place, first, len(calls) - failed, failed))


def _start_time(completion: Completion) -> float:
    """Return when its first iteration began, as far as that is known; 0 where it is not."""
    first = completion.iterations[0]
    if first.ended is not None and first.seconds is not None:
        return first.ended - first.seconds
    return completion.began or first.ended or 0.0


def _is_last(completion: Completion, turn: int) -> bool:
    """Tell whether it is the extra call: the library asks once more after the last iteration."""
    return completion.max_iterations is not None and turn > completion.max_iterations


def _span(iteration: Iteration, now: float) -> tuple[float, float]:
    """Return from when to when; `now` is the end of the one before."""
    took = iteration.seconds
    if took is None:
        took = sum(block.seconds for block in iteration.blocks)
    if iteration.ended is None:
        return now, now + took
    ended = max(iteration.ended, now)
    return (now if iteration.seconds is None else max(ended - took, now)), ended


def _cell(place: _Place, turn: int, iteration: Iteration, began: float, ended: float) -> CellEnded:
    blocks = iteration.blocks
    output = "".join(block.output for block in blocks)
    errors = "\n".join(block.error.strip() for block in blocks if block.error.strip())
    waited_s = sum(min(sum(call.seconds for call in block.calls), block.seconds) for block in blocks)
    return CellEnded(
        ended, place, turn, began, waited_s, "\n\n".join(block.code for block in blocks), output, len(output),
        errors or None, final=iteration.final, variables=blocks[-1].variables,
    )  # fmt: skip


def _leaf(place: _Place, call: Call, began: float) -> CallEnded:
    kind, answer = (ERROR_KIND, "") if call.error else ("", call.answer)
    return CallEnded(
        began + call.seconds, place, 1, "leaf", call.model, "", began, usage=call.usage, cost_usd=call.cost_usd,
        text=answer, error_kind=kind, why=call.error, query=call.query, input=call.input,
    )  # fmt: skip
