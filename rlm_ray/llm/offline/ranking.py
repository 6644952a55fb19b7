"""Which passages of a text speak to a question: BM25 over sentence windows, without any index.

Offsets are exact: `text[passage.start : passage.stop]` is the passage. Nothing is random and nothing
is kept between calls. Only words of the question are looked for, so a book takes a fraction of a second.

    question -> terms (stems, and words alike them at a lower weight)
    text     -> spans (sentences) -> windows of neighbouring spans, never across a form feed
    window   -> strength of each term in it, with an echo of its neighbourhood -> score
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from rlm_ray.llm.offline.english import (
    EARLY_WORDS,
    STOP_WORDS,
    WORD,
    answer_type_words,
    plain,
    stem,
    synonyms,
)

LEAF_PASSAGES = 8
"""How many a leaf quotes."""
SESSION_PASSAGES = 5
"""How many a session quotes, out of all that its leaves found."""
WINDOW_CHARS = 700
"""Windows are as many whole sentences as fit."""
SPAN_CHARS = 500
"""A longer sentence is cut at white space, or anywhere if there is none."""
ALIKE_WEIGHT = 0.5
CUE_WEIGHT = 0.5
ECHO_WEIGHT = 0.5
"""How much a term counts that stands near the window and not in it."""
ECHO_CHARS = 1_500
PAIR_CHARS = 60
SATURATION = 1.5
POSITION_DECAY = 2.5
"""Where a question asks for what comes first, the end of the text counts exp(-EARLY) of its beginning."""
SAME_SHARE = 0.6
"""Two passages are near duplicates if they share more of their words than this."""

_BREAK = re.compile(r"(?<=[.!?\u2026])[\"'\u201d\u2019)\]*_]*\s+|\n[ \t]*\n\s*|[\u3002\uff01\uff1f]+|\f\s*")
_NOT_AN_END = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|Rev|Capt|Gen|No|vs|etc|e\.g|i\.e|[A-Z])\.$")
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]+")
"""Scripts that put no space between words."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of the text and how well it speaks to the question."""

    start: int
    stop: int
    score: float
    strengths: Mapping[str, float] = field(default_factory=dict)
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


def rank(question: str, text: str, limit: int = 5) -> Ranking:
    """The passages that speak best to the question; none if no word of it is in the text."""
    terms = terms_of(question)
    hits = list(_matches(_query_expansion(question, terms, text), text))
    spans = list(split(text))
    windows = max(1, len(text) // WINDOW_CHARS)
    if not hits:
        return Ranking((), windows, dict.fromkeys(terms, 0))
    pairs = [f"{a}+{b}" for a, b in pairwise(terms)]
    candidates = list(_candidates(spans, hits, pairs))
    counts = _counts(hits, windows)
    fade = POSITION_DECAY / len(text) if re.search(EARLY_WORDS, question, re.IGNORECASE) else 0.0
    scored = [_scored(candidate, windows, counts, fade) for candidate in candidates]
    return Ranking(tuple(_distinct(scored, text, limit)), windows, counts)


def score(strengths: Mapping[str, float], windows: int, counts: Mapping[str, int]) -> float:
    """BM25 without length: the rarer a term in the whole text, the more it says.

    A pair `a+b` is as rare as the commoner of its terms.
    """
    total = 0.0
    for term, strength in strengths.items():
        count = min(max(counts.get(part, 0) for part in term.split("+")), windows)
        rarity = math.log(1 + (windows - count + 0.5) / (count + 0.5))
        total += rarity * strength / (strength + SATURATION)
    return total


def terms_of(question: str) -> tuple[str, ...]:
    """The words that matter in a question, in its order; all of them if every word is a stop word."""
    words = [plain(word) for word in WORD.findall(question) if not _UNSPACED.search(word)]
    telling = [word for word in words if word not in STOP_WORDS] or words
    # Of words with one stem the first stands for all.
    by_stem = {stem(word): word for word in reversed([*telling, *_unspaced_terms(question)])}
    return tuple(reversed(by_stem.values()))


def split(text: str) -> Iterator[tuple[int, int]]:
    """Sentences, as (start, stop) without the white space around them; (stop, stop) marks a hard border."""
    start = 0
    for border in _BREAK.finditer(text):
        if _is_abbreviation(text, start, border):
            continue
        stop = border.start() + len(border.group().rstrip())
        yield from _short_spans(text, start, stop)
        if "\f" in border.group():
            yield stop, stop
        start = border.end()
    yield from _short_spans(text, start, len(text))


def _is_abbreviation(text: str, start: int, border: re.Match[str]) -> bool:
    """The full stop before this white space belongs to a title or an initial, and no paragraph ends here."""
    at = border.start()
    after_letter = at - start > 1 and text[at - 1] == "." and text[at - 2].isalpha()
    if not after_letter or border.group().strip() or "\n" in border.group():
        return False
    return _NOT_AN_END.search(text, max(start, at - 8), at) is not None


def _short_spans(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    while start < stop and text[start].isspace():
        start += 1
    while stop > start and text[stop - 1].isspace():
        stop -= 1
    while stop - start > SPAN_CHARS:
        cut = text.rfind(" ", start + 1, start + SPAN_CHARS)
        cut = start + SPAN_CHARS if cut < 0 else cut
        yield start, cut
        start = cut
        while text[start].isspace():
            start += 1
    if start < stop:
        yield start, stop


def _unspaced_terms(question: str) -> list[str]:
    runs = _UNSPACED.findall(question)
    return [run[at : at + 2] for run in runs for at in range(max(1, len(run) - 1))]


def _matches(meanings: Mapping[str, Sequence[tuple[str, float]]], text: str) -> Iterator[_Hit]:
    """Where words that mean something stand in the text, in order."""
    spaced: list[str] = []
    bare: list[str] = []
    for word in sorted(meanings, key=lambda word: (-len(word), word)):
        (spaced if WORD.fullmatch(word) and not _UNSPACED.search(word) else bare).append(re.escape(word))
    patterns = [rf"(?<![^\W_])(?:{'|'.join(spaced)})(?![^\W_])"] if spaced else []
    if not (patterns or bare):
        return
    for match in re.finditer("|".join(patterns + bare), text, re.IGNORECASE):
        for term, weight in meanings.get(match.group().lower(), ()):
            yield _Hit(match.start(), term, weight)


def _query_expansion(question: str, terms: Sequence[str], text: str) -> dict[str, list[tuple[str, float]]]:
    """The words that stand for a term of the question, whole or at a lower weight."""
    stems = {stem(term): term for term in terms}
    wanted: dict[str, list[tuple[str, float]]] = {}
    for stemmed, term in stems.items():
        wanted.setdefault(stemmed, []).append((term, 1.0))
        for near in sorted(synonyms(stemmed) - set(stems)):
            wanted.setdefault(near, []).append((term, ALIKE_WEIGHT))
    words = {word.lower() for word in set(WORD.findall(text))}
    found = {word: list(wanted[stem(word)]) for word in sorted(words) if stem(word) in wanted}
    for kind, cue_words in answer_type_words(question).items():
        for word in sorted(cue_words):
            found.setdefault(word, []).append((f"({kind})", CUE_WEIGHT))
    return found | {term: wanted[term] for term in terms if _UNSPACED.search(term)}


def _candidates(
    spans: Sequence[tuple[int, int]], hits: Sequence[_Hit], pairs: Sequence[str]
) -> Iterator[Passage]:
    """Windows that hold a term, one for each sentence they can begin with, not yet scored."""
    places = [hit.at for hit in hits]
    for index, (start, end) in enumerate(spans):
        first = bisect_left(places, start)
        within_reach = first < len(places) and places[first] < max(end, start + WINDOW_CHARS)
        if start == end or not within_reach:  # a hard border, or no window from here holds a term
            continue
        stop = _window_stop(spans, index)
        last = bisect_left(places, stop)
        if first == last:
            continue
        near = bisect_left(places, start - ECHO_CHARS), bisect_left(places, stop + ECHO_CHARS // 3)
        inside = hits[first:last]
        strengths = _strengths(inside, [*hits[near[0] : first], *hits[last : near[1]]])
        strengths.update(_pair_strengths(inside, pairs))
        yield Passage(start, stop, 0.0, strengths)


def _window_stop(spans: Sequence[tuple[int, int]], index: int) -> int:
    start, stop = spans[index]
    # By index, because a slice would copy the rest of the book for every window.
    for following in range(index + 1, len(spans)):
        next_start, next_stop = spans[following]
        if next_stop - start > WINDOW_CHARS or next_start == next_stop:
            break
        stop = next_stop
    return stop


def _strengths(inside: Sequence[_Hit], around: Sequence[_Hit]) -> dict[str, float]:
    found: dict[str, float] = {}
    for hit in inside:
        found[hit.term] = found.get(hit.term, 0.0) + hit.weight
    echoes: dict[str, float] = {}
    for hit in around:
        echoes[hit.term] = max(echoes.get(hit.term, 0.0), hit.weight * ECHO_WEIGHT)
    return {term: found.get(term, 0.0) + echoes.get(term, 0.0) for term in {**found, **echoes}}


def _pair_strengths(inside: Sequence[_Hit], pairs: Sequence[str]) -> dict[str, float]:
    """Neighbours in the question that are neighbours in the text."""
    found: dict[str, float] = {}
    for one, other in pairwise(inside):
        if one.term == other.term or other.at - one.at > PAIR_CHARS:
            continue
        for pair in (f"{one.term}+{other.term}", f"{other.term}+{one.term}"):
            if pair in pairs:
                found[pair] = max(found.get(pair, 0.0), one.weight * other.weight * 0.5)
    return found


def _counts(hits: Sequence[_Hit], windows: int) -> dict[str, int]:
    """In how many disjoint windows each term stands."""
    counts: Counter[str] = Counter()
    free_from: dict[str, int] = {}
    for hit in hits:
        if hit.weight >= CUE_WEIGHT and hit.at >= free_from.get(hit.term, 0):
            counts[hit.term] += 1
            free_from[hit.term] = hit.at + WINDOW_CHARS
    return {term: min(count, windows) for term, count in counts.items()}


def _scored(passage: Passage, windows: int, counts: Mapping[str, int], fade: float) -> Passage:
    value = score(passage.strengths, windows, counts) * math.exp(-fade * passage.start)
    return Passage(passage.start, passage.stop, value, passage.strengths)


def _distinct(passages: Sequence[Passage], text: str, limit: int) -> Iterator[Passage]:
    """The best passages that neither overlap nor say the same."""
    kept: list[tuple[Passage, frozenset[str]]] = []
    for passage in sorted(passages, key=lambda p: (-p.score, p.start)):
        if len(kept) == limit:
            return
        if any(passage.start < other.stop and other.start < passage.stop for other, _ in kept):
            continue
        words = frozenset(WORD.findall(text[passage.start : passage.stop].lower()))
        if any(len(words & other) > SAME_SHARE * len(words | other) for _, other in kept):
            continue
        kept.append((passage, words))
        yield passage
