"""RLM: the front door. The only place that turns async into sync."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from rlm_ray.config import Settings, settings_from
from rlm_ray.core.context import Context
from rlm_ray.core.usage import RunUsage
from rlm_ray.errors import InputError, LimitReached
from rlm_ray.sources import read_context

if TYPE_CHECKING:
    from rlm_ray.cluster.messages import RootState

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended; nothing that is known is lost."""

    answer: str | None
    stop_reason: str
    """`answered`, or what stopped the run: `max_iterations`, `no_code`, `cost_usd`, `time_s`, `interrupted` ..."""
    why: str
    """One sentence where the stop was not the model's own."""
    run_id: str
    turns: int
    seconds: float
    usage: RunUsage = field(default_factory=RunUsage)
    """What the whole tree used, as its providers counted it, per model and per depth."""

    @property
    def answered(self) -> bool:
        return self.stop_reason == "answered"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        return plain | {"usage": self.usage.as_dict()}


class RLM:
    """Ask questions about contexts larger than any model's window (Zhang, Kraska, Khattab 2025).

    Keywords are the fields of `Settings`; any other keyword is a litellm parameter for every model call. Settings
    left out come from the environment (`RLM_RAY_*`) and `rlm-ray.toml`.

    >>> RLM(model="offline/extractive").completion("Who speaks?", "...")  # doctest: +SKIP
    """

    def __init__(self, settings: Settings | None = None, **options: Any) -> None:
        self.settings = settings_from(options, base=settings)

    def completion(self, query: str, context: Any = "") -> str:
        """The answer. Raises `LimitReached` (with `.partial`) when a limit stopped the run."""
        return _sync(self.acompletion(query, context))

    async def acompletion(self, query: str, context: Any = "") -> str:
        """`completion` for an event loop; cancelling it cancels the whole recursion tree."""
        result = await self.arun(query, context)
        if not result.answered or result.answer is None:
            raise LimitReached(result.stop_reason, result.why, result.answer)
        return result.answer

    def run(self, query: str, context: Any = "") -> Result:
        """The answer and how it came about; a limit is a `stop_reason`, not an exception."""
        return _sync(self.arun(query, context))

    async def arun(self, query: str, context: Any = "") -> Result:
        """`run` for an event loop; cancelling it cancels the whole recursion tree."""
        return await (await self.astart(query, context)).result()

    def warm(self, actors: int | None = None) -> None:
        """Start Ray and so many session actors now (default: `cluster.min_actors`), not with the first question."""
        _sync(self.awarm(actors))

    async def awarm(self, actors: int | None = None) -> None:
        """`warm` for an event loop."""
        from rlm_ray.cluster.engine import Engine

        engine = await Engine.connect(self.settings.cluster)
        await engine.grow_to(actors or self.settings.cluster.min_actors)

    async def astart(self, query: str, context: Any = "") -> Run:
        """Start a run and return at once with a handle to watch and stop it."""
        question = _checked(query)
        source = read_context(context)
        run = Run(self.settings, question, source)
        await run.start()
        return run


class Run:
    """One run under way."""

    def __init__(self, settings: Settings, query: str, context: Context) -> None:
        self.run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        self._settings = settings
        self._query = query
        self._context = context
        self._started = time.monotonic()
        self._engine: Any = None
        self._seat: Any = None
        self._work: asyncio.Task[Result] | None = None

    async def start(self) -> None:
        self._work = asyncio.create_task(self._run(), name=self.run_id)

    async def result(self) -> Result:
        """Wait for the end. Cancelling this cancels the run."""
        assert self._work is not None
        return await self._work

    async def stop(self, reason: str = "interrupted", why: str = "the run was interrupted") -> None:
        """End the run early: what runs below the root is cancelled, and `result()` gives what is known."""
        if self._seat is not None and await self._engine.stop(self._seat, self.run_id, reason, why):
            return
        if self._work is not None:
            self._work.cancel()

    def interrupted(self) -> Result:
        """The result of a run that was stopped before its root had begun."""
        return self._result(None, "interrupted", "the run was interrupted before it began", 0)

    async def state(self) -> RootState | None:
        """Where the root session is, and what the tree has used; None before it has begun."""
        seat = self._seat
        return None if seat is None else await self._engine.state(seat, self.run_id)

    async def _run(self) -> Result:
        # Ray takes seconds to import and to start: only who runs something pays for that
        from rlm_ray.cluster.engine import Engine
        from rlm_ray.cluster.messages import RunTag, SessionSpec

        settings = self._settings
        engine = self._engine = await Engine.connect(settings.cluster)
        seat = await engine.take_seat(settings.cluster.sessions_per_actor)
        tag = RunTag(self.run_id, settings, time.time())
        try:
            parcel = await engine.pack(self._context)
            self._seat = seat
            completion = await engine.run(seat, SessionSpec(tag, (), "", self._query, parcel))
        finally:
            self._seat = None
            await engine.leave_seat(seat)
        turns = len(completion.trajectory.turns) if completion.trajectory else 0
        result = self._result(completion.answer, completion.stop_reason, completion.why, turns)
        return replace(result, usage=completion.usage)

    def _result(self, answer: str | None, stop_reason: str, why: str, turns: int) -> Result:
        return Result(answer, stop_reason, why, self.run_id, turns, time.monotonic() - self._started)


def _checked(query: str) -> str:
    if not isinstance(query, str):
        raise InputError("query", f"must be a str; got {type(query).__name__}")
    if not query.strip():
        raise InputError("query", "is empty; ask a question")
    return query


def _sync(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a loop of its own; inside a running loop (a notebook) on another thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    box: list[T | BaseException] = []

    def target() -> None:
        try:
            box.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread
            box.append(error)

    thread = threading.Thread(target=target, name="rlm_ray")
    thread.start()
    thread.join()
    outcome = box[0]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


__all__ = ["RLM", "Result", "Run"]
