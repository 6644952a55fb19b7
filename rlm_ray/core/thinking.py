"""Separates the thinking that open models write into their replies from their answers.

Servers without a reasoning parser hand on `<think>...</think>` and its like as text. The rules err on the side of the
answer: a tag that may be what the answer is about stays in it.

- Nothing in a code fence, a code span or quotation marks is a tag, nor is one whose line reads on as a sentence
  ("<think> is a tag that ...").
- A block at the very beginning is thinking; left open it goes to the end.
- A block further down is thinking where its tag begins a line and stands in no other element.
- A closing tag that nothing opened ends thinking where it stands alone on its line, or right behind the last word:
  chat templates often open the block themselves.
- `reasoning`, `thought` and the like are also elements of XML answers: their blocks count only before an answer.
- Of Harmony messages (`<|channel|>...`) the final channel is what the model says.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

_STRONG = "think|thinking|seed:think|antml:thinking"
_WEAK = "thought|thoughts|reasoning|reflection|scratchpad|analysis"
TAG = re.compile(
    rf"<(?P<close>/?)(?P<name>{_STRONG}|{_WEAK})[ ]?>"
    r"|(?P<kimi>◁(?P<close_kimi>/?)think▷)"
    r"|(?P<mistral>\[(?P<close_mistral>/?)THINK\])"
    r"|(?P<cohere><\|(?:START|(?P<close_cohere>END))_THINKING\|>)"
    r"|(?P<sky><\|(?:begin|(?P<close_sky>end))_of_thought\|>)"
    r"|(?P<gemma><\|channel>thought\b|(?P<close_gemma><channel\|>))",
    re.IGNORECASE,
)
"""A tag around thinking, or one that looks like it."""
MAX_TAG_CHARS = 24
_WEAK_NAMES = frozenset(_WEAK.split("|"))
_FAMILIES = ("kimi", "mistral", "cohere", "sky", "gemma")
_WRAPPING = re.compile(
    r"\A<\|(?:START_RESPONSE|begin_of_solution)\|>|<\|(?:END_RESPONSE|end_of_solution)\|>\Z"
)

_FENCE = re.compile(r"^[ ]{0,3}(?P<ticks>`{3,}|~{3,})[ \t]*(?P<tag>[^\n`]*)$", re.MULTILINE)
_SPAN = re.compile(r"(?<!`)(`{1,2})(?!`)[^`\n]{1,1000}\1(?!`)")
_ELEMENT = re.compile(
    rf"^[ \t]*<(?P<close>/?)(?!(?:{_STRONG}|{_WEAK}|br|hr|img|meta|link|input)\b)[A-Za-z][\w:.-]{{0,80}}(?:\s[^<>\n]{{0,300}})?(?<!/)>",
    re.MULTILINE | re.IGNORECASE,
)
_TRIPLE = re.compile(r'"""|\'\'\'')
_QUOTES = {"`": "`", '"': '"', "'": "'", "“": "”", "«": "»", "(": ")", "[": "]"}
_BRACKETS = frozenset("`([{<=“«")
_SENTENCE_ENDS = frozenset(".!?…:;)。！？")  # noqa: RUF001 - models think in Chinese, too
_READS_ON = re.compile(
    r"[,.;:!?)/`'\"”]|[ \t]+(?:is|are|was|were|and|or|tags?|tokens?|blocks?|elements?|sections?|markers?|marks|means|opens|"
    r"closes|starts|begins|ends|stands|denotes|indicates|wraps|encloses|contains|shows|should|can|must|may|has|appears|"
    r"comes|refers|represents|delimits|signals|surrounds|defines|will|would|does|instead|before|after|at|as|to)\b"
)
_LINE_BEGINS = re.compile(r"^[^\S\n]{0,3}(?=[<◁\[])", re.MULTILINE)
_BLANKS = re.compile(r"(?<!\s)\s+(?=[<◁\[])")
_BLANK_REST = re.compile(r"[ \t]*(?:\n|\Z)")
_ELLIPSIS = re.compile(r"\s*(?:\.{2,}|…)\s*")

_CHANNEL = re.compile(
    r"(?:<\|start\|>assistant)?<\|channel\|>(?P<channel>analysis|commentary|final)\b[^<\n]{0,200}"
    r"(?:<\|constrain\|>[^<\n]{0,50})?<\|message\|>"
)
_HEADLESS = re.compile(r"\A\s*(?P<channel>analysis|commentary|final)<\|message\|>")
"""The template had opened the channel."""
_MESSAGE_END = re.compile(r"<\|(?:end|return|call|start)\|>")
_BARE_CHANNELS = re.compile(r"\A\s*analysis(?=[A-Z\s]).*?assistant\s?final", re.DOTALL)
"""Special tokens were left out where the reply was decoded."""
_PASSES = 16
_MAY_THINK = re.compile(r"[<\[◁]|\A\s*analysis")


def split_thinking(text: str) -> tuple[str, str]:
    """Return what the model says, and what it thought; the text as it is where there is no thinking. Takes linear time."""
    thoughts: list[str] = []
    if not _MAY_THINK.search(text):
        return text, ""
    for _ in range(_PASSES):
        found = _harmony(text) or _tagged(text)
        if found is None:
            break
        text, more = found
        thoughts += more
    return text, "\n\n".join(filter(None, (thought.strip() for thought in thoughts)))


@dataclass(frozen=True, slots=True)
class _Mark:
    """A tag."""

    start: int
    end: int
    name: str
    opens: bool

    @property
    def is_weak(self) -> bool:
        return self.name in _WEAK_NAMES


class _Text:
    """A reply and its tags, with what the rules ask of them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._fences = list(_fences(text))
        self._spans = [match.span() for match in _SPAN.finditer(text)]
        marks = [mark for mark in _tag_marks(text) if mark.opens or not self._is_quoted(mark)]
        self.shown = [mark for mark in marks if not self._is_hidden(mark)]
        self._line_begins = {match.end() for match in _LINE_BEGINS.finditer(text)}
        self._blanks = {match.end(): match.start() for match in _BLANKS.finditer(text)}
        self.last = len(text.rstrip())
        """Where the last word ends."""
        self.hidden_closes = [mark for mark in marks if not mark.opens and self._is_hidden(mark)]

    def begins_line(self, mark: _Mark) -> bool:
        return mark.start in self._line_begins

    def is_one_line(self, first: _Mark, second: _Mark) -> bool:
        return self.text.find("\n", first.end, second.start) < 0

    def ends_line(self, mark: _Mark) -> bool:
        return _BLANK_REST.match(self.text, mark.end) is not None

    def is_alone(self, mark: _Mark) -> bool:
        return self.begins_line(mark) and self.ends_line(mark)

    def reads_on(self, mark: _Mark) -> bool:
        return _READS_ON.match(self.text, mark.end) is not None

    def ends_thinking(self, mark: _Mark) -> bool:
        """Tell whether a closing tag ends thinking: one that nothing opened does."""
        if self.is_alone(mark):
            return True
        if mark.is_weak or self.reads_on(mark):
            return False
        before = self.text[max(0, mark.start - 80) : mark.start]
        last = before.rstrip(" \t")[-1:]
        if self.begins_line(mark) or last in _SENTENCE_ENDS:
            return True
        if last != before[-1:] or last in _BRACKETS:
            return False
        return self.ends_line(mark) or last not in {'"', "'", "”", ">"}

    def is_first(self, mark: _Mark, since: int) -> bool:
        """Tell whether nothing but space stands before it."""
        return self._blanks.get(mark.start, mark.start) <= since

    def is_last(self, mark: _Mark) -> bool:
        """Tell whether nothing but space stands behind it."""
        return mark.end >= self.last

    def is_inside(self, mark: _Mark, since: int) -> bool:
        """Tell whether a place stands in an element or a long string that began after `since`."""
        places, depths = self._elements
        in_element = depths[bisect_left(places, mark.start)] > depths[bisect_left(places, since)]
        quotes = bisect_left(self._triples, mark.start) - bisect_left(self._triples, since)
        return in_element or quotes % 2 == 1

    @cached_property
    def _elements(self) -> tuple[list[int], list[int]]:
        """Return where tags begin a line, and how many elements are open before the first of them and behind each."""
        places, depths = [], [0]
        for match in _ELEMENT.finditer(self.text):
            places.append(match.start())
            depths.append(max(0, depths[-1] - 1) if match["close"] else depths[-1] + 1)
        return places, depths

    @cached_property
    def _triples(self) -> list[int]:
        return [match.start() for match in _TRIPLE.finditer(self.text)]

    def _is_quoted(self, mark: _Mark) -> bool:
        before = self.text[max(0, mark.start - 1) : mark.start]
        return before in _QUOTES and self.text[mark.end : mark.end + 1] == _QUOTES[before]

    def _is_hidden(self, mark: _Mark) -> bool:
        """Tell whether a place is code. A fence that nothing closes does not hide the end of a thought."""
        at = bisect_right(self._fences, mark.start, key=lambda fence: fence[0]) - 1
        if at >= 0 and mark.start < self._fences[at][1] and (self._fences[at][2] or mark.opens):
            return True
        at = bisect_right(self._spans, mark.start, key=lambda span: span[0]) - 1
        return at >= 0 and mark.start < self._spans[at][1]


def _tagged(whole: str) -> tuple[str, list[str]] | None:
    """Take thinking out in one pass over the tags. None where no thinking is found."""
    if TAG.search(whole) is None:
        return None
    regions = _regions(_Text(whole))
    if not regions:
        return None
    kept, thoughts, at = [], [], 0
    for start, stop in regions:
        kept.append(whole[at:start])
        thoughts.append(TAG.sub("", whole[start:stop]))
        at = stop
    kept.append(whole[at:])
    said = "".join(kept).strip()
    return _WRAPPING.sub("", said).strip(), thoughts


def _regions(reply: _Text) -> list[tuple[int, int]]:
    """Return where thinking stands, in order and apart."""
    closes, unopened = _paired(reply)
    regions: list[tuple[int, int]] = []
    at = 0
    for mark in reply.shown:
        if mark.start < at:
            continue
        if mark.opens:
            stop = _block_end(reply, mark, closes.get(mark.start), at)
            start = mark.start
        elif mark in unopened and reply.ends_thinking(mark):
            stop = mark.end
            is_stray = bool(regions) and reply.is_last(mark)
            start = mark.start if is_stray else 0
        else:
            continue
        if stop is not None:
            if not start:
                regions.clear()
            regions.append((start, stop))
            at = stop
    return regions


def _paired(reply: _Text) -> tuple[dict[int, _Mark], set[_Mark]]:
    """Return the closing tag of each opening one by its place, and closing tags that nothing opened.

    A pair within a line of other text is quoted, and nothing.
    """
    closes: dict[int, _Mark] = {}
    unopened: set[_Mark] = set()
    open_marks: dict[str, list[_Mark]] = {}
    inline: dict[str, _Mark] = {}
    edge = 0
    for mark in reply.shown:
        opened = open_marks.setdefault(mark.name, [])
        if mark.opens:
            if reply.begins_line(mark) or reply.is_first(mark, edge):
                opened.append(mark)
                edge = mark.end
            else:
                inline[mark.name] = mark
            continue
        quoted = inline.pop(mark.name, None)
        if quoted is not None and reply.is_one_line(quoted, mark):
            continue
        if opened:
            closes[opened.pop().start] = mark
        else:
            unopened.add(mark)
        edge = mark.end
    return closes, unopened


def _block_end(reply: _Text, mark: _Mark, close: _Mark | None, at: int) -> int | None:
    """Return where the block ends that this tag opens; None where it opens none."""
    text = reply.text
    leads = reply.is_first(mark, at)
    if not leads and (not reply.begins_line(mark) or (mark.is_weak and not reply.is_alone(mark))):
        return None
    if reply.reads_on(mark) or (not leads and reply.is_inside(mark, at)):
        return None
    if close is None and leads and not at:
        close = _last_close(reply, mark)
    if close is None:
        return len(text) if reply.is_alone(mark) or (leads and not mark.is_weak) else None
    is_placeholder = _ELLIPSIS.fullmatch(text, mark.end, close.start) and not reply.ends_line(close)
    if is_placeholder or (mark.is_weak and reply.is_last(close)):
        return None
    return close.end


def _last_close(reply: _Text, mark: _Mark) -> _Mark | None:
    """Return where a block ends that the reply begins with, and whose tags do not pair: the last closing tag; the first one in code where there is no other."""
    shown = (m for m in reversed(reply.shown) if m.name == mark.name and not m.opens)
    hidden = (m for m in reply.hidden_closes if m.name == mark.name and reply.is_alone(m))
    return next(chain(shown, hidden), None)


def _tag_marks(text: str) -> Iterator[_Mark]:
    for match in TAG.finditer(text):
        family = next((name for name in _FAMILIES if match[name]), "")
        closes = match[f"close_{family}"] if family else match["close"]
        yield _Mark(match.start(), match.end(), family or match["name"].lower(), opens=not closes)


def _fences(text: str) -> Iterator[tuple[int, int, bool]]:
    """Yield where code begins and ends, and whether its fence is closed. A fence with a tag begins new code in any case."""
    opening: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opening is None:
            opening = fence
        elif not fence["ticks"].startswith(opening["ticks"]):
            continue
        elif fence["tag"].strip():
            opening = fence
        else:
            yield opening.start(), fence.end(), True
            opening = None
    if opening is not None:
        yield opening.start(), len(text), False


def _harmony(text: str) -> tuple[str, list[str]] | None:
    """Return the final channel, and the others as thinking. None where these are no channels."""
    if (bare := _BARE_CHANNELS.match(text)) is not None:
        return text[bare.end() :].strip(), [bare[0]]
    head = _HEADLESS.match(text) or _CHANNEL.search(text)
    if head is None or not _begins_message(text, head.start()):
        return None
    headers = [head, *_CHANNEL.finditer(text, head.end())]
    said: dict[str, list[str]] = {"before": [text[: head.start()].removesuffix("<|start|>assistant")]}
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        stop = following.start() if following is not None else len(text)
        end = _MESSAGE_END.search(text, header.end(), stop)
        said.setdefault(header["channel"], []).append(text[header.end() : end.start() if end else stop])
    shown = said.get("final") or said.get("commentary") or []
    kept = "\n\n".join(part.strip() for part in [*said["before"], *shown] if part.strip())
    hidden = said.get("analysis", []) + (said.get("commentary", []) if "final" in said else [])
    return kept, hidden


def _begins_message(text: str, start: int) -> bool:
    before = text[:start]
    return (not before.strip() or before.endswith(("\n", "|>", "assistant"))) and before.count("```") % 2 == 0
