"""Limits are hit, parts are killed, runs are stopped: nothing hangs and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from process_tree import descendants_of, kill_processes, kill_repls
from waiting import until

from rlm_ray import LimitReached, Limits
from rlm_ray.cluster.driver import ClusterDriver, Slot
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import is_session, recursion, run_query

pytestmark = pytest.mark.ray

WIDE = run_query("print(len(context)); r = recursive_map('q', [context[i:i+50] for i in range(0, 5000, 50)])")
TEXT = "some words here " * 1_000


async def census(cluster):
    counts = await (await ClusterDriver.connect(cluster)).stats()
    return sum(c["sessions"] for c in counts.values()), sum(c["sandboxes"] for c in counts.values())


@pytest.mark.parametrize("max_leaf_chars", [0, 100_000], ids=["child sessions", "plain calls"])
async def test_cancelling_a_wide_run_leaves_no_session_no_process_and_no_call(ask, cluster, max_leaf_chars):
    with ModelServer(recursion, latency_s=0.05) as server:
        server_busy = ask(server, max_depth=2, max_leaf_chars=max_leaf_chars)
        work = asyncio.create_task(server_busy.acompletion(WIDE, TEXT))
        await until(lambda: server.calls > 10)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

        async def empty():
            return await census(cluster) == (0, 0) and server.in_flight == 0

        await until(empty, 40.0)
        calls = server.calls
        await asyncio.sleep(0.3)
        assert server.calls == calls


async def test_a_stopped_run_gives_what_it_knows(ask, cluster):
    def script(request):
        if is_session(request):
            return (
                "```python\nprint('the context has', len(context))\n```"
                if request.turn == 1
                else ("```python\nrecursive_map('q', [context[i:i+9] for i in range(0, 900, 9)])\n```")
            )
        return "one leaf answered"

    with ModelServer(script, latency_s=0.2) as server:
        run = await ask(server).astart("q", TEXT)
        await until(lambda: server.calls > 60)
        await run.stop()
        result = await run.result()
    assert result.stop_reason == "interrupted"
    assert "the context has 16000" in result.answer

    async def empty():
        return await census(cluster) == (0, 0)

    await until(empty, 40.0)


def test_a_time_limit_stops_the_tree_and_asks_once_for_the_best_answer(ask):
    def script(request):
        if "has to end now" in request.last:
            return "best so far"
        return "```python\nprint(len(context))\n```"

    with ModelServer(script, latency_s=0.2) as server:
        rlm = ask(server, limits=Limits(time_s=1.0), max_iterations=1000)
        started = time.monotonic()
        result = rlm.run("q", TEXT)
        assert (result.answer, result.stop_reason) == ("best so far", "time_s")
        assert time.monotonic() - started < 10
        with pytest.raises(LimitReached, match=r"raise limits.time_s") as caught:
            rlm.completion("q", TEXT)
    assert caught.value.partial == "best so far"


def test_a_full_pool_never_blocks_whatever_the_width_and_depth(ask):
    below = run_query("print(len(context)); r = recursive_map('q', [context[:20]] * 2)")
    query = run_query(
        f"r = recursive_map('''{below}''', [context[i:i+99] for i in range(0, 3960, 99)]); print(len(context), len(r))"
    )
    with ModelServer(recursion) as server:
        rlm = ask(server, max_depth=3, max_leaf_chars=0)
        strict = rlm.settings.cluster.__class__(min_actors=2, max_actors=2, sessions_per_actor=1)
        rlm = ask(server, max_depth=3, max_leaf_chars=0, cluster=strict)
        for _ in range(2):  # and leaves its slots as it found them
            server.reset()
            assert rlm.completion(query, TEXT) == "session done"
            assert server.calls == 2 + 40 * 2 + 80 * 2


async def test_a_killed_session_actor_costs_its_children_a_second_run_and_nothing_else(ask, cluster):
    query = run_query(
        "r = recursive_map('q', [context[i:i+99] for i in range(0, 3960, 99)]); print(len(context), len(r))"
    )
    with ModelServer(recursion, latency_s=0.3) as server:
        run = await ask(server, max_depth=2, max_leaf_chars=0).astart(query, TEXT)
        await until(lambda: server.calls > 20)
        handles = await (await ClusterDriver.connect(cluster))._pool.handles.remote()
        root = run.actor
        name, other = next(each for each in handles.items() if each[0] != root)
        ray.kill(other)
        result = await run.result()
    assert result.answer == "session done"
    engine = await ClusterDriver.connect(cluster)
    # Whoever stops a run whose actor has just died hears that its root is not there.
    assert await engine.stop(Slot(name, other, "lease"), run.run_id, "interrupted", "") is False
    await engine.grow_to(2)


async def test_code_whose_sandbox_was_killed_runs_again_with_its_variables(ask, cluster):
    query = run_query(
        "x = 'kept'; print(len(context))",
        "r = recursive_map('q', [context[i*99:i*99+9] for i in range(4)])",
        "FINAL(x + str(len(r)))",
    )
    with ModelServer(recursion, latency_s=0.4) as server:
        run = await ask(server).astart(query, TEXT)
        await until(lambda: server.calls == 2 + 4)
        assert kill_repls(await (await ClusterDriver.connect(cluster)).stats())
        result = await run.result()
        assert result.answer == "kept4"
        assert server.calls - (3 + 4) == result.usage.repaid_calls <= 4


async def test_a_sandbox_killed_twice_is_an_observation_and_the_session_goes_on(ask, cluster):
    def script(request):
        if request.turn == 1:
            return "```python\nx = 1\nprint(len(context))\nwhile True: pass\n```"
        return "```python\nFINAL('went on')\n```"

    with ModelServer(script) as server:
        run = await ask(server).astart("q", TEXT)
        await until(lambda: server.calls == 1)

        census = await (await ClusterDriver.connect(cluster)).stats()
        killed: set[int] = set()

        def kill_spinning():
            below = {pid for actor in census.values() for pid in descendants_of(actor["pid"])}
            spinning = kill_processes(pid for pid in below - killed if _cpu_seconds(pid) > 0.3)
            killed.update(spinning)  # a killed one stays in the table until it is waited for
            return bool(spinning)

        await until(kill_spinning)
        await until(kill_spinning)
        assert (await run.result()).answer == "went on"
        assert "variables" in server.requests[1].last


def _cpu_seconds(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_ctrl_c_in_a_wide_run_prints_what_is_known_and_exits_130(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    script = recursion
    with ModelServer(script, latency_s=0.5) as server:
        command = [
            sys.executable, "-m", "rlm_ray", "ask",
            run_query("print('seen', len(context))", "recursive_map('q', [context[i:i+9] for i in range(0, 9000, 9)])"),
            str(tmp_path / "text.txt"), "--model", "openai/root", "--api-base", server.url, "--api-key", "k",
            "--set", "deduplicate_maps=false",
        ]  # fmt: skip
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            cwd=tmp_path, env={**os.environ, "RAY_ADDRESS": ""},
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while server.calls < 100 and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 130, err
        assert "seen 16000" in out
        assert "interrupted" in err
        calls = server.calls
        time.sleep(0.7)
        assert server.calls == calls
    deadline = time.monotonic() + 5
    while _living(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _living(process.pid) == []


def _living(group):
    """Processes of a process group that still run; those that only wait to be reaped do not."""
    rows = subprocess.run(["ps", "-eo", "pgid,stat,args"], capture_output=True, text=True, check=True).stdout
    fields = [row.split(maxsplit=2) for row in rows.splitlines()[1:]]
    return [row for row in fields if row[0] == str(group) and not row[1].startswith("Z")]
