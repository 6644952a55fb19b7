"""Transcripts of the dialects of RLM that models were trained on or shown: each ends with the right answer.

A session with its own loop and a real sandbox; the model's messages are written down, its sub-calls answer in a word.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rlm_ray.config import Settings
from rlm_ray.core.context import Context, make_context
from rlm_ray.core.llm import ModelReply, ModelRequest
from rlm_ray.core.repl_types import SubCallAnswer
from rlm_ray.llm.run_context import RunContext
from rlm_ray.sandbox.host.sandbox import SandboxManager
from rlm_ray.session.cell_requests import SubCall
from rlm_ray.session.result import SessionResult
from rlm_ray.session.session import Session

MAIL = "".join(
    f"mail {n}: {'a complaint' if n % 3 == 0 else 'a praise'} about order {n * 7}\n" for n in range(120)
)

OFFICIAL_ANSWER = [
    "I'll look at the context first.\n\n```repl\nprint(type(context), len(context))\nprint(context[:120])\n```",
    (
        "```repl\nlines = context.splitlines()\nprompts = [f'Is this a complaint? {l}' for l in lines[:4]]\n"
        "kinds = llm_query_batched(prompts)\nprint(kinds)\n```"
    ),
    "```repl\nn = sum('complaint' in l for l in lines)\nanswer['content'] = f'{n} complaints'\nprint(answer)\n```",
    "Done.\n\n```repl\nanswer['ready'] = True\n```",
]
OFFICIAL_FINAL_VAR = [
    "```repl\nchunk = context[:4000]\nnote = llm_query(f'What is this? {chunk[:200]}')\nprint(note)\n```",
    "```repl\nfinal_answer = str(context.count('complaint')) + ' complaints'\nprint(SHOW_VARS())\n```",
    "The answer is in the variable.\n\nFINAL_VAR(final_answer)",
]
OFFICIAL_RLM_QUERY = [
    (
        "```repl\nhalves = [context[:2500], context[2500:]]\n"
        "notes = rlm_query_batched(['How many complaints?'] * 2, halves)\nprint(notes)\n```"
    ),
    "```repl\nFINAL(f\"{context.count('complaint')} complaints\")\n```",
]
DSPY = [
    "[[ ## reasoning ## ]]\nI look at the data first.\n\n[[ ## code ## ]]\n```python\nprint(context[:200])\n```\n\n[[ ## completed ## ]]",
    (
        "[[ ## reasoning ## ]]\nNow count.\n\n[[ ## code ## ]]\n```python\nkinds = llm_query_batched(['complaint or praise? ' + l for l in "
        "context.splitlines()[:3]])\nn = sum('complaint' in l for l in context.splitlines())\nprint(n, kinds)\n```\n\n[[ ## completed ## ]]"
    ),
    "[[ ## reasoning ## ]]\nI have it.\n\n[[ ## code ## ]]\n```python\nSUBMIT(f'{n} complaints')\n```\n\n[[ ## completed ## ]]",
]
DSPY_FIELDS = [
    "```python\nn = context.count('complaint')\nprint(n)\n```",
    "```python\nSUBMIT(answer=f'{n} complaints')\n```",
]
SEED = [
    "```python\nprint(context[:100])\n```",
    "```python\nfirst = recursive_llm('What kinds of mail are there?', context[:500])\nprint(first)\nn = len(re.findall('complaint', context))\nprint(n)\n```",
    'FINAL("40 complaints")',
]
SEED_FINAL_VAR = [
    "x = context.count('complaint')\nresult = f'{x} complaints'\nprint(result)",
    "FINAL_VAR(result)",
]
OURS = [
    (
        "```python\nlines = context.splitlines()\nparts = [lines[i:i + 60] for i in range(0, len(lines), 60)]\n"
        "print(recursive_map('Which kinds?', parts))\n```"
    ),
    "```python\nFINAL(f\"{sum('complaint' in line for line in lines)} complaints\")\n```",
]

TRANSCRIPTS = {
    "official: repl fence, answer": (OFFICIAL_ANSWER, "40 complaints"),
    "official: repl fence, FINAL_VAR in prose": (OFFICIAL_FINAL_VAR, "40 complaints"),
    "official: rlm_query_batched, FINAL in code": (OFFICIAL_RLM_QUERY, "40 complaints"),
    "DSPy: code field, SUBMIT": (DSPY, "40 complaints"),
    "DSPy: SUBMIT by field": (DSPY_FIELDS, '{"answer": "40 complaints"}'),
    "the seed: FINAL in prose": (SEED, "40 complaints"),
    "the seed: bare code, FINAL_VAR in prose": (SEED_FINAL_VAR, "40 complaints"),
    "ours: recursive_map, FINAL in code": (OURS, "40 complaints"),
}


class ScriptedGateway:
    """Says one message after another."""

    def __init__(self, messages: Sequence[str]) -> None:
        self.asked: list[ModelRequest] = []
        self._messages = iter(messages)

    async def complete(self, request: ModelRequest, *_: object) -> ModelReply:
        self.asked.append(request)
        return ModelReply(next(self._messages))

    def budget_left(self, _: str) -> str:
        return ""

    def window_tokens(self, *_: object) -> None:
        """Of no known model."""


async def play(host: SandboxManager, messages: Sequence[str]) -> tuple[SessionResult, ScriptedGateway, int]:
    """Run a session of these messages; with it come what was asked, and the number of sub-calls."""
    sub_calls = []

    async def spawn(calls: Sequence[SubCall], slots: list[object], **_: object) -> None:
        sub_calls.extend(calls)
        slots[:] = [SubCallAnswer("complaint") for _ in calls]

    async def open_repl(context: Context, query: str) -> object:
        return await host.open(context, query)

    gateway = ScriptedGateway(messages)
    session = Session(
        (), RunContext("run", Settings(model="m", max_depth=2)), "How many complaints?", make_context(MAIL),
        gateway, open_repl, spawn,  # type: ignore[arg-type]
    )  # fmt: skip
    return await session.run(), gateway, len(sub_calls)


@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_a_transcript_of_a_dialect_ends_right(host: SandboxManager, name: str) -> None:
    messages, answer = TRANSCRIPTS[name]
    result, gateway, _ = await play(host, messages)
    assert (result.answer, result.stop_reason) == (answer, "answered")
    assert len(gateway.asked) == len(messages)
    shown = "\n".join(message.content for message in gateway.asked[-1].messages if message.role == "user")
    assert "Error:" not in shown
    assert "was reassigned" not in shown


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("official: repl fence, answer", 4),
        ("official: rlm_query_batched, FINAL in code", 2),
        ("DSPy: code field, SUBMIT", 3),
        ("the seed: FINAL in prose", 1),
        ("ours: recursive_map, FINAL in code", 2),
    ],
)
async def test_a_dialect_reaches_its_sub_calls(host: SandboxManager, name: str, count: int) -> None:
    assert (await play(host, TRANSCRIPTS[name][0]))[2] == count
