"""One question about more than any window holds, by a plan and without code of the model's: every piece is asked the
same, side by side, and the answers are put together in code or by the model.

With a schema or a reduction in code there is one answer for each document, however documents travel; of a text that is
no list of documents, one for each piece.

A map-reduce as one run: planned here, carried out on the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from rlm_ray.config import Settings
from rlm_ray.core.chunking import Piece, PieceOrigin, origins
from rlm_ray.core.context import Context, Document
from rlm_ray.core.display import html_box, printable, show_call
from rlm_ray.core.document_answers import label_documents
from rlm_ray.core.map_reduce import cited_parts, join_answers
from rlm_ray.core.reduce import WHOLE_ANSWER, Reduction
from rlm_ray.core.repl_types import Failed
from rlm_ray.core.retry_after import MAX_IN_A_ROW
from rlm_ray.errors import AuthenticationError, ConfigError, LimitReached, SubCallError
from rlm_ray.events.usage import RunUsage
from rlm_ray.mapreduce.documents import ask_documents, numbers_of
from rlm_ray.mapreduce.piece_calls import CallBackend, PieceAnswer, PieceCaller, drive
from rlm_ray.mapreduce.plan import Plan, get_model_info, plan
from rlm_ray.mapreduce.spec import MapReduceSpec, parse_spec
from rlm_ray.runs.batch_run import open_batch_run
from rlm_ray.session.result import CUT

if TYPE_CHECKING:
    from rlm_ray.cluster.run_attempt import Observer

_Numbers: TypeAlias = "Mapping[str, Mapping[str, tuple[int, ...]]]"


_SHOWN = 50
"""So many failures are shown in a notebook."""
_SAMPLES = 20
_SAMPLE_BYTES = 1_000


@dataclass(frozen=True, slots=True)
class MapReduceResult:
    """The answer about the whole, and how it came about."""

    answer: str | None
    """As text; values as JSON. None where a limit came before there was one."""
    value: Any
    """Of a reduction in code or a schema; else the answer."""
    origin: Provenance
    """Which places of the input each result comes from."""
    plan: Plan
    usage: RunUsage
    answered: int
    """Documents, or pieces: see `Plan.units`."""
    failed: tuple[tuple[str, str], ...] = ()
    """Documents or pieces without an answer: where, and why."""
    cut: tuple[str, ...] = ()
    """Documents or pieces whose answers were cut off at the token limit: where."""
    stop_reason: str = "answered"
    """As `Result.stop_reason`."""
    why: str = ""
    run_id: str = ""

    def __repr__(self) -> str:
        facts = {
            "stop_reason": self.stop_reason,
            "why": self.why,
            f"{self.plan.unit_name}": len(self.plan.units),
        }
        counts = {"answered": self.answered, "failed": len(self.failed), "cut": len(self.cut) or None}
        return show_call("MapReduceResult", {"value": self.value, **facts, **counts, **self.usage.facts()})

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        why = f": {self.why}" if self.why else ""
        head = f"{self.stop_reason}{why} · {self.answered:,} of {len(self.plan.units):,} {self.plan.unit_name} answered"
        failed = [f"{where}: {why}" for where, why in self.failed[:_SHOWN]]
        return html_box(head, self.answer, {"where it comes from": self.origin.lines(), "failed": failed})

    def __rich__(self) -> Any:
        """Show it as a panel where rich prints it."""
        from rich.panel import Panel
        from rich.text import Text

        counts = f"{self.stop_reason} · {self.answered:,} of {len(self.plan.units):,} {self.plan.unit_name} answered"
        return Panel(Text(printable(self.answer or self.why)), title=Text(counts))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "answer": self.answer,
            "value": self.value,
            "stop_reason": self.stop_reason,
            "why": self.why,
            "run_id": self.run_id,
            "documents": self.plan.documents,
            "pieces": len(self.plan.pieces),
            "answered": self.answered,
            "failed": [{"where": where, "why": why} for where, why in self.failed],
            "cut": list(self.cut),
            "origin": self.origin.as_dict(),
            "usage": self.usage.as_dict(),
        }


async def map_reduce(calls: CallBackend, plan: Plan, context: Context) -> MapReduceResult:
    """Carry the plan out. A limit ends it with what is known then, where code puts the answers together.

    Raises the failure of a document or piece, unless `on_error` is skip; what no other call could mend is always raised.
    """
    if plan.by_document:
        named = label_documents(context)
        asking = PieceCaller(calls, plan.spec.schema, named, numbers_of(plan, named))
        answers = await ask_documents(asking, plan, named)
    else:
        asking = PieceCaller(calls, plan.spec.schema, context)
        answers = await asking.call_all(plan.spec.map_question, [piece.as_part for piece in plan.pieces])
    failed = [(describe_location(context, plan.units[at]), answer) for at, answer in _failures(answers)]
    cut = [
        describe_location(context, plan.units[at])
        for at, answer in enumerate(answers)
        if isinstance(answer, PieceAnswer) and answer.cut
    ]
    limit = _limit(plan.spec, answers, failed)
    try:
        if plan.spec.reduce is not None:
            value, numbers = _reduce_in_code(plan.spec.reduce, answers)
        elif limit is not None:
            raise limit
        else:
            value, numbers = await _by_model(plan, answers, asking)
    except LimitReached as reached:
        limit, value, numbers = reached, None, {}
    if limit is None and asking.cut:
        limit = LimitReached(CUT, f"of {asking.cut:,} of {asking.asked:,} answers, {asking.why_cut}")
    return MapReduceResult(
        None if value is None else PieceAnswer(value).text,
        value,
        Provenance(context, plan.units, numbers),
        plan,
        await calls.usage(),
        len(answers) - len(failed),
        tuple((place, failure.why) for place, failure in failed),
        stop_reason="answered" if limit is None else limit.reason,
        why="" if limit is None else limit.why,
        cut=tuple(cut),
    )


def _failures(answers: Sequence[PieceAnswer | Failed]) -> list[tuple[int, Failed]]:
    return [(at, answer) for at, answer in enumerate(answers) if isinstance(answer, Failed)]


def _limit(
    spec: MapReduceSpec, answers: Sequence[PieceAnswer | Failed], failed: Sequence[tuple[str, Failed]]
) -> LimitReached | None:
    """Return the limit that ended the asking. Raises any other failure."""
    limit = None
    refused = [each for _, each in failed if isinstance(each.fatal_error, AuthenticationError | ConfigError)]
    if len(refused) < MAX_IN_A_ROW and len(failed) < len(answers):
        failed = [
            (place, replace(each, fatal_error=None) if each in refused else each) for place, each in failed
        ]
    for _, failure in failed:
        if failure.fatal_error is not None and not isinstance(failure.fatal_error, LimitReached):
            raise failure.fatal_error
        limit = limit or failure.fatal_error
    if failed and limit is None and (spec.on_error == "raise" or len(failed) == len(answers)):
        place, failure = failed[0]
        raise SubCallError(failure.kind, f"{place}: {failure.why}")
    return limit


def _reduce_in_code(reduction: Reduction, answers: Sequence[PieceAnswer | Failed]) -> tuple[Any, _Numbers]:
    states = (
        reduction.map_piece(at, answer.value)
        for at, answer in enumerate(answers)
        if isinstance(answer, PieceAnswer)
    )
    state = reduction.merge(states)
    return reduction.value(state), reduction.provenance(state)


async def _by_model(
    plan: Plan, answers: Sequence[PieceAnswer | Failed], asking: PieceCaller
) -> tuple[Any, _Numbers]:
    """Have the model put the answers together, level by level."""

    async def ask(parts: list[list[Document]]) -> list[PieceAnswer]:
        joined = await asking.call_all(plan.spec.reduce_question, parts)
        for answer in joined:
            if isinstance(answer, Failed):
                why = f"putting answers together: {answer.why}"
                raise answer.fatal_error or SubCallError(answer.kind, why)
        return [answer for answer in joined if isinstance(answer, PieceAnswer)]

    said = [(at, answer) for at, answer in enumerate(answers, 1) if isinstance(answer, PieceAnswer)]
    steps = join_answers(said, lambda answer: answer.text, plan.call_chars)
    last, speaking = await drive(steps, ask)
    has_schema = plan.spec.schema is not None
    named = range(1, len(answers) + 1) if has_schema else cited_parts(last.text, len(answers))
    return last.value, {WHOLE_ANSWER: {"answer": tuple(at - 1 for at in named if at in speaking)}}


def build_plan(settings: Settings, query: str, context: Context, **options: Any) -> Plan:
    """Plan what asking this will take. `options` are the fields of `MapReduceSpec`; nothing is sent anywhere."""
    spec = parse_spec(query, **options)
    return plan(spec, context, get_model_info(settings, _sample(context)), settings.max_leaf_chars)


async def execute_plan(
    settings: Settings,
    planned: Plan,
    context: Context,
    *,
    run_id: str | None = None,
    observers: Sequence[Observer] = (),
) -> MapReduceResult:
    """Carry a plan out as one run; with the `run_id` of one on record it is resumed."""
    async with open_batch_run(settings, planned.spec.query, run_id=run_id, observers=observers) as job:
        result = await map_reduce(job, planned, context)
        job.end_as(result.stop_reason, result.why, result.answer)
        return replace(result, run_id=job.run_id)


def _sample(context: Context) -> str:
    """Return bits from all over the context."""
    view = memoryview(context.data).cast("B")
    step = max(1, len(view) // _SAMPLES)
    return "".join(str(view[at : at + _SAMPLE_BYTES], "utf-8", "ignore") for at in range(0, len(view), step))


def describe_location(context: Context, piece: Piece) -> str:
    """Describe a piece by its documents, for a message."""
    first, *others = map(str, origins(context, piece))
    return f"{first} to {others[-1]}" if others else first


@dataclass(frozen=True, slots=True)
class Provenance:
    """By field and result, the pieces it comes from; the field of a whole answer is empty."""

    context: Context
    pieces: Sequence[Piece]
    numbers: Mapping[str, Mapping[str, tuple[int, ...]]]

    def sources(self, field: str, result: str) -> list[PieceOrigin]:
        """Return the documents a result comes from, each with the bytes that were read of it."""
        pieces = self.numbers.get(field, {}).get(result, ())
        return [source for number in pieces for source in origins(self.context, self.pieces[number])]

    def as_dict(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Return all of it, as plain values."""
        return {
            field: {result: [asdict(source) for source in self.sources(field, result)] for result in results}
            for field, results in self.numbers.items()
        }

    def lines(self, most: int = 10, places: int = 5) -> Iterator[str]:
        """Yield a bounded list for people: so many results, with so many places each."""
        results = [(field, result) for field, found in self.numbers.items() for result in found]
        for field, result in results[:most]:
            found = self.sources(field, result)
            name = " ".join(filter(None, (f"{field}:" if field else "", result[:60])))
            shown = ", ".join(map(str, found[:places]))
            more = f" and {len(found) - places:,} more" if len(found) > places else ""
            yield f"{name} from {shown}{more}"
        if len(results) > most:
            yield f"… and {len(results) - most:,} more results"
