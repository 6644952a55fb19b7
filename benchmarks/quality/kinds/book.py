"""Tasks over a novel, `examples/frankenstein.txt`: needles in it, and what it says itself."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random
from typing import TypeAlias

from quality.scoring import NOT_FOUND, Truth, list_line
from quality.task import Kind, require, single_maximum

_BOOK = Path(__file__).parents[3] / "examples" / "frankenstein.txt"
_CITIES = ("Adelaide", "Bergen", "Cusco", "Dakar", "Esfahan", "Fukuoka", "Gdansk", "Hanoi", "Izmir", "Jaipur")
_NAMES = ("Elizabeth", "Clerval", "Justine", "Felix", "Agatha", "Safie", "William", "Ernest")
_LONG = ("80k", "400k")
_Built: TypeAlias = tuple[str, str, Truth]


@cache
def _paragraphs() -> tuple[str, ...]:
    """The text from its first letter on; the table of contents stands before it."""
    text = _BOOK.read_text("utf-8")
    body = text[text.rindex("\n\nLetter 1\n") :]
    return tuple(paragraph.strip() for paragraph in re.split(r"\n{2,}", body) if paragraph.strip())


def draw_paragraphs(rng: Random, chars: int) -> list[str]:
    """Return a stretch of the book of about so many characters; beyond its length, it goes on with its paragraphs shuffled."""
    pages = list(_paragraphs())
    start = rng.randrange(len(pages))
    pages = pages[start:] + pages[:start]
    drawn: list[str] = []
    size = 0
    while size < chars:
        for paragraph in pages:
            drawn.append(paragraph)
            size += len(paragraph) + 2
            if size >= chars:
                break
        rng.shuffle(pages)
    return drawn


def _hide(rng: Random, chars: int, needles: list[str]) -> str:
    """Return pages with these sentences at random places, in this order."""
    pages = draw_paragraphs(rng, chars)
    places = sorted(rng.choices(range(len(pages)), k=len(needles)))
    for place, needle in reversed(list(zip(places, needles, strict=True))):
        pages.insert(place, needle)
    return "\n\n".join(pages)


def _code(rng: Random) -> str:
    return f"{''.join(rng.sample('ABCDEFGHKLMNPRSTUVWXYZ', 3))}-{rng.randrange(1000, 10_000)}"


def _single(rng: Random, chars: int) -> _Built:
    city, code = rng.choice(_CITIES), _code(rng)
    others = [
        f"The access code for {other} is {_code(rng)}." for other in rng.sample(_CITIES, 3) if other != city
    ]
    needles = [*others, f"The access code for {city} is {code}."]
    rng.shuffle(needles)
    asked = f"Which access code does the text give for {city}? Answer with the code only."
    return asked, _hide(rng, chars, needles), Truth("text", code)


def _multi(rng: Random, chars: int) -> _Built:
    codes = [_code(rng) for _ in range(5)]
    needles = [f"One of the seals of the archive is {code}." for code in codes]
    asked = "Which seals of the archive does the text name? " + list_line(
        "all of them", ("QXZ-0001", "QXZ-0002")
    )
    return asked, _hide(rng, chars, needles), Truth("list", sorted(codes))


def _chain(rng: Random, chars: int) -> _Built:
    """Three hops, hidden in any order: who has the key → where they live → the code of that city."""
    cities, people = rng.sample(_CITIES, 3), rng.sample(("Odile", "Piotr", "Quentin", "Rashid", "Sunniva"), 3)
    codes = [_code(rng) for _ in cities]
    needles = [
        f"The iron key is in the keeping of {people[0]}.",
        f"The silver key is in the keeping of {people[1]}.",
    ]
    needles += [f"{who} has moved to {city}." for who, city in zip(people, cities, strict=True)]
    needles += [f"The access code for {city} is {code}." for city, code in zip(cities, codes, strict=True)]
    rng.shuffle(needles)
    asked = (
        "Who keeps the iron key, and to which city has this person moved? Give the access code for that city. "
        "Answer with the code only."
    )
    return asked, _hide(rng, chars, needles), Truth("text", codes[0])


def _last_value(rng: Random, chars: int) -> _Built:
    values = rng.sample(range(100, 1000), 4)
    needles = [f"From now on the toll at the bridge is {value} crowns." for value in values]
    asked = (
        "The toll at the bridge is set several times in the text. What is it at the end of the text, after the last change? "
        "Answer with the number only."
    )
    return asked, _hide(rng, chars, needles), Truth("number", values[-1])


def _needle_sum(rng: Random, chars: int) -> _Built:
    values = [rng.randrange(10, 500) for _ in range(6)]
    needles = [f"The ledger of the expedition notes an expense of {value} guilders." for value in values]
    asked = "What is the sum of all expenses that the ledger of the expedition notes, in guilders? Answer with the number only."
    return asked, _hide(rng, chars, needles), Truth("number", sum(values))


def _absent(rng: Random, chars: int) -> _Built:
    cities = rng.sample(_CITIES, 4)
    needles = [f"The access code for {city} is {_code(rng)}." for city in cities[1:]]
    asked = f"Which access code does the text give for {cities[0]}? Answer with the code only, or, if it gives none, with: {NOT_FOUND}"
    return asked, _hide(rng, chars, needles), Truth("absent")


def _count_word(rng: Random, chars: int) -> _Built:
    text = "\n\n".join(draw_paragraphs(rng, chars))
    word = rng.choice(("heart", "night", "father", "miserable", "friend", "mountain", "eyes", "death"))
    number = len(re.findall(rf"\b{word}\b", text, re.IGNORECASE))
    require(single_truth=number > 1)
    asked = f'How often does the whole word "{word}" occur in the text, in upper or lower case? Answer with the number only.'
    return asked, text, Truth("number", number)


def _most_named(rng: Random, chars: int) -> _Built:
    text = "\n\n".join(draw_paragraphs(rng, chars))
    named = Counter({name: len(re.findall(rf"\b{name}\b", text)) for name in _NAMES})
    asked = (
        f"Which of these names occurs most often in the text: {', '.join(_NAMES)}? Answer with the name only."
    )
    return asked, text, Truth("text", single_maximum(named), _NAMES)


def _chapter(rng: Random, chars: int) -> _Built:
    """In which chapter a passage stands that occurs once."""
    pages = draw_paragraphs(rng, chars)
    headings = [at for at, page in enumerate(pages) if re.fullmatch(r"Chapter \d+", page)]
    require(single_truth=len(headings) > 1)
    before = headings[rng.randrange(len(headings))]
    after = next((at for at in headings if at > before), len(pages))
    inside = [page for page in pages[before + 1 : after] if len(page) > 300]
    require(single_truth=bool(inside) and not any(page.startswith("Letter ") for page in pages[before:after]))
    words = " ".join(rng.choice(inside).split()).split(" ")[:12]
    text = "\n\n".join(pages)
    require(single_truth=" ".join(text.split()).count(" ".join(words)) == 1)
    require(single_truth=len({pages[at] for at in headings}) == len(headings))
    asked = (
        f'In which chapter does this passage stand: "{" ".join(words)} ..."? (In the text, its lines may be broken elsewhere.) '
        "Answer with the number of the chapter only."
    )
    return asked, text, Truth("number", int(pages[before].split()[1]))


KINDS = (
    Kind("needle_single", "one needle among similar ones", _single),
    Kind("needle_multi", "list of five needles", _multi),
    Kind("needle_chain", "multi-hop over needles", _chain),
    Kind("needle_last", "the last of several values", _last_value),
    Kind("needle_sum", "sum over needles", _needle_sum),
    Kind("needle_absent", "not in the text", _absent),
    Kind("book_word", "count a word", _count_word, ("8k", "20k", "80k", "400k")),
    Kind("book_names", "count names and maximum", _most_named, _LONG),
    Kind("book_chapter", "where a passage stands", _chapter, _LONG),
)
