"""What a scripted provider is asked and what it may do: answer, refuse, or misbehave.

A **script** is a function of a `Request`; it is called in the order of arrival, must not block, and
returns one **outcome**:

    str       the answer
    Reply     the answer, with everything about it that a provider may say
    Failure   an HTTP error
    Raw       bytes instead of a completion: broken JSON, an HTML error page
    Slow      a good answer that arrives in small pieces
    Hang      silence, and then a closed connection
    Drop      a closed connection, at once or in the middle of the body

Ready-made scripts stand at the end: what benchmarks and quick tests ask of a model server. `recursion` is stateless: what a
session does stands in its question. `run_query(a, b)` makes a question whose session runs program `a` in its first turn and `b`
in its second. A program may itself call `recursive_map(run_query(...), pieces)` (put the string in), so one server plays trees
of any shape.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

from rlm_ray.core.llm import Usage

CHARS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Request:
    """One chat completion as it came over the wire."""

    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    ordinal: int = 0
    """How many completions were asked of this server before."""

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        messages = self.body.get("messages")
        return messages if isinstance(messages, list) else []

    @property
    def system(self) -> str:
        """Return the system messages' text; empty if there is none."""
        return "\n".join(text_of(m) for m in self.messages if m.get("role") in {"system", "developer"})

    @property
    def last(self) -> str:
        """Return the text of the last message."""
        return text_of(self.messages[-1]) if self.messages else ""

    @property
    def turn(self) -> int:
        """Return 1 for the first turn of a conversation: one more than there are assistant messages."""
        return 1 + [message.get("role") for message in self.messages].count("assistant")

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def api_key(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ").strip()

    @property
    def tokens(self) -> int:
        """Return the input tokens: a quarter of the characters of all messages."""
        return sum(len(text_of(message)) for message in self.messages) // CHARS_PER_TOKEN


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. Token counts left None are a quarter of the characters."""

    text: str | None = ""
    finish_reason: str = "stop"
    tool_calls: Sequence[Mapping[str, Any]] | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    latency_s: float | None = None
    """None: the server's own latency."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def usage(self, request: Request) -> Usage:
        """Return tokens as this answer reports them."""
        prompt = request.tokens if self.prompt_tokens is None else self.prompt_tokens
        completion = self.completion_tokens
        if completion is None:
            completion = self._chars() // CHARS_PER_TOKEN
        return Usage(prompt, completion, self.cached_tokens, self.reasoning_tokens)

    def _chars(self) -> int:
        called = len(json.dumps(list(self.tool_calls))) if self.tool_calls else 0
        return len(self.text or "") + called


@dataclass(frozen=True, slots=True)
class Failure:
    """An HTTP error with OpenAI's error body."""

    status: int
    message: str = "scripted failure"
    kind: str = "server_error"
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    latency_s: float | None = 0.0
    """Refusals are fast; None: the server's own latency."""


@dataclass(frozen=True, slots=True)
class Raw:
    """These bytes instead of a completion."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Slow:
    """A good answer whose bytes are spread evenly over `seconds`."""

    reply: Reply | str
    seconds: float
    pieces: int = 10


@dataclass(frozen=True, slots=True)
class Hang:
    """No byte for `seconds`, and then the connection closes."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Drop:
    """The connection closes: unanswered, or half-way through the body of `reply`."""

    reply: Reply | str | None = None
    after_s: float = 0.0


Outcome: TypeAlias = "str | Reply | Failure | Raw | Slow | Hang | Drop"
Script: TypeAlias = Callable[[Request], Outcome]


def text_of(message: Mapping[str, Any]) -> str:
    """Return a message's text, also where its content is a list of parts or None."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def in_order(outcomes: Sequence[Outcome]) -> Script:
    """Make a script that returns these outcomes one after another, and then refuses."""
    rest = iter(outcomes)

    def script(_request: Request) -> Outcome:
        # 400, because a client would retry a 5xx and so hide that the script was too short.
        return next(rest, Failure(400, "the script has no more replies", "invalid_request_error"))

    return script


LEAF_ANSWER = "leaf answer"
"""What `recursion` says to a plain call, followed by the length of the prompt."""

_RUN = re.compile(r"RUN:([A-Za-z0-9_\-]+=*)")
_LOOK = "print(len(context))"


def echo(request: Request) -> str:
    """Say the last message back."""
    return request.last


def recursion(request: Request) -> str:
    """Play the sessions and leaves of a recursion tree.

    A session with `RUN:` programs in its question runs one of them each turn, and a session
    without looks at the length of its context; both then end with `FINAL`. A plain call gets a short text.
    """
    if not is_session(request):
        return f"{LEAF_ANSWER} to {len(request.last)} chars"
    programs = [_decode(found) for found in _RUN.findall(_question(request))] or [_LOOK]
    if request.turn <= len(programs):
        return _block(programs[request.turn - 1])
    return _block("FINAL('session done')")


def is_session(request: Request) -> bool:
    """Tell whether code is wanted and not an answer: the system message speaks of a REPL."""
    system = request.system
    return "REPL" in system or "```python" in system


def run_query(*programs: str) -> str:
    """Make a question for `recursion`: one program for each turn."""
    return " ".join(f"RUN:{base64.urlsafe_b64encode(program.encode()).decode()}" for program in programs)


def _question(request: Request) -> str:
    """Return the first user message; observations come later and may show programs again."""
    return next((text_of(m) for m in request.messages if m.get("role") == "user"), "")


def _decode(found: str) -> str:
    return base64.urlsafe_b64decode(found).decode()


def _block(program: str) -> str:
    return f"```python\n{program}\n```"


SCRIPTS: MappingProxyType[str, Script] = MappingProxyType({"echo": echo, "recursion": recursion})
"""The names that `python -m rlm_ray.testing --script` knows."""
