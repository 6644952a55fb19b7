"""The names through which a cell asks models and ends its session."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from rlm_ray.core.context import ContextPart
from rlm_ray.core.repl_types import (
    Failed,
    ReplRequest,
    SubCallAnswer,
    SubCallKind,
    SubCallOutcome,
    SubCallRequest,
)
from rlm_ray.errors import SubCallError
from rlm_ray.sandbox.guest.context_parts import to_text
from rlm_ray.sandbox.wire.frames import MAX_FRAME_BYTES
from rlm_ray.sandbox.wire.messages import MAX_ANSWER_CHARS, MAX_CALLS, MAX_NAME_CHARS, MAX_SCHEMA_CHARS

OnError = Literal["raise", "return"]


class HostChannel(Protocol):
    """What these names need of the other end."""

    def call(self, request: ReplRequest) -> list[SubCallOutcome]: ...

    def final(self, answer: str) -> None: ...


class FinalAnswerSignal(BaseException):
    """The cell called FINAL; caught or not, the answer has been given."""


class CallError:
    """A failed slot of `recursive_map(..., on_error="return")`: false, and says why."""

    def __init__(self, kind: str, why: str) -> None:
        self.kind = kind
        self.why = why

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"CallError({self.kind}: {self.why})"

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class _CallOptions:
    """How sub-calls are made."""

    on_error: OnError = "raise"
    schema: str = ""
    model: str = ""


class ModelCalls:
    """Sub-calls of one session. Nothing here keeps what was asked or answered."""

    def __init__(self, host: HostChannel, part: Callable[[object], ContextPart]) -> None:
        self._host = host
        self._part = part

    def names(self) -> dict[str, Any]:
        return {
            "recursive_llm": self.recursive_llm,
            "recursive_map": self.recursive_map,
            "llm_query": self.llm_query,
            "llm_query_batched": self.llm_query_batched,
            "rlm_query": self.rlm_query,
            "rlm_query_batched": self.rlm_query_batched,
            "CallError": CallError,
            "SubCallError": SubCallError,
        }

    def recursive_llm(self, query: str, context: Any = "", schema: Any = None, model: Any = None) -> Any:
        how = _CallOptions("raise", _schema_text(schema), _model_name(model))
        return self._one("recursive", "recursive_llm(query, context)", query, context, how)

    def recursive_map(
        self, query: Any, contexts: Any, on_error: OnError = "raise", schema: Any = None, model: Any = None
    ) -> list[Any]:
        if on_error not in ("raise", "return"):
            raise ValueError(f"on_error must be 'raise' or 'return', not {on_error!r}")
        parts = _listed("recursive_map(query, contexts)", "contexts", contexts)
        if isinstance(query, str):
            queries: list[Any] = [query] * len(parts)
        else:
            queries = _listed("recursive_map(query, contexts)", "query", query)
        how = _CallOptions(on_error, _schema_text(schema), _model_name(model))
        return self._many("recursive", "recursive_map", queries, parts, how)

    def llm_query(self, prompt: str) -> str:
        return str(self._one("llm", "llm_query(prompt)", prompt, ""))

    def llm_query_batched(self, prompts: Any) -> list[Any]:
        queries = _listed("llm_query_batched(prompts)", "prompts", prompts)
        return self._many("llm", "llm_query_batched", queries, [""] * len(queries))

    def rlm_query(self, prompt: str, context: Any = None) -> str:
        given = "" if context is None else context
        return str(self._one("rlm", "rlm_query(prompt, context)", prompt, given))

    def rlm_query_batched(self, prompts: Any, contexts: Any = None) -> list[Any]:
        queries = _listed("rlm_query_batched(prompts)", "prompts", prompts)
        if contexts is None:
            contexts = [""] * len(queries)
        parts = _listed("rlm_query_batched(prompts, contexts)", "contexts", contexts)
        return self._many("rlm", "rlm_query_batched", queries, parts)

    def _one(
        self,
        kind: SubCallKind,
        usage: str,
        query: object,
        context: object,
        how: _CallOptions = _CallOptions(),
    ) -> Any:
        _check_query(usage, query)
        return self._ask(kind, [query], [context], how)[0]

    def _many(
        self,
        kind: SubCallKind,
        name: str,
        queries: list[Any],
        contexts: list[Any],
        how: _CallOptions = _CallOptions(),
    ) -> list[Any]:
        if len(queries) != len(contexts):
            raise TypeError(
                f"{name}: {len(queries):,} queries for {len(contexts):,} contexts; give as many of each"
            )
        for query in queries:
            _check_query(name, query)
        return self._ask(kind, queries, contexts, how) if queries else []

    def _ask(
        self, kind: SubCallKind, queries: list[Any], contexts: list[Any], how: _CallOptions
    ) -> list[Any]:
        if len(queries) > MAX_CALLS:
            raise ValueError(f"{len(queries):,} sub-calls at once; the most is {MAX_CALLS:,}")
        parts = tuple(map(self._part, contexts))
        texts = tuple(str.__str__(query) for query in queries)
        _check_size(parts)
        stop = how.on_error == "raise"
        outcomes = self._host.call(SubCallRequest(kind, texts, parts, stop, how.schema, how.model))
        if stop:
            for outcome in outcomes:
                if isinstance(outcome, Failed):
                    raise SubCallError(outcome.kind, outcome.why)
        return [_value(outcome, typed=bool(how.schema)) for outcome in outcomes]


def _value(outcome: SubCallOutcome, *, typed: bool) -> Any:
    """Return the answer, as parsed JSON where a schema was given."""
    if not isinstance(outcome, SubCallAnswer):
        return CallError(outcome.kind, outcome.why)
    return json.loads(outcome.text) if typed else outcome.text


def _model_name(model: Any) -> str:
    """Return the name of a model; empty for none. Whether there is such a one is for the host to say."""
    if model is None:
        return ""
    if not isinstance(model, str) or not 0 < len(model) <= MAX_NAME_CHARS:
        raise TypeError(f"model must be the name of a model as a str; got {type(model).__name__}")
    return str.__str__(model)


def _schema_text(schema: Any) -> str:
    """Return a schema as JSON; empty for none. What it says is checked by the host."""
    if schema is None:
        return ""
    if not isinstance(schema, dict) or not schema:
        raise TypeError(
            "schema must be a JSON Schema as a dict, such as "
            '{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}; '
            f"got {type(schema).__name__}"
        )
    try:
        text = json.dumps(schema, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"schema is no JSON: {error}") from None
    if len(text) > MAX_SCHEMA_CHARS:
        raise ValueError(f"schema has {len(text):,} characters; the most is {MAX_SCHEMA_CHARS:,}")
    return text


def _check_query(usage: str, query: object) -> None:
    if not isinstance(query, str):
        raise TypeError(f"{usage}: the query must be a str, not {type(query).__name__}")


def _check_size(parts: tuple[ContextPart, ...]) -> None:
    """Check the size before the texts are encoded, which takes as much memory again."""
    chars = sum(map(_chars, parts))
    if chars > MAX_FRAME_BYTES:
        raise ValueError(
            f"the texts of these sub-calls are {chars:,} characters, more than {MAX_FRAME_BYTES:,}: "
            "make fewer at a time, or pass documents or slices of `context` as they are"
        )


def _chars(part: ContextPart) -> int:
    if isinstance(part, str):
        return len(part)
    if isinstance(part, list):
        return sum(len(item if isinstance(item, str) else item["text"]) for item in part)
    return 0


def _listed(usage: str, name: str, values: Any) -> list[Any]:
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise TypeError(
            f"{usage}: {name} must be a list, not {type(values).__name__}; "
            "to ask several questions of one text give [text] * len(questions)"
        )
    return list(values)


class FinalAnswer:
    """FINAL and its kin: a cell's first answer counts, and is with the host before the cell goes on."""

    def __init__(self, host: HostChannel, lookup: Callable[[str], Any]) -> None:
        self._host = host
        self._lookup = lookup
        self.answer: dict[str, Any] = {"content": "", "ready": False}
        self.given = False

    def begin(self) -> None:
        """Begin a cell; the answer of an earlier one was not the last word."""
        self.given = False

    def names(self) -> dict[str, Any]:
        return {
            "FINAL": self.final,
            "FINAL_VAR": self.final_var,
            "SUBMIT": self.submit,
            "answer": self.answer,
        }

    def final(self, value: Any) -> None:
        self.give(value)
        raise FinalAnswerSignal

    def final_var(self, name: Any) -> None:
        # `FINAL_VAR(result)` for `FINAL_VAR("result")` is a common slip: the value itself is meant.
        self.final(self._lookup(name) if isinstance(name, str) else name)

    def submit(self, *values: Any, **fields: Any) -> None:
        if fields and not values:
            self.final(fields)
        if fields or len(values) != 1:
            raise TypeError("SUBMIT(value) takes one value, or fields by keyword")
        self.final(values[0])

    def ready(self, answer: object) -> None:
        """End the session if the cell left `answer` ready."""
        if isinstance(answer, dict) and answer.get("ready") and not self.given:
            self.give(answer.get("content", ""))
            answer["ready"] = False  # said once

    def give(self, value: Any) -> None:
        text = _answer(value)
        if len(text) > MAX_ANSWER_CHARS:
            raise ValueError(
                f"the answer has {len(text):,} characters; the most is {MAX_ANSWER_CHARS:,}: answer with what matters"
            )
        if not self.given:
            self.given = True
            self._host.final(text)


def _as_json(value: object) -> Any:
    """Return what stands inside of an answer and is no JSON: a set as a list, a date and the like as a text."""
    return list(value) if isinstance(value, (set, frozenset)) else str(value)


def _answer(value: Any) -> str:
    if isinstance(value, (dict, list)):
        try:
            return json.dumps(value, ensure_ascii=False, default=_as_json)
        except (TypeError, ValueError, RecursionError):
            return str(value)
    return to_text(value) if isinstance(value, str) else str(value)
