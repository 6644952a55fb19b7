"""A process with a live view on its terminal; does what it reads from the file descriptor it is given, line by line."""

import os
import sys

from rlm_ray.admission.protocol import RunStatus
from rlm_ray.core.context import InputSummary
from rlm_ray.core.limits import Limits
from rlm_ray.core.llm import Usage
from rlm_ray.events.records import CallEnded, MapOpened, RunStarted, SessionEnded, SessionOpened
from rlm_ray.progress import Progress


def records():
    """A root with 40 children, most of them under way."""
    yield RunStarted(
        0.0, "run", "Which of the chapters blames whom, and for what reason?", {}, InputSummary(), "1"
    )
    yield SessionOpened(
        0.0, (), "Which of the chapters blames whom, and for what reason?", InputSummary(), "m", "a"
    )
    yield MapOpened(1.0, (), 1, 0, 40, 40)
    for child in range(40):
        yield SessionOpened(
            2.0, (child,), f"Who is blamed in chapter {child}, by whom? Quote.", InputSummary(), "m", "a"
        )
        yield MapOpened(3.0, (child,), 1, 0, 50, 0)
        yield from (
            CallEnded(4.0, (child, leaf), 1, "leaf", "m", "k", 3.0, usage=Usage(900, 99), cost_usd=0.001)
            for leaf in range(child)
        )
    yield SessionEnded(5.0, (3,), "error", error_kind="SandboxError")


def main():
    commands, answers = (
        os.fdopen(int(number), mode) for number, mode in zip(sys.argv[1:], "rw", strict=True)
    )
    sys.stderr.write("before\n")
    with Progress(Limits(cost_usd=5.0), clock=lambda: 9.0) as progress:
        for command in map(str.strip, commands):
            if command == "records":
                for record in records():
                    progress.add(record)
                progress.status(RunStatus(45, {"rate": 12}))
            elif command == "print":
                sys.stderr.write("a warning of something else\n")
            elif command == "raise":
                raise SystemExit(3)
            progress.draw()
            answers.write("done\n")
            answers.flush()
    sys.stderr.write("after\n")


if __name__ == "__main__":
    main()
