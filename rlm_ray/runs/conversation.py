"""Many questions about one context, in one REPL that keeps its variables.

A conversation is one run, and each question an attempt of it: what was answered before comes from the record and is
not paid again, and the code that made the variables is run again first (`journal/cell_replay.py`). So nothing is held between
two questions, and a lost actor or driver costs nothing.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rlm_ray.config import Settings
from rlm_ray.core.context import Context
from rlm_ray.documents.files import Files
from rlm_ray.errors import ConfigError
from rlm_ray.journal.run_store import RunStore, find_run
from rlm_ray.runs.context_loader import saved_fingerprint
from rlm_ray.runs.run import Result, Run, new_run_id, parse_schema, validate_query, value_or_raise
from rlm_ray.runs.run_history import RunHistory, load_run_history
from rlm_ray.util.run_sync import run_sync

if TYPE_CHECKING:
    from rlm_ray.structured.schema import AnswerSchema

_REMEMBERED_STOP_REASONS = frozenset({"answered", "max_iterations", "no_code", "no_progress"})
"""A question that ended otherwise is not part of what the model remembers."""


class Conversation:
    """Asks one question after the other; `with rlm.conversation(context) as c: c.ask(query)`."""

    def __init__(
        self,
        settings: Settings,
        context: Context,
        *,
        files: Files | None = None,
        run_id: str = "",
    ) -> None:
        """Begin a conversation; `run_id` is an earlier one to go on with."""
        if not settings.record_content:
            raise ConfigError(
                "record_content",
                "a conversation goes on from its record; leave it on, or ask single questions",
            )
        self._temp_dir = None if settings.run_dir else tempfile.TemporaryDirectory(prefix="rlm_ray-")
        run_dir = settings.run_dir if self._temp_dir is None else self._temp_dir.name
        # A later question stands on the variables of the ones before, so all of them are asked in the REPL.
        below = settings.direct_call_below_chars or 0
        self._settings = replace(settings, run_dir=run_dir, direct_call_below_chars=below)
        self._context, self._files = context, files
        self._asked: tuple[str, ...] = ()
        self._schemas: list[AnswerSchema | None] = []
        """What the answers to these look like."""
        self._history = RunHistory(new_run_id())
        if run_id:
            self._load_history(find_run(run_id, run_dir))

    def __repr__(self) -> str:
        return f"Conversation(run_id={self.run_id!r}, asked={len(self._asked)}, context={self._context!r})"

    @property
    def run_id(self) -> str:
        return self._history.run_id

    def ask(self, query: str, *, schema: Any = None) -> Any:
        """Return the answer; see `RLM.completion`. Raises `LimitReached` (with `.partial`) when a limit stopped the run."""
        return run_sync(self.aask(query, schema=schema))

    async def aask(self, query: str, *, schema: Any = None) -> Any:
        """`ask` for an event loop."""
        return value_or_raise(await self.arun(query, schema=schema), schema)

    def run(self, query: str, *, schema: Any = None) -> Result:
        """Return the answer and how it came about; `usage` is that of the whole conversation."""
        return run_sync(self.arun(query, schema=schema))

    async def arun(self, query: str, *, schema: Any = None) -> Result:
        """`run` for an event loop. One question at a time."""
        first, *others = (*self._asked, validate_query(query))
        known = self._schemas[: len(others)]
        schemas = [*known, *[None] * (len(others) - len(known)), parse_schema(schema)]
        run = Run(
            self._settings,
            first,
            self._context,
            follow_ups=others,
            files=self._files,
            history=self._history,
            schemas=schemas if any(schemas) else (),
        )
        await run.start()
        try:
            return await run.result()
        finally:
            await asyncio.to_thread(self._refresh_history)
            # With their types, which a record does not hold.
            self._schemas = schemas[: len(self._asked)]

    def close(self) -> None:
        """Forget what is not to last. Its record lasts where `run_dir` says."""
        if self._temp_dir is not None:
            self._temp_dir.cleanup()

    def _refresh_history(self) -> None:
        folder = RunStore(self._settings.run_dir, self.run_id)
        if folder.exists() and folder.first_record() is not None:
            self._load_history(folder)

    def _load_history(self, folder: RunStore) -> None:
        self._history = history = load_run_history(folder, saved_fingerprint(folder))
        asked = (history.query, *history.follow_ups)
        self._asked = (
            asked
            if history.end is not None and history.end.stop_reason in _REMEMBERED_STOP_REASONS
            else asked[:-1]
        )
        self._schemas = [parse_schema(source or None) for source in history.schemas[: len(self._asked)]]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *how: object) -> None:
        self.close()
