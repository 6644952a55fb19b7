"""Every model by its name: `offline/...` answers in this process, all others through litellm.

litellm takes seconds of CPU to import, so it is imported only where a run names a model that needs it (`own_server.py` has some that do
not): `prepare` does that beforehand, in a thread. Without it the first call does.

`offline/extractive` needs no network and no key. It quotes; it does not reason, and knows English endings only. Asked as a session
(the system message speaks of a REPL) it writes an RLM program; asked plainly it extracts the passages that speak to the question,
with exact offsets. The same request always gets the same reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rlm_ray.core.llm import ModelReply, ModelRequest, Usage
from rlm_ray.core.output_limit import OutputLimit

if TYPE_CHECKING:
    from rlm_ray.llm.litellm_client import LitellmProvider
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rlm_ray.llm.litellm_request import check_request
from rlm_ray.llm.offline.programs import (
    NO_MATCH,
    PLAN,
    PREFIX,
    extract,
    failure_program,
    program,
)
from rlm_ray.llm.offline.ranking import LEAF_PASSAGES, rank


class ModelProvider:
    """Passes each request on to who answers it."""

    def __init__(self) -> None:
        self._offline = OfflineProvider()
        self._litellm: LitellmProvider | None = None
        self._prepared: set[str] = set()

    async def prepare(self, models: Iterable[str]) -> None:
        """Import what these models need; nothing the second time."""
        new = {model for model in models if not is_offline(model)} - self._prepared
        if new:
            await asyncio.to_thread(_import_for, new)
            self._prepared |= new

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Make one attempt. Raises `ModelError` and its kinds, or `ConfigError` for a name nobody knows."""
        return await self._of(request.model).complete(request)

    def cost_usd(self, model: str, usage: Usage) -> float | None:
        """Return the cost of a reply; None where the price is not known."""
        return self._of(model).cost_usd(model, usage)

    def output_limit(self, model: str) -> OutputLimit:
        """Return how long replies may be; empty where that is not known."""
        return self._of(model).output_limit(model)

    def provider_name(self, model: str) -> str:
        """Return the name of the provider of this model."""
        return self._of(model).provider_name(model)

    def _of(self, model: str) -> OfflineProvider | LitellmProvider:
        if is_offline(model):
            return self._offline
        if self._litellm is None:
            from rlm_ray.llm.litellm_client import LitellmProvider

            self._litellm = LitellmProvider()
        return self._litellm


def _import_for(models: Iterable[str]) -> None:
    from rlm_ray.llm.litellm_client import import_litellm
    from rlm_ray.llm.own_server import is_own_model

    if not all(map(is_own_model, models)):
        import_litellm()


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


class OfflineProvider:
    """Answers every model whose name begins with `offline/`, at no cost."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Return the answer; in a thread, so that a large context does not hold up the event loop."""
        check_request(request, PROVIDER, {})
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        text = await asyncio.to_thread(answer, messages)
        usage = Usage(request.chars // _CHARS_PER_TOKEN, len(text) // _CHARS_PER_TOKEN)
        return ModelReply(text, usage=usage)

    def cost_usd(self, model: str, usage: Usage) -> float | None:  # noqa: ARG002 - all of them cost nothing
        """Return 0."""
        return 0.0

    def output_limit(self, model: str) -> OutputLimit:  # noqa: ARG002 - none of them has a window
        """Return that there is none."""
        return OutputLimit()

    def provider_name(self, model: str) -> str:  # noqa: ARG002 - as its names begin
        """Return its name."""
        return PROVIDER


def is_offline(model: str) -> bool:
    """Tell whether a model of this name answers here, without a network and without a key."""
    return model.startswith(f"{PROVIDER}/")


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
