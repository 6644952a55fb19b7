"""`RLM`, the entry point of the Python API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Unpack, cast, overload

from rlm_ray.config import Settings, SettingValue, merge_settings, settings_from, values_from_keywords
from rlm_ray.config.deprecated_names import warn_deprecated
from rlm_ray.core.context import Context
from rlm_ray.core.display import show_changes
from rlm_ray.core.repl_types import Citation
from rlm_ray.errors import ConfigError, InputError, LimitReached, RLMError
from rlm_ray.events.usage import RunUsage
from rlm_ray.journal.run_store import find_run
from rlm_ray.runs.batch_run import BatchRun, open_batch_run
from rlm_ray.runs.context_loader import contexts_of, files_of, read_context
from rlm_ray.runs.conversation import Conversation
from rlm_ray.runs.options import RLMOptions
from rlm_ray.runs.resume import prepare_resume
from rlm_ray.runs.run import Result, Run, parse_schema, validate_query, value_or_raise
from rlm_ray.runs.run_history import CommandNote, find_run_of
from rlm_ray.runs.stream import Event, iterate_blocking, stream_records
from rlm_ray.util.run_sync import run_sync

if TYPE_CHECKING:
    from pathlib import Path

    from rlm_ray.batch.job import BatchSummary
    from rlm_ray.batch.python_api import BatchOptions
    from rlm_ray.cluster.run_attempt import Observer
    from rlm_ray.documents.files import Files
    from rlm_ray.mapreduce.execute import MapReduceResult
    from rlm_ray.mapreduce.spec import MapReduceOptions
    from rlm_ray.structured.schema import AnswerSchema

MAX_QUERY_CHARS = 20_000
"""A longer question without a context is read as a context that holds its task."""
_OF_A_QUESTION = ("query", "context", "contexts", "schema", "progress", "observers", "traceparent", "run_id")
"""Keywords of the methods themselves."""
_TASK_IN_CONTEXT = (
    "The task stands in the context itself: find it, do what it asks for, and answer with that."
)


class RLM:
    """Ask questions about contexts larger than any model's window (Zhang, Kraska, Khattab 2025).

    Keywords are the fields of `Settings`, and the parameters that litellm is known to take (`temperature`, `api_base` ...),
    which go with every model call; any other parameter of a model goes into `params={...}`. `completion`, `run` and `stream`
    take them too, for their one question. Keys come from litellm's environment variables; `RLM_RAY_*` and `rlm-ray.toml` are read by the
    command line only.

    `tools=[function, ...]` are functions of your own that code in the REPL can call, and `mcp_servers` those of others.

    >>> RLM(model="offline/extractive").completion("Who speaks?", "...")  # doctest: +SKIP
    """

    def __init__(self, settings: Settings | str | None = None, **options: Unpack[RLMOptions]) -> None:
        """`settings` is the name of the model, or settings to begin with."""
        given = cast("dict[str, Any]", options)
        if isinstance(settings, str):
            if "model" in given:
                raise ConfigError("model", f"is given twice: {settings!r} and {given['model']!r}")
            settings, given = None, {"model": settings, **given}
        self.settings = settings_from(_with_packed_tools(given), base=_checked_base(settings))
        self._stats = RunUsage().stats(turns=0)

    def __repr__(self) -> str:
        """Show the model, and what differs from the defaults; secrets are `***`."""
        return show_changes(self.settings, "RLM", always=("model",))

    @property
    def stats(self) -> dict[str, int]:
        """Return counts of the last run that ended: `llm_calls`, `iterations` (turns of the root) and `depth` (the deepest call).

        Zeros before the first, and after one that failed. More is in `Result.usage`.
        """
        return dict(self._stats)

    @overload
    def completion(
        self,
        query: str | None = None,
        context: Any = "",
        *,
        schema: None = None,
        **changes: Unpack[RLMOptions],
    ) -> str: ...
    @overload
    def completion(
        self, query: str | None = None, context: Any = "", *, schema: Any, **changes: Unpack[RLMOptions]
    ) -> Any: ...
    def completion(
        self,
        query: str | None = None,
        context: Any = "",
        *,
        schema: Any = None,
        **changes: Unpack[RLMOptions],
    ) -> Any:
        """Return the answer: a text, or with a `schema` what that makes of it (`Result.value`).

        Without a `query`, the context says what is to be done. `schema` is a pydantic model class or another type that pydantic knows, a
        JSON Schema as a dict, or the path of a file with one. `changes` are keywords of `RLM`, for this one question.
        Raises `LimitReached` (with `.partial`) when a limit stopped the run, `SchemaError` when no answer matched.
        """
        return run_sync(self.acompletion(query, context, schema=schema, **changes))

    @overload
    async def acompletion(
        self,
        query: str | None = None,
        context: Any = "",
        *,
        schema: None = None,
        **changes: Unpack[RLMOptions],
    ) -> str: ...
    @overload
    async def acompletion(
        self, query: str | None = None, context: Any = "", *, schema: Any, **changes: Unpack[RLMOptions]
    ) -> Any: ...
    async def acompletion(
        self,
        query: str | None = None,
        context: Any = "",
        *,
        schema: Any = None,
        **changes: Unpack[RLMOptions],
    ) -> Any:
        """`completion` for an event loop; cancelling it cancels the whole recursion tree."""
        return value_or_raise(await self.arun(query, context, schema=schema, **changes), schema)

    def run(
        self,
        query: str | None = None,
        context: Any = "",
        *,
        schema: Any = None,
        progress: bool = False,
        **changes: Unpack[RLMOptions],
    ) -> Result:
        """Return the answer and how it came about; a limit is a `stop_reason`, not an exception.

        `query`, `schema` and `changes` are those of `completion`. `progress` shows the tree while it grows: a live view on a
        terminal or in a notebook, lines elsewhere.
        """
        return run_sync(self.arun(query, context, schema=schema, progress=progress, **changes))

    async def arun(
        self,
        query: str | None = None,
        context: Any = "",
        *,
        schema: Any = None,
        progress: bool = False,
        **changes: Unpack[RLMOptions],
    ) -> Result:
        """`run` for an event loop; cancelling it cancels the whole recursion tree."""
        if not progress:
            return await (await self.astart(query, context, schema=schema, **changes)).result()
        from rlm_ray.progress.live import Progress

        shown = Progress(self._changed(changes).limits)
        with shown:
            run = await self.astart(query, context, schema=schema, observers=[shown], **changes)
            return await run.result()

    def stream(
        self,
        query: str | None = None,
        context: Any = "",
        *,
        schema: Any = None,
        **changes: Unpack[RLMOptions],
    ) -> Iterator[Event]:
        """`run` as it goes: every record (`rlm_ray.events.records`) when it is written, and the `Result` at the end.

        Leaving early cancels the run. Inside an event loop it is `astream`.
        """
        return iterate_blocking(self.astream(query, context, schema=schema, **changes))

    def astream(
        self,
        query: str | None = None,
        context: Any = "",
        *,
        schema: Any = None,
        **changes: Unpack[RLMOptions],
    ) -> AsyncGenerator[Event]:
        """`stream` for an event loop."""
        return stream_records(
            lambda queue: self.astart(query, context, schema=schema, observers=[queue], **changes)
        )

    def conversation(self, context: Any = "", *, run_id: str = "", run: str = "") -> Conversation:
        """Ask many questions about one context, in one REPL that keeps its variables; `run_id` goes on with an
        earlier one.

        >>> with RLM().conversation("...") as c: c.ask("Who speaks?"), c.ask("To whom?")  # doctest: +SKIP
        """
        run_id = run_id or _deprecated_run(run)
        return Conversation(self.settings, read_context(context), files=files_of(context), run_id=run_id)

    def session(self, context: Any = "", *, run: str = "") -> Conversation:
        """Do what `conversation` does; its deprecated name."""
        warn_deprecated("RLM.session", "RLM.conversation")
        return self.conversation(context, run_id=run)

    @classmethod
    def resume(
        cls,
        run_id: str = "",
        context: Any = None,
        *,
        schema: Any = None,
        trust_record: bool = False,
        run: str = "",
        **changes: Unpack[RLMOptions],
    ) -> Result:
        """Go on with a run that was killed or stopped, from its record; see `aresume`."""
        run_id = run_id or _deprecated_run(run)
        values = values_from_keywords(_with_packed_tools(cast("dict[str, Any]", changes)))
        return run_sync(cls._resume(run_id, context, values, schema, trust_record=trust_record))

    @classmethod
    async def aresume(
        cls,
        run_id: str = "",
        context: Any = None,
        *,
        schema: Any = None,
        trust_record: bool = False,
        run: str = "",
        **changes: Unpack[RLMOptions],
    ) -> Result:
        """Go on with a run (its id, the beginning of it, or `last`): what is on record is not paid again.

        `changes` are settings that shall differ now, such as higher limits; keys are never recorded, so one that was
        given as `api_key` is given again. So is where questions and keys go (`api_base`, `cluster.address` ...) and which
        files are read, unless you `trust_record`: a record may have been written by anybody. Without `context` it is the recorded one. A run that has its answer gives it.
        The JSON Schema of a typed run is on record; give its pydantic model again as `schema` to get an instance of it.
        """
        run_id = run_id or _deprecated_run(run)
        values = values_from_keywords(_with_packed_tools(cast("dict[str, Any]", changes)))
        return await cls._resume(run_id, context, values, schema, trust_record=trust_record)

    @staticmethod
    async def _resume(
        run_id: str, context: Any, values: Sequence[SettingValue], schema: Any, *, trust_record: bool
    ) -> Result:
        if not run_id:
            raise InputError("run_id", "is empty; give the id of a run, the beginning of one, or 'last'")
        run_dir = merge_settings(Settings(), [item for item in values if item.name == "run_dir"]).run_dir
        folder = find_run(run_id, run_dir)
        change = partial(merge_settings, values=values)
        taken = await asyncio.to_thread(
            partial(
                prepare_resume,
                folder,
                context,
                change,
                schema=parse_schema(schema),
                trust_record=trust_record,
            )
        )
        if isinstance(taken, Result):
            return taken
        await taken.start()
        return await taken.result()

    def map(
        self,
        query: str | Sequence[str],
        contexts: Sequence[Any],
        *,
        schema: Any = None,
        run_id: str = "",
        **changes: Unpack[RLMOptions],
    ) -> list[Result]:
        """Ask the same question about each context (or one for each), side by side under one budget; see `amap`."""
        return run_sync(self.amap(query, contexts, schema=schema, run_id=run_id, **changes))

    async def amap(
        self,
        query: str | Sequence[str],
        contexts: Sequence[Any],
        *,
        schema: Any = None,
        run_id: str = "",
        **changes: Unpack[RLMOptions],
    ) -> list[Result]:
        """Ask in one run whose rows are sessions. Results in order; a row that failed says so in its own result.

        `run_id` goes on with a map that was killed or stopped, over the same contexts. Raises `InputError` where `contexts` is one
        context and no list of them.
        """
        settings = self._changed(changes)
        contexts = contexts_of(contexts)
        queries = [query] * len(contexts) if isinstance(query, str) else list(query)
        if len(queries) != len(contexts):
            raise InputError(
                "query", f"{len(queries)} questions for {len(contexts)} contexts; give one, or as many"
            )
        checked = [validate_query(each) for each in queries]
        sources = [read_context(context) for context in contexts]
        wanted = parse_schema(schema)
        going_on, settings = await _run_to_go_on("map", run_id, settings)
        note = CommandNote(settings, "map", {"contexts": len(contexts)}, from_memory=True)
        first = checked[0] if checked else "nothing"
        async with open_batch_run(settings, first, run_id=going_on, observers=[note]) as job:
            run_row = partial(_run_row, job, settings, wanted)
            results = list(await asyncio.gather(*map(run_row, count(), checked, sources)))
        usage = sum((result.usage for result in results), RunUsage())
        self._stats = usage.stats(max((result.turns for result in results), default=0))
        return results

    @overload
    def batch(
        self, query: str | None, source: str | Path | Files | Sequence[Path], **how: Unpack[BatchOptions]
    ) -> BatchSummary: ...
    @overload
    def batch(self, query: str | None, source: Any, **how: Unpack[BatchOptions]) -> Any: ...
    def batch(self, query: str | None, source: Any, **how: Unpack[BatchOptions]) -> Any:
        """Ask one question about each row of files or of a table; see `abatch`.

        >>> RLM().batch("What does {title} propose?", pandas.read_csv("peps.csv"))  # doctest: +SKIP
        """
        return run_sync(self.abatch(query, source, **how))

    @overload
    async def abatch(
        self, query: str | None, source: str | Path | Files | Sequence[Path], **how: Unpack[BatchOptions]
    ) -> BatchSummary: ...
    @overload
    async def abatch(self, query: str | None, source: Any, **how: Unpack[BatchOptions]) -> Any: ...
    async def abatch(self, query: str | None, source: Any, **how: Unpack[BatchOptions]) -> Any:
        """Ask one question about each row; `{title}` in it is that column. One run with one budget, as `rlm-ray batch`.

        A dataframe (pandas, polars), an Arrow table, a `ray.data.Dataset` or an iterable of mappings or texts comes back as what it
        is (an iterable as a list of dicts), with the columns `answer`, those of a `schema`, `error`, `stop_reason`, `calls` and `cost_usd`.
        Of files (a path, URL, glob, folder or several paths) the answers go to `out`, and a `BatchSummary` says how it went.

        A row that fails says why in its `error`. The same call with `run_id=`, or with the same `out=`, goes on where it was stopped or
        killed, paying for nothing twice. `how` are the keywords of `BatchOptions`.
        """
        from rlm_ray.batch.python_api import run_batch

        table, summary = await run_batch(self.settings, query, source, how)
        self._stats = {**RunUsage().stats(turns=0), "llm_calls": summary.calls}
        return summary if table is None else table

    def map_reduce(self, query: str, contexts: Any, **how: Unpack[MapReduceOptions]) -> MapReduceResult:
        """Ask every piece of a text or of documents, and put the answers together by a plan; see `amap_reduce`."""
        return run_sync(self.amap_reduce(query, contexts, **how))

    async def amap_reduce(
        self, query: str, contexts: Any, **how: Unpack[MapReduceOptions]
    ) -> MapReduceResult:
        """Carry out a static plan without model-written code: split, ask all pieces in parallel, reduce as a tree.

        `how` are the keywords of `MapReduceOptions`: `reduce` (`model`, or `count:field`, `sum:field` ...), `schema`,
        `split_by`, `size`, `overlap`, `pack`, `on_error`, `reduce_query`; `run_id` goes on with a run that was killed or stopped.
        """
        from rlm_ray.mapreduce.execute import build_plan, execute_plan

        question, context, settings = validate_query(query), read_context(contexts), self.settings
        run_id = str(how.pop("run_id", ""))
        # in a thread: it may import litellm
        plan = await asyncio.to_thread(build_plan, settings, question, context, **how)
        going_on, settings = await _run_to_go_on("map-reduce", run_id, settings)
        note = CommandNote(settings, "map-reduce", {"question": question}, from_memory=True)
        return await execute_plan(settings, plan, context, run_id=going_on, observers=[note])

    def prewarm(self, actors: int | None = None) -> None:
        """Start Ray and so many session actors now (default: `cluster.min_actors`), not with the first question."""
        run_sync(self.aprewarm(actors))

    async def aprewarm(self, actors: int | None = None) -> None:
        """Do what `prewarm` does, for an event loop."""
        from rlm_ray.cluster.driver import ClusterDriver

        engine = await ClusterDriver.connect(self.settings.cluster, models=self.settings.all_models())
        await engine.grow_to(actors or self.settings.cluster.min_actors)

    def warm(self, actors: int | None = None) -> None:
        """Do what `prewarm` does; its deprecated name."""
        warn_deprecated("RLM.warm", "RLM.prewarm")
        self.prewarm(actors)

    async def awarm(self, actors: int | None = None) -> None:
        """Do what `aprewarm` does; its deprecated name."""
        warn_deprecated("RLM.awarm", "RLM.aprewarm")
        await self.aprewarm(actors)

    async def astart(
        self,
        query: str | None = None,
        context: Any = "",
        *,
        schema: Any = None,
        observers: Sequence[Observer] = (),
        traceparent: str = "",
        **changes: Unpack[RLMOptions],
    ) -> Run:
        """Start a run and return at once with a handle to stop it.

        `observers` are called with every record; `traceparent` (W3C) makes the run part of a trace, else the caller's
        current span does.
        """
        settings = self._changed(changes)
        query, context = _question_and_context(query, context)
        question = validate_query(query)
        self._stats = RunUsage().stats(turns=0)
        run = Run(
            settings,
            question,
            read_context(context),
            files=files_of(context),
            observers=observers,
            traceparent=traceparent,
            schemas=() if schema is None else (parse_schema(schema),),
            on_result=self._note_stats,
        )
        await run.start()
        return run

    def _changed(self, changes: RLMOptions) -> Settings:
        """Return the settings of one question."""
        if not changes:
            return self.settings
        try:
            return settings_from(_with_packed_tools(cast("dict[str, Any]", changes)), base=self.settings)
        except ConfigError as error:
            close = get_close_matches(error.what, _OF_A_QUESTION, 1, cutoff=0.75)
            if error.what not in changes or not close:
                raise
            raise ConfigError(
                error.what, f"is no keyword of a question; did you mean {close[0]!r}?"
            ) from error

    def _note_stats(self, result: Result) -> None:
        self._stats = result.usage.stats(result.turns)


def _question_and_context(query: str | None, context: Any) -> tuple[str, Any]:
    """Return what is asked about what: a task may stand in the context, or in a long text that is all there is."""
    no_context = context is None or (isinstance(context, str) and not context)
    if isinstance(query, str) and no_context and len(query) > MAX_QUERY_CHARS:
        return _TASK_IN_CONTEXT, query
    if query is None and no_context:
        raise InputError("query", "is missing; ask a question, or give a context that holds one")
    return (_TASK_IN_CONTEXT if query is None else query), ("" if context is None else context)


def _checked_base(settings: object) -> Settings | None:
    """Return settings to begin with. Raises `ConfigError` for anything else."""
    if settings is None or isinstance(settings, Settings):
        return settings
    raise ConfigError("settings", f"must be the name of a model, or Settings; got {type(settings).__name__}")


def _with_packed_tools(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same keywords, with functions as values that can be sent."""
    if not options.get("tools"):
        return {name: value for name, value in options.items() if name != "tools"}
    from rlm_ray.cluster.ray_calls import pack_functions

    return {**options, "tools": pack_functions(options["tools"])}


def _deprecated_run(run: str) -> str:
    """Return what was given under the old name of `run_id`."""
    if run:
        warn_deprecated("run=", "run_id=")
    return run


async def _run_to_go_on(command: str, run_id: str, settings: Settings) -> tuple[str | None, Settings]:
    """Return the whole id of the run that is to go on, and the settings that write its record; None where a new one begins."""
    if not run_id:
        return None, settings
    folder, _, settings = await asyncio.to_thread(find_run_of, command, run_id, settings)
    return folder.run_id, settings


async def _run_row(  # noqa: PLR0913, PLR0917 - a row, and what all rows share
    job: BatchRun, settings: Settings, schema: AnswerSchema | None, row: int, query: str, context: Context
) -> Result:
    """Return how one row of a batch run ended."""
    started = time.monotonic()
    cited: tuple[Citation, ...] = ()
    try:
        done = await job.ask(row, query, context, schema)
    except LimitReached as error:
        ended = (error.partial, error.reason, error.why, 0, RunUsage())
    except RLMError as error:
        ended = (None, "error", str(error), 0, RunUsage())
    else:
        ended = (done.answer, done.stop_reason, done.why, done.turns, done.usage)
        cited = done.citations
    answer, stop_reason, why, turns, usage = ended
    seconds = time.monotonic() - started
    result = Result(
        answer, stop_reason, why, job.run_id, turns, seconds, usage, job.trace_id, settings.run_dir, cited
    )
    return result.with_value(schema)


__all__ = ["RLM", "Conversation", "Result", "Run"]
