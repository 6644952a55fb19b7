"""Turns a run into columns: the plain, compact values that the page is made from.

- Nodes are named by their index, texts by their index in `texts`. Times are seconds on the run's clock. A column whose
  values are all the same is sent as that one value.
- `StringTable` holds all texts of a page, each once; index 0 is the empty text. Where all texts together are longer than
  the page may be, the longest are cut first, all at the same length, so that every text keeps its head.
- `totals_of` sums up what the run used, by model and by depth, and what went wrong.
- `waits_of` tells what was waited for: time on the clock, and summed over all that waited.
- `coverage_of` computes which bytes of the root's context went to sub-calls (a child session reads its piece through
  code), and which a model had in its prompt (a plain call's piece).
- `diff_words` says where two answers differ, word by word.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from typing import Any, Literal, TypeAlias, TypeVar

from rlm_ray.events.records import CallEnded, CallSent, CellEnded, NodePath
from rlm_ray.events.tree import Node
from rlm_ray.events.usage import RunUsage, UsageAccumulator, stats_from_call
from rlm_ray.report.run_data import (
    RunData,
    answer_of,
    error_of,
    input_of,
    kind_of,
    query_of,
    run_state,
    state_of,
    time_range,
)

HEAD_CHARS = 200_000
"""The most of the run's question and answer."""

NODE = ("parent", "ordinal", "kind", "state", "reason", "model", "start", "end", "query", "answer", "error",
        "input", "chars", "documents", "from", "to", "sample", "attempts", "actor", "origin")  # fmt: skip
CALL = ("node", "number", "role", "model", "provider", "start", "end", "queue", "rate", "tries", "input", "output",
        "cached", "reasoning", "cost", "finish", "text", "status", "hit", "error", "tool", "old")  # fmt: skip
CELL = ("node", "turn", "start", "end", "waited", "code", "output", "output_chars", "error", "killed", "final",
        "variables", "notes", "old")  # fmt: skip
MAP = ("node", "turn", "first", "count", "sessions", "query", "start", "end", "answered", "failed")
TOOL = ("node", "turn", "name", "start", "end", "arguments", "result", "error")
CITATION = ("node", "turn", "quote", "place", "before", "after", "offset")
ATTEMPT = ("node", "number", "actor", "start", "end", "reason", "error")

Row = tuple[Any, ...]


EACH_CHARS = 20_000
"""The most of one text."""
ALL_CHARS = 12_000_000
"""The most of all of them."""
COMPARED_CHARS = 20_000
"""Of each answer; the time grows with the square."""
_WORDS = re.compile(r"\S+\s*|\s+")


def build_summary(facts: RunData) -> dict[str, Any]:
    """Return what is known of a run without its nodes."""
    return {
        "head": _head(facts),
        "totals": totals_of(facts),
        "waits": waits_of(facts),
        "coverage": asdict(coverage_of(facts)),
    }


def build_page_data(facts: RunData) -> dict[str, Any]:
    """Return a whole run."""
    texts = StringTable()
    places = {node.path: place for place, node in enumerate(facts.nodes)}
    tables = {
        "nodes": columnar(NODE, (_node(facts, node, places, texts) for node in facts.nodes)),
        "calls": columnar(CALL, _calls(facts, texts)),
        "cells": columnar(CELL, _cells(facts, texts)),
        "maps": columnar(MAP, _maps(facts, texts)),
        "tools": columnar(TOOL, _tools(facts, texts)),
        "citations": columnar(CITATION, _citations(facts, texts)),
        "attempts": columnar(ATTEMPT, _attempts(facts, texts)),
    }
    return build_summary(facts) | tables | {"texts": texts.export()}


def columnar(names: Sequence[str], rows: Iterable[Row]) -> dict[str, Any]:
    """Turn rows into columns."""
    columns = list(zip(*rows, strict=True))
    if not columns:
        return {"n": 0} | dict.fromkeys(names)
    packed = (_constant_or_list(column) for column in columns)
    return {"n": len(columns[0])} | dict(zip(names, packed, strict=True))


def _constant_or_list(column: tuple[Any, ...]) -> Any:
    same = not isinstance(column[0], list | tuple) and all(value == column[0] for value in column)
    return column[0] if same else column


def _head(facts: RunData) -> dict[str, Any]:
    opened = facts.tree.opened[-1] if facts.tree.opened else None
    ended = facts.tree.ended
    settings = json.dumps(dict(opened.settings), indent=2, default=str, ensure_ascii=False) if opened else ""
    return {
        "run_id": opened.run_id if opened else "",
        "query": truncate(query_of(facts, facts.tree.root), HEAD_CHARS),
        "answer": truncate(answer_of(facts, facts.tree.root) or "", HEAD_CHARS),
        "answered": answer_of(facts, facts.tree.root) is not None,
        "state": run_state(facts),
        "why": error_of(facts, facts.tree.root),
        "began": facts.clock.began,
        "seconds": _number(facts.clock.last),
        "resumes": [_number(at) for at in facts.clock.resumes],
        "paused": _number(facts.clock.paused),
        "version": opened.version if opened else "",
        "model": facts.tree.root.model or (str(opened.settings.get("model", "")) if opened else ""),
        "settings": truncate(settings, HEAD_CHARS),
        "counted": dict(ended.usage.get("total", {})) if ended else {},
    }


def _node(facts: RunData, node: Node, places: dict[NodePath, int], texts: StringTable) -> Row:
    given = input_of(facts, node)
    start, end = time_range(facts, node)
    where = range_of(facts, node)
    return (
        places[node.path[:-1]] if node.path else -1,
        node.path[-1] if node.path else -1,
        texts.intern(kind_of(node)),
        texts.intern(state_of(facts, node)),
        texts.intern(node.end.stop_reason if node.end else ""),
        texts.intern(node.model),
        _number(start),
        _number(end),
        texts.intern(query_of(facts, node)),
        texts.intern(answer_of(facts, node)),
        texts.intern(error_of(facts, node)),
        texts.intern(given.kind),
        given.chars,
        given.documents,
        *(where or (None, None)),
        texts.intern(given.sample),
        len(node.session_starts),
        texts.intern(node.session_starts[-1].actor if node.session_starts else ""),
        texts.intern(given.origin),
    )


def _calls(facts: RunData, texts: StringTable) -> Iterator[Row]:
    for place, node in enumerate(facts.nodes):
        for call in facts.calls[node.path]:
            yield _call(facts, place, call, texts, old=node.calls[call.call] is not call)
        for sent in node.calls_sent.values():
            if sent.call not in node.calls:
                yield _sent(facts, place, sent, texts)


def _call(facts: RunData, place: int, call: CallEnded, texts: StringTable, *, old: bool) -> Row:
    tries = [[_number(facts.clock(t.at)), texts.intern(t.kind), texts.intern(t.why)] for t in call.tries]
    usage = call.usage
    return (
        place,
        call.call,
        texts.intern(call.role),
        texts.intern(call.model),
        texts.intern(call.provider),
        _number(facts.clock(call.started)),
        _number(facts.clock(call.at)),
        _number(call.queue_wait_s),
        _number(call.rate_wait_s),
        tries or 0,
        *(usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens),
        _number(call.cost_usd, 9),
        texts.intern(call.finish_reason),
        texts.intern(call.text),
        texts.intern(call.status),
        int(call.cache_hit),
        texts.intern(f"{call.error_kind}: {call.why}" if call.error_kind else ""),
        int(call.tool_call),
        int(old),
    )


def _sent(facts: RunData, place: int, sent: CallSent, texts: StringTable) -> Row:
    """Return the row of a call that has no end."""
    start = _number(facts.clock(sent.at))
    names = (texts.intern(sent.role), texts.intern(sent.model), 0)
    return (place, sent.call, *names, start, None, 0, 0, 0, 0, 0, 0, 0, None, 0, 0, 0, 0, 0, 0, 0)


def _cells(facts: RunData, texts: StringTable) -> Iterator[Row]:
    for place, node in enumerate(facts.nodes):
        for cell in facts.cells[node.path]:
            yield _cell(facts, place, cell, texts, old=node.cells[cell.turn] is not cell)


def _cell(facts: RunData, place: int, cell: CellEnded, texts: StringTable, *, old: bool) -> Row:
    variables = [[texts.intern(v.name), texts.intern(v.kind), v.size] for v in cell.variables]
    return (
        place,
        cell.turn,
        _number(facts.clock(cell.started)),
        _number(facts.clock(cell.at)),
        _number(cell.waited_s),
        texts.intern(cell.code),
        texts.intern(cell.output),
        cell.output_chars,
        texts.intern(cell.error),
        texts.intern(cell.killed),
        texts.intern(cell.final),
        variables or 0,
        [texts.intern(note) for note in cell.notes] or 0,
        int(old),
    )


def _maps(facts: RunData, texts: StringTable) -> Iterator[Row]:
    for place, node in enumerate(facts.nodes):
        for opened in sorted(node.maps.values(), key=lambda opened: opened.first):
            ended = node.map_ends.get(opened.first)
            yield (
                *(
                    place,
                    opened.turn,
                    opened.first,
                    opened.count,
                    opened.sessions,
                    texts.intern(opened.query),
                ),
                _number(facts.clock(opened.at)),
                _number(facts.clock(ended.at)) if ended else None,
                *((ended.answered, ended.failed) if ended else (None, None)),
            )


def _tools(facts: RunData, texts: StringTable) -> Iterator[Row]:
    for place, node in enumerate(facts.nodes):
        for (turn, _), tool in sorted(node.tools.items()):
            yield (
                *(place, turn, texts.intern(tool.name)),
                *(_number(facts.clock(tool.started)), _number(facts.clock(tool.at))),
                *(texts.intern(tool.arguments), texts.intern(tool.result), texts.intern(tool.why)),
            )


def _citations(facts: RunData, texts: StringTable) -> Iterator[Row]:
    for place, node in enumerate(facts.nodes):
        for turn, cell in sorted(node.cells.items()):
            for cited in cell.citations:
                words = map(texts.intern, (cited.quote, cited.place, cited.before, cited.after))
                yield (place, turn, *words, cited.offset)


def _attempts(facts: RunData, texts: StringTable) -> Iterator[Row]:
    """Yield the attempts of sessions that had more than one, or whose only one was lost."""
    for place, node in enumerate(facts.nodes):
        ends = {end.attempt: end for end in node.session_ends}
        if len(node.session_starts) < 2 and all(end.stop_reason != "lost" for end in ends.values()):
            continue
        for opened in node.session_starts:
            end = ends.get(opened.attempt)
            yield (
                *(place, opened.attempt, texts.intern(opened.actor), _number(facts.clock(opened.at))),
                _number(facts.clock(end.at)) if end else None,
                texts.intern(end.stop_reason if end else ""),
                texts.intern(
                    f"{end.error_kind}: {end.why}" if end and end.error_kind else end.why if end else ""
                ),
            )


def _number(value: float | None, digits: int = 4) -> float | int | None:
    """Return a number that is short in JSON, which knows no infinities."""
    if value is None or not math.isfinite(value):
        return None
    rounded = round(value, digits)
    return int(rounded) if rounded == int(rounded) else rounded


class StringTable:
    def __init__(self) -> None:
        self._places: dict[str, int] = {"": 0}

    def intern(self, text: str | None) -> int:
        """Return where this text stands."""
        return self._places.setdefault(text or "", len(self._places))

    def export(self, each: int = EACH_CHARS, all_chars: int = ALL_CHARS) -> list[str | list[str | int]]:
        """Return the texts by place; one that had to be cut comes with its true length."""
        texts = list(self._places)
        most = truncation_length([len(text) for text in texts], each, all_chars)
        return [truncate(text, most) for text in texts]


def truncate(text: str, most: int) -> str | list[str | int]:
    """Return the text, or its head and its true length."""
    return text if len(text) <= most else [text[:most], len(text)]


def truncation_length(lengths: Sequence[int], each: int, all_chars: int) -> int:
    """Return the length, at most `each`, to which texts may be kept so that all stay within `all_chars`."""
    if sum(min(length, each) for length in lengths) <= all_chars:
        return each
    left, room = len(lengths), all_chars
    for length in sorted(lengths):
        if length * left > room:
            return max(room, 0) // left
        room -= length
        left -= 1
    return each


def usage_of(facts: RunData) -> RunUsage:
    """Sum up all calls, those of lost attempts too: they were paid for."""
    tallies = UsageAccumulator()
    hits = 0
    for path, calls in facts.calls.items():
        for call in calls:
            if call.cache_hit:
                hits += 1
            else:
                tallies.add(call.model, len(path), stats_from_call(call))
    sessions = sum(len(node.session_starts) for node in facts.nodes)
    return RunUsage(tallies.rows(), sessions, hits)


def totals_of(facts: RunData) -> dict[str, Any]:
    """Return plain values for the page."""
    calls = [call for some in facts.calls.values() for call in some]
    cells = [cell for some in facts.cells.values() for cell in some]
    lost = [end for node in facts.nodes for end in node.session_ends if end.stop_reason == "lost"]
    return usage_of(facts).as_dict() | {
        "nodes": len(facts.nodes) if facts.clock.began else 0,
        "depth": max(node.depth for node in facts.nodes),
        "states": dict(Counter(state_of(facts, node) for node in facts.nodes)),
        "failed_calls": sum(bool(call.error_kind) for call in calls),
        "cells": len(cells),
        "cell_errors": sum(cell.error is not None for cell in cells),
        "killed_repls": sum(cell.killed is not None for cell in cells),
        "lost_sessions": len(lost),
        "tries": dict(Counter(attempt.kind for call in calls for attempt in call.tries)),
    }


Span = tuple[float, float]
"""From when to when, in seconds on the run's clock."""


def waits_of(facts: RunData) -> dict[str, dict[str, float | int | None]]:
    """Return for each thing that was waited for: seconds in which anything waited for it, and the sum over all that did.

    Many wait side by side, so the sum may be far longer than the run; the time on the clock never is.
    """
    spans: dict[str, list[Span]] = {"slot": list(_slot_waits(facts)), "queue": [], "rate": [], "model": []}
    for call in (call for calls in facts.calls.values() for call in calls if not call.cache_hit):
        begun, ended = facts.clock(call.started), facts.clock(call.at)
        queued = min(ended, begun + max(0.0, call.queue_wait_s))
        sent = min(ended, queued + max(0.0, call.rate_wait_s))
        for kind, span in (("queue", (begun, queued)), ("rate", (queued, sent)), ("model", (sent, ended))):
            spans[kind].append(span)
    return {kind: _wait(found) for kind, found in spans.items()}


def _wait(spans: list[Span]) -> dict[str, float | int | None]:
    found = [(start, stop) for start, stop in spans if stop > start]
    merged_intervals = merged(found)
    total = sum(stop - start for start, stop in found)
    return {
        "clock": _number(sum(b - a for a, b in merged_intervals)),
        "sum": _number(total),
        "count": len(found),
    }


def _slot_waits(facts: RunData) -> Iterator[Span]:
    """Yield how long each session waited for a free slot: the root since the run began, a child since its map did."""
    for node in facts.nodes:
        first = min((session.at for session in node.session_starts), default=None)
        if first is None:
            continue
        if not node.path:
            yield 0.0, facts.clock(first)
            continue
        maps = facts.tree.nodes[node.path[:-1]].maps.values()
        for opened in maps:
            if opened.first <= node.path[-1] < opened.first + opened.count:
                yield facts.clock(opened.at), facts.clock(first)


Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Coverage:
    total: int
    """Bytes of the root's context, as far as the records tell."""
    given: int
    """Bytes that any sub-call was given."""
    read: int
    """Bytes that stood in the prompt of a plain call that answered."""
    by_depth: dict[int, int]
    unplaced: int
    """Sub-calls that were given a text which is no slice of the root's context, or is one that was changed."""
    unplaced_chars: int


def coverage_of(facts: RunData) -> Coverage:
    """Count the bytes of the root's context: in all, given to sub-calls, read by plain calls, and given at each depth."""
    ranges = {node.path: found for node in facts.nodes if (found := range_of(facts, node)) is not None}
    below = [node for node in facts.nodes if node.path and node.path in ranges]
    read = [node for node in facts.nodes if node.path in ranges and _has_read(facts, node)]
    depths = sorted({node.depth for node in below})
    at_depth = {depth: [ranges[node.path] for node in below if node.depth == depth] for depth in depths}
    total = _total(facts, ranges.values())
    unplaced = [
        chars
        for node in facts.nodes
        if node.path and node.path not in ranges and (chars := input_of(facts, node).chars)
    ]
    return Coverage(
        total,
        given=covered(ranges[node.path] for node in below),
        read=covered(ranges[node.path] for node in read),
        by_depth={depth: covered(found) for depth, found in at_depth.items()},
        unplaced=len(unplaced),
        unplaced_chars=sum(unplaced),
    )


def range_of(facts: RunData, node: Node) -> Range | None:
    """Return where its input lies in the root's context; None where it is a text of its own."""
    given = input_of(facts, node)
    if given.start is None or given.stop is None or given.stop <= given.start:
        return None
    return given.start, given.stop


Number = TypeVar("Number", int, float)


def merged(ranges: Iterable[tuple[Number, Number]]) -> list[tuple[Number, Number]]:
    """Return the same bytes or times, in order, as ranges that neither touch nor overlap."""
    found: list[tuple[Number, Number]] = []
    for start, stop in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return found


def covered(ranges: Iterable[Range]) -> int:
    """Return how many bytes these are, each counted once."""
    return sum(stop - start for start, stop in merged(ranges))


def _has_read(facts: RunData, node: Node) -> bool:
    return kind_of(node) in {"leaf", "direct"} and state_of(facts, node) == "ok"


def _total(facts: RunData, ranges: Iterable[Range]) -> int:
    root = input_of(facts, facts.tree.root)
    return max([root.stop or root.chars, *(stop for _, stop in ranges)])


Change: TypeAlias = Literal["same", "gone", "new"]


def diff_words(before: str, after: str) -> list[tuple[Change, str]]:
    """Return pieces in order: without the new ones they are `before`, without those that are gone `after`."""
    old = _WORDS.findall(before[:COMPARED_CHARS])
    new = _WORDS.findall(after[:COMPARED_CHARS])
    found: list[tuple[Change, str]] = []
    for _, start, stop, begin, end in _steps(old, new):
        if old[start:stop] == new[begin:end]:
            found.append(("same", "".join(old[start:stop])))
            continue
        found += [("gone", "".join(old[start:stop]))] if stop > start else []
        found += [("new", "".join(new[begin:end]))] if end > begin else []
    return found


def _steps(old: list[str], new: list[str]) -> list[tuple[str, int, int, int, int]]:
    return list(SequenceMatcher(None, old, new).get_opcodes())
