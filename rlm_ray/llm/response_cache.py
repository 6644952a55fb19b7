"""Pays identical model calls once: joins those in flight, remembers those answered before.

`ResponseCache` is a plain class that `cluster/services.py` wraps as one actor for each folder, so nobody else writes there;
it remembers in SQLite. `ResponseCacheClient` is the way to it from any process. A key is the hash of everything that shapes the answer: model, messages, `max_tokens` and
parameters; not the API key and not time-outs.

Whoever finds no reply gets the **reservation** of the key: the right to make the call, for which others with the same
key wait. It ends, and the next who waits takes it over,
- when its call was answered (`put`) or given up (`release`),
- when its owner, a process, is gone (`hold`),
- when its lease is over: the owner may hang.

Opt-in: with a temperature above 0 a remembered answer is one of many possible ones.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import sqlite3
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rlm_ray.core.llm import ModelReply, ModelRequest, Usage
from rlm_ray.core.reply import judge
from rlm_ray.core.thinking import split_thinking
from rlm_ray.errors import ClusterError, InputError
from rlm_ray.util.filesystem import make_private_folder, open_private
from rlm_ray.util.rpc_service import rpc_method

FILE = "responses.sqlite"
MAX_REPLIES = 1_000_000
"""The oldest beyond these are dropped."""
DROPPED_AT_ONCE = 1_000
MAX_COUNTED_RUNS = 10_000
"""Runs whose hits are counted; a run that was killed never asks for them."""
BUSY_S = 30.0
"""How long a statement waits while another process prunes the file."""
KEEP_TIMEOUT_S = 5.0
"""A cache that hangs must not hold up a reply that was paid."""
LEASE_MARGIN_S = 60.0
RETRY_S = 0.2
T = TypeVar("T")
_SHAPELESS = frozenset({"api_key", "timeout"})
_SHAPE = json.JSONEncoder(sort_keys=True, default=repr)

_log = logging.getLogger(__name__)


class Reservation:
    """The right of this process to make a call, for which others wait."""

    def __init__(self, client: ResponseCacheClient, key: str) -> None:
        self.token = uuid.uuid4().hex
        self._client, self._key = client, key
        self._is_over = False

    async def put(self, reply: ModelReply) -> None:
        """Store the reply of the call, also where whoever made it is cancelled meanwhile."""
        self._is_over = True
        await asyncio.shield(self._client.spawn(self._put(reply)))

    def release(self) -> None:
        """Let one of those who wait make the call; nothing happens where the reply was stored. Does not wait, as whoever gives
        a call up may be cancelled."""
        if not self._is_over:
            self._is_over = True
            self._client.spawn(self._release())

    async def _put(self, reply: ModelReply) -> None:
        if not await self._client.ask(self._client.server.put(self._key, self.token, reply)):
            await self._release()  # it may not have come: nobody waits for it till the end of the lease

    async def _release(self) -> None:
        await self._client.ask(self._client.server.release(self._key, self.token))


class ResponseCacheClient:
    """The response cache as the gateway of one process uses it. One that does not answer is a cache without the reply."""

    def __init__(self, server: ResponseCache) -> None:
        """`server` is most often a stub."""
        self.server = server
        self._owner = uuid.uuid4().hex
        self._tasks: set[asyncio.Task[Any]] = set()
        self._holding: asyncio.Task[Any] | None = None

    async def get_or_reserve(self, key: str, run_id: str, lease_s: float) -> ModelReply | Reservation:
        """Return the reply of an identical call, before or under way; else the reservation to make it."""
        if self._holding is None:
            self._holding = self.spawn(self._hold())
            await asyncio.sleep(0)  # it goes first
        reservation = Reservation(self, key)
        looking = self.server.get_or_reserve(key, run_id, self._owner, reservation.token, lease_s)
        try:
            reply = await self.ask(looking, lease_s + LEASE_MARGIN_S)
        except asyncio.CancelledError:
            reservation.release()  # it may have been made, with the answer on its way
            raise
        return reservation if reply is None else reply

    async def pop_hits(self, run_id: str) -> int:
        """Return how many calls the run did not have to make."""
        return await self.ask(self.server.pop_hits(run_id)) or 0

    async def ask(self, call: Awaitable[T], timeout_s: float | None = None) -> T | None:
        """Return the reply to a call; None where the cache does not answer."""
        try:
            async with asyncio.timeout(timeout_s):
                return await call
        except (ClusterError, TimeoutError) as error:
            _log.warning("the response cache does not answer, calls are made without it: %s", error)
            return None

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task that lives as long as the process, whoever asked for it is gone."""
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _hold(self) -> None:
        """Wait at the cache, so that it notices when this process is gone."""
        while True:
            try:
                await self.server.hold(self._owner)
            except ClusterError as error:
                _log.debug("the response cache is gone: %s", error)
            await asyncio.sleep(RETRY_S)


def request_key(request: ModelRequest) -> str:
    """Hash all of a request that shapes its answer."""
    params = {name: value for name, value in request.params.items() if name not in _SHAPELESS}
    messages = [{"role": message.role, "content": message.content} for message in request.messages]
    shape = [request.model, messages, request.max_tokens, params]
    return hashlib.sha256(_SHAPE.encode(shape).encode()).hexdigest()


@dataclass(slots=True)
class _Flight:
    """A call under way."""

    owner: str
    token: str
    ends_at: float
    over: asyncio.Future[ModelReply | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class ResponseCache:
    """Replies by request key, in a folder of its own."""

    def __init__(self, folder: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._database = open_database(folder)
        self._count = _count(self._database)
        self._in_flight: dict[str, _Flight] = {}
        self._hits: OrderedDict[str, int] = OrderedDict()

    @rpc_method(timeout_s=None)
    async def get_or_reserve(
        self, key: str, run_id: str, owner: str, token: str, lease_s: float
    ) -> ModelReply | None:
        """Return the remembered reply, or that of the same call under way; None: the call is reserved for this owner.

        `token` names the reservation, unique for ever; after `lease_s` somebody else may take it over.
        """
        while (reply := self._remembered(key)) is None:
            flight = self._in_flight.get(key)
            if flight is None or flight.ends_at <= self._clock():
                self._resolve(key, None)
                self._in_flight[key] = _Flight(owner, token, self._clock() + lease_s)
                return None
            try:
                async with asyncio.timeout(flight.ends_at - self._clock()):
                    reply = await asyncio.shield(flight.over)
            except TimeoutError:
                continue
            if reply is not None:
                break
        self._hits[run_id] = self._hits.pop(run_id, 0) + 1
        if len(self._hits) > MAX_COUNTED_RUNS:
            self._hits.popitem(last=False)
        return reply

    @rpc_method(timeout_s=KEEP_TIMEOUT_S)
    async def put(self, key: str, token: str, reply: ModelReply) -> bool:
        """Store the reply of a call; returns True. Where it cannot be stored, those who wait have it all the same.

        What was cut off is for them only: it is no answer to whoever asks later.
        """
        try:
            if is_worth_keeping(reply):
                self._store(key, reply)
        except sqlite3.Error as error:
            _log.warning("a reply could not be remembered: %s", error)
        finally:
            self._resolve(key, reply, token)
        return True

    @rpc_method(timeout_s=LEASE_MARGIN_S)
    async def release(self, key: str, token: str) -> None:
        """Give a call up: one of those who wait makes it. One that is over already changes nothing."""
        self._resolve(key, None, token)

    @rpc_method(timeout_s=None)
    async def hold(self, owner: str) -> None:
        """Never return: a process waits here as long as it runs; when it is gone, what it has reserved is free."""
        try:
            await asyncio.Event().wait()
        finally:
            for key in [key for key, flight in self._in_flight.items() if flight.owner == owner]:
                self._resolve(key, None)

    @rpc_method(timeout_s=LEASE_MARGIN_S)
    async def pop_hits(self, run_id: str) -> int:
        """Return how many calls the run did not have to make, and drop the count."""
        return self._hits.pop(run_id, 0)

    async def stats(self) -> dict[str, int]:
        """Count the rows of each table."""
        return {"replies": self._count, "reservations": len(self._in_flight), "runs": len(self._hits)}

    def _remembered(self, key: str) -> ModelReply | None:
        row = self._database.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        known = _reply(row[0]) if row is not None else None
        return known if known is not None and is_worth_keeping(known) else None

    def _store(self, key: str, reply: ModelReply) -> None:
        row = (key, json.dumps(asdict(reply)), time.time())
        self._database.execute("INSERT OR REPLACE INTO replies (key, reply, at) VALUES (?, ?, ?)", row)
        self._count += 1
        if self._count > MAX_REPLIES:
            self._database.execute(
                "DELETE FROM replies WHERE key IN (SELECT key FROM replies ORDER BY at LIMIT ?)",
                (DROPPED_AT_ONCE,),
            )
            self._count = _count(self._database)

    def _resolve(self, key: str, reply: ModelReply | None, token: str | None = None) -> None:
        """End a reservation; with a `token` only where it is that one."""
        flight = self._in_flight.get(key)
        if flight is None or token not in {None, flight.token}:
            return
        del self._in_flight[key]
        if not flight.over.done():
            flight.over.set_result(reply)


def open_database(folder: str) -> sqlite3.Connection:
    """Open the replies of a folder, made if there are none; a file of an older version is brought up to date."""
    path = Path(folder).expanduser()
    make_private_folder(path)
    os.close(open_private(path / FILE, os.O_RDWR))  # SQLite gives what it makes beside it the same mode
    database = sqlite3.connect(path / FILE, isolation_level=None, check_same_thread=False, timeout=BUSY_S)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute(
        "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL, at REAL NOT NULL DEFAULT 0)"
    )
    if "at" not in {row[1] for row in database.execute("PRAGMA table_info(replies)")}:
        database.execute("ALTER TABLE replies ADD COLUMN at REAL NOT NULL DEFAULT 0")
    database.execute("CREATE INDEX IF NOT EXISTS replies_by_age ON replies (at)")
    return database


def prune_replies(folder: str, older_than_s: float, *, dry_run: bool = False) -> int:
    """Drop the replies of a cache that are older than this; how many. Raises `InputError` where there is no cache."""
    if not (Path(folder).expanduser() / FILE).exists():
        raise InputError(folder, "holds no response cache; name the folder given as cache=")
    database = open_database(folder)
    try:
        before = time.time() - older_than_s
        (count,) = database.execute("SELECT count(*) FROM replies WHERE at < ?", (before,)).fetchone()
        if not dry_run:
            database.execute("DELETE FROM replies WHERE at < ?", (before,))
            database.execute("VACUUM")
    finally:
        database.close()
    return int(count)


def _count(database: sqlite3.Connection) -> int:
    (count,) = database.execute("SELECT count(*) FROM replies").fetchone()
    return int(count)


def is_worth_keeping(reply: ModelReply) -> bool:
    """Tell whether a reply is an answer, and a whole one."""
    return judge(reply, takes_code=True).kind == "usable"


def _reply(text: str) -> ModelReply:
    plain = json.loads(text)
    said, _ = split_thinking(plain["text"])  # older versions kept it with its thinking
    return ModelReply(**{**plain, "text": said, "usage": Usage(**plain["usage"])})
