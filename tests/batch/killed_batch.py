"""A batch in a process of its own, to be killed: each question it asks is a line in a file."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from batch_fakes import FakeJob, task_of

from rlm_ray.batch import writer


def main(corpus: str, out: str, log: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def reply(row, query, context):
        os.write(file, f"{row}\n".encode())
        await asyncio.sleep(0.002)
        return context.text()

    writer.PART_ROWS = 20
    task = task_of(Path(corpus), out, FakeJob(reply, concurrency=8))
    asyncio.run(task.run("run"))


if __name__ == "__main__":
    main(*sys.argv[1:])
