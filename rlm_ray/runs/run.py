"""One run under way, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from rlm_ray.config import Settings, settings_to_dict
from rlm_ray.core.context import Context, encoded
from rlm_ray.core.display import html_box, printable, shorten, show_call
from rlm_ray.core.llm import Message
from rlm_ray.core.repl_types import Citation
from rlm_ray.core.state_machine import MISFIT
from rlm_ray.documents.files import Files
from rlm_ray.errors import InputError, JournalError, LimitReached, SchemaError
from rlm_ray.events.records import Record
from rlm_ray.events.tree import RunTree
from rlm_ray.events.usage import RunUsage
from rlm_ray.journal.run_store import RunStore
from rlm_ray.llm.model_check import check_before_start
from rlm_ray.runs import context_loader
from rlm_ray.runs.run_history import RunHistory
from rlm_ray.util.log_format import log_run

if TYPE_CHECKING:
    from rlm_ray.cluster.run_attempt import Observer
    from rlm_ray.cluster.run_driver import RunDriver
    from rlm_ray.session.result import SessionResult
    from rlm_ray.structured.schema import AnswerSchema
    from rlm_ray.tracing.setup import RunTelemetry


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
    trace_id: str = ""
    """Of its OpenTelemetry trace; empty where none was made."""
    run_dir: str = ""
    """Where its folder lies; empty where no record was stored."""
    citations: tuple[Citation, ...] = ()
    """Words of the context that the answer rests on, found there and with their places."""
    value: Any = None
    """With a `schema`, the answer as what that makes of it: an instance of the pydantic model, or parsed JSON, of which
    `answer` is the text. None where no answer matched it."""

    @property
    def answered(self) -> bool:
        return self.stop_reason == "answered"

    @property
    def tree(self) -> RunTree:
        """Return all sessions, calls and cells of the run, from its record."""
        return RunTree(self._records())

    def report(self, path: str | Path) -> Path:
        """Write one self-contained HTML page about the run."""
        from rlm_ray.report import write_report

        write_report(self._records(), Path(path))
        return Path(path)

    def __repr__(self) -> str:
        return show_call(
            "Result",
            {"answer": self.answer, "value": self.value, "citations": self._places(), **self._facts()},
        )

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        return html_box(
            self._head(), self.answer, {"citations": self._places(), "run": map(str, self._facts().items())}
        )

    def __rich__(self) -> Any:
        """Show it as a panel where rich prints it."""
        from rich.panel import Panel
        from rich.text import Text

        return Panel(Text(printable(self.answer or self.why)), title=Text(printable(self._head())))

    def _head(self) -> str:
        """Return in one line how it ended."""
        facts = self.usage.facts()
        cost = "" if facts["cost_usd"] is None else f", ${facts['cost_usd']:,.4f}"
        why = f": {self.why}" if self.why else ""
        return f"{self.stop_reason}{why} · {facts['calls']:,} calls, {facts['tokens']:,} tokens{cost}, {self.seconds:.1f} s"

    def _facts(self) -> dict[str, Any]:
        used = self.usage.facts()
        ended = {"stop_reason": self.stop_reason, "why": self.why, "turns": self.turns}
        return {**ended, **used, "seconds": round(self.seconds, 2), "run_id": self.run_id}

    def _places(self) -> list[str]:
        return [f"{shorten(cited.quote)} ({cited.place})" for cited in self.citations]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        return plain | {
            "usage": self.usage.as_dict(),
            "citations": [asdict(citation) for citation in self.citations],
            "value": to_jsonable_python(self.value, by_alias=True),
        }

    def with_value(self, schema: AnswerSchema | None) -> Result:
        """Return the same result with its `value` by this schema; not answered where the answer does not match it."""
        if schema is None or self.answer is None or self.stop_reason == MISFIT:
            return self
        checked = schema.check(self.answer)
        if checked.fits:
            return replace(self, value=checked.instance)
        if not self.answered:  # what was known when a limit stopped it
            return self
        return replace(self, stop_reason=MISFIT, why=checked.misfit)

    def _records(self) -> list[Record]:
        if not self.run_dir:
            raise JournalError(self.run_id, "keeps no record; give a run_dir")
        return RunStore(self.run_dir, self.run_id).records()


class Run:
    """One attempt of a run: `start` it, `await result()`; stop or cancel it meanwhile."""

    def __init__(  # noqa: PLR0913 - a question, and how to carry it out
        self,
        settings: Settings,
        query: str,
        context: Context,
        *,
        follow_ups: Sequence[str] = (),
        files: Files | None = None,
        observers: Sequence[Observer] = (),
        traceparent: str = "",
        history: RunHistory | None = None,
        lasting: bool = True,
        messages: Sequence[Message] = (),
        schemas: Sequence[AnswerSchema | None] = (),
        on_result: Callable[[Result], None] = lambda _: None,
    ) -> None:
        """With `follow_ups`, the last of them is answered; the others and `query` are on record.

        With `messages`, a root that answers directly asks exactly these, and `query` only tells what it is about.
        `schemas` say what the answer to each question looks like, to the first and to the further ones.
        `on_result` is called with the result; not where the run raises.
        Not `lasting`: nobody resumes it if this process dies; its context is stored only if it ends without an answer."""
        self.run_id = history.run_id if history else new_run_id()
        self.settings = history.keep_prompts(settings) if history else settings
        self._query, self._files = query, files
        self._follow_ups = tuple(follow_ups)
        self._context = replace(context, root_offset=0)
        if settings.citations == "required" and not context.info.chars:
            why = (
                "is empty, but citations are required; give a text to cite from, or set citations to optional"
            )
            raise InputError("context", why)
        self._observers = list(observers)
        self._traceparent = traceparent
        self._history = history
        self._lasting = lasting
        self._messages = tuple(messages)
        self._schemas = tuple(schemas)
        self._on_result = on_result
        self._started = time.monotonic()
        self._engine: Any = None
        self._root: RunDriver | None = None
        self._work: asyncio.Task[Result] | None = None

    def __repr__(self) -> str:
        work = self._work
        state = "not started" if work is None else "ended" if work.done() else "under way"
        return f"Run({self.run_id!r}, {state})"

    @property
    def is_resumable(self) -> bool:
        """Tell whether it leaves a folder from which it can be resumed."""
        return bool(self.settings.run_dir) and self.settings.record_content

    def add_observer(self, observer: Observer) -> None:
        """Add an observer; before the start."""
        self._observers.append(observer)

    async def start(self) -> None:
        """Start the run and return at once."""
        self._work = asyncio.create_task(self._run(), name=self.run_id)

    async def result(self) -> Result:
        """Wait for the end. Cancelling this cancels the run."""
        assert self._work is not None
        return await self._work

    async def stop(self, reason: str = "interrupted", why: str = "the run was interrupted") -> None:
        """End the run early: what runs below the root is cancelled, and `result()` gives what is known."""
        if self._root is not None and await self._engine.run_on_ray_thread(self._root.stop(reason, why)):
            return
        if self._work is not None:
            self._work.cancel()

    @property
    def actor(self) -> str | None:
        """Return the session actor of its root; None before and after that."""
        return self._root.actor if self._root is not None else None

    def interrupted_result(self) -> Result:
        """Return the result of a run that was stopped before its root had begun."""
        why = "the run was interrupted before it began"
        return Result(None, "interrupted", why, self.run_id, 0, time.monotonic() - self._started)

    async def _run(self) -> Result:
        # Ray takes seconds to import and to start: only who runs something pays for that
        from rlm_ray.cluster.driver import ClusterDriver
        from rlm_ray.cluster.run_attempt import wait_teller
        from rlm_ray.cluster.run_driver import RunDriver

        await asyncio.to_thread(check_before_start, self.settings, os.environ)
        async with AsyncExitStack() as stack:
            tell = wait_teller(self._observers)
            self._engine = await ClusterDriver.connect(
                self.settings.cluster, tell, self.settings.all_models(), pool="shared"
            )
            traced = maybe_start_tracing(self.run_id, self.settings, self._traceparent)
            if traced is not None:
                stack.callback(traced.close)
                self._observers.append(traced)
            stack.enter_context(log_run(self.run_id, (lambda: traced.trace_id) if traced is not None else ""))
            self._root = RunDriver(self._engine, self._run_request(traced), self._observers)
            async with self._persist_context() as stored:
                try:
                    completion = await self._engine.run_on_ray_thread(self._root.run())
                finally:
                    self._root = None
                stored.answered = completion.stop_reason == "answered"
        result = self._result(completion, traced)
        if self._schema is not None:  # which may take seconds to check
            result = await asyncio.to_thread(result.with_value, self._schema)
        self._on_result(result)
        return result

    def _run_request(self, traced: RunTelemetry | None) -> Any:
        from rlm_ray.cluster.run_attempt import RunSpec

        history = self._history or RunHistory(self.run_id)
        return RunSpec(
            self.run_id,
            self.settings,
            self._query,
            self._context,
            settings_to_dict(self.settings),
            traced.traceparent if traced is not None else self._traceparent,
            history.previous_attempts,
            history.usage,
            history.changed_context_key(self._context),
            self._follow_ups,
            self._messages,
            self._schemas,
        )

    @asynccontextmanager
    async def _persist_context(self) -> AsyncIterator[_StoredContext]:
        """Keep the context in the run's folder for as long as the run may be resumed."""
        stored = _StoredContext()
        if not self.is_resumable:
            yield stored
            return
        folder = RunStore(self.settings.run_dir, self.run_id)
        keep = partial(context_loader.save_context, folder, self._context, self._files)
        keeping = asyncio.create_task(asyncio.to_thread(keep)) if self._lasting else None
        try:
            yield stored
        finally:
            with contextlib.suppress(JournalError):  # the journal itself has said what is wrong there
                if keeping is not None or not stored.answered:
                    await asyncio.shield(keeping or asyncio.create_task(asyncio.to_thread(keep)))
                if keeping is not None and stored.answered:
                    await asyncio.to_thread(context_loader.delete_context, folder)

    @property
    def _schema(self) -> AnswerSchema | None:
        """Return the schema of the answer to the last question."""
        at = len(self._follow_ups)
        return self._schemas[at] if at < len(self._schemas) else None

    def _result(self, completion: SessionResult, traced: RunTelemetry | None) -> Result:
        return Result(
            completion.answer,
            completion.stop_reason,
            completion.why,
            self.run_id,
            completion.turns,
            time.monotonic() - self._started,
            completion.usage,
            traced.trace_id if traced is not None else "",
            self.settings.run_dir,
            completion.citations,
        )


@dataclass(slots=True)
class _StoredContext:
    """Says whether the context in a run's folder may be deleted."""

    answered: bool = False
    """The run has its answer: the context can be deleted."""


def answer_or_raise(result: Result) -> str:
    """Return the answer. Raises `LimitReached`, with what is known, where something stopped the run, and `SchemaError` where
    no answer matched the schema."""
    if result.stop_reason == MISFIT:
        raise SchemaError(result.why, result.answer)
    if not result.answered or result.answer is None:
        raise LimitReached(result.stop_reason, result.why, result.answer)
    return result.answer


def value_or_raise(result: Result, schema: Any) -> Any:
    """Return the answer, with a schema as what that makes of it; raises as `answer_or_raise` does."""
    answer = answer_or_raise(result)
    return answer if schema is None else result.value


def parse_schema(schema: Any) -> AnswerSchema | None:
    """Return what `schema=` says; None for None. Raises `InputError`."""
    if schema is None:
        return None
    from rlm_ray.structured.schema import AnswerSchema  # only who gives one pays for its import

    return AnswerSchema.parse(schema)


def validate_query(query: str) -> str:
    """Return the question. Raises `InputError` where it is none."""
    if not isinstance(query, str):
        raise InputError("query", f"must be a str; got {type(query).__name__}")
    if not query.strip():
        raise InputError("query", "is empty; ask a question")
    encoded(query, "query")
    return query


def new_run_id() -> str:
    """Make a unique id; ids sort by time, within a second too."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 16:04x}{secrets.token_hex(4)}"


def maybe_start_tracing(run_id: str, settings: Settings, traceparent: str) -> RunTelemetry | None:
    """Make spans and metrics of a run attempt, where the environment or the application wants them."""
    wanted = any(name.startswith("OTEL_") for name in os.environ)
    if not wanted and "opentelemetry.sdk.trace" not in sys.modules:
        return None
    from rlm_ray.tracing.setup import start_run_telemetry

    return start_run_telemetry(run_id, settings.tracing, traceparent)
