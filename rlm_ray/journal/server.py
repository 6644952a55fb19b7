"""`JournalServer` writes the journals of runs: it appends what it is sent, and serves it to those who follow.

A plain async class; `cluster/services.py` wraps it as an actor on the driver's node. It knows nothing of
records: lines are bytes. What is acknowledged is in the run's folder.

- The driver holds its run (`hold`) as long as it is running; a run nobody holds may be taken over by a new owner.
- After a crash of this process the next message opens the run's folder again, so nobody has to tell it anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from rlm_ray.errors import JournalError
from rlm_ray.journal.run_store import RunStore
from rlm_ray.journal.storage.base import Writer
from rlm_ray.util.batcher import Batcher
from rlm_ray.util.filesystem import local_path
from rlm_ray.util.rpc_service import rpc_method

ORPHAN_TIMEOUT_S = 10.0
"""After so long without its driver and without new records a run is closed."""
LATE_WRITE_S = 0.2
"""What still comes in after the run was closed, such as replies to calls that were under way, keeps it open so long."""
MAX_ORPHANED = 1_000
TAIL_BUFFER_BYTES = 8 << 20
"""How much of the end of a journal is kept in memory for those who follow."""
MAX_READ_BYTES = 4 << 20
"""The most that one read returns."""

IN_MEMORY = "memory://rlm_ray"
"""The run folder of runs that have observers and keep no record: their journals go when they are over."""
STORAGE_TIMEOUT_S = 300.0
"""For a slow object store, which tries again by itself."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JournalRef:
    """Names the journal of one run, as one attempt of the run writes it."""

    run_dir: str
    run_id: str
    attempt_id: str
    """Names this attempt: one that resumes the run has another id, and the one before may not write any more."""
    node_id: str
    """The node whose journal actor writes it."""


class _OpenJournal:
    """One open journal."""

    def __init__(self, ref: JournalRef, folder: RunStore, writer: Writer) -> None:
        self.owner = ref.attempt_id
        self.held = 0
        self.closing: asyncio.TimerHandle | None = None
        self._folder = folder
        self._local = local_path(ref.run_dir) is not None
        self._writer = writer
        self._tail_buffer = bytearray()
        self.size = self._writer.size
        self._appended = asyncio.Event()
        self._batcher: Batcher[bytes, int] = Batcher(self._write, max_batches=1)
        self.closed = asyncio.Event()

    async def append(self, data: bytes) -> int:
        """Write it; where that is slow, together with what comes meanwhile."""
        if self._local:
            self._written(data, self._writer.append(data))
            return self.size
        return await asyncio.shield(self._batcher.submit(data))  # a thread that writes cannot be cancelled

    async def _write(self, batches: Sequence[bytes]) -> list[int]:
        data = b"".join(batches)
        self._written(data, await asyncio.to_thread(self._writer.append, data))
        return [self.size] * len(batches)

    async def read(self, offset: int, wait_s: float) -> bytes:
        """Return whole lines from `offset` on, at most `MAX_READ_BYTES`; empty where nothing came within `wait_s`."""
        if offset >= self.size:
            grown = self._appended
            try:
                async with asyncio.timeout(wait_s):
                    await grown.wait()
            except TimeoutError:
                return b""
        start = self.size - len(self._tail_buffer)
        if offset >= start:
            return _whole_lines(self._tail_buffer, offset - start)
        return await asyncio.to_thread(self._folder.read, offset, MAX_READ_BYTES)

    def end(self) -> None:
        """Let those go who wait for the end or for more."""
        self.closed.set()
        self._appended.set()

    def close(self) -> None:
        """Release the right to write; nothing is being written any more."""
        try:
            self._writer.close()
        except JournalError as error:  # what was acknowledged is there all the same
            _log.warning("%s", error)

    async def flush(self) -> None:
        """Return when all that was appended is written."""
        await self._batcher.flush()

    def _written(self, data: bytes, size: int) -> None:
        self.size = size
        self._tail_buffer += data
        if len(self._tail_buffer) > 2 * TAIL_BUFFER_BYTES:
            del self._tail_buffer[:-TAIL_BUFFER_BYTES]
        self._appended.set()
        self._appended = asyncio.Event()


class JournalServer:
    """The journals of the runs whose drivers are on this node."""

    def __init__(self) -> None:
        self._journals: dict[tuple[str, str], _OpenJournal] = {}
        self._driverless: deque[str] = deque(maxlen=MAX_ORPHANED)
        """Owners whose drivers are gone: what is left of their runs may not write any more."""
        self._finished: deque[str] = deque(maxlen=MAX_ORPHANED)
        """Owners whose runs are over."""
        self._fenced: deque[str] = deque(maxlen=MAX_ORPHANED)
        """Owners that may not write any more, also when the attempt after theirs is over."""
        self._openings: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._closings: dict[tuple[str, str], asyncio.Task[None]] = {}
        """Of journals in object stores, each in a thread: a slow one holds nobody else up."""

    @rpc_method(timeout_s=STORAGE_TIMEOUT_S, errors=(JournalError,))
    async def open(self, ref: JournalRef) -> int:
        """Take the run over for this owner, or say who has it. The size of the journal so far."""
        if (opening := self._openings.get(_name(ref))) is not None:
            await asyncio.wait([opening])
        journal = self._journals.get(_name(ref))
        if journal is not None and journal.owner != ref.attempt_id and ref.attempt_id not in self._fenced:
            if journal.held:
                raise JournalError(
                    ref.run_id, "is running already, in another process; wait for its end, or stop it"
                )
            self._fenced.append(journal.owner)
            self._drop(ref)
        journal = await self._open_for(ref)
        self._schedule_close(ref, journal)
        return journal.size

    @rpc_method(timeout_s=STORAGE_TIMEOUT_S, errors=(JournalError,))
    async def append(self, ref: JournalRef, data: bytes) -> int:
        """Add whole lines; the size of the journal after that."""
        journal = await self._open_for(ref)
        try:
            return await journal.append(data)
        finally:
            self._schedule_close(ref, journal)

    @rpc_method(timeout_s=STORAGE_TIMEOUT_S, errors=(JournalError,))
    async def read(self, ref: JournalRef, offset: int, wait_s: float) -> bytes:
        """Return whole lines from `offset` on, at most `MAX_READ_BYTES`; empty where nothing came within `wait_s`."""
        journal = await self._open_for(ref)
        try:
            return await journal.read(offset, wait_s)
        finally:
            self._schedule_close(ref, journal)

    @rpc_method(timeout_s=None, errors=(JournalError,))
    async def hold(self, ref: JournalRef) -> None:
        """Hold the run for its driver, as long as its connection lasts; returns when the run is closed."""
        if ref.attempt_id in self._driverless:
            self._driverless.remove(ref.attempt_id)  # it was its connection only
        journal = await self._open_for(ref)
        journal.held += 1
        self._schedule_close(ref, journal)
        try:
            await journal.closed.wait()
        finally:
            journal.held -= 1
            if not journal.held and not journal.closed.is_set():
                self._driverless.append(ref.attempt_id)
                self._drop(ref)

    @rpc_method(timeout_s=STORAGE_TIMEOUT_S, errors=(JournalError,))
    async def close(self, ref: JournalRef) -> None:
        """Close a run that is over."""
        self._finished.append(ref.attempt_id)
        journal = self._journals.get(_name(ref))
        if journal is not None and journal.owner == ref.attempt_id:
            self._drop(ref)
        if (closing := self._closings.get(_name(ref))) is not None:
            await asyncio.wait([closing])

    async def stats(self) -> dict[str, int]:
        """Count the rows of each table."""
        return {
            "runs": sum(journal.held > 0 for journal in self._journals.values()),
            "journals": len(self._journals),
            "orphaned": len(self._driverless),
            "closed": len(self._finished),
            "taken over": len(self._fenced),
        }

    async def _open_for(self, ref: JournalRef) -> _OpenJournal:
        """Return the journal of this owner, opened if need be. Raises `JournalError` where it may not write any more."""
        while True:
            if ref.attempt_id in self._driverless:
                raise JournalError(ref.run_id, "has lost its driver; go on with: rlm-ray resume")
            journal = self._journals.get(_name(ref))
            if ref.attempt_id in self._fenced or (journal is not None and journal.owner != ref.attempt_id):
                raise JournalError(
                    ref.run_id, "was taken up by another process; this one may not write any more"
                )
            if journal is not None:
                return journal
            folder = RunStore(ref.run_dir, ref.run_id)
            if local_path(ref.run_dir) is not None:
                self._journals[_name(ref)] = _OpenJournal(ref, folder, folder.writer(ref.attempt_id))
                continue
            if _name(ref) not in self._openings:
                self._openings[_name(ref)] = asyncio.create_task(self._open_slowly(ref, folder))
            await asyncio.shield(self._openings[_name(ref)])  # whoever asked may go: others wait for it, too

    async def _open_slowly(self, ref: JournalRef, folder: RunStore) -> None:
        """Open a journal in a thread, once the one before is closed."""
        try:
            if (closing := self._closings.get(_name(ref))) is not None:
                await asyncio.wait([closing])
            writer = await asyncio.to_thread(folder.writer, ref.attempt_id)
            journal = self._journals[_name(ref)] = _OpenJournal(ref, folder, writer)
            self._schedule_close(ref, journal)
        finally:
            del self._openings[_name(ref)]

    def _schedule_close(self, ref: JournalRef, journal: _OpenJournal) -> None:
        """Close a run later that nobody holds: a driver that died without a word must not keep it for ever. One that is held
        is not closed."""
        if journal.closing is not None:
            journal.closing.cancel()
            journal.closing = None
        if not journal.held and not journal.closed.is_set():
            wait_s = LATE_WRITE_S if ref.attempt_id in self._finished else ORPHAN_TIMEOUT_S
            journal.closing = asyncio.get_running_loop().call_later(wait_s, self._drop, ref)

    def _drop(self, ref: JournalRef) -> None:
        journal = self._journals.pop(_name(ref))
        if journal.closing is not None:
            journal.closing.cancel()
        journal.end()
        if local_path(ref.run_dir) is not None:
            journal.close()
        else:
            self._closings[_name(ref)] = asyncio.create_task(self._close_slowly(ref, journal))

    async def _close_slowly(self, ref: JournalRef, journal: _OpenJournal) -> None:
        """Close a journal in a thread, after what is being written to it."""
        try:
            await journal.flush()
            await asyncio.to_thread(journal.close)
            if ref.run_dir == IN_MEMORY and ref.attempt_id in self._finished:
                RunStore(ref.run_dir, ref.run_id).delete()
        finally:
            if self._closings.get(_name(ref)) is asyncio.current_task():
                del self._closings[_name(ref)]


def _name(ref: JournalRef) -> tuple[str, str]:
    return ref.run_dir, ref.run_id


def _whole_lines(data: bytearray, start: int) -> bytes:
    """Return lines from `start` on, about as many as may be; at least one, however long."""
    end = data.rfind(b"\n", start, start + MAX_READ_BYTES)
    if end < 0:
        end = data.find(b"\n", start)
    return bytes(data[start : end + 1])
