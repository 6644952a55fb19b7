"""The `Outbox` of a client: what it has to say and has not been heard with yet."""

from __future__ import annotations

from rlm_ray.admission.protocol import Ask, Batch, Resume, Settle


class Outbox:
    """Collects; `take` empties it into a batch, `give_back` undoes that for a batch that was not heard."""

    __slots__ = ("_asks", "_settles", "_withdrawn")

    def __init__(self) -> None:
        self._asks: dict[str, Ask] = {}
        self._settles: list[Settle] = []
        self._withdrawn: list[str] = []

    def ask(self, ask: Ask) -> None:
        self._asks[ask.ticket] = ask

    def settle(self, settle: Settle) -> None:
        self._settles.append(settle)

    def withdraw(self, ticket: str) -> None:
        """An ask that has not left yet need not."""
        if self._asks.pop(ticket, None) is None:
            self._withdrawn.append(ticket)

    def forget_ask(self, ticket: str) -> None:
        self._asks.pop(ticket, None)

    def take(self, holder: str, epoch: str | None, resume: Resume | None, *, hold: bool) -> Batch:
        batch = Batch(
            holder,
            epoch,
            tuple(self._asks.values()),
            tuple(self._settles),
            tuple(self._withdrawn),
            resume,
            hold,
        )
        self._asks, self._settles, self._withdrawn = {}, [], []
        return batch

    def give_back(self, batch: Batch) -> None:
        """Asks are not put back: whoever still waits asks again, when there is somebody to ask."""
        self._settles[:0] = batch.settles
        self._withdrawn[:0] = batch.withdrawn
