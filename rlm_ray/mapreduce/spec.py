"""What a map-reduce is asked to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict

from rlm_ray.core.chunking import SplitUnit
from rlm_ray.core.document_answers import of_a_document_part, of_each, of_its_parts
from rlm_ray.core.map_reduce import map_prompt, reduce_prompt
from rlm_ray.core.reduce import Reduction, parse_reduction
from rlm_ray.errors import InputError
from rlm_ray.runs.options import check_names
from rlm_ray.structured.json_schema import resolve_root
from rlm_ray.structured.schema import AnswerSchema

OnError: TypeAlias = Literal["raise", "skip"]


@dataclass(frozen=True, slots=True)
class MapReduceSpec:
    """A question about a whole that is asked of its pieces."""

    query: str
    reduce: Reduction | None = None
    """How answers are put together in code; None: by the model, as a tree."""
    schema: AnswerSchema | None = None
    """What every answer looks like; None: text."""
    reduce_query: str = ""
    """The question over the answers of the pieces; empty: our own words."""
    split_by: SplitUnit | None = None
    """None: documents where there are some, else paragraphs."""
    size: int | None = None
    """Of a piece: in tokens where `split_by` is, else in characters. None: what the settings give to one call."""
    overlap: int = 0
    pack: bool = True
    """Small documents share a call; False: each is asked alone."""
    on_error: OnError = "raise"

    @property
    def one_answer_a_document(self) -> bool:
        """Tell whether values are put together, so that documents are counted, not the pieces they travel in."""
        return self.schema is not None or self.reduce is not None

    @property
    def map_question(self) -> str:
        """Return what each piece is asked."""
        if self.schema is not None:
            return self.schema.ask(self.query)
        return self.query if self.reduce is not None else map_prompt(self.query)

    def question_of_each(self, ids: Sequence[str]) -> str:
        """Return what a piece of several documents is asked."""
        if self.schema is not None:
            return of_each(self.query, ids, self.schema.described())
        return of_each(self.query, ids)

    @property
    def part_question(self) -> str:
        """Return what a part of a longer document is asked."""
        question = of_a_document_part(self.query, in_fields=self.schema is not None)
        return self.schema.for_part().ask(question) if self.schema is not None else question

    @property
    def parts_question(self) -> str:
        """Return what the model is asked about the answers to the parts of one document."""
        question = of_its_parts(self.query)
        return self.schema.ask(question) if self.schema is not None else question

    @property
    def reduce_question(self) -> str:
        """Return what the model is asked about the answers."""
        if self.schema is not None:
            return self.schema.ask(reduce_prompt(self.query, self.reduce_query, cite=False))
        return reduce_prompt(self.query, self.reduce_query)


class MapReduceOptions(TypedDict, total=False):
    """Holds the keywords of `RLM.map_reduce`."""

    reduce: str | Mapping[str, str]
    """`model`: the model puts the answers together, as a tree; or in code: `count:field`, `sum:field` ..., one or several."""
    schema: Any
    """What every answer looks like, with named fields."""
    reduce_query: str
    """The question over the answers of the pieces; default: our own words."""
    split_by: SplitUnit | None
    """Where a text is cut; default: documents where there are some, else paragraphs."""
    size: int | None
    """Of a piece: in tokens where `split_by` is, else in characters."""
    overlap: int
    """So much of a piece is in the next one, too."""
    pack: bool
    """Small documents share a call; False: each is asked alone."""
    on_error: OnError
    """What a failed piece does: `raise`, or `skip`."""
    run_id: str
    """Go on with this run, which was killed or stopped: its id, the beginning of one, or `last`."""


def parse_spec(
    query: str, *, reduce: str | Mapping[str, str] = "model", schema: Any = None, **others: Any
) -> MapReduceSpec:
    """Make a spec and check it: the fields of `reduce` are those of the schema, or make one. Raises `InputError`."""
    if not isinstance(query, str) or not query.strip():
        raise InputError("query", "is empty; say what you want to know")
    check_names(others, MapReduceOptions.__annotations__, "map_reduce")
    if others.get("on_error", "raise") not in ("raise", "skip"):
        raise InputError("on_error", f"must be raise or skip; got {others['on_error']!r}")
    way = None if reduce == "model" else parse_reduction(reduce)
    wanted = None if schema is None else AnswerSchema.of(schema)
    return MapReduceSpec(query, way, _fitting(way, wanted), **others)


def _fitting(way: Reduction | None, schema: AnswerSchema | None) -> AnswerSchema | None:
    if way is None or not way.fields:
        return schema
    if schema is None:
        properties: dict[str, Any] = {field: {} for field in way.fields}
        return AnswerSchema.of({"type": "object", "properties": properties, "required": list(way.fields)})
    known = resolve_root(schema.table)["properties"]
    for field in way.fields:
        if field not in known:
            raise InputError("reduce", f"{field!r} is no field of the schema; it has {', '.join(known)}")
    return schema
