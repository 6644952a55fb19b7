"""What a cell may cost, and what is left when it took more."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from sandbox_fakes import QUICK, Cells, Served

from rlm_ray.core.context import make_context
from rlm_ray.core.repl_types import SubCallAnswer, SubCallOutcome, SubCallRequest
from rlm_ray.errors import ConfigError, SandboxError
from rlm_ray.sandbox.host.kernel_features import KernelFeature, probe_features
from rlm_ray.sandbox.host.sandbox import Sandbox, SandboxManager

pytestmark = pytest.mark.slow


@pytest_asyncio.fixture(loop_scope="module")
async def manager() -> AsyncIterator[SandboxManager]:
    """A zygote for each test."""
    async with SandboxManager(QUICK) as manager:
        yield manager


BRIEF = Sandbox(cell_timeout_s=0.6, cell_cpu_s=20)


LONG_LINE = "'a' * 40 + '!'"
INTERRUPTED = {
    "a loop": "while True:\n    n += 1",
    "a loop in a function": "def f():\n    while True:\n        pass\nf()",
    "a bare except in a loop": "while True:\n    try:\n        n += 1\n    except:\n        pass",
    "except BaseException in a loop": "while True:\n    try:\n        n += 1\n    except BaseException as e:\n        n = 0",
    "an alias of BaseException": "E = BaseException\nwhile True:\n    try:\n        n += 1\n    except E:\n        pass",
    "a suppressed interruption": "import contextlib\nfor _ in range(3):\n    with contextlib.suppress(BaseException):\n        while True:\n            n += 1",
    "a finally that goes on": "for _ in range(3):\n    try:\n        while True:\n            n += 1\n    finally:\n        continue",
    "a quadratic regular expression": f"import re\nre.search(r'(a+)+$', {LONG_LINE})",
    "a substitution that takes for ever": f"import re\nre.sub(r'(a|aa)+$', '', {LONG_LINE} * 2)",
    "a power": "x = 7 ** (10 ** 9)",
    "prints": "while True:\n    print('x' * 1000)",
    "a generator": "def g():\n    while True:\n        try:\n            yield 1\n        except:\n            yield 2\nfor x in g():\n    n += x",
    "a sort by a slow key": "def key(x):\n    while True:\n        pass\nsorted([3, 1, 2], key=key)",
    "an answer that cannot be written": "class A:\n    def __str__(self):\n        while True:\n            pass\nanswer['content'], answer['ready'] = A(), True",
}
KILLED = {
    "a sum in C": "sum(range(10**12))",
    "an iterator that is emptied in C": "import itertools\ncollections.deque(itertools.repeat(1), maxlen=0)",
    "a finally that goes on for ever": "while True:\n    try:\n        while True:\n            n += 1\n    finally:\n        continue",
}


@pytest.mark.parametrize("name", INTERRUPTED)
async def test_a_cell_at_its_deadline_is_interrupted_and_keeps_its_variables(name: str) -> None:
    async with SandboxManager(BRIEF) as host:
        repl = await host.open(make_context("x"), "q")
        result = await repl.run(
            [f"n = 0\nparsed = [1, 2, 3]\nprint('before')\n{INTERRUPTED[name]}"], Served()
        )
        assert result.kill_reason is None
        assert "cell 1, line" in (result.error or "")
        assert "CellTimeout: the cell ran longer than 0.6 s" in (result.error or "")
        assert "Variables are kept" in (result.error or "")
        assert result.output.startswith("before\n")
        assert (await repl.run(["print(parsed)"], Served())).output == "[1, 2, 3]\n"


async def test_the_line_of_the_interruption_is_named() -> None:
    async with SandboxManager(BRIEF) as host:
        repl = await host.open(make_context("x"), "q")
        result = await repl.run(["def slow():\n    while True: pass\n\nslow()"], Served())
        assert (result.error or "").splitlines()[:2] == [
            "cell 1, line 4: slow()",
            "cell 1, line 2, in slow: while True: pass",
        ]


@pytest.mark.parametrize("name", KILLED)
async def test_a_cell_that_cannot_be_interrupted_is_killed_and_the_next_is_fresh(name: str) -> None:
    async with SandboxManager(BRIEF) as host:
        repl = await host.open(make_context("x"), "q")
        result = await repl.run([f"n = 1\nprint('before')\n{KILLED[name]}"], Served())
        assert "the cell ran longer than 0.6 s" in (result.kill_reason or "")
        assert "could not be interrupted" in (result.kill_reason or "")
        assert "All variables are lost" in (result.kill_reason or "")
        assert result.output == "before\n"
        assert "NameError" in ((await repl.run(["print(n)"], Served())).error or "")


async def test_a_sub_call_after_the_deadline_is_not_made() -> None:
    served = Served()
    code = "while True:\n    try:\n        while True: pass\n    finally:\n        recursive_llm('q')"
    async with SandboxManager(BRIEF) as host:
        repl = await host.open(make_context("x"), "q")
        result = await repl.run([code], served)
        assert (result.kill_reason, served.calls) == (None, [])
        assert "CellTimeout" in (result.error or "")


async def test_interrupted_many_times_the_channel_stays_whole() -> None:
    async with SandboxManager(Sandbox(cell_timeout_s=0.05)) as host:
        repl = await host.open(make_context("x"), "q")
        for number in range(20):
            result = await repl.run([f"n = {number}\nwhile True: print('x' * 500)"], Served())
            assert "CellTimeout" in (result.error or "")
        assert (await repl.run(["print(n)"], Served())).output == "19\n"


async def test_waiting_for_sub_calls_is_not_charged() -> None:
    async def slow(calls: SubCallRequest) -> Sequence[SubCallOutcome]:
        await asyncio.sleep(0.4)
        return [SubCallAnswer("slow")]

    async with SandboxManager(BRIEF) as host:
        repl = await host.open(make_context("x"), "q")
        result = await repl.run(["for i in range(3): print(recursive_llm('q'))"], slow)
        assert (result.kill_reason, result.output) == (None, "slow\n" * 3)


async def test_processor_time_has_a_limit_of_its_own() -> None:
    async with SandboxManager(Sandbox(cell_timeout_s=30, cell_cpu_s=0.2)) as host:
        repl = await host.open(make_context("x"), "q")
        result = await repl.run(["while True: pass"], Served())
        assert "CellTimeout: the cell used more than 0.2 s of processor time" in (result.error or "")
        result = await repl.run(["sum(range(10**12))"], Served())
        assert "more than 0.2 s of processor time" in (result.kill_reason or "")
        for _ in range(4):
            assert (await repl.run(["sum(range(10**6))"], Served())).kill_reason is None


async def test_memory_has_a_limit_and_the_error_says_what_to_do(cells: Cells) -> None:
    result = await cells("x = 'kept'\ny = [0] * 10**9")
    assert "128 MB" in (result.error or "")
    assert "re.finditer" in (result.error or "")
    assert await cells.prints("print(x)") == "kept\n"


async def test_honest_work_on_a_large_context_fits(host: SandboxManager) -> None:
    cells = Cells(await host.open(make_context("word " * 4_000_000), "q"), Served())
    assert await cells.prints("t = context.upper(); u = t[::-1]; print(len(u))") == "20000000\n"


async def test_a_crash_of_the_interpreter_costs_only_its_own_session(host: SandboxManager) -> None:
    crashing = await host.open(make_context("x"), "q", filtered=False)
    other = Cells(await host.open(make_context("x"), "q"), Served())
    await other("kept = 1")
    result = await crashing.run(["import ctypes; ctypes.string_at(0)"], Served())
    assert "it crashed (SIGSEGV)" in (result.kill_reason or "")
    assert await other.prints("print(kept)") == "1\n"


async def test_deep_recursion_is_an_error(cells: Cells) -> None:
    result = await cells("def f(): return f()\nf()")
    assert "RecursionError" in (result.error or "")
    assert await cells.prints("def g(n): return n and g(n - 1)\nprint(g(2000))") == "0\n"


def frame_of(head: str, blob: str, times: int = 1) -> str:
    """Code that sends a frame past all that an honest child checks."""
    return (
        f"import os, json; h = {head}; h = h if isinstance(h, bytes) else json.dumps(h).encode(); b = {blob}\n"
        "data = (len(h).to_bytes(4, 'little') + len(b).to_bytes(4, 'little') + h + b) * " + str(times) + "\n"
        "while data: data = data[os.write(3, data):]\n"
        "os.read(3, 1)"
    )


MALFORMED = {
    "garbage": "import os; os.write(3, b'garbage garbage'); os.read(3, 1)",
    "a huge length": "import os; os.write(3, b'\\xff' * 8); os.read(3, 1)",
    "an unknown kind": "import os, json; h = json.dumps({'kind': 'x', 'sizes': []}).encode(); os.write(3, len(h).to_bytes(4, 'little') + bytes(4) + h); os.read(3, 1)",
    "ready again": "import os, json; h = json.dumps({'kind': 'ready', 'sizes': []}).encode(); os.write(3, len(h).to_bytes(4, 'little') + bytes(4) + h); os.read(3, 1)",
    "notes of 59 MB": frame_of(
        "{'kind': 'done', 'sizes': [0, 59_000_000], 'chars': 0, 'notes': 1, 'looked': True, 'failed': False, 'variables': []}",
        "b'n' * 59_000_000",
    ),
    "a print of 20 MB": frame_of(
        "{'kind': 'printed', 'sizes': [20_000_000], 'chars': 1}", "b'n' * 20_000_000"
    ),
    "a head of 3 MB": frame_of("{'kind': 'printed', 'sizes': [1], 'chars': 1, 'x': [0] * 1_000_000}", "b'n'"),
    "a frame of two kinds": frame_of('b\'{"kind": "calls", "kind": "done", "sizes": []}\'', "b''"),
    "calls that ask nothing": frame_of(
        "{'kind': 'calls', 'sizes': [], 'call': 'llm', 'queries': 0, 'asks': [], 'parts': []}", "b''"
    ),
    "two answers": frame_of("{'kind': 'final', 'sizes': [1]}", "b'1'", times=2),
    "a flood of calls with texts that nothing asks about": frame_of(
        "{'kind': 'calls', 'sizes': [1, 30_000_000], 'call': 'llm', 'queries': 1, 'asks': [0], 'parts': [['span', 0, 0]]}",
        "b'n' * 30_000_001",
    ),
    "a flood": "import os, json; h = json.dumps({'kind': 'printed', 'sizes': [1], 'chars': 1}).encode(); f = len(h).to_bytes(4, 'little') + (1).to_bytes(4, 'little') + h + b'x'\nwhile True: os.write(3, f * 100)",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_child_that_breaks_the_protocol_is_killed(host: SandboxManager, name: str) -> None:
    repl = await host.open(make_context("x"), "q", filtered=False)
    result = await repl.run([MALFORMED[name]], Served())
    assert "it broke the protocol" in (result.kill_reason or "")


async def test_a_child_that_dies_during_a_sub_call_cancels_it(host: SandboxManager) -> None:
    cancelled = asyncio.Event()

    async def endless(calls: SubCallRequest) -> Sequence[SubCallOutcome]:
        (pid,) = child_pids(host)
        os.kill(pid, signal.SIGKILL)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    repl = await host.open(make_context("x"), "q")
    result = await repl.run(["recursive_llm('q')"], endless)
    assert "ran out of memory" in (result.kill_reason or "")
    assert cancelled.is_set()


async def test_cancelling_a_run_in_a_sub_call_cancels_the_sub_call_and_kills_the_child(
    host: SandboxManager,
) -> None:
    inside, cancelled = asyncio.Event(), asyncio.Event()

    async def endless(calls: SubCallRequest) -> Sequence[SubCallOutcome]:
        inside.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    repl = await host.open(make_context("x"), "q")
    run = asyncio.create_task(repl.run(["recursive_llm('q')"], endless))
    await inside.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert cancelled.is_set()
    assert host.live_children == 0


async def test_cancelling_a_run_in_the_middle_of_a_cell_kills_the_child(host: SandboxManager) -> None:
    reached = asyncio.Event()

    async def once(calls: SubCallRequest) -> Sequence[SubCallOutcome]:
        asyncio.get_running_loop().call_later(0.05, reached.set)
        return [SubCallAnswer("go")]

    repl = await host.open(make_context("x"), "q")
    run = asyncio.create_task(repl.run(["recursive_llm('q')\nwhile True: pass"], once))
    await reached.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert host.live_children == 0
    assert (await repl.run(["print(1)"], once)).output == "1\n"


async def test_closing_a_repl_in_the_middle_of_a_cell_ends_the_cell(host: SandboxManager) -> None:
    repl = await host.open(make_context("x"), "q")
    run = asyncio.create_task(repl.run(["while True: pass"], Served()))
    await asyncio.sleep(0.05)
    await repl.aclose()
    assert (await run).kill_reason
    with pytest.raises(SandboxError):
        await repl.run(["1"], Served())


@pytest.mark.parametrize("size", [10, 400_000], ids=["small context", "large context"])
async def test_a_zygote_that_dies_is_replaced_and_its_sessions_are_reported(
    host: SandboxManager, size: int
) -> None:
    repl = await host.open(make_context("x" * size), "q")
    assert (await repl.run(["y = 1"], Served())).error is None
    before = host.zygote_pid
    assert before is not None
    assert repl._child is not None
    os.kill(before, signal.SIGKILL)
    await repl._child.exited
    result = await repl.run(["print(y)"], Served())
    assert "its supervising process died" in (result.kill_reason or "")
    assert (await repl.run(["print(len(context))"], Served())).output == f"{size}\n"
    assert host.zygote_pid != before


async def test_a_dead_zygote_does_not_keep_new_sessions_out(host: SandboxManager) -> None:
    assert host.zygote_pid is not None
    os.kill(host.zygote_pid, signal.SIGKILL)
    repl = await host.open(make_context("x"), "q")
    assert (await repl.run(["print(1)"], Served())).output == "1\n"


# Settings and layers


@pytest.mark.parametrize(
    "wrong",
    [
        {"cell_timeout_s": -1},
        {"cell_timeout_s": float("nan")},
        {"cell_cpu_s": float("inf")},
        {"memory_mb": 1},
        {"output_chars": 0},
        {"memory_mb": "256"},
        {"cell_cpu_s": True},
    ],
)
def test_absurd_settings_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"sandbox.{next(iter(wrong))}"):
        Sandbox(**wrong)


def without(name: str) -> list[KernelFeature]:
    return [
        layer if layer.name != name else KernelFeature(name, "Function not implemented")
        for layer in probe_features()
    ]


async def test_a_kernel_without_landlock_is_refused_by_name() -> None:
    host = SandboxManager(QUICK, probe=lambda: without("Landlock"))
    with pytest.raises(
        SandboxError, match=r"no Landlock \(Function not implemented\): pass Sandbox\(allow_degraded=True\)"
    ):
        await host.start()
    await host.aclose()


async def test_degraded_runs_without_landlock_but_never_without_seccomp() -> None:
    degraded = Sandbox(allow_degraded=True)
    async with SandboxManager(degraded, probe=lambda: without("Landlock")) as host:
        repl = await host.open(make_context("x"), "q", filtered=False)
        result = await repl.run(["open('/etc/passwd')"], Served())
        assert "PermissionError" in (result.error or "")
    with pytest.raises(SandboxError, match="seccomp"):
        await SandboxManager(degraded, probe=lambda: without("seccomp")).start()


# Nothing stays behind


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def runs(pid: int | None) -> bool:
    return Path(f"/proc/{pid}").exists()


def child_pids(host: SandboxManager) -> list[int]:
    children = Path(f"/proc/{host.zygote_pid}/task/{host.zygote_pid}/children").read_text().split()
    return [int(pid) for pid in children]


async def test_two_hundred_sessions_leave_nothing_behind() -> None:
    host = SandboxManager(QUICK)
    await host.start()
    await (await host.open(make_context("x"), "q")).aclose()
    descriptors = open_descriptors()
    gate = asyncio.Semaphore(16)

    async def session(number: int) -> None:
        async with gate:
            size = 300_000 if number % 20 == 0 else 10
            repl = await host.open(make_context("y" * size, key="big" if number % 40 == 0 else ""), "q")
            assert (await repl.run(["print(len(context))"], Served())).output == f"{size}\n"
            await repl.aclose()

    await asyncio.gather(*map(session, range(200)))
    assert host.live_children == 0
    # One control socket for the keyed context that is kept for whoever asks next.
    assert open_descriptors() <= descriptors + 1
    zygote = host.zygote_pid
    assert len(child_pids(host)) <= 2
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await host.aclose()
    await host.aclose()
    assert not runs(zygote)


async def test_the_zygote_ends_when_its_host_does() -> None:
    host = SandboxManager(QUICK)
    await host.start()
    repl = await host.open(make_context("x" * 300_000), "q")
    assert repl
    assert host._zygote is not None
    process = host._zygote._process
    host._zygote.client.close()
    deadline = time.monotonic() + 10
    while process.poll() is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert process.returncode == 0
    await host.aclose()


BURN = """
import signal
def burn(*_):
    while True: pass
signal.signal(signal.SIGALRM, burn)
from rlm_ray.sandbox.guest.clock import CellTimer
stop = CellTimer.stop
def stop_and_burn_later(self):
    stop(self)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
CellTimer.stop = stop_and_burn_later
"""


async def test_a_child_that_uses_the_processor_between_cells_is_killed(host: SandboxManager) -> None:
    """Without the filter, so that only the process outside can end it."""
    repl = await host.open(make_context("x"), "q", filtered=False)
    await repl.run([BURN], Served())
    async with asyncio.timeout(20):
        while host.live_children:  # noqa: ASYNC110 - the host tells nobody of an exit
            await asyncio.sleep(0.05)
    result = await repl.run(["print('again')"], Served())
    assert "processor time while no cell ran" in (result.kill_reason or "")
    assert not result.killed_externally
    assert (await repl.run(["print('again')"], Served())).output == "again\n"


async def test_a_cell_may_compute_for_longer_than_a_child_may_between_cells() -> None:
    async with SandboxManager(Sandbox(cell_timeout_s=50, cell_cpu_s=20)) as host:
        repl = await host.open(make_context("x"), "q")
        for _ in range(2):
            result = await repl.run(["print(sum(1 for _ in range(30_000_000)))"], Served())
            assert (result.kill_reason, result.output) == (None, "30000000\n")
