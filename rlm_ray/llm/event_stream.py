"""A chat completion that comes as server-sent events, put together into the one that comes whole.

    blocks of bytes → lines → events → chunks → `EventStream.completion`: the same JSON body, read by the same reader

Rules:
- What a provider says of a reply says it in any of its chunks: names and ids by the first that has them, usage by the last, texts in
  pieces.
- Lines end with LF, CR or CRLF; comments, empty chunks and unknown fields of the protocol are passed over. Bytes are decoded line by
  line, so a character may be cut anywhere.
- A stream is whole once it has said why the reply ended, or `[DONE]`. One that ends before has broken off (`BrokenStreamError`).
- An error in the stream is in the completion as a provider sends it with a 200; what is no JSON is the completion as it stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import from_json, to_json

CONTENT_TYPE = "text/event-stream"
_LINE_END = re.compile(rb"\r\n|\n|\r")
_DONE = b"[DONE]"
_OF_CHUNKS = frozenset({"choices", "object", "obfuscation", "p"})
"""Fields that a completion does not have, or has otherwise: the last two are padding against who listens."""
_TEXTS = ("reasoning_content", "reasoning", "refusal")
_LISTS = ("reasoning_details", "annotations")


class BrokenStreamError(Exception):
    """The stream ended before the reply was whole."""


class EventStream:
    """Reads one stream; `on_text` is called with each piece of the reply's text."""

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._on_text = on_text
        self._line: list[bytes] = []
        self._ends_with_cr = False
        """The last block does; an LF that the next one begins with ends no other line."""
        self._data: list[bytes] = []
        self._event = b""
        self._head: dict[str, Any] = {}
        self._choices: dict[Any, _Choice] = {}
        self._error: Any = None
        self._half = ""
        """Half a surrogate pair, whose other half comes with the next chunk."""
        self._odd: bytes | None = None
        """What stood in place of a chunk."""
        self.is_done = False
        """`[DONE]`, or an error, has come: nothing follows."""

    def feed(self, block: bytes) -> None:
        """Take the next bytes of the body."""
        if not block:
            return
        rest_of_end = self._ends_with_cr and block.startswith(b"\n")
        self._ends_with_cr = block.endswith(b"\r")
        first, *others = _LINE_END.split(block[rest_of_end:])
        self._line.append(first)
        for following in others:
            self._read_line(b"".join(self._line))
            self._line = [following]

    def completion(self) -> bytes:
        """Return the body of the completion. Raises `BrokenStreamError`."""
        self._read_line(b"".join(self._line))
        self._dispatch()
        if self._odd is not None:
            return self._odd
        choices = [choice.as_dict() for choice in self._choices.values()]
        if self._error is not None:
            return _to_json({**self._head, **({"choices": choices} if choices else {}), "error": self._error})
        if not self.is_done and not any(choice["finish_reason"] for choice in choices):
            raise BrokenStreamError
        return _to_json({"object": "chat.completion", **self._head, "choices": choices})

    def _read_line(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name.removeprefix(b"\xef\xbb\xbf"):
            case b"":
                if not line:
                    self._dispatch()
            case b"data":
                self._take_data(value)
            case b"event":
                self._event = value.strip()
            case b"error":  # as older servers of llama.cpp
                self._event = b"error"
                self._take_data(value)

    def _take_data(self, value: bytes) -> None:
        """Read one line of data; where it is no JSON by itself, the next lines may go on with it."""
        if not self._data and value.strip() == _DONE:
            self.is_done = True
        elif value.strip():
            self._data.append(value)
            if len(self._data) == 1 and (chunk := _json(value)) is not None:
                self._data = []
                self._take(chunk, value)

    def _dispatch(self) -> None:
        """End an event."""
        if self._data and self._odd is None:
            data, self._data = b"\n".join(self._data), []
            self._take(_json(data), data)
        self._event = b""

    def _take(self, chunk: Any, data: bytes) -> None:
        if self.is_done or self._event == b"ping":
            return
        if not isinstance(chunk, dict):
            self._odd = data if self._odd is None else self._odd
            return
        error, choices = chunk.get("error"), chunk.get("choices")
        if (
            error
            or self._event == b"error"
            or (not choices and (chunk.get("object") == "error" or "message" in chunk))
        ):
            self._error, self.is_done = error or chunk, True
            return
        for name, value in chunk.items():
            if value and name not in _OF_CHUNKS and (name == "usage" or name not in self._head):
                self._head[name] = value
        of_groq = chunk.get("x_groq")
        if isinstance(of_groq, dict) and of_groq.get("usage"):
            self._head["usage"] = of_groq["usage"]
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._take_choice(choice)

    def _take_choice(self, sent: Mapping[str, Any]) -> None:
        index = sent.get("index") or 0
        index = index if isinstance(index, int) else 0
        text = self._choices.setdefault(index, _Choice(index)).add(sent)
        if text and index == 0:
            text = self._half + text
            self._half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
            if text := _whole_pairs(text.removesuffix(self._half)):
                self._on_text(text)


class _Choice:
    """One reply, from its pieces."""

    def __init__(self, index: int) -> None:
        self._fields: dict[str, Any] = {"index": index, "finish_reason": None}
        self._message: dict[str, Any] = {"role": "assistant"}
        self._content: list[Any] = []
        self._texts: dict[str, list[str]] = {}
        self._lists: dict[str, list[Any]] = {}
        self._filters: dict[str, Any] = {}
        self._function: dict[str, Any] = {}
        self._calls: dict[Any, dict[str, Any]] = {}

    def add(self, sent: Mapping[str, Any]) -> str:
        """Add a piece; returns what it adds to the text."""
        for name, value in sent.items():
            if name == "content_filter_results" and isinstance(value, dict):
                self._filters |= {
                    kind: each for kind, each in value.items() if not _is_filtered(self._filters.get(kind))
                }
            elif value and name not in {"index", "delta", "message", "logprobs"}:
                self._fields[name] = value
        delta = sent.get("delta")
        if not delta or not isinstance(delta, dict):  # some send the whole message at the end
            delta = sent.get("message") if not self._content else None
        return self._add_delta(delta) if isinstance(delta, dict) else ""

    def _add_delta(self, delta: Mapping[str, Any]) -> str:
        text = ""
        for name, value in delta.items():
            if name == "content":
                text = self._add_content(value)
            elif name in _TEXTS and isinstance(value, str):
                self._texts.setdefault(name, []).append(value)
            elif name in _LISTS and isinstance(value, list):
                self._lists.setdefault(name, []).extend(value)
            elif name == "tool_calls" and isinstance(value, list):
                self._add_calls(value)
            elif name == "function_call" and isinstance(value, dict):
                _add_function(self._function, value)
            elif value:
                self._message[name] = value
        return text

    def as_dict(self) -> dict[str, Any]:
        """Return the choice of a completion."""
        content: Any = None
        if self._content:
            is_text = all(isinstance(piece, str) for piece in self._content)
            content = "".join(self._content) if is_text else _joined(self._content)
        texts = {name: "".join(pieces) for name, pieces in self._texts.items()}
        message = {**self._message, "content": content, **texts, **self._lists}
        if self._calls:
            message["tool_calls"] = list(self._calls.values())
        if self._function:
            message["function_call"] = self._function
        filters = {"content_filter_results": self._filters} if self._filters else {}
        return {**self._fields, **filters, "message": message}

    def _add_content(self, content: Any) -> str:
        if isinstance(content, str):
            self._content.append(content)
            return content
        if content is None:
            return ""
        parts = content if isinstance(content, list) else [content]
        self._content += parts
        return "".join(
            part["text"]
            for part in parts
            if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        )

    def _add_calls(self, calls: list[Any]) -> None:
        for call in calls:
            if isinstance(call, dict):
                index, function = str(call.get("index", len(self._calls))), call.get("function")
                function = function if isinstance(function, dict) else {}
                whole = self._calls.get(index)
                if whole is not None and _is_another(whole, call, function):
                    self._calls[object()] = self._calls.pop(index)
                whole = self._calls.setdefault(index, {"type": "function", "function": {}})
                whole |= {name: call[name] for name in ("id", "type") if call.get(name)}
                _add_function(whole["function"], function)


def _is_another(whole: Mapping[str, Any], call: Mapping[str, Any], function: Mapping[str, Any]) -> bool:
    """Tell whether a piece begins another call than the one at its index: some give each of them index 0, some an id to each piece."""
    names, ids = (whole["function"].get("name"), function.get("name")), (whole.get("id"), call.get("id"))
    return all(names) and all(ids) and ids[0] != ids[1]


def _add_function(whole: dict[str, Any], piece: Mapping[str, Any]) -> None:
    if piece.get("name"):
        whole["name"] = piece["name"]
    if isinstance(piece.get("arguments"), str):
        whole["arguments"] = whole.get("arguments", "") + piece["arguments"]


def _joined(pieces: list[Any]) -> list[Any]:
    """Return the parts of a message; what was thought in pieces is one part."""
    parts: list[Any] = []
    thoughts: list[Any] = []
    for piece in pieces:
        if isinstance(piece, dict) and isinstance(piece.get("thinking"), list):
            thoughts += piece["thinking"]
        else:
            parts.append({"type": "text", "text": piece} if isinstance(piece, str) else piece)
    return [{"type": "thinking", "thinking": thoughts}, *parts] if thoughts else parts


def _is_filtered(found: Any) -> bool:
    return isinstance(found, dict) and bool(found.get("filtered"))


def _whole_pairs(text: str) -> str:
    """Return the text with the halves of surrogate pairs put together that came in two chunks."""
    if text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _to_json(body: Mapping[str, Any]) -> bytes:
    """Return a body as JSON, wherever in it a surrogate pair came in two halves."""
    try:
        return to_json(body, inf_nan_mode="constants")
    except ValueError:
        return _whole_pairs(json.dumps(body, ensure_ascii=False)).encode()


def _json(data: bytes) -> Any:
    """Return the value; None where it is none. Half a surrogate pair is left to the standard library, which takes it."""
    for read in (from_json, json.loads):
        try:
            return read(data)
        except (ValueError, RecursionError):
            continue
    return None
