"""The live view of a command, on stderr: a tree on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rlm_ray.cli.exits import stderr
from rlm_ray.core.limits import Limits
from rlm_ray.progress import Progress
from rlm_ray.run import Run


def live(limits: Limits) -> Progress:
    """An observer for `RLM.astart`; shows what it is told inside a `with` block."""
    return Progress(limits, console=stderr)


@asynccontextmanager
async def shown(run: Run) -> AsyncIterator[None]:
    """Show a run while the block lasts, as far as it can be watched once it has started."""
    progress = Progress(console=stderr)
    watch = getattr(run, "watch", None)
    if watch is None:
        yield
        return
    watch(progress)
    with progress:
        yield
