"""`OpenRuns` is the table of open runs, and says whose each of them is.

An open run belongs to its drivers. Each holds it (`hold`) as long as it drives it, and closes it at the end (`close`). A
driver that is gone without a word leaves it (`leave`). Rules:

- A run without a driver for `DRIVERLESS_S` is over, whoever opened it and whether a driver ever held it. A connection
  that only broke is there again within that time.
- A run that is closed is opened again by `open` of a new attempt only. What comes late from the closed attempt, be it the
  `open` that its end has overtaken, or from a client that tells a new admission what it knows (`reopen`), changes nothing.
- An attempt closes its own run only: what is late from the attempt before it changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rlm_ray.admission.permit_table import remember
from rlm_ray.admission.protocol import RunPolicy
from rlm_ray.admission.run_budget import RunBudget

DRIVERLESS_S = 60.0
MAX_CLOSED = 20_000
"""So many closed runs are remembered."""


class OpenRuns:
    """Holds open runs by id. Every method takes `now` where time matters, seconds of a monotonic clock."""

    __slots__ = ("_closed", "_driverless", "_drivers", "_runs")

    def __init__(self) -> None:
        self._runs: dict[str, RunBudget] = {}
        self._drivers: Counter[str] = Counter()
        """How many drivers hold each run, open or not yet."""
        self._driverless: dict[str, float] = {}
        """Open runs that nobody holds, and since when."""
        self._closed: dict[str, float | None] = {}
        """Runs that are over, and the attempt that closed them; None where no attempt did."""

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._runs

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __getitem__(self, run_id: str) -> RunBudget:
        return self._runs[run_id]

    def get(self, run_id: str) -> RunBudget | None:
        return self._runs.get(run_id)

    def is_closed(self, run_id: str) -> bool:
        """Tell whether it is known to be over; neither this nor open: perhaps an earlier admission had it."""
        return run_id in self._closed

    def open(self, policy: RunPolicy, now: float) -> RunBudget | None:
        """Open a run, also one that an earlier attempt closed; None where it is open already, or this attempt is over."""
        run_id = policy.run_id
        if self._closed.get(run_id) == policy.attempt:
            return None
        self._closed.pop(run_id, None)
        if run_id in self._runs:
            self._runs[run_id].begin_attempt(policy.attempt)
        return self.reopen(policy, now)

    def reopen(self, policy: RunPolicy, now: float) -> RunBudget | None:
        """Open a run that an earlier admission had; None where it is open, or closed."""
        run_id = policy.run_id
        if run_id in self._runs or run_id in self._closed:
            return None
        run = self._runs[run_id] = RunBudget(policy, now)
        if not self._drivers[run_id]:
            self._driverless[run_id] = now
        return run

    def close(self, run_id: str, attempt: float | None = None) -> RunBudget | None:
        """Close a run and return it; None where it was not open, or is another attempt's. No attempt: whosever it is."""
        if attempt is not None and run_id in self._runs and self._runs[run_id].policy.attempt != attempt:
            return None
        remember(self._closed, run_id, attempt, MAX_CLOSED)
        self._driverless.pop(run_id, None)
        return self._runs.pop(run_id, None)

    def hold(self, run_id: str) -> None:
        """Count one more driver of a run."""
        self._drivers[run_id] += 1
        self._driverless.pop(run_id, None)

    def leave(self, run_id: str, now: float) -> None:
        """Count one driver less; it closed the run before, or is gone without a word."""
        self._drivers[run_id] -= 1
        if not self._drivers[run_id]:
            del self._drivers[run_id]
            if run_id in self._runs:
                self._driverless[run_id] = now

    def is_held(self, run_id: str) -> bool:
        """Tell whether a driver holds the run, open or not."""
        return run_id in self._drivers

    def abandoned(self, now: float) -> list[str]:
        """Return the runs that have been without a driver for too long."""
        return [run_id for run_id, since in self._driverless.items() if now - since >= DRIVERLESS_S]

    def stats(self) -> dict[str, int]:
        return {"runs": len(self._runs), "drivers": len(self._drivers), "driverless": len(self._driverless)}
