"""A `Permit` as its holder has it: leave for one HTTP attempt. What the admission keeps of it stands in `permits.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from rlm_ray.admission.protocol import Ask, Outcome, Settle
from rlm_ray.core.headers import RateFacts, rate_facts
from rlm_ray.core.model import Usage


class Permit:
    """Settle it once the attempt is over; `settle` is who hears of it, `wall` the time that headers count from."""

    __slots__ = ("_settle", "_wall", "ask", "queue_wait_s", "rate_wait_s", "settled")

    def __init__(
        self,
        ask: Ask,
        settle: Callable[[Settle], None],
        wall: Callable[[], float],
        waits_s: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.ask = ask
        self.queue_wait_s, self.rate_wait_s = waits_s
        self.settled = False
        self._settle, self._wall = settle, wall

    def settle(  # noqa: PLR0913 - what an answer says, most of it optional
        self,
        outcome: Outcome,
        usage: Usage | None = None,
        cost_usd: float | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        retry_after_s: float | None = None,
        why: str = "",
    ) -> None:
        """Say what became of the attempt; it travels with the next batch. The second time changes nothing."""
        if not self.settled:
            self.settled = True
            facts = self._facts(headers, retry_after_s)
            self._settle(Settle(self.ask.ticket, outcome, usage, cost_usd, facts, why))

    def _facts(self, headers: Mapping[str, str] | None, retry_after_s: float | None) -> RateFacts | None:
        """What the headers of an answer say; `retry_after_s` where the caller knows it otherwise."""
        facts = rate_facts(headers, self._wall()) if headers else None
        if retry_after_s is None:
            return facts
        return replace(facts or RateFacts({}), retry_after_s=retry_after_s)
