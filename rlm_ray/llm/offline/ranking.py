"""Finds the passages of a text that speak to a question: BM25 over windows of sentences, without an index.

Offsets are exact: `text[passage.start : passage.stop]` is the passage. Nothing is random and nothing is kept between calls.

    question -> terms (stems, and words alike them at a lower weight)
    text     -> sentences -> windows of neighbouring sentences, never across a form feed
    window   -> strength of each term in it, with an echo of its neighbourhood -> score
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rlm_ray.llm.offline.english import STOP_WORDS, WORD, plain, stem, synonyms

LEAF_PASSAGES = 8
"""How many a leaf quotes."""
SESSION_PASSAGES = 5
"""How many a session quotes, out of all that its leaves found."""
WINDOW_CHARS = 700
"""A window is as many whole sentences as fit."""
SENTENCE_CHARS = 500
"""A longer sentence is cut at white space, or anywhere if there is none."""
SYNONYM_WEIGHT = 0.5
ECHO_WEIGHT = 0.5
"""How much a term counts that stands near the window and not in it."""
ECHO_CHARS = 1_500
SATURATION = 1.5

_SENTENCE_END = re.compile(
    r"(?<=[.!?\u2026])[\"'\u201d\u2019)\]*_]*\s+|\n[ \t]*\n\s*|[\u3002\uff01\uff1f]+|\f\s*"
)
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]")
"""Letters of scripts that put no space between words: each is a word."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of the text, and how well it speaks to the question."""

    start: int
    stop: int
    score: float
    strengths: Mapping[str, float]
    """How strongly each term of the question is in it."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best passages of a text, best first, and what a wider ranking needs to compare them with others."""

    passages: tuple[Passage, ...]
    windows: int
    """How many disjoint windows the text would fill."""
    counts: Mapping[str, int]
    """In how many of them each term stands."""


@dataclass(frozen=True, slots=True)
class _Hit:
    at: int
    term: str
    weight: float


def rank(question: str, text: str, limit: int) -> Ranking:
    """Return the passages that speak best to the question; none if no word of it is in the text."""
    terms = terms_of(question)
    hits = list(_find_terms(terms, text))
    windows = max(1, len(text) // WINDOW_CHARS)
    counts = dict.fromkeys(terms, 0) | Counter(
        term for term, _ in {(hit.term, hit.at // WINDOW_CHARS) for hit in hits}
    )
    found = _score_windows(list(split_sentences(text)), hits, windows, counts)
    return Ranking(tuple(_distinct(found, text, limit)), windows, counts)


def score(strengths: Mapping[str, float], windows: int, counts: Mapping[str, int]) -> float:
    """Return BM25 without length: the rarer a term in the whole text, the more it says. `counts` holds every term."""
    total = 0.0
    for term, strength in strengths.items():
        count = min(counts[term], windows)
        total += math.log(1 + (windows - count + 0.5) / (count + 0.5)) * strength / (strength + SATURATION)
    return total


def terms_of(question: str) -> tuple[str, ...]:
    """Return the words that matter in a question, in its order; all of them if every word is a stop word."""
    words = [plain(match[0]) for match in _words(question)]
    telling = [word for word in words if word not in STOP_WORDS] or words
    by_stem = {
        stem(word): word for word in reversed(telling)
    }  # of words with one stem the first stands for all
    return tuple(reversed(by_stem.values()))


def split_sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield sentences as (start, stop) without the white space around them; (stop, stop) marks a form feed."""
    start = 0
    for border in _SENTENCE_END.finditer(text):
        stop = border.start() + len(border.group().rstrip())
        yield from _short_spans(text, start, stop)
        if "\f" in border.group():
            yield stop, stop
        start = border.end()
    yield from _short_spans(text, start, len(text))


def _short_spans(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    piece = text[start:stop]
    start, stop = stop - len(piece.lstrip()), start + len(piece.rstrip())
    while stop - start > SENTENCE_CHARS:
        cut = text.rfind(" ", start + 1, start + SENTENCE_CHARS)
        cut = start + SENTENCE_CHARS if cut < 0 else cut
        yield start, cut
        start = cut
        while text[start].isspace():
            start += 1
    if start < stop:
        yield start, stop


def _words(text: str) -> Iterator[re.Match[str]]:
    for match in WORD.finditer(text):
        if _UNSPACED.search(match[0]):
            yield from _LETTER.finditer(text, match.start(), match.end())
        else:
            yield match


_LETTER = re.compile(r".")


def _find_terms(terms: Sequence[str], text: str) -> Iterator[_Hit]:
    """Yield where words that stand for a term are in the text, in order."""
    stems = {stem(term): (term, 1.0) for term in terms}
    alike = {near: (term, SYNONYM_WEIGHT) for term in terms for near in sorted(synonyms(stem(term)))}
    wanted = alike | stems
    for match in _words(text) if wanted else ():
        if (found := wanted.get(stem(match[0]))) is not None:
            yield _Hit(match.start(), *found)


def _score_windows(
    sentences: Sequence[tuple[int, int]], hits: Sequence[_Hit], windows: int, counts: Mapping[str, int]
) -> Iterator[Passage]:
    """Yield windows that hold a term, one for each sentence they can begin with."""
    places = [hit.at for hit in hits]
    for index, (start, end) in enumerate(sentences):
        first = bisect_left(places, start)
        is_near = first < len(places) and places[first] < start + WINDOW_CHARS
        if start == end or not is_near:  # a form feed, or no window from here holds a term
            continue
        stop = _window_stop(sentences, index)
        last = bisect_left(places, stop)
        if first < last:
            near = bisect_left(places, start - ECHO_CHARS), bisect_left(places, stop + ECHO_CHARS // 3)
            strengths = _strengths(hits[first:last], [*hits[near[0] : first], *hits[last : near[1]]])
            yield Passage(start, stop, score(strengths, windows, counts), strengths)


def _window_stop(sentences: Sequence[tuple[int, int]], index: int) -> int:
    start, stop = sentences[index]
    # By index, because a slice would copy the rest of the book for every window.
    for following in range(index + 1, len(sentences)):
        next_start, next_stop = sentences[following]
        if next_stop - start > WINDOW_CHARS or next_start == next_stop:
            break
        stop = next_stop
    return stop


def _strengths(inside: Sequence[_Hit], around: Sequence[_Hit]) -> dict[str, float]:
    found: Counter[str] = Counter()
    for hit in inside:
        found[hit.term] += hit.weight  # type: ignore[assignment]  # a Counter adds any numbers
    echoes: dict[str, float] = {}
    for hit in around:
        echoes[hit.term] = max(echoes.get(hit.term, 0.0), hit.weight * ECHO_WEIGHT)
    found.update(echoes)
    return dict(found)


def _distinct(passages: Iterator[Passage], text: str, limit: int) -> Iterator[Passage]:
    """Yield the best passages that neither overlap nor say the same."""
    chosen: list[Passage] = []
    quoted: set[str] = set()
    for passage in sorted(passages, key=lambda each: (-each.score, each.start)):
        words = text[passage.start : passage.stop]
        overlaps = any(passage.start < other.stop and other.start < passage.stop for other in chosen)
        if overlaps or words in quoted:
            continue
        if len(chosen) == limit:
            return
        chosen.append(passage)
        quoted.add(words)
        yield passage
