"""What a run waits for at this moment, and why: Ray, a free CPU, a model since when, a rate limit until when, its own code.

`WaitTracker` takes what an observer of a run hears, and says it in one line. Pure: moments are Unix times that come in.
"""

from __future__ import annotations

import time
from collections import Counter

from rlm_ray.admission.protocol import RunStatus
from rlm_ray.core.display import printable
from rlm_ray.events.records import (
    CallEnded,
    CallSent,
    CellEnded,
    MapEnded,
    NodePath,
    Record,
    RunFinished,
    RunStarted,
    SessionEnded,
    SessionOpened,
)
from rlm_ray.progress.render import format_duration

LOADING = "Ray: its libraries are being loaded"
FIRST_CALL = "the session: it opens the context and prepares its first call"
DRIVER = "driver"
"""Opens the node at the root of a batch, which is no session."""
NEXT_STEP = "the next step of a session"
RETRY_AFTER_S = 2.0
"""A call that is out so long without a request under way is between two attempts."""
_REASONS = {
    "rate": "the rate limit of the account",
    "pause": "the pause that the provider asked for",
    "window": "a free place among the calls under way",
    "budget": "the budget: what is under way may use up the rest",
}


class WaitTracker:
    """Knows what is under way in a run: feed it as an observer, ask it for `text`."""

    def __init__(self) -> None:
        self._start = LOADING
        self._status = RunStatus()
        self._status_at: float | None = None
        self._calls: dict[tuple[NodePath, int], tuple[str, float]] = {}
        """Calls that are out, the oldest first: the model, and since when."""
        self._code: dict[NodePath, float] = {}
        """Sessions whose code runs, and since when: since it began, or has its sub-calls' answers."""
        self._has_called = self._ended = False

    def waits_for(self, what: str) -> None:
        """Take what keeps a session from beginning; empty: nothing does."""
        self._start = what

    def status(self, status: RunStatus, now: float) -> None:
        """Take the status that the admission gives, as of now."""
        self._status, self._status_at = status, now

    def add(self, record: Record) -> None:
        match record:
            case RunStarted():
                self._ended = False
            case RunFinished():
                self._ended = True
                self._calls.clear()
                self._code.clear()
            case SessionOpened() if record.actor != DRIVER:
                self._start = ""
            case CallSent():
                self._has_called, self._start = True, ""
                self._calls.setdefault((record.path, record.call), (record.model, record.at))
            case CallEnded():
                self._call_ended(record)
            case MapEnded():
                self._code |= {record.path: record.at} if record.path in self._code else {}
            case CellEnded():
                self._code.pop(record.path, None)
            case SessionEnded():
                self._session_ended(record)
            case _:
                pass

    def _call_ended(self, record: CallEnded) -> None:
        self._has_called, self._start = True, ""
        self._calls.pop((record.path, record.call), None)
        if record.role == "turn" and not record.error_kind:
            self._code[record.path] = record.at

    def _session_ended(self, record: SessionEnded) -> None:
        self._code.pop(record.path, None)
        if record.error_kind or record.stop_reason != "answered":
            self._forget_below(record.path)

    def _forget_below(self, path: NodePath) -> None:
        """Drop what a session that is over had under way; a child is in the paths below it."""
        size = len(path)
        for call in [call for call in self._calls if call[0][:size] == path]:
            del self._calls[call]
        for below in [below for below in self._code if below[:size] == path]:
            del self._code[below]

    def text(self, now: float) -> str:
        """Return what is waited for and why, in one line; empty once the run is over."""
        if self._ended:
            return ""
        parts = [part for part in (self._models(now), self._admission(now)) if part]
        if not parts:
            parts = [f"waiting for {self._session(now)}"]
        return printable("; ".join(parts)).replace("\n", " ")

    def _models(self, now: float) -> str:
        if not self._calls or self._is_between_attempts():
            return ""
        counts = Counter(model for model, _ in self._calls.values())
        (model, count), *others = counts.most_common()
        since = min(at for _, at in self._calls.values())
        calls = "" if count == 1 and not others else f"{count:,} calls of "
        more = f" and {sum(other for _, other in others):,} of other models" if others else ""
        oldest = "the oldest " if calls else ""
        return f"waiting for {calls}{model}{more}, {oldest}since {format_duration(now - since)}"

    def _is_between_attempts(self) -> bool:
        if self._status_at is None or self._status.in_flight:
            return False
        return all(self._status_at - at > RETRY_AFTER_S for _, at in self._calls.values())

    def _admission(self, now: float) -> str:
        return "; ".join(self._waits(now))

    def _waits(self, now: float) -> list[str]:
        said = []
        for reason, count in self._status.waiting.items():
            if not count:
                continue
            calls = "1 call waits" if count == 1 else f"{count:,} calls wait"
            what = f"{calls} for {_REASONS.get(reason, reason)}"
            said.append(what + self._until(reason, now))
        return said

    def _until(self, reason: str, now: float) -> str:
        wait_s = self._status.wait_s.get(reason)
        if wait_s is None or self._status_at is None:
            return ""
        until = self._status_at + wait_s
        if until <= now:
            return ""
        clock = time.strftime("%H:%M:%S", time.localtime(until))
        return f", the next goes at {clock} (in {format_duration(until - now)})"

    def _session(self, now: float) -> str:
        if self._code:
            since = format_duration(now - min(self._code.values()))
            many = f"the code of {len(self._code):,} sessions" if len(self._code) > 1 else "the model's code"
            return f"{many}, which runs since {since}"
        if self._start:
            return self._start
        if self._calls:
            model, at = next(iter(self._calls.values()))
            return f"another try of {model}: the last one failed; asked since {format_duration(now - at)}"
        return NEXT_STEP if self._has_called else FIRST_CALL
