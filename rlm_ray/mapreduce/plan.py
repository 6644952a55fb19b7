"""Plans what a map-reduce will do and cost: pieces, calls level by level, tokens, dollars.

Input is counted to the character. How long answers will be is known of a schema (see `estimate_answer_chars`), else
assumed. `ModelInfo` is what a plan knows of the model that will read the pieces: window, price, length of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rlm_ray.config import Settings
from rlm_ray.core.chunking import Piece, SplitUnit, documents_in, pack, split
from rlm_ray.core.context import Context
from rlm_ray.core.document_answers import MAX_DOCUMENTS_PER_CALL, label_documents
from rlm_ray.core.llm import BYTES_PER_TOKEN, Usage
from rlm_ray.core.prompts import DEFAULT_LEAF_CHARS, leaf_messages
from rlm_ray.core.reduce import LABEL_CHARS, plan_levels
from rlm_ray.errors import InputError
from rlm_ray.events.usage import CallStats
from rlm_ray.mapreduce.spec import MapReduceSpec
from rlm_ray.structured.json_schema import estimate_answer_chars

ANSWER_CHARS = 600
"""Of an answer nothing is said about."""
_ELEMENT_CHARS = 24
"""Around an answer that stands in a list beside its document's id."""
_ID_CHARS = 5
"""Around the id of a document that is read beside others."""


CHARS_PER_TOKEN = 4.0
"""Of models nobody knows."""
RESERVED_TOKENS = 8_192
"""Of a window, for the question and the answer."""
LEAF_DEPTH = 1


@dataclass(frozen=True, slots=True)
class PlanLevel:
    """Calls of one level."""

    name: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    """None where nobody knows the price."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done."""

    spec: MapReduceSpec
    pieces: tuple[Piece, ...]
    """What each call reads."""
    units: tuple[Piece, ...]
    """What has one answer each: documents where values are put together, else the pieces."""
    by: SplitUnit
    size: int
    """The most characters (or tokens, by `tokens`) a piece has."""
    call_chars: int
    """The most characters one call that puts answers together reads."""
    levels: tuple[PlanLevel, ...]
    model: str
    documents: int
    chars: int
    is_of_documents: bool

    @property
    def by_document(self) -> bool:
        """Tell whether each document has one answer, whatever it travels with."""
        return self.spec.one_answer_a_document and self.is_of_documents

    @property
    def unit_name(self) -> str:
        return "documents" if self.by_document else "pieces"

    @property
    def total(self) -> PlanLevel:
        costs = [load.cost_usd for load in self.levels]
        return PlanLevel(
            "in all",
            sum(load.calls for load in self.levels),
            sum(load.input_tokens for load in self.levels),
            sum(load.output_tokens for load in self.levels),
            None if None in costs else sum(cost for cost in costs if cost is not None),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "model": self.model,
            "documents": self.documents,
            "chars": self.chars,
            "pieces": len(self.pieces),
            "split_by": self.by,
            "size": self.size,
            "levels": [asdict(load) for load in self.levels],
            "total": asdict(self.total),
        }

    def lines(self, actual: CallStats | None = None) -> list[str]:
        """Return a table for people; `actual` is what was used in the end."""
        unit = "tokens" if self.by == "tokens" else "characters"
        head = (
            f"{self.documents:,} document(s), {self.chars:,} characters → {len(self.pieces):,} piece(s) "
            f"of up to {self.size:,} {unit}, read by {self.model}"
        )
        loads = [*self.levels, self.total] if len(self.levels) > 1 else [*self.levels]
        if actual is not None:
            known = None if actual.unpriced else actual.cost_usd
            loads.append(PlanLevel("used", actual.calls, actual.input_tokens, actual.output_tokens, known))
        return [head, *_table(loads), *self._notes()]

    def _notes(self) -> list[str]:
        notes = []
        if self.spec.schema is None:
            notes.append(f"answers are taken to have {ANSWER_CHARS} characters each")
        ways = self.spec.reduce.operations if self.spec.reduce else ()
        if self.spec.overlap and any(way in ("count", "sum", "collect") for _, way in ways):
            notes.append("pieces overlap: what stands where they do is counted twice")
        return notes


def plan(spec: MapReduceSpec, context: Context, reader: ModelInfo, max_leaf_chars: int) -> Plan:
    """Split the context and count what asking its pieces will take."""
    call_chars = reader.piece_chars(max_leaf_chars)
    by = spec.split_by or ("paragraphs" if context.offsets is None else "documents")
    size = spec.size or (reader.tokens(call_chars) if by == "tokens" else call_chars)
    by_document = spec.one_answer_a_document and context.offsets is not None
    if by_document:
        context = label_documents(context)
    pieces = split(context, by, size, spec.overlap)
    if not pieces:
        raise InputError("input", "is empty; there is nothing to ask about")
    if by == "documents" and spec.pack:
        pieces = pack(context, pieces, size, MAX_DOCUMENTS_PER_CALL if by_document else None)
    units = _units(context, pieces) if by_document else pieces
    reducing = _reduce_loads(spec, len(units), reader, call_chars) if spec.reduce is None else []
    return Plan(
        spec,
        tuple(pieces),
        tuple(units),
        by,
        size,
        call_chars,
        (_map_load(spec, context, pieces, reader), *reducing),
        reader.name,
        context.info.documents,
        context.info.chars,
        context.offsets is not None,
    )


def _units(context: Context, pieces: Sequence[Piece]) -> list[Piece]:
    """Return each document that is not empty, as a whole."""
    offsets = context.offsets
    assert offsets is not None
    numbers = dict.fromkeys(number for piece in pieces for number in documents_in(context, piece))
    return [Piece(offsets[number], offsets[number + 1], (number, number + 1)) for number in numbers]


def _map_load(spec: MapReduceSpec, context: Context, pieces: Sequence[Piece], reader: ModelInfo) -> PlanLevel:
    """Estimate the calls that read the pieces."""
    answer, asked = _answer_chars(spec), _prompt_chars(spec.map_question)
    read, written = [], []
    for piece, chars in zip(pieces, _chars(context, pieces), strict=True):
        numbers = documents_in(context, piece) if spec.one_answer_a_document else []
        if len(numbers) > 1:
            assert context.ids is not None  # see `label_documents`
            ids = [context.ids[number] for number in numbers]
            read.append(_prompt_chars(spec.question_of_each(ids)) + chars)
            written.append(sum(len(name) + _ELEMENT_CHARS + answer for name in ids))
        else:
            read.append(asked + chars)
            written.append(answer)
    return _load("map", read, sum(written) / len(written), reader)


def _reduce_loads(spec: MapReduceSpec, answers: int, reader: ModelInfo, call_chars: int) -> list[PlanLevel]:
    """Estimate the calls that put answers together, level by level."""
    answer, asked = _answer_chars(spec), _prompt_chars(spec.reduce_question)
    loads = []
    for number, level in enumerate(plan_levels(answers, answer, call_chars), 1):
        read = [asked + count * (answer + LABEL_CHARS) for count in level if count > 1]
        loads.append(_load(f"reduce {number}", read, answer, reader))
    return loads


def _answer_chars(spec: MapReduceSpec) -> int:
    return estimate_answer_chars(spec.schema.table) if spec.schema is not None else ANSWER_CHARS


def _load(name: str, inputs: Sequence[float], answer: float, reader: ModelInfo) -> PlanLevel:
    """Price calls that are all about as long as their mean: dearer tariffs for long prompts count as often as they
    apply.
    """
    calls = len(inputs)
    read, written = reader.tokens(sum(inputs)), reader.tokens(calls * answer)
    each = reader.cost(Usage(read // calls, written // calls))
    return PlanLevel(name, calls, read, written, None if each is None else each * calls)


def _prompt_chars(question: str) -> int:
    """Return the characters that are sent with a piece beside it."""
    return sum(len(message.content) for message in leaf_messages(question, " ")) - 1


def _chars(context: Context, pieces: Sequence[Piece]) -> list[float]:
    """Return the characters of each piece, with the ids of its documents."""
    share = context.info.chars / context.nbytes
    return [(piece.stop - piece.start) * share + _id_chars(context, piece) for piece in pieces]


def _id_chars(context: Context, piece: Piece) -> int:
    if piece.documents is None:
        return 0
    first, last = piece.documents
    ids = context.ids[first:last] if context.ids is not None else ()
    return sum(len(name) + _ID_CHARS for name in ids) - 2 if ids else 2 * (last - first - 1)


def _table(loads: Sequence[PlanLevel]) -> list[str]:
    rows = [("", "calls", "tokens in", "tokens out", "cost")]
    for load in loads:
        cost = "unknown" if load.cost_usd is None else f"${load.cost_usd:,.4f}"
        rows.append((load.name, f"{load.calls:,}", f"{load.input_tokens:,}", f"{load.output_tokens:,}", cost))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if at == 0 else text.rjust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The model that reads the pieces."""

    name: str
    window_tokens: int | None = None
    """None where nobody knows."""
    chars_per_token: float = CHARS_PER_TOKEN
    cost: Callable[[Usage], float | None] = lambda _: None
    """US dollars of one call; None where nobody knows."""

    def piece_chars(self, max_leaf_chars: int) -> int:
        """Return how long a piece may be: what the settings give to one call, and never more than the window holds."""
        wanted = max_leaf_chars or DEFAULT_LEAF_CHARS
        if self.window_tokens is None:
            return wanted
        fits = max(self.window_tokens // 2, self.window_tokens - RESERVED_TOKENS)
        return min(wanted, fits * BYTES_PER_TOKEN)

    def tokens(self, chars: float) -> int:
        return round(chars / self.chars_per_token)


def get_model_info(settings: Settings, sample: str) -> ModelInfo:
    """Return what is known of the model that reads the pieces. `sample` is of what it will read. May import litellm."""
    from rlm_ray.llm.model_provider import ModelProvider, is_offline

    name, _ = settings.model_at(LEAF_DEPTH)
    price, model = settings.prices.get(name), ModelProvider()
    if is_offline(name):
        return ModelInfo(
            name, cost=price.cost if price is not None else lambda usage: model.cost_usd(name, usage)
        )
    from rlm_ray.llm.litellm_client import import_litellm

    info = _litellm_info(import_litellm(), name)
    return ModelInfo(
        name,
        info.get("max_input_tokens"),
        _chars_per_token(import_litellm(), sample) if info.get("max_input_tokens") else CHARS_PER_TOKEN,
        price.cost if price is not None else lambda usage: model.cost_usd(name, usage),
    )


def _litellm_info(litellm: Any, name: str) -> dict[str, Any]:
    try:
        return dict(litellm.get_model_info(name))
    except Exception:  # noqa: BLE001 - litellm raises bare Exception for a model it does not know
        return {}


def _chars_per_token(litellm: Any, sample: str) -> float:
    """Measure by the one tokenizer that comes with litellm; others would be fetched from the network."""
    tokens = len(litellm.encoding.encode(sample, disallowed_special=()))
    return len(sample) / tokens if tokens else CHARS_PER_TOKEN
