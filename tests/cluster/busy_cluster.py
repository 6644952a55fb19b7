"""Run by itself: a driver on a cluster whose only CPU another driver holds. Prints what the waiting one said and when it
was answered, as JSON."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import ray
from scripts import tell

import rlm_ray

WAITING = """
import asyncio, sys
from rlm_ray import RLM

class Waits:
    def add(self, record):
        pass

    def waits_for(self, what):
        print("told:", what, file=sys.stderr, flush=True)

async def ask():
    run = await RLM(max_depth=0, run_dir="").astart("what is it?", "A fox is an animal.", observers=[Waits()])
    return (await run.result()).answer

print(asyncio.run(ask()))
"""


def main() -> None:
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)

    @ray.remote(num_cpus=1)
    class Greedy:
        def pid(self) -> int:
            return os.getpid()

    greedy = Greedy.remote()
    ray.get(greedy.pid.remote())
    environment = {
        **os.environ,
        "RAY_ADDRESS": ray.get_runtime_context().gcs_address,
        "PYTHONPATH": str(Path(rlm_ray.__file__).parents[1]),
    }
    waiting = subprocess.Popen(
        [sys.executable, "-c", WAITING],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stderr is not None
    told = []
    for line in waiting.stderr:
        if "waiting for" in line:
            said = line
            break
        told.append(line.partition("told: ")[2].strip())
    freed_at = time.monotonic()
    ray.kill(greedy)
    answer, _ = waiting.communicate(timeout=60)
    tell(
        {
            "said": said.strip(),
            "told": [each for each in told if each],
            "answer": answer.strip(),
            "exit": waiting.returncode,
            "seconds": time.monotonic() - freed_at,
            "driver": os.getpid(),
        }
    )
    ray.shutdown()


main()
