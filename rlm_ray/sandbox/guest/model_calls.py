"""The names through which a cell asks models and ends its session."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol

from rlm_ray.core.context import ContextPart
from rlm_ray.core.repl_types import Failed, SubCallAnswer, SubCallKind, SubCallOutcome, SubCallRequest
from rlm_ray.errors import SubCallError
from rlm_ray.sandbox.guest.context_parts import to_text
from rlm_ray.sandbox.wire.frames import MAX_FRAME_BYTES
from rlm_ray.sandbox.wire.messages import MAX_ANSWER_CHARS, MAX_CALLS

OnError = Literal["raise", "return"]


class HostChannel(Protocol):
    """What these names need of the other end."""

    def call(self, calls: SubCallRequest) -> list[SubCallOutcome]: ...

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

    def recursive_llm(self, query: str, context: Any = "") -> str:
        return self._one("recursive", "recursive_llm(query, context)", query, context)

    def recursive_map(self, query: Any, contexts: Any, on_error: OnError = "raise") -> list[Any]:
        if on_error not in ("raise", "return"):
            raise ValueError(f"on_error must be 'raise' or 'return', not {on_error!r}")
        parts = _listed("recursive_map(query, contexts)", "contexts", contexts)
        if isinstance(query, str):
            queries: list[Any] = [query] * len(parts)
        else:
            queries = _listed("recursive_map(query, contexts)", "query", query)
        return self._many("recursive", "recursive_map", queries, parts, on_error)

    def llm_query(self, prompt: str) -> str:
        return self._one("llm", "llm_query(prompt)", prompt, "")

    def llm_query_batched(self, prompts: Any) -> list[Any]:
        queries = _listed("llm_query_batched(prompts)", "prompts", prompts)
        return self._many("llm", "llm_query_batched", queries, [""] * len(queries), "raise")

    def rlm_query(self, prompt: str, context: Any = None) -> str:
        return self._one("rlm", "rlm_query(prompt, context)", prompt, "" if context is None else context)

    def rlm_query_batched(self, prompts: Any, contexts: Any = None) -> list[Any]:
        queries = _listed("rlm_query_batched(prompts)", "prompts", prompts)
        if contexts is None:
            contexts = [""] * len(queries)
        parts = _listed("rlm_query_batched(prompts, contexts)", "contexts", contexts)
        return self._many("rlm", "rlm_query_batched", queries, parts, "raise")

    def _one(self, kind: SubCallKind, usage: str, query: object, context: object) -> str:
        _check_query(usage, query)
        return str(self._ask(kind, [query], [context], "raise")[0])

    def _many(
        self, kind: SubCallKind, name: str, queries: list[Any], contexts: list[Any], on_error: OnError
    ) -> list[Any]:
        if len(queries) != len(contexts):
            raise TypeError(
                f"{name}: {len(queries):,} queries for {len(contexts):,} contexts; give as many of each"
            )
        for query in queries:
            _check_query(name, query)
        return self._ask(kind, queries, contexts, on_error) if queries else []

    def _ask(
        self, kind: SubCallKind, queries: list[Any], contexts: list[Any], on_error: OnError
    ) -> list[Any]:
        if len(queries) > MAX_CALLS:
            raise ValueError(f"{len(queries):,} sub-calls at once; the most is {MAX_CALLS:,}")
        parts = tuple(map(self._part, contexts))
        texts = tuple(str.__str__(query) for query in queries)
        _check_size(parts)
        outcomes = self._host.call(SubCallRequest(kind, texts, parts, on_error == "raise"))
        if on_error == "raise":
            for outcome in outcomes:
                if isinstance(outcome, Failed):
                    raise SubCallError(outcome.kind, outcome.why)
        return [_value(outcome) for outcome in outcomes]


def _value(outcome: SubCallOutcome) -> str | CallError:
    return outcome.text if isinstance(outcome, SubCallAnswer) else CallError(outcome.kind, outcome.why)


def _check_query(usage: str, query: object) -> None:
    if not isinstance(query, str):
        raise TypeError(f"{usage}: the query must be a str, not {type(query).__name__}")


def _check_size(parts: tuple[ContextPart, ...]) -> None:
    """Before they are encoded, which takes as much memory again."""
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
        """A cell begins; the answer of an earlier one was not the last word."""
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
        """Ends the session if the cell left `answer` ready."""
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


def _answer(value: Any) -> str:
    if isinstance(value, (dict, list)):
        try:
            return json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError):
            return str(value)
    return to_text(value) if isinstance(value, str) else str(value)
