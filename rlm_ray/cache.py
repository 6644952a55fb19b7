"""Identical model calls are paid once: those in flight are joined, those answered before are remembered.

`ResponseCache` is a plain class that `cluster/` wraps as one actor for each folder, so nobody else writes there; it
remembers in SQLite. A key is the hash of everything that shapes the answer: model, messages, `max_tokens` and
parameters; not the API key and not time-outs.

Opt-in: with a temperature above 0 a remembered answer is one of many possible ones.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from rlm_ray.core.model import ModelReply, ModelRequest, Usage

FILE = "responses.sqlite"
_SHAPELESS = frozenset({"api_key", "timeout"})


class Remembers(Protocol):
    """What a gateway wants of a cache."""

    async def look(self, key: str, run_id: str, patience_s: float) -> ModelReply | None:
        """The reply; None where the caller shall make the call, and then `keep` its reply or `give_up`."""
        ...

    async def keep(self, key: str, reply: ModelReply) -> None: ...

    async def give_up(self, key: str) -> None: ...


def request_key(request: ModelRequest) -> str:
    """Names a request by all that shapes its answer."""
    params = {name: value for name, value in request.params.items() if name not in _SHAPELESS}
    shape = [request.model, [asdict(message) for message in request.messages], request.max_tokens, params]
    return hashlib.sha256(json.dumps(shape, sort_keys=True, default=repr).encode()).hexdigest()


class ResponseCache:
    """Replies by request key, in a folder of its own."""

    def __init__(self, folder: str) -> None:
        path = Path(folder).expanduser()
        path.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path / FILE, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL)"
        )
        self._flights: dict[str, asyncio.Future[ModelReply | None]] = {}
        self._hits: Counter[str] = Counter()

    async def look(self, key: str, run_id: str, patience_s: float) -> ModelReply | None:
        """The remembered reply, or that of the same call under way; None: make the call yourself.

        Whoever waits longer than `patience_s` for another's call makes its own: that one may have died.
        """
        row = self._database.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        if row is not None:
            self._hits[run_id] += 1
            return _reply(row[0])
        flight = self._flights.get(key)
        if flight is None:
            self._flights[key] = asyncio.get_running_loop().create_future()
            return None
        try:
            reply = await asyncio.wait_for(asyncio.shield(flight), patience_s)
        except TimeoutError:
            return None
        if reply is None:
            return await self.look(key, run_id, patience_s)
        self._hits[run_id] += 1
        return reply

    async def keep(self, key: str, reply: ModelReply) -> None:
        """The call was answered."""
        self._database.execute(
            "INSERT OR REPLACE INTO replies VALUES (?, ?)", (key, json.dumps(asdict(reply)))
        )
        self._land(key, reply)

    async def give_up(self, key: str) -> None:
        """The call failed: one of those who wait makes it."""
        self._land(key, None)

    async def take_hits(self, run_id: str) -> int:
        """How many calls the run did not have to make; forgotten then."""
        return self._hits.pop(run_id, 0)

    def _land(self, key: str, reply: ModelReply | None) -> None:
        flight = self._flights.pop(key, None)
        if flight is not None and not flight.done():
            flight.set_result(reply)


def _reply(text: str) -> ModelReply:
    plain = json.loads(text)
    return ModelReply(**{**plain, "usage": Usage(**plain["usage"])})
