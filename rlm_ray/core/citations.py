"""Citations: whether words stand in a context, where, and which true words are nearest to words that do not.

Words are compared exactly; only white space may differ, for quotes are wrapped and indented anew. The bytes are read in
stretches of about a megabyte, so that nobody who shares the interpreter waits for long, and a clock bounds the whole.
"""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

from rlm_ray.core.bm25 import rank
from rlm_ray.core.context import Context
from rlm_ray.core.repl_types import Citation, CitationRequest

MAX_QUOTE_CHARS = 5_000
MAX_CITATIONS = 1_000
"""Of one cell."""
MAX_CHECK_S = 10.0
"""How long a quote is looked for, and as long again for the nearest true one."""

_STRETCH = 1 << 20
_MORE_SPACE = 4_096
"""By so many bytes the white space of a quote may be longer in the context than in the quote."""
_AROUND_CHARS = 100
_PASSAGE_BYTES = 2_000
_PASSAGES = 6
"""Of those that share most words with a quote, so many are compared word by word."""
_RANKED_WORDS = 24
_LEAST_ALIKE = 0.4
_PAGE_IN_ID = re.compile(r"(?:#|[?&_ -])page[=_ -]?(\d{1,7})\b", re.IGNORECASE)
_MARKER_BYTES = len(b"[slide 999999999]\n")
"""Of the longest marker of a page, and of what ends its line."""
_PAGE_MARKER = re.compile(rb"^\[(?:page|slide) ([1-9][0-9]{0,8})\]$", re.MULTILINE)
_WORD = re.compile(r"\S+")
_MARKS = ".,;:!?\"'()[]{}*_\u201c\u201d\u201e\u2018\u2019\u00bb\u00ab"


@dataclass(frozen=True, slots=True)
class Refused:
    """Words that could not be found, and why, in a sentence."""

    why: str


def to_json(citation: Citation) -> str:
    """Return a citation as the code that cited gets it."""
    page = {} if citation.page is None else {"page": citation.page}
    document = {} if citation.number is None else {"document": citation.document}
    plain = {"quote": citation.quote, **document, "start": citation.start, "end": citation.end, **page}
    return json.dumps(plain, ensure_ascii=False)


class OutOfTimeError(Exception):
    """The clock of a check has run out."""


def check(request: CitationRequest, context: Context, clock: Callable[[], float]) -> Citation | Refused:
    """Look for the words of a request, and for the nearest true ones where they are not there."""
    fault = _fault(request, context)
    if fault:
        return Refused(fault)
    text = _Text(context, request.number)
    try:
        found = _find(text, request.quote, _deadline(clock))
    except OutOfTimeError:
        return Refused(f"{_shown(request.quote)} was not found within {MAX_CHECK_S:g} s; cite longer words")
    if found is not None:
        return _citation(context, text, *found)
    return Refused(_not_there(request, context, text, clock))


def _fault(request: CitationRequest, context: Context) -> str:
    documents = context.offsets
    if not request.quote.strip():
        return "a quote without words; cite words that stand in the context"
    if len(request.quote) > MAX_QUOTE_CHARS:
        return (
            f"a quote of {len(request.quote):,} characters, more than {MAX_QUOTE_CHARS:,}; "
            "cite the few sentences that matter, each by itself"
        )
    if request.number is not None and (documents is None or not 0 <= request.number < len(documents) - 1):
        return f"there is no document {request.number}"
    return ""


def _deadline(clock: Callable[[], float]) -> Callable[[], None]:
    until = clock() + MAX_CHECK_S

    def check_time() -> None:
        if clock() > until:
            raise OutOfTimeError

    return check_time


class _Text:
    """The bytes to look through, and where documents end."""

    def __init__(self, context: Context, number: int | None) -> None:
        self.view = memoryview(context.data).cast("B")
        bounds = context.offsets if context.offsets is not None else array("q", (0, len(self.view)))
        self.bounds = bounds if number is None else bounds[number : number + 2]
        self.first = number or 0

    def document_at(self, byte: int) -> int:
        """Return the index in `bounds` of the document that holds this byte."""
        return bisect_right(self.bounds, byte) - 1

    def bytes(self, start: int, stop: int) -> bytes:
        return self.view[start:stop].tobytes()


def _find(text: _Text, quote: str, check_time: Callable[[], None]) -> tuple[int, int] | None:
    """Return the first and last byte of the words; None where they are not there."""
    words = quote.split()
    exact = quote.strip().encode("utf-8", "replace")
    return _find_exact(text, exact, check_time) or _find_by_words(text, words, check_time)


def _find_exact(text: _Text, quote: bytes, check_time: Callable[[], None]) -> tuple[int, int] | None:
    start, stop = text.bounds[0], text.bounds[-1]
    at = start
    while at < stop:
        check_time()
        piece = text.bytes(at, min(stop, at + _STRETCH + len(quote) - 1))
        place = piece.find(quote)
        while place >= 0:
            first = at + place
            if first + len(quote) <= text.bounds[text.document_at(first) + 1]:
                return first, first + len(quote)
            place = piece.find(quote, place + 1)  # it began in one document and ended in the next
        at += _STRETCH
    return None


def _find_by_words(text: _Text, words: list[str], check_time: Callable[[], None]) -> tuple[int, int] | None:
    """Find the words whatever the white space between them."""
    quote = " ".join(words)
    longest = max(words, key=len).encode("utf-8", "replace")
    overlap = len(quote.encode("utf-8", "replace")) + _MORE_SPACE
    for start, stop in _stretches(text, overlap):
        check_time()
        piece = text.bytes(start, stop)
        if longest not in piece:
            continue
        decoded = piece.decode("utf-8", "ignore")  # a stretch may begin and end within a character
        place = " ".join(decoded.split()).find(quote)
        if place < 0:
            continue
        head = _cut_head(piece)
        first, last = _place_of_words(decoded, place, len(quote))
        return start + head + len(decoded[:first].encode()), start + head + len(decoded[:last].encode())
    return None


def _stretches(text: _Text, overlap: int) -> Iterator[tuple[int, int]]:
    """Yield stretches of about a megabyte that lie in one document each."""
    for start, stop in pairwise(text.bounds):
        at = start
        while True:
            end = min(stop, at + _STRETCH + overlap)
            yield at, end
            at += _STRETCH
            if end == stop:
                break


def _cut_head(piece: bytes) -> int:
    """Return how many bytes at the beginning belong to a character that began before."""
    return next((at for at, byte in enumerate(piece[:4]) if byte & 0xC0 != 0x80), 0)


def _place_of_words(text: str, place: int, length: int) -> tuple[int, int]:
    """Return where in `text` a stretch of its white-space-normalised form begins and ends."""
    at, first = 0, None
    for word in _WORD.finditer(text):
        size = len(word[0])
        if first is None and place < at + size:
            first = word.start() + place - at
        if first is not None and place + length <= at + size:
            return first, word.start() + place + length - at
        at += size + 1
    raise AssertionError("the words were found a moment ago")


def _citation(context: Context, text: _Text, first: int, last: int) -> Citation:
    index = text.document_at(first)
    number = text.first + index
    begin, finish = text.bounds[index], text.bounds[index + 1]
    quote = text.bytes(first, last).decode("utf-8", "replace")
    start = _count_chars(text, begin, first)
    before = text.bytes(max(begin, first - 4 * _AROUND_CHARS), first).decode("utf-8", "ignore")
    after = text.bytes(last, min(finish, last + 4 * _AROUND_CHARS)).decode("utf-8", "ignore")
    is_document = context.offsets is not None
    name = "" if not is_document else str(number) if context.ids is None else context.ids[number]
    return Citation(
        quote, name, number if is_document else None, start, start + len(quote),
        _page(text, name, begin, first), before[-_AROUND_CHARS:], after[:_AROUND_CHARS],
        context.root_offset_of(first),
    )  # fmt: skip


def _page(text: _Text, name: str, begin: int, first: int) -> int | None:
    """Tell the page by the last marker before a place (see `rlm_ray.core.pages`), the document's id, or form feeds."""
    end = text.bounds[text.document_at(first) + 1]
    for stop in range(first, begin - 1, -_STRETCH):
        start = max(begin, stop - _STRETCH)
        piece = text.bytes(start, min(end, stop + _MARKER_BYTES))
        if start > begin:
            piece = b"x" + piece  # a marker is a whole line
        places = (
            found
            for found in _PAGE_MARKER.finditer(piece)
            if start + found.start() - (start > begin) <= first
        )
        if marked := list(places):
            return int(marked[-1][1])
    if named := _PAGE_IN_ID.search(name):
        return int(named[1])
    before = _form_feeds(text, begin, first)
    return before + 1 if before or _form_feeds(text, first, end) else None


def _form_feeds(text: _Text, start: int, stop: int) -> int:
    return sum(text.bytes(at, min(stop, at + _STRETCH)).count(b"\f") for at in range(start, stop, _STRETCH))


def _count_chars(text: _Text, start: int, stop: int) -> int:
    """Count the characters between two bytes that begin one each."""
    return sum(
        len(piece) - _continuations(piece)
        for piece in (text.bytes(at, min(stop, at + _STRETCH)) for at in range(start, stop, _STRETCH))
    )


_CONTINUATION_BYTES = bytes(range(0x80, 0xC0))


def _continuations(piece: bytes) -> int:
    return 0 if piece.isascii() else len(piece) - len(piece.translate(None, _CONTINUATION_BYTES))


# Words that are not there


def _not_there(request: CitationRequest, context: Context, text: _Text, clock: Callable[[], float]) -> str:
    where = "the context"
    if request.number is not None:
        name = context.ids[request.number] if context.ids is not None else request.number
        where = f"document {name!r}"
    said = f"{_shown(request.quote)} does not stand in {where}"
    elsewhere = _find_elsewhere(request, context, clock)
    if elsewhere is not None:
        return f"{said}; it stands in {elsewhere.place}"
    nearest = _nearest(request.quote, text, _deadline(clock))
    if nearest is None:
        return f"{said}, nor do words like it; look at the context and cite what stands there"
    true = _citation(context, text, *nearest)
    return f"{said}; the nearest words that do are {_shown(true.quote)} ({true.place})"


def _find_elsewhere(
    request: CitationRequest, context: Context, clock: Callable[[], float]
) -> Citation | None:
    if request.number is None:
        return None
    everywhere = _Text(context, None)
    try:
        found = _find(everywhere, request.quote, _deadline(clock))
    except OutOfTimeError:
        return None
    return None if found is None else _citation(context, everywhere, *found)


def _nearest(quote: str, text: _Text, check_time: Callable[[], None]) -> tuple[int, int] | None:
    """Return the bytes of the stretch that has most words of the quote in its order; None where nothing is like it."""
    words = quote.split()
    places: list[tuple[int, int]] = []

    def passages() -> Iterator[str]:
        for start, stop in _passages(text):
            try:
                if len(places) % 256 == 0:
                    check_time()
            except OutOfTimeError:
                return  # the nearest of what was read
            places.append((start, stop))
            yield text.bytes(start, stop).decode("utf-8", "ignore")

    chosen = sorted(dict.fromkeys(words), key=len, reverse=True)[:_RANKED_WORDS]
    best, found = _LEAST_ALIKE, None
    for at, _ in rank(" ".join(chosen), passages(), _PASSAGES):
        alike, stretch = _align(words, text, *places[at])
        if alike > best:
            best, found = alike, stretch
    return found


def _passages(text: _Text) -> Iterator[tuple[int, int]]:
    """Yield stretches that overlap by half, so that a quote stands whole in one of them."""
    for start, stop in pairwise(text.bounds):
        for at in range(start, max(start + 1, stop - _PASSAGE_BYTES // 2), _PASSAGE_BYTES // 2):
            yield at, min(stop, at + _PASSAGE_BYTES)


def _align(words: list[str], text: _Text, start: int, stop: int) -> tuple[float, tuple[int, int]]:
    """Return how alike the quote and the best stretch of a passage are, and where that is."""
    piece = text.bytes(start, stop)
    head = _cut_head(piece)
    decoded = piece.decode("utf-8", "ignore")
    found = list(_WORD.finditer(decoded))
    plain = [_plain(word) for word in words]
    theirs = [_plain(word[0]) for word in found]
    matcher = SequenceMatcher(None, plain, theirs, autojunk=False)
    longest = max(matcher.get_matching_blocks(), key=lambda block: block.size)
    if not longest.size:
        return 0.0, (start, stop)
    first = max(0, longest.b - longest.a)
    last = min(len(found), first + len(words))
    alike = SequenceMatcher(None, plain, theirs[first:last], autojunk=False).ratio()
    begin, end = found[first].start(), found[last - 1].end()
    if words[-1][-1] not in _MARKS:  # a comma that follows is no part of what was meant
        end = begin + len(decoded[begin:end].rstrip(_MARKS))
    if words[0][0] not in _MARKS:
        begin = end - len(decoded[begin:end].lstrip(_MARKS))
    return alike, (
        start + head + len(decoded[:begin].encode()),
        start + head + len(decoded[:end].encode()),
    )


def _plain(word: str) -> str:
    return word.lower().strip(_MARKS) or word


def _shown(quote: str) -> str:
    short = " ".join(quote.split())
    return repr(short if len(short) <= 300 else f"{short[:200]} … {short[-80:]}")
