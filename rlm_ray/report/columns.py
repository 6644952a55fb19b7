"""A run as columns: the plain, compact values that the page is made from.

Nodes are named by their place, texts by theirs in `texts`. Times are seconds on the run's clock. A column whose values
are all the same is sent as that one value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rlm_ray.core.records import CallEnded, CallSent, CellEnded, Path
from rlm_ray.core.tree import Node
from rlm_ray.report.coverage import coverage_of, range_of
from rlm_ray.report.facts import (
    Facts,
    answer_of,
    error_of,
    input_of,
    kind_of,
    query_of,
    run_state,
    span_of,
    state_of,
)
from rlm_ray.report.texts import Texts, bounded
from rlm_ray.report.totals import totals_of

HEAD_CHARS = 200_000
"""The most of the run's question and answer."""

NODE = ("parent", "ordinal", "kind", "state", "reason", "model", "start", "end", "query", "answer", "error",
        "input", "chars", "documents", "from", "to", "sample", "attempts", "actor")  # fmt: skip
CALL = ("node", "number", "role", "model", "provider", "start", "end", "queue", "rate", "tries", "input", "output",
        "cached", "reasoning", "cost", "finish", "text", "status", "hit", "error", "tool", "old")  # fmt: skip
CELL = ("node", "turn", "start", "end", "waited", "code", "output", "output_chars", "error", "killed", "final",
        "variables", "notes", "old")  # fmt: skip
MAP = ("node", "turn", "first", "count", "sessions", "query", "start", "end", "answered", "failed")
ATTEMPT = ("node", "number", "actor", "start", "end", "reason", "error")

Row = tuple[Any, ...]


def summary_of(facts: Facts) -> dict[str, Any]:
    """What is known of a run without its nodes."""
    return {"head": _head(facts), "totals": totals_of(facts), "coverage": asdict(coverage_of(facts))}


def columns_of(facts: Facts) -> dict[str, Any]:
    """A whole run."""
    texts = Texts()
    places = {node.path: place for place, node in enumerate(facts.nodes)}
    tables = {
        "nodes": table(NODE, (_node(facts, node, places, texts) for node in facts.nodes)),
        "calls": table(CALL, _calls(facts, texts)),
        "cells": table(CELL, _cells(facts, texts)),
        "maps": table(MAP, _maps(facts, texts)),
        "attempts": table(ATTEMPT, _attempts(facts, texts)),
    }
    return summary_of(facts) | tables | {"texts": texts.table()}


def table(names: Sequence[str], rows: Iterable[Row]) -> dict[str, Any]:
    """Rows as columns."""
    columns = list(zip(*rows, strict=True))
    if not columns:
        return {"n": 0} | dict.fromkeys(names)
    packed = (_packed(column) for column in columns)
    return {"n": len(columns[0])} | dict(zip(names, packed, strict=True))


def _packed(column: tuple[Any, ...]) -> Any:
    same = not isinstance(column[0], list | tuple) and all(value == column[0] for value in column)
    return column[0] if same else column


def _head(facts: Facts) -> dict[str, Any]:
    opened = facts.tree.opened[-1] if facts.tree.opened else None
    ended = facts.tree.ended
    settings = json.dumps(dict(opened.settings), indent=2, default=str, ensure_ascii=False) if opened else ""
    return {
        "run_id": opened.run_id if opened else "",
        "query": bounded(query_of(facts, facts.tree.root), HEAD_CHARS),
        "answer": bounded(answer_of(facts, facts.tree.root) or "", HEAD_CHARS),
        "answered": answer_of(facts, facts.tree.root) is not None,
        "state": run_state(facts),
        "why": error_of(facts, facts.tree.root),
        "began": facts.clock.began,
        "seconds": _number(facts.clock.last),
        "resumes": [_number(at) for at in facts.clock.resumes],
        "paused": _number(facts.clock.paused),
        "version": opened.version if opened else "",
        "model": facts.tree.root.model or (str(opened.settings.get("model", "")) if opened else ""),
        "settings": bounded(settings, HEAD_CHARS),
        "counted": dict(ended.usage.get("total", {})) if ended else {},
    }


def _node(facts: Facts, node: Node, places: dict[Path, int], texts: Texts) -> Row:
    given = input_of(facts, node)
    start, end = span_of(facts, node)
    where = range_of(facts, node)
    return (
        places[node.path[:-1]] if node.path else -1,
        node.path[-1] if node.path else -1,
        texts.place(kind_of(node)),
        texts.place(state_of(facts, node)),
        texts.place(node.end.stop_reason if node.end else ""),
        texts.place(node.model),
        _number(start),
        _number(end),
        texts.place(query_of(facts, node)),
        texts.place(answer_of(facts, node)),
        texts.place(error_of(facts, node)),
        texts.place(given.kind),
        given.chars,
        given.documents,
        *(where or (None, None)),
        texts.place(given.sample),
        len(node.opened),
        texts.place(node.opened[-1].actor if node.opened else ""),
    )


def _calls(facts: Facts, texts: Texts) -> Iterator[Row]:
    for place, node in enumerate(facts.nodes):
        for call in facts.calls[node.path]:
            yield _call(facts, place, call, texts, old=node.calls[call.call] is not call)
        for sent in node.sent.values():
            if sent.call not in node.calls:
                yield _sent(facts, place, sent, texts)


def _call(facts: Facts, place: int, call: CallEnded, texts: Texts, *, old: bool) -> Row:
    tries = [[_number(facts.clock(t.at)), texts.place(t.kind), texts.place(t.why)] for t in call.tries]
    usage = call.usage
    return (
        place,
        call.call,
        texts.place(call.role),
        texts.place(call.model),
        texts.place(call.provider),
        _number(facts.clock(call.started)),
        _number(facts.clock(call.at)),
        _number(call.queue_wait_s),
        _number(call.rate_wait_s),
        tries or 0,
        *(usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens),
        _number(call.cost_usd, 9),
        texts.place(call.finish_reason),
        texts.place(call.text),
        texts.place(call.status),
        int(call.cache_hit),
        texts.place(f"{call.error_kind}: {call.why}" if call.error_kind else ""),
        int(call.tool_call),
        int(old),
    )


def _sent(facts: Facts, place: int, sent: CallSent, texts: Texts) -> Row:
    """A call that has no end."""
    start = _number(facts.clock(sent.at))
    names = (texts.place(sent.role), texts.place(sent.model), 0)
    return (place, sent.call, *names, start, None, 0, 0, 0, 0, 0, 0, 0, None, 0, 0, 0, 0, 0, 0, 0)


def _cells(facts: Facts, texts: Texts) -> Iterator[Row]:
    for place, node in enumerate(facts.nodes):
        for cell in facts.cells[node.path]:
            yield _cell(facts, place, cell, texts, old=node.cells[cell.turn] is not cell)


def _cell(facts: Facts, place: int, cell: CellEnded, texts: Texts, *, old: bool) -> Row:
    variables = [[texts.place(v.name), texts.place(v.kind), v.size] for v in cell.variables]
    return (
        place,
        cell.turn,
        _number(facts.clock(cell.started)),
        _number(facts.clock(cell.at)),
        _number(cell.waited_s),
        texts.place(cell.code),
        texts.place(cell.output),
        cell.output_chars,
        texts.place(cell.error),
        texts.place(cell.killed),
        texts.place(cell.final),
        variables or 0,
        [texts.place(note) for note in cell.notes] or 0,
        int(old),
    )


def _maps(facts: Facts, texts: Texts) -> Iterator[Row]:
    for place, node in enumerate(facts.nodes):
        for opened in sorted(node.maps.values(), key=lambda opened: opened.first):
            ended = node.map_ends.get(opened.first)
            yield (
                *(place, opened.turn, opened.first, opened.count, opened.sessions, texts.place(opened.query)),
                _number(facts.clock(opened.at)),
                _number(facts.clock(ended.at)) if ended else None,
                *((ended.answered, ended.failed) if ended else (None, None)),
            )


def _attempts(facts: Facts, texts: Texts) -> Iterator[Row]:
    """Of sessions that had more than one, or whose only one was lost."""
    for place, node in enumerate(facts.nodes):
        ends = {end.attempt: end for end in node.ends}
        if len(node.opened) < 2 and all(end.stop_reason != "lost" for end in ends.values()):
            continue
        for opened in node.opened:
            end = ends.get(opened.attempt)
            yield (
                *(place, opened.attempt, texts.place(opened.actor), _number(facts.clock(opened.at))),
                _number(facts.clock(end.at)) if end else None,
                texts.place(end.stop_reason if end else ""),
                texts.place(
                    f"{end.error_kind}: {end.why}" if end and end.error_kind else end.why if end else ""
                ),
            )


def _number(value: float | None, digits: int = 4) -> float | int | None:
    """Short in JSON, which knows no infinities."""
    if value is None or not math.isfinite(value):
        return None
    rounded = round(value, digits)
    return int(rounded) if rounded == int(rounded) else rounded
