"""Real runs against a strict provider in a process of its own: what `admission.py quota` and the others carry out.

Pieces of mixed length are asked about by plain calls of several roots, through `recursive_map` and four session
actors. A `Watch` reads the provider's own ledger four times a second; every figure comes from there. Each answer
names the length of the prompt it answers, and each root counts the right ones.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from types import TracebackType
from typing import Any, Self

from rlm_ray import RLM, Cluster, Result
from rlm_ray.core.prompts import leaf_messages
from rlm_ray.testing import Request, ServerProcess
from rlm_ray.testing.responses import is_session, recursion, run_query

CLUSTER = Cluster(address="local", min_actors=4, max_actors=4, cpus_per_actor=0.5)
QUESTION = "what is it?"
MAX_TOKENS = 256
LATENCY_S = 0.4
SAMPLE_S = 0.25
TEXT = "The quick brown fox jumps over the lazy dog. "
_PROMPT_CHARS = len(leaf_messages(QUESTION, "x")[-1].content) - 1

_MAP = """
cuts = {cuts}
pieces = [context[a:b] for a, b in zip(cuts, cuts[1:])]
answers = recursive_map({question!r}, pieces)
right = sum(a.split()[0] == str({prompt_chars} + len(p)) for a, p in zip(answers, pieces))
FINAL(str(right))
"""


def mixed(request: Request) -> str:
    """Plays the sessions of a tree; answers a plain call with the length of its prompt and 10 to 90 tokens."""
    if is_session(request):
        return recursion(request)
    chars = len(request.last)
    return f"{chars} ".ljust(40 + chars * 7919 % 320, "x")


def sizes(count: int, seed: int) -> list[int]:
    """Lengths of pieces, such that a call takes 167 tokens in the mean: 6000 of them are a million."""
    draw = random.Random(seed)
    return [min(int(draw.lognormvariate(5.26, 0.9)), 3_000) + 1 for _ in range(count)]


def messages(count: int, seed: int) -> list[list[dict[str, str]]]:
    """The plain calls of one root as they go over the wire, for peers."""
    cuts = [0, *accumulate(sizes(count, seed))]
    text = TEXT * (cuts[-1] // len(TEXT) + 1)
    return [
        [{"role": message.role, "content": message.content} for message in leaf_messages(QUESTION, text[a:b])]
        for a, b in pairwise(cuts)
    ]


async def root(rlm: RLM, count: int, seed: int) -> Result:
    """One root that maps over so many pieces; its answer is how many answers were right."""
    cuts = [0, *accumulate(sizes(count, seed))]
    program = _MAP.format(cuts=cuts, question=QUESTION, prompt_chars=_PROMPT_CHARS)
    return await rlm.arun(run_query(program), TEXT * (cuts[-1] // len(TEXT) + 1))


async def roots(rlm: RLM, number: int, count: int) -> list[Result]:
    """Several at once."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(root(rlm, count, seed)) for seed in range(number)]
    return [task.result() for task in tasks]


def rlm_for(server: ServerProcess, **options: Any) -> RLM:
    settings: dict[str, Any] = {"cluster": CLUSTER, "max_tokens": MAX_TOKENS, "api_key": "key"} | options
    return RLM(
        deduplicate_maps=False,
        direct_call_below_chars=0,
        model="openai/strict",
        api_base=server.url,
        **settings,
    )


def server_for(*arguments: str, latency_s: float = LATENCY_S) -> ServerProcess:
    return ServerProcess(["--script", "strict:mixed", "--latency-s", str(latency_s), *arguments])


@dataclass
class Watch:
    """The ledger of a provider over time. A `with` block lasts as long as the run."""

    server: ServerProcess
    samples: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            last = self._over.wait(SAMPLE_S)
            self.samples.append((time.monotonic(), self.server.stats()["provider"]))
            if last:
                return

    @property
    def ledger(self) -> dict[str, Any]:
        return self.samples[-1][1]

    @property
    def began(self) -> float:
        """When the first request came, to a sample."""
        return next(at for at, ledger in self.samples if ledger["admitted"])

    @property
    def ended(self) -> float:
        """When the last request was admitted."""
        return next(at for at, ledger in self.samples if ledger["admitted"] == self.ledger["admitted"])

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    def at(self, seconds: float) -> dict[str, Any]:
        """The ledger so many seconds after the first request."""
        return next(
            (ledger for at, ledger in self.samples if at - self.began >= seconds), self.samples[-1][1]
        )

    def per_minute(self, name: str, start_s: float, stop_s: float) -> float:
        """`admitted` or `tokens`, between two moments."""
        used: float = self.at(stop_s)[name] - self.at(start_s)[name]
        return used * 60 / (stop_s - start_s)

    def used(self, rpm: float, tpm: float, start_s: float, stop_s: float) -> float:
        """The share of the tighter quota that was used between two moments."""
        requests = self.per_minute("admitted", start_s, stop_s) / rpm
        return max(requests, self.per_minute("tokens", start_s, stop_s) / tpm)

    def refused_share(self, start_s: float = 0.0, stop_s: float = 1e9) -> float:
        """Of all that was asked between two moments."""
        before, after = self.at(start_s), self.at(stop_s)
        refused = sum(after["refused"].values()) - sum(before["refused"].values())
        share: float = refused / max(refused + after["admitted"] - before["admitted"], 1)
        return share
