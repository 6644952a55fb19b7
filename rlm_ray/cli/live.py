"""One line that says how a run stands, on stderr while it is a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.live import Live
from rich.spinner import Spinner

from rlm_ray.cli.exits import stderr
from rlm_ray.rlm import Run

REFRESH_S = 0.5


@asynccontextmanager
async def shown(run: Run) -> AsyncIterator[None]:
    """Show the run's state while the block lasts; nothing where stderr is no terminal."""
    if not stderr.is_terminal:
        yield
        return
    spinner = Spinner("dots", text="starting Ray")
    with Live(spinner, console=stderr, refresh_per_second=10, transient=True):
        watching = asyncio.create_task(_watch(run, spinner))
        try:
            yield
        finally:
            watching.cancel()


async def _watch(run: Run, spinner: Spinner) -> None:
    started = time.monotonic()
    while True:
        with contextlib.suppress(Exception):  # what is wrong with the run, the run itself will say
            spinner.update(text=await status(run, time.monotonic() - started))
        await asyncio.sleep(REFRESH_S)


async def status(run: Run, seconds: float) -> str:
    """The state in a few words."""
    state = await run.state()
    if state is None:
        return f"starting ({seconds:.0f} s)"
    total = state.usage.total
    parts = [f"turn {state.turn + 1}"]
    if state.sub_calls:
        parts.append(f"sub-calls {state.answered}/{state.sub_calls}")
    parts += [f"{total.calls:,} calls", f"{total.input_tokens + total.output_tokens:,} tokens"]
    if total.cost_usd:
        parts.append(f"${total.cost_usd:.4f}{' and more' if total.unpriced else ''}")
    return " · ".join([*parts, f"{seconds:.0f} s"])
