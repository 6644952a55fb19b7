"""Tools and citations from a model's message to its answer: a real sandbox and a real process of tools, a scripted model."""

from __future__ import annotations

from functools import partial

import pytest
import ray.cloudpickle
import tool_functions

from rlm_ray.config import Settings
from rlm_ray.core.context import make_context
from rlm_ray.core.llm import ModelReply
from rlm_ray.core.tools import ToolLimits
from rlm_ray.llm.run_context import RunContext
from rlm_ray.sandbox.host.sandbox import SandboxManager
from rlm_ray.sandbox.settings import Sandbox
from rlm_ray.session.session import Session
from rlm_ray.tools.host import ToolHosts
from rlm_ray.tools.packing import pack_tools

pytestmark = pytest.mark.slow

DOCUMENTS = [
    {"id": "a.txt", "text": "The sky was grey.\nNobody had seen the sun for a week."},
    {
        "id": "b.txt",
        "text": "[page 1]\nThe port.\n\n[page 2]\nThe harbour opened in 1907 and was closed in 1954.",
    },
]
CODE = """
print(weather({"name": "Rome"}, days=2)["degrees"])
for call in (lambda: divide(1, 0), lambda: hang(), lambda: big(10_000_000), lambda: divide("a", 1)):
    try:
        call()
    except ToolError as error:
        print(error)
print(cite("opened in 1907", "b.txt"))
print(cite(search("sun")[0])["quote"])
for words in ("opened in 1908 and was closed", "the moon is made of cheese"):
    try:
        cite(words)
    except CitationError as error:
        print(error)
"""
PRINTED = [
    "63.0",
    "divide: it raised ZeroDivisionError: float division by zero",
    "hang: it gave no result within 3 s and was given up (tool_limits.timeout_s)",
    (
        "big: its result has 10,000,000 bytes, more than the 1,000,000 that are taken (tool_limits.max_result_bytes); it was "
        "not taken: ask for less of it at a time"
    ),
    "divide: argument a: Input should be a valid number, unable to parse string as a number; got 'a'",
    "{'quote': 'opened in 1907', 'document': 'b.txt', 'start': 41, 'end': 55, 'page': 2}",
    "Nobody had seen the sun for a week.",
    (
        "'opened in 1908 and was closed' does not stand in the context; the nearest words that do are 'opened in 1907 and was "
        "closed' (b.txt, page 2, characters 41-70)"
    ),
    (
        "'the moon is made of cheese' does not stand in the context, nor do words like it; look at the context and cite what "
        "stands there"
    ),
]


class Gateway:
    """Writes these programs, turn by turn."""

    def __init__(self, *programs):
        self.programs, self.asked = list(programs), []

    async def complete(self, request, run, place, recorder):
        self.asked.append(request)
        return ModelReply(f"```python\n{self.programs.pop(0)}\n```")

    def budget_left(self, _):
        return ""

    def window_tokens(self, *_):
        return None


async def test_a_session_calls_tools_and_cites_what_stands_in_its_context():
    functions = [getattr(tool_functions, name) for name in ("weather", "divide", "hang", "big")]
    settings = Settings(
        citations="required", tool_limits=ToolLimits(timeout_s=3), sandbox=Sandbox(cell_timeout_s=50)
    )
    tools, gateway = ToolHosts(), Gateway("FINAL(len(context))", CODE, "FINAL('in 1907')")
    box = await tools.open(pack_tools(functions, ray.cloudpickle), {}, settings.tool_limits)
    async with SandboxManager(settings.sandbox) as host:
        names = tuple(spec.name for spec in box.specs)
        open_repl = partial(host.open, tools=names, argument_bytes=100_000)
        session = Session(
            (),
            RunContext("run", settings),
            "When?",
            make_context(DOCUMENTS),
            gateway,
            open_repl,
            None,
            tools=box,
        )
        completion = await session.run()
    await tools.aclose()
    first, second, _ = completion.trajectory.turns
    assert first.result.final_answer == "2"
    assert second.result.output.splitlines() == PRINTED, second.result.error
    assert (completion.stop_reason, completion.answer) == ("answered", "in 1907")
    assert [cited.place for cited in completion.citations] == [
        "b.txt, page 2, characters 41-55", "a.txt, characters 18-53",
    ]  # fmt: skip
    assert "it cites nothing" in gateway.asked[1].messages[-1].content
