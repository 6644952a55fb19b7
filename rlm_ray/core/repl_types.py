"""What passes between a session and the REPL that runs its code."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rlm_ray.core.context import ContextPart

VARIABLES = frozenset({"context", "query", "documents", "history"})
"""What stands in the REPL before any code has run, besides functions."""
FUNCTIONS = frozenset(
    "recursive_llm recursive_map llm_query llm_query_batched rlm_query rlm_query_batched map_reduce search bm25 cite".split()  # noqa: SIM905 - names read better than a list of quoted names
)
"""Functions of the REPL that ask a model or look through the context."""
ENDINGS = frozenset({"FINAL", "FINAL_VAR", "SUBMIT", "SHOW_VARS"})
"""Functions of the REPL that end a session, or show what it holds."""

SubCallKind: TypeAlias = Literal["recursive", "llm", "rlm"]
"""`recursive`: child or plain call as the session decides; `llm`: always a plain call; `rlm`: always a child."""


@dataclass(frozen=True, slots=True)
class SubCallRequest:
    """One `recursive_llm`, `recursive_map` or like call in a cell: as many queries as contexts."""

    kind: SubCallKind
    queries: tuple[str, ...]
    contexts: tuple[ContextPart, ...]
    stop_on_error: bool
    """The first failure fails the whole call, so the others may be cancelled."""
    schema: str = ""
    """A JSON Schema that each answer has to match; the answers are JSON texts then. Empty: any text."""
    model: str = ""
    """One of the models that the user named; empty: the one of this depth."""


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """One call of a tool in a cell; its outcome is a `SubCallAnswer` with JSON, or a `Failed`."""

    name: str
    arguments: str
    """JSON: `[[positional, ...], {keyword: ...}]`."""

    @property
    def key(self) -> str:
        """Names the call: the same tool with the same arguments has the same."""
        return hashlib.sha256(f"{self.name}\n{self.arguments}".encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class CitationRequest:
    """Words that a cell says stand in its context; the outcome is a `SubCallAnswer` with JSON, or a `Failed`."""

    quote: str
    number: int | None = None
    """Of the document they shall stand in; None: any."""


ReplRequest: TypeAlias = "SubCallRequest | ToolRequest | CitationRequest"
"""What a cell asks of its session, and waits for."""


@dataclass(frozen=True, slots=True)
class SubCallAnswer:
    """A sub-call's answer."""

    text: str
    cut: str = ""
    """Where the text was cut off at the token limit: a sentence about it. Shown by a mark behind the text in a REPL."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A sub-call's failure: `kind` is the error's class, `why` one sentence."""

    kind: str
    why: str
    fatal_error: Exception | None = None
    """Set where nobody in the tree can go on: a limit, a refused key, an empty account. Never sent to a REPL."""


SubCallOutcome: TypeAlias = "SubCallAnswer | Failed"


@dataclass(frozen=True, slots=True)
class ReplHistory:
    """The turns that a compaction left out of the conversation, as a variable of the REPL."""

    name: str
    """Of the variable."""
    items: str
    """The list of them as JSON."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A name that persists in the REPL, described for the model."""

    name: str
    kind: str
    """`str`, `list`, `function`, `class`, `module` ..."""
    size: int | None
    """`len()` where it has one."""


@dataclass(frozen=True, slots=True)
class Citation:
    """Words that stand in a context, and where. Offsets are characters of the document, or of the one text."""

    quote: str
    """As it stands there."""
    document: str = ""
    """The id of the document, its number where documents have no ids; empty where the context is one text."""
    number: int | None = None
    """The number of the document, from 0; None where the context is one text."""
    start: int = 0
    end: int = 0
    page: int | None = None
    """From 1, where form feeds or the id of the document tell it."""
    before: str = ""
    """What stands before it, a hundred characters at most."""
    after: str = ""
    offset: int | None = None
    """Where it begins in the root's context, in bytes; None where it was cited from a text of its own."""

    @property
    def place(self) -> str:
        """Say where it stands, in words."""
        named = [self.document] if self.number is not None else []
        page = [f"page {self.page}"] if self.page is not None else []
        return ", ".join([*named, *page, f"characters {self.start:,}-{self.end:,}"])


@dataclass(frozen=True, slots=True)
class CellResult:
    """What one message's code did."""

    output: str = ""
    """What was printed, already bounded: the head and the tail of it."""
    output_chars: int = 0
    """How much was printed in truth."""
    error: str | None = None
    """The exception as the model shall see it, with the line in its own code."""
    final_answer: str | None = None
    """The answer, if the code ended the session."""
    context_was_read: bool = False
    """Code of this session has read `context` by now."""
    kill_reason: str | None = None
    """Why the interpreter had to be killed; all variables are lost then."""
    variables: tuple[Variable, ...] = ()
    notes: tuple[str, ...] = ()
    """Remarks for the model, such as a reserved name that was put back."""
    killed_externally: bool = False
    """Nothing the code did is known to have caused it: the same code may well run now."""
    citations: tuple[Citation, ...] = ()
    """Words that the code cited, found in the context by the session."""

    @property
    def error_line(self) -> str:
        """Return the line of the error that says what went wrong, without the advice that may follow it; empty without one."""
        lines = [line for line in (self.error or "").splitlines() if not line.startswith("Hint: ")]
        return lines[-1] if lines else ""
