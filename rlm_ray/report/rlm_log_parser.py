"""The log of the official RLM library, read with patience: fields may be missing, unknown or of another type.

The format is what `RLMLogger` writes in github.com/alexzhang13/rlm (`rlm/logger/rlm_logger.py`, `rlm/core/types.py`;
an example is `docs/examples/trace-log-example.jsonl`): lines of JSON, one for `metadata`, in some versions one for
each `run_context`, and one for each `iteration` with its code blocks and their `rlm_calls`. A call that was a session
of its own carries its iterations in its own `metadata`. Older versions have no `type`, count tokens in the call
itself and write the final answer as a pair.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rlm_ray.core.context import InputSummary
from rlm_ray.core.llm import Usage
from rlm_ray.core.repl_types import Variable
from rlm_ray.errors import InputError

QUERY_CHARS, SAMPLE_CHARS = 2_000, 500
_QUESTION = re.compile(r'original (?:prompt|query): "(.*?)"\.?\s*\n\nContinue', re.DOTALL)
_CONTEXT = re.compile(
    r"is an? (\w+) with (\d{1,15}) total characters.*?char lengths: \[([\d, ]*)\](?:\.\.\. \[(\d{1,15}))?"
)
_MAX_NUMBER = 1e15
"""No number of seconds, tokens or dollars."""
_FAILURE = re.compile(r"Error: (?:LM query failed|Child RLM|Budget exhausted|Timeout exhausted)")
"""The library gives failures back as answers."""


@dataclass(frozen=True, slots=True)
class Call:
    """A sub-call."""

    model: str
    query: str
    """The head of its prompt."""
    input: InputSummary
    answer: str
    error: str
    """Empty where it did not fail."""
    seconds: float
    usage: Usage
    cost_usd: float | None
    child: Completion | None
    """Its own iterations, where it was a session."""


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of code that was run, and the sub-calls it made."""

    code: str
    output: str
    error: str
    seconds: float
    variables: tuple[Variable, ...]
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Iteration:
    """One answer of the model, and what its code did."""

    text: str
    blocks: tuple[Block, ...]
    final: str | None
    ended: float | None
    """Unix time."""
    seconds: float | None


@dataclass(slots=True)
class Completion:
    """One question and the iterations about it."""

    config: Mapping[str, Any]
    """The `metadata` line."""
    began: float | None = None
    """Unix time of the line before its iterations."""
    query: str = ""
    input: InputSummary = field(default_factory=InputSummary)
    iterations: list[Iteration] = field(default_factory=list)

    @property
    def model(self) -> str:
        return text_of(self.config.get("root_model"))

    @property
    def max_iterations(self) -> int | None:
        most = self.config.get("max_iterations")
        return most if isinstance(most, int) else None


def is_rlm_log(first_line: str) -> bool:
    """Tell whether a file that begins with this line is such a log."""
    try:
        entry = _dict(json.loads(first_line))
    except (ValueError, RecursionError):
        return False
    kind = entry.get("type")
    return "kind" not in entry and (
        (kind == "metadata" and "root_model" in entry)
        or (kind == "run_context" and "prompt" in entry)
        or (kind in {None, "iteration"} and {"iteration", "response"} <= entry.keys())
    )


def completions_of(path: Path) -> list[Completion]:
    """Yield what a log tells, question by question."""
    found: list[Completion] = []
    config: Mapping[str, Any] = {}
    opening: Mapping[str, Any] | None = None
    before = 0
    for entry in _entries(path):
        match entry.get("type", "iteration" if "response" in entry else ""):
            case "metadata":
                config, opening = entry, entry
            case "run_context":
                opening = entry
            case "iteration":
                number = entry.get("iteration")
                number = number if isinstance(number, int) else before + 1
                answered = bool(found) and found[-1].iterations[-1].final is not None
                if opening is not None or not found or answered or number <= before:
                    found.append(_open_completion(config, opening or {}, entry))
                found[-1].iterations.append(_iteration(entry))
                before, opening = number, None
    return found


def text_of(value: Any) -> str:
    """Return text as it is, nothing for nothing, anything else as JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text("utf-8", "replace").split("\n")
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entries += [_dict(json.loads(line))] if line.strip() else []
        except (ValueError, RecursionError) as error:
            if number < len(lines):
                raise InputError(str(path), f"line {number} is no JSON: {error}") from error
            # the last line was being written when the process ended
    return entries


def _open_completion(
    config: Mapping[str, Any], opening: Mapping[str, Any], first: Mapping[str, Any]
) -> Completion:
    messages = [text_of(_dict(message).get("content")) for message in _list(first.get("prompt"))]
    given = opening.get("prompt")
    if given is None:
        given = next(
            (found for block in _blocks(first) if (found := _dict(block[1].get("locals")).get("context"))),
            None,
        )
    read = _input(given, messages)
    quoted = next(filter(None, map(_QUESTION.search, messages)), None)
    query = text_of(opening.get("root_prompt")) or (quoted[1] if quoted else "")
    if not query and read.chars <= SAMPLE_CHARS:
        query = read.sample  # the library may be given a question alone
    return Completion(config, _parse_timestamp(opening), query, read)


def _input(given: Any, messages: list[str]) -> InputSummary:
    sample = given[:SAMPLE_CHARS] if isinstance(given, str) else ""
    found = next(filter(None, map(_CONTEXT.search, messages)), None)
    if found is None:
        return InputSummary(chars=len(text_of(given)), sample=sample)
    kind, chars, lengths, others = found.groups()
    documents = len(lengths.split(",")) + int(others or 0)
    return InputSummary("documents" if kind == "list" else "text", int(chars), documents, sample=sample)


def _iteration(entry: Mapping[str, Any]) -> Iteration:
    final = entry.get("final_answer")
    if isinstance(final, list) and len(final) == 2:
        final = final[1]
    return Iteration(
        text_of(entry.get("response")),
        tuple(_block(code, result) for code, result in _blocks(entry)),
        None if final is None else text_of(final),
        _parse_timestamp(entry),
        _number(entry.get("iteration_time")),
    )


def _blocks(entry: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    blocks = map(_dict, _list(entry.get("code_blocks")))
    return [(text_of(block.get("code")), _dict(block.get("result"))) for block in blocks]


def _block(code: str, result: dict[str, Any]) -> Block:
    names = _dict(result.get("locals")).items()
    return Block(
        code,
        text_of(result.get("stdout")),
        text_of(result.get("stderr")),
        _number(result.get("execution_time")) or 0.0,
        tuple(Variable(name, *_kind(value)) for name, value in names),
        tuple(_call(_dict(call)) for call in _list(result.get("rlm_calls"))),
    )


def _call(entry: dict[str, Any]) -> Call:
    prompt, answer = entry.get("prompt"), text_of(entry.get("response"))
    failed = text_of(entry.get("error")) or (answer if _FAILURE.match(answer) else "")
    prompt_text = text_of(prompt)
    usage, cost_usd = _usage(entry)
    model = text_of(entry.get("root_model"))
    seconds = _number(entry.get("execution_time")) or 0.0
    read = InputSummary(chars=len(prompt_text), sample=prompt_text[:SAMPLE_CHARS])
    return Call(
        model, prompt_text[:QUERY_CHARS], read, answer, failed, seconds, usage, cost_usd, _child(entry, model)
    )


def _child(entry: dict[str, Any], model: str) -> Completion | None:
    iterations = [_iteration(_dict(each)) for each in _list(_dict(entry.get("metadata")).get("iterations"))]
    if not iterations:
        return None
    config = {"root_model": model} | _dict(_dict(entry["metadata"]).get("run_metadata"))
    return Completion(config, iterations=iterations)


def _usage(entry: dict[str, Any]) -> tuple[Usage, float | None]:
    """Return tokens and cost of all models together; in old versions the tokens stand in the call itself."""
    summary = _dict(entry.get("usage_summary"))
    rows = [_dict(row) for row in _dict(summary.get("model_usage_summaries")).values()]
    read, written = (
        sum(int(_number(row.get(name)) or 0) for row in rows) + int(_number(entry.get(old)) or 0)
        for name, old in (
            ("total_input_tokens", "prompt_tokens"),
            ("total_output_tokens", "completion_tokens"),
        )
    )
    costs = [cost for row in rows if (cost := _number(row.get("total_cost"))) is not None]
    whole = _number(summary.get("total_cost"))
    return Usage(read, written), whole if whole is not None else sum(costs) if costs else None


def _kind(value: Any) -> tuple[str, int | None]:
    """Return what a variable was, as far as its JSON still tells."""
    match value:
        case str() if value.startswith("<"):
            return "object", None
        case str() | list() | dict():
            return type(value).__name__, len(value)
        case _:
            return type(value).__name__, None


def _parse_timestamp(entry: Mapping[str, Any]) -> float | None:
    """Return its time stamp, which is the local time of the machine that wrote it."""
    try:
        return datetime.fromisoformat(text_of(entry.get("timestamp"))).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _MAX_NUMBER:
        return None
    return max(float(value), 0.0)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
