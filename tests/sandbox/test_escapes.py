"""The corpus of hostile cells, through the whole sandbox and against the kernel's walls alone."""

from __future__ import annotations

import asyncio
import atexit
import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sandbox_fakes import Served, corpus

from rlm_ray.core.context import make_context
from rlm_ray.core.repl_types import CellResult
from rlm_ray.sandbox.host.sandbox import Sandbox, SandboxManager

pytestmark = pytest.mark.slow

ESCAPES = corpus("escape_corpus.jsonl")
LIMITS = Sandbox(cell_timeout_s=4.0, cell_cpu_s=0.7, memory_mb=96)
AT_ONCE = 4


@dataclass
class Canaries:
    """The secret, in every place a hostile cell might look."""

    secret: str
    file: Path
    fill: Path
    shared: Path
    listener: socket.socket
    documents: list[str] = field(default_factory=lambda: ["a document"])
    exit_callbacks: int = field(default_factory=atexit._ncallbacks)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def arm(self, code: str) -> str:
        code = code.replace("/tmp/rlm_canary.txt", str(self.file)).replace("/tmp/rlm_fill", str(self.fill))
        return f"canary_port = {self.port}\ndocuments = ['a document']\n{code}"

    def reached(self) -> bool:
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return False
        connection.close()
        return True


@pytest.fixture
def canaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Canaries]:
    secret = f"canary-{secrets.token_hex(12)}"
    monkeypatch.setenv("RLM_CANARY", secret)
    file, shared = tmp_path / "rlm_canary.txt", Path(f"/dev/shm/rlm_canary_{os.getpid()}")
    file.write_text(secret)
    shared.write_text(secret)
    planted = {"RLM_PLANTED_KEY": secret, "tracked": []}  # a dict of strings alone is unknown to gc
    with file.open("rb") as inherited, socket.create_server(("127.0.0.1", 0)) as listener:
        os.set_inheritable(inherited.fileno(), True)
        listener.setblocking(False)
        yield Canaries(secret, file, tmp_path / "fill", shared, listener)
    shared.unlink()
    assert planted


@dataclass
class Attempt:
    escape: dict[str, Any]
    result: CellResult
    next_output: str
    seconds: float


async def attempt(
    host: SandboxManager, escape: dict[str, Any], canaries: Canaries, *, filtered: bool
) -> Attempt:
    repl = await host.open(make_context("nothing to see"), "q", filtered=filtered)
    started = time.monotonic()
    result = await repl.run([canaries.arm(escape["code"])], Served())
    seconds = time.monotonic() - started
    follow_up = await repl.run([escape["success_signature"].get("code", "pass")], Served())
    await repl.aclose()
    return Attempt(escape, result, follow_up.output, seconds)


def runs(pid: int | None) -> bool:
    return Path(f"/proc/{pid}").exists()


async def attempt_all(canaries: Canaries, *, filtered: bool) -> list[Attempt]:
    gate = asyncio.Semaphore(AT_ONCE)
    async with SandboxManager(LIMITS) as host:

        async def one(escape: dict[str, Any]) -> Attempt:
            async with gate:
                return await attempt(host, escape, canaries, filtered=filtered)

        attempts = await asyncio.gather(*map(one, ESCAPES))
        assert host.live_children == 0
        zygote = host.zygote_pid
    assert not runs(zygote)
    return attempts


def succeeded(attempt: Attempt, canaries: Canaries) -> bool:  # noqa: PLR0911 - one line for each sign
    """The corpus's own sign of success, seen from the host."""
    signature, result = attempt.escape["success_signature"], attempt.result
    seen = repr(result)
    if canaries.secret in seen or canaries.reached() or canaries.fill.exists():
        return True
    match signature["kind"]:
        case "host_state":
            check = signature["check"].replace("_ncallbacks()>0", f"_ncallbacks()>{canaries.exit_callbacks}")
            return bool(eval(check, {"documents": canaries.documents}))
        case "final":
            return result.final_answer == signature["value"]
        case "wall" | "host_hang":
            return attempt.seconds > LIMITS.cell_timeout_s + 2
        case "output":
            return len(seen) > signature["gt_bytes"]
        case "rss":
            return result.error is None and result.kill_reason is None
        case "next_cell":
            return signature["stdout_contains"] in attempt.next_output
        case _:
            return False


def stopped_by(result: CellResult) -> str:
    error = (result.error or "").splitlines()[-1:] or [""]
    if result.kill_reason:
        return (
            "limit" if "time" in result.kill_reason or "longer" in result.kill_reason else "only itself hurt"
        )
    if "MemoryError" in error[0] or "RecursionError" in error[0]:
        return "limit"
    if "PermissionError" in error[0] or "can't start new thread" in error[0]:
        return "kernel"
    return "filter" if result.error else "nothing to gain"


def show(attempts: list[Attempt]) -> None:
    layers = {item.escape["id"]: stopped_by(item.result) for item in attempts}
    for name, layer in sorted(layers.items(), key=lambda pair: (pair[1], pair[0])):
        result = next(item.result for item in attempts if item.escape["id"] == name)
        why = (result.kill_reason or result.error or result.output or "-").strip().splitlines()
        print(f"{layer:16} {name:34} {why[-1][:110] if why else '-'}")  # noqa: T201
    print(Counter(layers.values()))  # noqa: T201 - the table by layer, shown with -s


@pytest.mark.parametrize("filtered", [True, False], ids=["whole sandbox", "kernel alone"])
async def test_no_escape_succeeds(canaries: Canaries, *, filtered: bool) -> None:
    """Nothing planted comes out, nothing outside changes, each cell ends in time, no process stays."""
    attempts = await attempt_all(canaries, filtered=filtered)
    show(attempts)
    assert [item.escape["id"] for item in attempts if succeeded(item, canaries)] == []
    assert max(item.seconds for item in attempts) < LIMITS.cell_timeout_s + 2
    assert len(attempts) == 106
