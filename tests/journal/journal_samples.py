"""A short run, and other processes that write its journal."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager

from rlm_ray.core.context import InputSummary
from rlm_ray.events.records import MapEnded, RunFinished, RunStarted, SessionOpened, to_line

RUN = "20260102-030405-abcdef"
OPENED = RunStarted(1.0, RUN, "Who?", {"model": "m"}, InputSummary(chars=4, sample="text"), "0.1.0", id="a")
SESSION = SessionOpened(2.0, (), "Who?", InputSummary(chars=4), "m", "actor-1", id="b")
ENDED = RunFinished(3.0, "answered", answer="Nobody — “ü”", turns=1, id="c")
RECORDS = [OPENED, SESSION, ENDED]
LINES = [to_line(record) for record in RECORDS]
JOURNAL = b"".join(LINES)


def many(count):
    """Lines of records nobody has seen before."""
    return b"".join(to_line(MapEnded(4.0, (), n, 1, 0, id=f"m{n}")) for n in range(count))


@contextmanager
def another_process(code, *arguments):
    """Python code in a process of its own: `folder` is the run's; yields it once it has said something."""
    head = "import sys; from rlm_ray.journal.run_store import RunStore; folder = RunStore(*sys.argv[1:3])\n"
    command = [sys.executable, "-c", head + code, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            process.said = process.stdout.readline()
            assert process.said
            yield process
        finally:
            process.kill()
