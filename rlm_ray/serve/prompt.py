"""A conversation into a question and a context. Pure.

The last message of the user is the question. What is long, and every file, becomes context: one piece a text, several
pieces documents named after where they stood. What is short stays with the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rlm_ray.errors import InputError

CONTEXT_THRESHOLD_CHARS = 4_000
"""A longer text is context."""
DIRECT_CHARS = 16_000
"""A conversation of short texts, up to this long in all, is a plain call like any other chat."""
EXCERPT_CHARS = 1_000
"""So much of the beginning and the end of a message that is context stays with the question."""


_RULES = frozenset({"system", "developer"})


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class FileRef:
    """An uploaded file."""

    file_id: str


@dataclass(frozen=True, slots=True)
class FileData:
    """A file inside the request."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Uri:
    """A context that lies elsewhere."""

    uri: str


ContentPart: TypeAlias = Text | FileRef | FileData
Source: TypeAlias = Text | FileRef | FileData | Uri


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    pieces: tuple[ContentPart, ...]


@dataclass(frozen=True, slots=True)
class NamedContext:
    """A piece of context."""

    name: str
    source: Source


@dataclass(frozen=True, slots=True)
class PromptAndContext:
    query: str
    context: tuple[NamedContext, ...] = ()


def split_messages(messages: Sequence[Message], more: Sequence[NamedContext] = ()) -> PromptAndContext:
    """Split a conversation into its question and its context. Raises `InputError` where the user says nothing."""
    last = _last_of_user(messages)
    question = ""
    others: list[tuple[str, str]] = []
    context: list[NamedContext] = []
    for number, message in enumerate(messages):
        text, pieces = _split(message, number, is_question=number == last)
        context += pieces
        if number == last:
            question = text
        elif text:
            others.append((message.role, text))
    if sum(len(text) for _, text in others) > CONTEXT_THRESHOLD_CHARS:  # many short messages are long, too
        context = [NamedContext("conversation", Text(_transcript(others))), *context]
        others = [
            (role, text) for role, text in others if role in _RULES and len(text) < CONTEXT_THRESHOLD_CHARS
        ]
    return PromptAndContext(_query(question, others), (*more, *context))


def direct_messages(messages: Sequence[Message]) -> tuple[tuple[str, str], ...]:
    """Return the conversation as roles and texts for one plain call; empty where it holds a file or a long text.

    Instructions come first, in one message, and no two in a row have the same role: some servers refuse others.
    """
    if any(not isinstance(piece, Text) for message in messages for piece in message.pieces):
        return ()
    texts = [
        (message.role, "\n\n".join(piece.text for piece in message.pieces if isinstance(piece, Text)))
        for message in messages
    ]
    texts = [(role, text) for role, text in texts if text.strip()]
    if (
        any(len(text) > CONTEXT_THRESHOLD_CHARS for _, text in texts)
        or sum(len(text) for _, text in texts) > DIRECT_CHARS
    ):
        return ()
    rules = "\n\n".join(text for role, text in texts if role in _RULES)
    turns: list[tuple[str, str]] = []
    for given, text in texts:
        role = "assistant" if given == "assistant" else "user"
        if given in _RULES:
            continue
        if turns and turns[-1][0] == role:
            turns[-1] = (role, f"{turns[-1][1]}\n\n{text}")
        else:
            turns.append((role, text))
    return ((("system", rules),) if rules else ()) + tuple(turns)


def _last_of_user(messages: Sequence[Message]) -> int:
    for number in reversed(range(len(messages))):
        pieces = messages[number].pieces
        if messages[number].role == "user" and any(isinstance(p, Text) and p.text.strip() for p in pieces):
            return number
    raise InputError("messages", "no message of the user holds a text; ask a question")


def _split(message: Message, number: int, *, is_question: bool) -> tuple[str, list[NamedContext]]:
    """Return what of a message stays with the question, and what becomes context."""
    short: list[str] = []
    long: list[NamedContext] = []
    for part, piece in enumerate(message.pieces, 1):
        name = f"message {number + 1} ({message.role}), part {part}"
        match piece:
            case Text(text) if len(text) <= CONTEXT_THRESHOLD_CHARS:
                short.append(text)
            case FileData(given, _):
                long.append(NamedContext(given or name, piece))
            case _:
                long.append(NamedContext(name, piece))
    if is_question and not "".join(short).strip():
        short.append(
            _long_message_prompt(next(item.source for item in long if isinstance(item.source, Text)))
        )
    return "\n\n".join(short), long


def _long_message_prompt(text: Text) -> str:
    """Return the question to a message that is itself too long to be one."""
    return (
        "The context is, or holds, a message of the user. Do what it asks. It begins:\n"
        f"{text.text[:EXCERPT_CHARS]}\n[...]\nand it ends:\n{text.text[-EXCERPT_CHARS:]}"
    )


def _query(question: str, others: Sequence[tuple[str, str]]) -> str:
    """Return the question below the instructions and the turns that came before it."""
    rules = [text for role, text in others if role in _RULES]
    turns = [(role, text) for role, text in others if role not in _RULES]
    parts = [f"Instructions:\n{text}" for text in rules]
    if turns:
        parts.append(f"The conversation so far:\n{_transcript(turns)}")
    return "\n\n".join([*parts, f"The question now:\n{question}" if parts else question])


def _transcript(others: Sequence[tuple[str, str]]) -> str:
    return "\n\n".join(f"{role}: {text}" for role, text in others)
