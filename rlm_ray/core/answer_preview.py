"""What of a reply that is still being written will be the answer.

    text of the reply, as it comes → AnswerPreview → AnswerDelta, AnswerRestarted → ShownAnswer → whoever reads along

A preview is a guess from the beginning of a reply, and a careful one: it shows only what `parsing.py` and `thinking.py` can
hardly take for anything else. The answer is what they make of the whole reply, once that is on record; `ShownAnswer.complete` tells
what is missing then, or takes back what was shown. So the deltas since the last `AnswerRestarted` are always the answer.

What is shown of a reply:
- of a plain call the text, without the thinking that it begins with;
- of a session's turn a string in `FINAL("...")`, or words in `FINAL(The answer is ...)`, where nothing but prose stands before it,
  or the beginning of a block of code.
Nothing is shown from the place on where a tag, a format or the end of a line says that it may be read otherwise.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol, TypeAlias

from rlm_ray.core.final_value import may_be_placeholder
from rlm_ray.core.parsing import FINAL_LINE
from rlm_ray.core.thinking import MAX_TAG_CHARS, TAG, split_thinking


@dataclass(frozen=True, slots=True)
class AnswerDelta:
    """The answer goes on with this text, as the model writes it."""

    text: str


@dataclass(frozen=True, slots=True)
class AnswerRestarted:
    """What was shown so far is no answer: the call failed, or the model went on with something else. It begins anew."""


AnswerNews: TypeAlias = AnswerDelta | AnswerRestarted
Form: TypeAlias = Literal["text", "final"]
"""Where the answer stands: the reply is it, or it stands in a FINAL."""


class ShownAnswer:
    """What one reader has been shown of an answer."""

    def __init__(self) -> None:
        self.text = ""

    def take(self, news: AnswerNews) -> AnswerNews | None:
        """Return the news as the reader is told them; None where they change nothing for him."""
        if isinstance(news, AnswerDelta):
            self.text += news.text
            return news if news.text else None
        was_shown, self.text = bool(self.text), ""
        return news if was_shown else None

    def complete(self, answer: str | None) -> list[AnswerNews]:
        """Return what is left to tell, now that the answer is known."""
        answer = answer or ""
        news: list[AnswerNews] = []
        if not answer.startswith(self.text):
            news, self.text = [AnswerRestarted()], ""
        rest, self.text = answer[len(self.text) :], answer
        return [*news, AnswerDelta(rest)] if rest else news


class AnswerPreview:
    """Tells what of the replies of one session is the answer, while they come; `ModelRequest.listener` of its calls."""

    def __init__(self, tell: Callable[[AnswerNews], None], thinkers: set[str] | None = None) -> None:
        """`thinkers` are models seen to think without a tag that says so; of these nothing is shown before the end of a thought."""
        self._tell = tell
        self._thinkers = set() if thinkers is None else thinkers
        self._form: Form | None = None
        self._model = ""
        self._reader: _Reader | None = None
        self._is_shown = False

    def expect(self, form: Form | None, model: str = "") -> bool:
        """Take note that a model is asked, so that what an earlier reply showed is no answer; tell whether an answer may come."""
        self._form, self._model = form, model
        self.restart()
        return form is not None

    def restart(self) -> None:
        """Begin with a reply; what an attempt before has shown is taken back."""
        said = _TextReader(begins_with_thought=self._model in self._thinkers)
        self._reader = _FinalReader(said) if self._form == "final" else said if self._form else None
        if self._is_shown:
            self._is_shown = False
            self._tell(AnswerRestarted())

    def feed(self, text: str) -> None:
        """Take what the reply goes on with."""
        if self._reader is None:
            return
        if shown := self._reader.feed(text):
            self._is_shown = True
            self._tell(AnswerDelta(shown))
        if self._reader.has_ended_thought:
            self._thinkers.add(self._model)


class _Reader(Protocol):
    @property
    def has_ended_thought(self) -> bool:
        """Tell whether a thought has ended that had no beginning."""

    def feed(self, piece: str) -> str:
        """Return what of the reply can be shown now that this piece has come."""


class _TextReader:
    """Shows a reply without the thinking that it begins with, up to where more of it may stand."""

    def __init__(self, *, begins_with_thought: bool = False) -> None:
        self._state: Literal["beginning", "text", "over"] = "beginning"
        self._begins_with_thought = begins_with_thought
        self.has_ended_thought = False
        self._held = ""
        self._space: list[str] = []
        """What is shown with the next word: before a tag it goes with the thought, and at the end it may be of any length."""

    def feed(self, piece: str) -> str:
        if self._state == "over":
            return ""
        seen = len(self._held)
        self._held += piece
        if self._state == "beginning":
            self._begin(max(0, seen - MAX_TAG_CHARS))
        return self._shown() if self._state == "text" else ""

    def _begin(self, seen: int) -> None:
        """Find out whether the reply begins with thinking, and wait for its end; up to `seen` was looked at before."""
        if self._begins_with_thought:
            if TAG.search(self._held, seen):
                self._end_thinking()
            return
        said = self._held.lstrip()
        if "analysis".startswith(said):  # nothing has come, or it may be the name of a channel
            return
        if said.startswith("analysis"):
            self._state = "over"
        elif said[0] not in "<◁[":
            self._state = "text"
        elif (mark := TAG.match(said)) is None:
            if len(said) >= MAX_TAG_CHARS:
                self._state = "over" if said.startswith("<|") else "text"
        elif any(
            tag.end() < len(self._held.rstrip()) for tag in TAG.finditer(self._held, max(seen, mark.end()))
        ):
            self._end_thinking()

    def _end_thinking(self) -> None:
        """Go on behind the thinking, where that is over."""
        said, thought = split_thinking(self._held)
        if thought and said:
            self._state = "text" if self._held.rstrip().endswith(said) else "over"
            self._held = self._held[self._held.rfind(said) :]
        elif not thought:
            self._state = "text"

    def _shown(self) -> str:
        """Take out what cannot be a part of a tag."""
        if (tag := _MARKUP.search(self._held)) is not None:
            shown, self._held, self._state = self._held[: tag.start()], "", "over"
            self.has_ended_thought = _CLOSES.search(tag[0]) is not None
        else:
            begun = _TAG_BEGUN.search(self._held, max(0, len(self._held) - MAX_TAG_CHARS))
            end = len(self._held) if begun is None else begun.start()
            shown, self._held = self._held[:end], self._held[end:]
        said = shown.rstrip()
        if not said:
            self._space.append(shown)
            return ""
        shown, self._space = "".join([*self._space, said]), [shown[len(said) :]]
        return shown


_MARKUP = re.compile(rf"{TAG.pattern}|<\|channel\|>|<\|start\|>", re.IGNORECASE)
_CLOSES = re.compile(r"/|end|<channel", re.IGNORECASE)
_TAG_BEGUN = re.compile(r"[<◁\[][^<◁\[>▷\]\n]*\Z")

_QUOTES = ('"""', "'''", '"', "'")
_ESCAPE = re.compile(
    r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|[0-7]{1,2}(?=[^0-7])|[^xuUN0-7])",
    re.DOTALL,
)
_MAX_ESCAPE_CHARS = 10
_MAX_UNDECIDED_CHARS = 1_000
"""Words in a FINAL are told from Python within so many characters, or nothing of them is shown."""
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\n": "", "\\": "\\", "'": "'", '"': '"'}  # fmt: skip
_FORMAT = re.compile(r"\{|%[-+#0-9.]*(?:[a-zA-Z(]|\Z)")
_WORDS = re.compile(r"[^\W\d]\w*(?:[ \t]+[^\W\d]\w*)*(?=[^\w])")
_MORE_WORDS = re.compile(r"[ \t]*\w*")
_FENCE = re.compile(r"[ \t>]*(?:`{3,}|~{3,})[\w .{}-]*$")
_OTHER = re.compile(r"\s*[<{\[]|.*(?:```|~~~)|.*:\s*$")
"""A line behind which a FINAL may be something else: a tag, JSON, a fence, the head of a compound statement."""


class _FinalReader:
    """Shows the text in the FINAL that a reply ends with."""

    def __init__(self, said: _TextReader) -> None:
        self._said = said
        self._state: Literal["lines", "open", "string", "words", "closed", "over"] = "lines"
        self._rest = ""
        self._is_in_block = False
        self._mark = ""
        """The quotation mark of the string."""
        self._depth = 1
        self._value = ""
        """What was read, and is not shown yet."""
        self._is_shown = self._may_be_format = False

    @property
    def has_ended_thought(self) -> bool:
        return self._said.has_ended_thought

    def feed(self, piece: str) -> str:
        if self._state == "over":
            return ""
        self._rest += self._said.feed(piece).replace("\r\n", "\n")
        before = None
        while before != (self._state, len(self._rest)):
            before = self._state, len(self._rest)
            match self._state:
                case "lines":
                    self._read_line()
                case "open":
                    self._open()
                case "string":
                    self._read_string()
                case "words":
                    self._read_words()
                case "closed":
                    self._close()
        return self._shown()

    def _shown(self) -> str:
        if self._may_be_format or (not self._is_shown and may_be_placeholder(self._value)):
            return ""
        self._is_shown = True
        shown, self._value = self._value, ""
        return shown

    def _stop(self) -> None:
        """Show nothing of what may be read otherwise."""
        self._state, self._rest, self._value = "over", "", ""

    def _read_line(self) -> None:
        line, ended, rest = self._rest.partition("\n")
        final = FINAL_LINE.match(line)
        if final is not None:
            is_indented = self._is_in_block and line[:1].isspace()
            if final["name"] != "FINAL" or final["open"] == ":" or is_indented:
                self._stop()
                return
            self._rest, self._state = self._rest[final.end() :], "open"
        elif ended:
            self._rest = rest
            if _FENCE.match(line) and not self._is_in_block:
                self._is_in_block = True
            elif (self._is_in_block and line.strip() and not line.startswith("#")) or (
                not self._is_in_block and _OTHER.match(line)
            ):
                self._stop()

    def _open(self) -> None:
        inside = self._rest.lstrip()
        mark = next((mark for mark in _QUOTES if inside.startswith(mark)), "")
        if mark:
            if len(inside) > 3:
                self._mark, self._rest, self._state = mark, inside[len(mark) :], "string"
        elif self._is_in_block:
            if inside:
                self._stop()
        elif (words := _WORDS.match(inside[:_MAX_UNDECIDED_CHARS])) is not None:
            names = [not keyword.iskeyword(word) for word in words[0].split()]
            if any(first and second for first, second in pairwise(names)):  # no Python, whatever follows
                self._rest, self._state = inside, "words"
            elif len(inside) > _MAX_UNDECIDED_CHARS or _MORE_WORDS.fullmatch(inside, words.end()) is None:
                self._stop()
        elif len(inside) > _MAX_UNDECIDED_CHARS or _MORE_WORDS.fullmatch(inside) is None:
            self._stop()

    def _read_string(self) -> None:
        """Read the string as Python does, up to its end."""
        at, mark, rest = 0, self._mark, self._rest
        while at < len(rest) and self._state == "string":
            char = rest[at]
            if char == "\\":
                escape = _ESCAPE.match(rest, at)
                if escape is None:
                    if len(rest) - at >= _MAX_ESCAPE_CHARS:
                        self._stop()
                    break
                self._value += _unescaped(escape[0])
                at = escape.end()
            elif rest.startswith(mark, at):
                self._state, at = "closed", at + len(mark)
            elif char == mark[0] and len(rest) - at < len(mark):
                break
            else:
                self._value += char
                at += 1
        self._may_be_format = self._may_be_format or _FORMAT.search(self._value) is not None
        if self._state != "over":
            self._rest = rest[at:]

    def _close(self) -> None:
        """Show a string that may have been a format once nothing is done to it."""
        inside = self._rest.lstrip()
        if inside:
            if not inside.startswith(")"):
                self._value = ""
            self._state, self._may_be_format = "over", False

    def _read_words(self) -> None:
        for at, char in enumerate(self._rest):
            self._depth += (char == "(") - (char == ")")
            if self._depth == 0:
                self._value += self._rest[:at].rstrip()
                self._state = "over"
                return
        said = self._rest.rstrip()
        self._value, self._rest = self._value + said, self._rest[len(said) :]


def _unescaped(escape: str) -> str:
    kind, digits = escape[1], escape[2:]
    if kind in "xuU":
        code = int(digits, base=16)
    elif kind.isdigit():
        code = int(escape[1:], base=8)
    else:
        return _ESCAPED.get(kind, escape)
    return chr(code) if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else escape
