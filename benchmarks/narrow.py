"""A map of many child sessions through a pool that holds almost none: it must finish, whatever the width.

    python benchmarks/narrow.py [--sub-calls 2000]

Depth 2, two actors, one session at a time in each; every child makes a plain sub-call of its own.
"""

from __future__ import annotations

import argparse
import time

from rlm_ray import RLM, Cluster
from rlm_ray.testing import ServerProcess
from rlm_ray.testing.responses import run_query


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sub-calls", type=int, default=2000)
    count = parser.parse_args().sub_calls
    child = run_query("print(len(context)); r = recursive_llm('q', context[:20])")
    program = (
        f"pieces = [context[i:i+50] for i in range(0, 50 * {count}, 50)]\n"
        f"r = recursive_map({child!r}, pieces)\nprint(len(r), set(r))"
    )
    with ServerProcess(["--script", "recursion"]) as server:
        rlm = RLM(
            deduplicate_maps=False,
            direct_call_below_chars=0,
            model="openai/benchmark",
            api_base=server.url,
            api_key="none",
            max_depth=2,
            max_leaf_chars=0,
            cluster=Cluster(min_actors=2, max_actors=2, sessions_per_actor=1),
        )
        rlm.prewarm(2)
        started = time.perf_counter()
        result = rlm.run(run_query(program), "some words " * (5 * count))
        seconds = time.perf_counter() - started
        calls = server.stats()["calls"]
    usage = result.usage
    print(
        f"{result.stop_reason}: {result.answer!r}, {usage.sessions} sessions, {usage.total.calls} calls in {seconds:.1f} s"
    )
    assert result.answer == "session done"
    assert calls == usage.total.calls == 2 + 3 * count
    assert usage.sessions == 1 + count


if __name__ == "__main__":
    main()
