"""Tasks over real Python Enhancement Proposals, those in `examples/peps`: their headers and their prose."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from random import Random
from typing import TypeAlias

from quality.scoring import NOT_FOUND, Truth, list_line
from quality.task import Kind, require

_FOLDER = Path(__file__).parents[3] / "examples" / "peps"
_SIZES = ("8k", "20k", "50k")
_WORDS = (
    "iterator",
    "dictionary",
    "tuple",
    "syntax",
    "deprecated",
    "release",
    "grammar",
    "hash",
    "generator",
)
_Built: TypeAlias = tuple[str, str, Truth]


@dataclass(frozen=True, slots=True)
class Pep:
    """One document."""

    number: int
    status: str
    authors: int
    created: date
    text: str


@cache
def read_peps() -> tuple[Pep, ...]:
    """Return all documents of the folder, by number."""
    found = []
    for path in sorted(_FOLDER.glob("pep-*.txt")):
        text = path.read_text("utf-8")
        header = {
            name: re.sub(r"\s+", " ", value)
            for name, value in re.findall(
                r"^([\w-]+): *(.*(?:\n[ \t]+.+)*)", text.partition("\n\n")[0], re.MULTILINE
            )
        }
        created = datetime.strptime(header["Created"].strip(), "%d-%b-%Y").date()  # noqa: DTZ007 - a date
        authors = header["Author"].count("@")
        found.append(Pep(int(header["PEP"]), header["Status"].strip(), authors, created, text))
    return tuple(found)


def draw_peps(rng: Random, chars: int) -> tuple[list[Pep], str]:
    """Return some of the documents, in any order, and their texts together, up to so many characters."""
    drawn: list[Pep] = []
    for pep in rng.sample(read_peps(), len(read_peps())):
        if sum(len(other.text) for other in drawn) + len(pep.text) <= chars:
            drawn.append(pep)
    require(single_truth=len(drawn) > 1)
    return drawn, "\n\n".join(f"===== pep-{pep.number:04d}.txt =====\n{pep.text}" for pep in drawn)


def _status(rng: Random, chars: int) -> _Built:
    drawn, text = draw_peps(rng, chars)
    status = rng.choice(drawn).status
    number = sum(pep.status == status for pep in drawn)
    asked = f"How many of the PEPs in the text have the status {status} in their header? Answer with the number only."
    return asked, text, Truth("number", number)


def _oldest(rng: Random, chars: int) -> _Built:
    drawn, text = draw_peps(rng, chars)
    oldest = min(drawn, key=lambda pep: pep.created)
    asked = "Which of the PEPs in the text was created first (field Created)? Answer with the number of the PEP only."
    return asked, text, Truth("number", oldest.number)


def _days(rng: Random, chars: int) -> _Built:
    drawn, text = draw_peps(rng, chars)
    one, other = rng.sample(drawn, 2)
    asked = (
        f"How many days lie between the creation (field Created) of PEP {one.number} and that of PEP {other.number}? "
        "Answer with the number only."
    )
    return asked, text, Truth("number", abs((one.created - other.created).days))


def _authors(rng: Random, chars: int) -> _Built:
    drawn, text = draw_peps(rng, chars)
    asked = "How many PEPs in the text have more than one author in their header (field Author)? Answer with the number only."
    return asked, text, Truth("number", sum(pep.authors > 1 for pep in drawn))


def _mentions(rng: Random, chars: int) -> _Built:
    drawn, text = draw_peps(rng, chars)
    word = rng.choice(_WORDS)
    numbers = [str(pep.number) for pep in drawn if word in pep.text.casefold()]
    require(single_truth=0 < len(numbers) < len(drawn))
    asked = (
        f'Which PEPs of the text contain "{word}", in upper or lower case, also as a part of a longer word? '
        + list_line("the numbers of the PEPs", ("8", "257"))
    )
    return asked, text, Truth("list", numbers)


def _absent(rng: Random, chars: int) -> _Built:
    drawn, text = draw_peps(rng, chars)
    number = rng.choice((318, 342, 3107, 3333))
    require(single_truth=re.search(rf"\b0*{number}\b", text) is None and len(drawn) > 0)
    asked = f"Which status does PEP {number} have? Answer with the status only, or, if that PEP is not in the text, with: {NOT_FOUND}"
    return asked, text, Truth("absent")


KINDS = (
    Kind("pep_status", "filter and count over documents", _status, _SIZES),
    Kind("pep_oldest", "minimum over dates", _oldest, _SIZES),
    Kind("pep_days", "date arithmetic over two documents", _days, _SIZES),
    Kind("pep_authors", "count over lists in headers", _authors, _SIZES),
    Kind("pep_mentions", "list of documents with a word", _mentions, _SIZES),
    Kind("pep_absent", "not in the text", _absent, _SIZES),
)
