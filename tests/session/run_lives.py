"""Lives of a run: real sessions and a real gateway over a scripted model, a scripted REPL and a journal in memory."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field, replace

from rlm_ray.admission.client import AdmissionClient
from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import RunPolicy
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.config import Settings
from rlm_ray.core.context import InputSummary, make_context
from rlm_ray.core.limits import Limits
from rlm_ray.core.llm import Message, ModelReply, ModelRequest, Usage
from rlm_ray.core.output_limit import OutputLimit
from rlm_ray.core.repl_types import CellResult, Failed, SubCallAnswer, SubCallRequest, ToolRequest
from rlm_ray.core.tools import ToolSpec
from rlm_ray.errors import ContextWindowError, RLMError
from rlm_ray.events.records import SessionEnded, SessionOpened, from_line
from rlm_ray.journal.call_recorder import CallSite
from rlm_ray.journal.recorder import JournalRecorder
from rlm_ray.journal.replay import outcome_from_record
from rlm_ray.journal.server import JournalRef
from rlm_ray.llm.gateway import Gateway
from rlm_ray.llm.response_cache import request_key
from rlm_ray.llm.run_context import RunContext
from rlm_ray.session.session import Session
from rlm_ray.testing.scripted_model import FunctionModel

PROGRAMS = {
    "ROOT": ["look", "leaves a b", "children C1 C2", "leaves c; children C1; leaves d e", "final"],
    "C1": ["leaves x", "final"],
    "C2": ["look", "final"],
}
"""What the model writes, turn by turn, for each question."""
CONTEXT = make_context("the long text " * 500)


class Provider(FunctionModel):
    """Writes the programs, and answers plain questions under its name; `broken` leaves fail."""

    def __init__(self, programs, broken):
        super().__init__(self._answer)
        self._programs, self._broken = programs, broken

    def _answer(self, request):
        first = next(message.content for message in request.messages if message.role == "user")
        if first.startswith("LEAF"):
            name = first.split()[1]
            if name in self._broken:
                return ContextWindowError(request.model, f"{name} is too long")
            return ModelReply(f"{request.model}:{name}", usage=Usage(10, 1))
        turn = sum(message.role == "assistant" for message in request.messages)
        program = next(name for name in self._programs if f"<<{name}>>" in first)
        return ModelReply(f"```python\n{self._programs[program][turn]}\n```", usage=Usage(100, 10))

    def cost_usd(self, model, usage):
        return 0.0

    def output_limit(self, model):
        return OutputLimit()

    def provider_name(self, model):
        return "scripted"


class Repl:
    """Runs `look`, `leaves`, `children`, `die` and `final`; all it ever heard is in its one variable.

    It is killed from outside at the end of cell number `lost_at`.
    """

    def __init__(self, ran, lost_at=0):
        self.ran = ran
        self.lost_at = lost_at
        self.memory = []

    async def run(self, blocks, serve, *, now=None, query=None, history=None):
        code = "; ".join(blocks).strip()
        self.ran.append((code, now))
        for statement in code.split("; "):
            verb, *names = statement.split()
            match verb:
                case "look":
                    self.memory.append("looked")
                case "leaves" | "children":
                    kind = {"leaves": "llm", "children": "rlm"}[verb]
                    outcomes = await serve(
                        SubCallRequest(kind, tuple(names), ("part",) * len(names), stop_on_error=False)
                    )
                    self.memory += [
                        outcome.text
                        if isinstance(outcome, SubCallAnswer)
                        else f"<{outcome.kind}: {outcome.why}>"
                        for outcome in outcomes
                    ]
                case "tools":
                    for name in names:
                        (outcome,) = await serve(ToolRequest("tool", name))
                        failed = isinstance(outcome, Failed)
                        self.memory.append(f"<{outcome.kind}: {outcome.why}>" if failed else outcome.text)
                case "die":
                    self.memory.clear()
                    return CellResult("dying words", context_was_read=True, kill_reason="it took too long")
                case "final":
                    return CellResult(final_answer=" ".join(self.memory), context_was_read=True)
        if len(self.ran) == self.lost_at:
            self.memory.clear()
            return CellResult(
                context_was_read=True, kill_reason="its node was short of memory", killed_externally=True
            )
        return CellResult(" ".join(self.memory), context_was_read=True)

    async def aclose(self):
        pass


class Tools:
    """One tool, which notes that it was called; it fails for an argument that begins with `bad`."""

    specs = (ToolSpec("tool", "()", ""),)

    def __init__(self):
        self.called = []

    async def call(self, request):
        self.called.append(request.arguments)
        if request.arguments.startswith("bad"):
            return Failed("ValueError", request.arguments)
        return SubCallAnswer(f"{request.arguments} {len(self.called)}")


@dataclass
class Life:
    """One life of a run, over what those before it left on record."""

    data: bytes = b""
    name: str = "life-1"
    model: str = "m"
    programs: dict = field(default_factory=lambda: PROGRAMS)
    broken: tuple = ()
    limits: Limits = field(default_factory=Limits)
    lost_at: int = 0

    def __post_init__(self):
        self.earlier = self.data
        self.ran = defaultdict(list)
        self.tools = Tools()
        self.provider = Provider(self.programs, self.broken)
        self.shell = AdmissionServer(AdmissionController(), "epoch")
        self.client = AdmissionClient("holder", self.shell, coalesce_s=0.0)
        self.gateway = Gateway(self.provider, self.client)
        self.settings = Settings(model=self.model, max_depth=2)

    async def append(self, ref, data):
        self.data += data
        return len(self.data)

    async def read(self, ref, offset, wait_s):
        return self.data[offset:]

    async def run(self):
        await self.shell.open_run(RunPolicy("run", self.limits))
        recorder = JournalRecorder(JournalRef("", "run", self.name, ""), self, self.name)
        await recorder.load_history()
        self.run_context = RunContext("run", replace(self.settings, limits=self.limits))
        self.recorder = recorder
        completion = await self.session((), "ROOT").run()
        await recorder.flush()
        await self.client.flush()
        self.usage = (await self.shell.usage("run")).total
        return completion

    def session(self, path, query):
        async def open_repl(context, _):
            return Repl(self.ran[path], 0 if path else self.lost_at)

        async def spawn(calls, slots, *, first, stop_on_error):
            async with asyncio.TaskGroup() as group:
                for index, call in enumerate(calls):
                    work = self.child if call.is_session else self.leaf
                    group.create_task(self.fill(slots, index, work((*path, first + index), call.query)))

        return Session(
            path,
            self.run_context,
            f"<<{query}>>",
            CONTEXT,
            self.gateway,
            open_repl,
            spawn,
            tools=self.tools,
            recorder=self.recorder,
        )

    async def fill(self, slots, index, work):
        slots[index] = await work

    async def leaf(self, path, name):
        request = ModelRequest(self.model, (Message("user", f"LEAF {name}"),))
        known = self.recorder.replay.seen_failure(path, request_key(request))
        if known is not None:
            return known
        try:
            place = CallSite(path, 1, "leaf", query=name)
            reply = await self.gateway.complete(request, self.run_context, place, self.recorder)
        except RLMError as error:
            return Failed(type(error).__name__, str(error))
        return SubCallAnswer(reply.text)

    async def child(self, path, name):
        replay, recorder, key = self.recorder.replay, self.recorder, f"{self.model} {name}"
        end = replay.end(path, key)
        if end is None:
            attempt = replay.attempts(path) + 1
            recorder.append(SessionOpened(0, path, name, InputSummary(), self.model, self.name, attempt))
            done = await self.session(path, name).run()
            end = SessionEnded(1, path, done.stop_reason, done.why, done.answer, done.turns, "", attempt, key)
            recorder.append(end)
        return outcome_from_record(end)

    @property
    def records(self):
        return [from_line(line) for line in self.data.splitlines()]

    @property
    def calls_made(self):
        return len(self.provider.requests)
