"""What a scripted provider counts, readable from any thread."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from rlm_ray.core.model import Usage
from rlm_ray.testing.exchange import Request

KEPT_REQUESTS = 10_000


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of the counters."""

    calls: int = 0
    """Completions asked for, answered or not."""
    in_flight: int = 0
    peak_in_flight: int = 0
    answers: Mapping[str, int] = field(default_factory=dict)
    """By status (`200`, `429` ...), `dropped`, `hung`; `gone`: the client left before the answer."""
    input_tokens: Mapping[str, int] = field(default_factory=dict)
    """By model, as the answers reported them."""
    output_tokens: Mapping[str, int] = field(default_factory=dict)


class Counters:
    """Counts requests as they come and go, and keeps the last 10,000 of them if asked to."""

    def __init__(self, *, record: bool) -> None:
        self._lock = threading.Lock()
        self._kept: deque[Request] = deque(maxlen=KEPT_REQUESTS if record else 0)
        self._in_flight = 0
        self._clear()

    def _clear(self) -> None:
        self._calls = 0
        self._peak = self._in_flight
        self._answers: Counter[str] = Counter()
        self._input: Counter[str] = Counter()
        self._output: Counter[str] = Counter()
        self._kept.clear()

    def reset(self) -> None:
        """Forget everything but what is in flight."""
        with self._lock:
            self._clear()

    def began(self, request: Request) -> None:
        with self._lock:
            self._calls += 1
            self._in_flight += 1
            self._peak = max(self._peak, self._in_flight)
            self._kept.append(request)

    def ended(self, model: str, label: str, usage: Usage | None) -> None:
        with self._lock:
            self._in_flight -= 1
            self._answers[label] += 1
            if usage is not None:
                self._input[model] += usage.input_tokens
                self._output[model] += usage.output_tokens

    @property
    def requests(self) -> tuple[Request, ...]:
        with self._lock:
            return tuple(self._kept)

    def snapshot(self) -> Stats:
        with self._lock:
            return Stats(
                self._calls,
                self._in_flight,
                self._peak,
                dict(self._answers),
                dict(self._input),
                dict(self._output),
            )
