"""What an answer is worth: the one place where answers are read.

Models wrap what they were asked for: `The answer is **1,204**.`, `{"answer": "mailer"}`, a list in brackets, with bullets or
commas. `read_answer` takes that away, the same way for every method; what is then compared must be equal.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

NOT_FOUND = "not found"
"""What questions ask to be said where the text has no answer."""

_SENTENCE_WORDS = 30
"""A longer answer is not searched for the truth: it may name everything."""
_LEAD = re.compile(r".*\b(?:answer|result)\b\s*(?:is|are|:|=)+\s*", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.,/:#-])[-+]?\$?\d[\d,_]*(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w:/-]|\.\d)")
_ABSENT = re.compile(
    r"\bnot (?:\w+ )?(?:found|in the|mentioned|present|given|stated|listed|available|contained|recorded|specified)\b"
    r"|\bno such\b|^(?:none|n/?a|null|nothing|unknown)\b"
    r"|\b(?:does|do|is|are|was)(?: not|n't) (?:exist|appear|contain|say|mention|include|there|any)\b"
    r"|\bthere (?:is|are|was|were) no\b",
    re.IGNORECASE,
)
_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%d %B %Y", "%B %d %Y", "%d %b %Y", "%b %d %Y", "%d-%b-%Y", "%d.%m.%Y")
_DATE = re.compile(
    r"\d{4}[-/]\d{2}[-/]\d{2}|\d{1,2}[ -][A-Z][a-z]{2,8}\.?[ -]\d{4}|[A-Z][a-z]{2,8} \d{1,2},? \d{4}|\d{2}\.\d{2}\.\d{4}"
)


@dataclass(frozen=True, slots=True)
class Truth:
    """The true answer, and how an answer is held against it."""

    form: Literal["number", "text", "date", "list", "pairs", "absent"]
    value: Any = None
    """A number, a string, an ISO date, a list of strings, or a list of pairs."""
    choices: tuple[str, ...] = ()
    """Of a text: all that could be named. A sentence that names one of them only has chosen it."""


@dataclass(frozen=True, slots=True)
class Score:
    """How good an answer is."""

    value: float
    """1: right. Numbers: 0.75 to the power of the distance, as OOLONG counts. Lists: F1."""

    @property
    def right(self) -> bool:
        return self.value == 1.0


def score(answer: str | None, truth: Truth) -> Score:
    """Hold an answer against the truth; no answer is worth nothing."""
    return Score(0.0 if answer is None or not answer.strip() else _worth(read_answer(answer), truth))


def _worth(text: str, truth: Truth) -> float:
    match truth.form:
        case "absent":
            worth = float(len(text.split()) <= 2 * _SENTENCE_WORDS and bool(_ABSENT.search(text)))
        case "number":
            worth = _number_score(text, float(truth.value))
        case "date":
            worth = float(read_dates(text) == {truth.value})
        case "text":
            worth = _text_score(text, truth)
        case "list":
            worth = f1({_plain(item) for item in read_list(text)}, {_plain(item) for item in truth.value})
        case "pairs":
            worth = f1(set(read_pairs(text)), {tuple(sorted(map(_plain, pair))) for pair in truth.value})
    return worth


def read_answer(answer: str) -> str:
    """Return the answer without fences, emphasis, JSON around one value, boxes, and `The answer is`."""
    text = answer.strip()
    fenced = re.fullmatch(r"```\w*\n(.*?)\n?```", text, re.DOTALL)
    text = fenced[1].strip() if fenced else text
    boxed = re.findall(r"\\boxed\{([^{}]*)\}", text)
    text = boxed[-1] if boxed else text
    text = _single_json_value(text)
    text = re.sub(r"\*\*|__|`", "", text).strip()
    led = _LEAD.match(text)
    text = text[led.end() :].strip() if led and led.end() < len(text) else text
    return text.strip().strip("\"'\u201c\u201d").strip()


def _single_json_value(text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def read_numbers(text: str) -> list[float]:
    """Return the numbers of a text that are no part of a name, a date or a time."""
    return [float(re.sub(r"[$,_]", "", found)) for found in _NUMBER.findall(text)]


def _number_score(text: str, truth: float) -> float:
    """A sentence counts if it has one number only, however often."""
    found = set(read_numbers(text))
    if len(found) != 1:
        return 0.0
    distance = abs(found.pop() - truth)
    if distance <= 1e-6 * max(1.0, abs(truth)):
        return 1.0
    return float(0.75**distance) if truth.is_integer() else 0.0


def read_dates(text: str) -> set[str]:
    """Return the dates of a text in ISO form."""
    found = set()
    for written in _DATE.findall(text):
        for form in _DATES:
            try:
                found.add(_to_date(written, form).isoformat())
            except ValueError:
                continue
            break
    return found


def _to_date(written: str, form: str) -> date:
    plain = written.replace(",", "") if "." in form else written.replace(",", "").replace(".", "")
    return datetime.strptime(plain, form).replace(tzinfo=UTC).date()


def _text_score(text: str, truth: Truth) -> float:
    true, given = _plain(truth.value), _plain(text)
    if given == true:
        return 1.0
    if len(given.split()) > _SENTENCE_WORDS:
        return 0.0
    if truth.choices:
        named = {choice for choice in truth.choices if _names(given, _plain(choice))}
        return float(named == {truth.value})
    return float(set(re.findall(_shape(true), given)) == {true})


def _shape(text: str) -> str:
    """Match codes that look like this one, so that an answer which lists several has not chosen; words match themselves."""
    if not re.search(r"\d", text):
        return rf"(?<![\w-]){re.escape(text)}(?![\w-])"
    alike = "".join("[a-z0-9]" if letter.isalnum() else re.escape(letter) for letter in text)
    return rf"(?<![\w-]){alike}(?![\w-])"


def _names(text: str, item: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(item)}(?![\w-])", text) is not None


def _plain(value: object) -> str:
    """Lower case, single blanks, no quotes or full stop around."""
    text = re.sub(r"\s+", " ", str(value).replace("\u2019", "'")).strip().casefold()
    return text.strip("\"'\u201c\u201d.;:()[]").strip()


def read_list(text: str) -> list[str]:
    """Return the items of a list as Python, JSON, bullets, lines, or commas write it; nothing for `none`."""
    literal = re.search(r"[\[({].*[\])}]", text, re.DOTALL)
    if literal:
        try:
            value = ast.literal_eval(literal[0])
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            text = literal[0][1:-1] if text.strip().startswith(literal[0][0]) else text
        else:
            if isinstance(value, list | tuple | set):
                return [str(item) for item in value]
            text = str(value)
    if re.fullmatch(r"(?:none|nothing|empty|no \w+)\.?", text.strip(), re.IGNORECASE):
        return []
    lines = [re.sub(r"^\s*(?:[-*•]|\d+[.)])\s+", "", line) for line in text.splitlines() if line.strip()]
    if len(lines) == 1:
        head, colon, tail = lines[0].rpartition(":")
        lines = [tail if colon and tail.strip() and not head.strip().isdigit() else lines[0]]
    items = [part for line in lines for part in re.split(r"[,;]|\band\b", line)]
    return [item.strip() for item in items if item.strip()]


def read_pairs(text: str) -> list[tuple[str, ...]]:
    """Return pairs such as `(a, b)`, `["a", "b"]` or `a - b`, each in alphabetic order."""
    found = re.findall(r"[\[(]\s*[\"']?([\w@.]+)[\"']?\s*[,;&-]\s*[\"']?([\w@.]+)[\"']?\s*[\])]", text)
    found = found or re.findall(r"([\w@.]+)\s*(?:-|\u2013|,|&|\band\b|:)\s*([\w@.]+)(?:[;\n,]|$)", text)
    return [tuple(sorted((_plain(a), _plain(b)))) for a, b in found]


def f1(given: set[Any], true: set[Any]) -> float:
    """Return the harmonic mean of precision and recall; 1 where both are empty."""
    if not given and not true:
        return 1.0
    both = len(given & true)
    return 0.0 if both == 0 else 2 * both / (len(given) + len(true))


def list_line(what: str, example: Sequence[str]) -> str:
    """Say how a list is to be answered."""
    return f"Answer with {what} only, separated by commas, for example: {', '.join(example)}."
