"""What the offline model says: extracts as a leaf, programs as a session.

A leaf's extract and a session's answer have the same form, so that a program reads the answers of
leaves and of child sessions alike, and so does a person:

    [score 7.31 at 1234-1456: ahab 1.5, leg 1]
    "the passage, word for word"

    Counted in 48 windows: ahab 34, leg 5

Offsets count characters, and `context[1234:1456]` is the passage. The numbers after a word say how
strongly it stands in the passage, and in how many windows of the text it stands at all: summed over
all pieces, they let the program rank passages of different pieces against each other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Template

from rlm_ray.llm.offline.ranking import SATURATION, SESSION_PASSAGES, Ranking

PREFIX = "Extractive answer (offline model: it quotes, it does not reason)."
NO_MATCH = "No passage speaks to the question: its words do not stand in the context."
PLAN = (
    "The context may be long, so I cut it at paragraph borders, let a sub-call extract scored passages from each "
    "piece, rank all of them by how rare their words are in the whole context, and quote the best."
)


def extract(text: str, ranking: Ranking) -> str:
    """Return the answer of a leaf: the passages of this text, best first."""
    quotes = [
        f'[score {p.score:.2f} at {p.start}-{p.stop}: {_strengths(p.strengths)}]\n"{text[p.start : p.stop]}"'
        for p in ranking.passages
    ]
    counted = ", ".join(f"{term} {count}" for term, count in ranking.counts.items())
    return "\n\n".join([PREFIX, *(quotes or [NO_MATCH]), f"Counted in {ranking.windows} windows: {counted}"])


def program() -> str:
    """Return the code of the first turn."""
    return _PROGRAM.substitute(
        headline=repr(PREFIX), nothing=repr(NO_MATCH), saturation=SATURATION, quoted=SESSION_PASSAGES
    ).strip()


def failure_program(observation: str) -> str:
    """Return the code of the last turn: an answer that says what went wrong."""
    why = re.split(r"\n\nTurn \d+ of ", observation)[0][:600]
    text = f"{PREFIX}\n\nNo passage could be extracted. What went wrong:\n{why}"
    return f"FINAL({text!r})"


def _strengths(strengths: Mapping[str, float]) -> str:
    return ", ".join(f"{term} {round(strength, 2):g}" for term, strength in strengths.items())


_PROGRAM = Template("""
import math
import re

if isinstance(context, str):
    docs = [("", context)]
else:
    docs = [(d["id"], d["text"]) if isinstance(d, dict) else (str(i), d) for i, d in enumerate(context)]

# Cut at paragraph borders. Small documents share a piece, with a form feed between them.
total = sum(len(text) for _, text in docs)
size = min(90_000, max(20_000, total // 64))

def cut(text):
    spans, start = [], 0
    while start < len(text):
        stop = min(start + size, len(text))
        if stop < len(text):
            borders = [text.rfind(mark, start + size // 2, stop) for mark in ("\\n\\n", "\\n", ". ", " ")]
            stop = next((border + 1 for border in borders if border > 0), stop)
        spans.append((start, stop))
        start = stop
    return spans

pieces, held = [], size
for number, (_, text) in enumerate(docs):
    for start, stop in cut(text):
        if held + stop - start > size:
            pieces.append([])
            held = 0
        pieces[-1].append((number, start, stop))
        held = held + stop - start
texts = ["\\n\\f\\n".join(docs[number][1][a:b] for number, a, b in piece) for piece in pieces]
answers = recursive_map(query, texts, on_error="return") if texts else []

# Read the answers: where each passage stands, and how often each word was counted.
header = re.compile(r"\\[score [\\d.]+ at (\\d+)-(\\d+): ([^\\]\\n]*)\\]\\n\\"")

def numbers(listing):
    pairs = [entry.rsplit(" ", 1) for entry in listing.split(", ") if " " in entry]
    return {word: float(number) for word, number in pairs}

def place(piece, at):
    for number, a, b in piece:
        if at < b - a:
            return number, a + at
        at = at - (b - a) - 3
    return None

passages, counts, windows, failed = [], {}, 0, 0
for piece, answer in zip(pieces, answers):
    answer, position = str(answer), 0
    match = header.search(answer)
    while match:
        length = int(match[2]) - int(match[1])
        where = place(piece, int(match[1]))
        if where and docs[where[0]][1][where[1]:where[1] + length] == answer[match.end():match.end() + length]:
            passages.append((where[0], where[1], where[1] + length, numbers(match[3])))
        position = match.end() + length
        match = header.search(answer, position)
    counted = re.search(r"Counted in (\\d+) windows: (.*)", answer[position:])
    if not counted:
        failed = failed + 1
        continue
    windows = windows + int(counted[1])
    for word, count in numbers(counted[2]).items():
        counts[word] = counts.get(word, 0) + int(count)
if failed and failed == len(pieces):
    raise RuntimeError("no piece could be read: " + str(answers[0])[:300])

# Rank all passages together: the rarer a word in the whole context, the more it says.
def rarity(word):
    count = min(windows, counts.get(word, 0))
    return math.log(1 + (windows - count + 0.5) / (count + 0.5))

def score(passage):
    return sum(rarity(word) * strength / (strength + $saturation) for word, strength in passage[3].items())

best, seen = [], set()
for passage in sorted(passages, key=lambda each: (-score(each), each[:2])):
    number, start, stop, words = passage
    if docs[number][1][start:stop] not in seen and len(best) < $quoted:
        seen.add(docs[number][1][start:stop])
        best.append((score(passage), number, start, stop, words))

parts = [$headline]
for value, number, start, stop, words in best:
    name = f" of document {docs[number][0]!r}" if docs[number][0] else ""
    why = ", ".join(f"{word} {strength:g}" for word, strength in words.items())
    parts.append(f"[score {value:.2f} at {start}-{stop}{name}: {why}]\\n\\"{docs[number][1][start:stop]}\\"")
if not total:
    parts.append("The context is empty.")
elif not best:
    parts.append($nothing)
if failed:
    parts.append(f"{failed} of {len(pieces)} pieces could not be read.")
counted = ", ".join(f"{word} {count}" for word, count in counts.items())
parts.append(f"Counted in {windows} windows: {counted}")
FINAL("\\n\\n".join(parts))
""")
