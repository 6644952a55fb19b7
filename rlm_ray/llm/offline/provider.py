"""`offline/extractive`: a model that needs no network and no key. It quotes; it does not reason.

It is a litellm custom provider, so it takes the same road as every other model. Asked as a session
(the system message speaks of a REPL) it writes an RLM program; asked plainly it extracts the passages
that speak to the question, with exact offsets. The same request always gets the same reply.

It shows and tests what the engine does; it is no judge of meaning, and knows English endings only.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from rlm_ray.llm.offline.programs import (
    NO_MATCH,
    PLAN,
    PREFIX,
    extract,
    failure_program,
    program,
)
from rlm_ray.llm.offline.ranking import LEAF_PASSAGES, rank

PROVIDER = "offline"
MODEL = "offline/extractive"

_CONTEXT = re.compile(
    r"\A\s*Question:\s*\n(?P<question>.*?)\n\s*\nContext:[ \t]*\n(?P<context>.*)\Z", re.DOTALL
)
_SESSION_QUESTION = re.compile(r"\AQuestion: (?P<question>.*?)\n\n`context` is", re.DOTALL)
_NEXT_QUESTION = re.compile(
    r"^Next question: (?P<question>.*?)\n\nIt is about the same", re.DOTALL | re.MULTILINE
)
_SAMPLE = re.compile(r"<(?P<tag>sample|context)>\n(?P<text>.*)\n</(?P=tag)>", re.DOTALL)
_CHARS_PER_TOKEN = 4


def register() -> None:
    """Make litellm know `offline/extractive`, at no cost. Imports litellm; may be called again."""
    import litellm

    if any(item["provider"] == PROVIDER for item in litellm.custom_provider_map):
        return
    litellm.custom_provider_map.append({"provider": PROVIDER, "custom_handler": _make_handler()})
    free = {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}
    # No max_tokens here: litellm would take it for a window, and this model has none.
    litellm.register_model({MODEL: {**free, "litellm_provider": PROVIDER, "mode": "chat"}})


def answer(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return what the model says to a conversation."""
    texts = [(str(message.get("role")), _text(message)) for message in messages]
    system = "\n".join(text for role, text in texts if role == "system")
    last = texts[-1][1] if texts else ""
    if "REPL" not in system and "`context`" not in system:
        return _leaf(last)
    observations = [text for role, text in texts if role == "user"]
    if "Do not write code" in last:
        return _final_call_answer(observations)
    since = max((at for at, (_, text) in enumerate(texts) if _NEXT_QUESTION.search(text)), default=0)
    if not any(role == "assistant" for role, _ in texts[since:]):
        return f"{PLAN}\n\n```python\n{program()}\n```"
    return f"```python\n{failure_program(last)}\n```"


def _leaf(prompt: str) -> str:
    question, context = _question_and_context(prompt)
    if not context.strip():
        return f"{PREFIX}\n\nThere is no context to quote from."
    return extract(context, rank(question, context, LEAF_PASSAGES))


def _question_and_context(prompt: str) -> tuple[str, str]:
    """Return the parts of a leaf prompt; in other prompts the first paragraph asks about the rest."""
    if found := _CONTEXT.match(prompt):
        return found["question"], found["context"]
    question, _, context = prompt.strip().partition("\n\n")
    return question, context


def _final_call_answer(observations: Sequence[str]) -> str:
    """Return the best answer without code: passages out of what the session has seen."""
    first = observations[0]
    later = [found for text in observations if (found := _NEXT_QUESTION.search(text))]
    asked = later[-1] if later else _SESSION_QUESTION.match(first)
    question = asked["question"] if asked else first[:1_000]
    sample = _SAMPLE.search(first)
    seen = [sample["text"]] if sample else []
    seen += [found[1] for text in observations[1:] for found in re.finditer(r"Output.*?:\n((?:.|\n)*)", text)]
    text = "\f".join(seen)
    quotes = [f'"{text[p.start : p.stop]}"' for p in rank(question, text, 3).passages]
    note = "The session ended early, so this is out of what was seen of the context and not out of all of it."
    return "\n\n".join([PREFIX, note, *(quotes or [NO_MATCH])])


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def _make_handler() -> Any:
    """Make a litellm handler. Its class is made here because its base takes seconds to import."""
    import litellm

    def usage(messages: Sequence[Mapping[str, Any]], text: str) -> dict[str, int]:
        asked = sum(len(_text(message)) for message in messages) // _CHARS_PER_TOKEN
        said = len(text) // _CHARS_PER_TOKEN
        return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}

    def filled(messages: Sequence[Mapping[str, Any]], text: str, response: Any) -> Any:
        response.model = MODEL
        response.choices[0].message.content = text
        response.choices[0].finish_reason = "stop"
        response.usage = litellm.Usage(**usage(messages, text))
        return response

    def chunk(messages: Sequence[Mapping[str, Any]], text: str) -> dict[str, Any]:
        return {
            "text": text,
            "is_finished": True,
            "finish_reason": "stop",
            "index": 0,
            "tool_use": None,
            "usage": usage(messages, text),
        }

    class OfflineLLM(litellm.CustomLLM):  # type: ignore[misc] # litellm is not followed by the checker
        def completion(self, **call: Any) -> Any:
            return filled(call["messages"], answer(call["messages"]), call["model_response"])

        async def acompletion(self, **call: Any) -> Any:
            # In a thread, so that a large context does not hold up the event loop.
            text = await asyncio.to_thread(answer, call["messages"])
            return filled(call["messages"], text, call["model_response"])

        def streaming(self, **call: Any) -> Iterator[dict[str, Any]]:
            yield chunk(call["messages"], answer(call["messages"]))

        async def astreaming(self, **call: Any) -> AsyncIterator[dict[str, Any]]:
            yield chunk(call["messages"], await asyncio.to_thread(answer, call["messages"]))

    return OfflineLLM()
