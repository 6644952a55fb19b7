"""A run at the terminal: shown while it goes on, stopped by Ctrl-C, and printed at its end."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable

from rlm_ray.cli import console
from rlm_ray.cli.resume_hint import resume_hint
from rlm_ray.core.limits import Limits
from rlm_ray.errors import ClusterError, JournalError, ModelUnavailableError, QuotaError
from rlm_ray.progress import Progress
from rlm_ray.runs.run import Result, Run


async def run_with_display(start: Callable[[Progress], Awaitable[Run]], limits: Limits) -> Result:
    """Show the run until it ends; the first Ctrl-C makes it end."""
    with Progress(limits, console=console.stderr) as progress:
        run = await start(progress)
        stopping = _StopOnSignal(run)
        try:
            return await run.result()
        except asyncio.CancelledError:
            if not stopping.called:
                raise
            return run.interrupted_result()
        except (ClusterError, JournalError, ModelUnavailableError, QuotaError):
            if run.is_resumable and (command := resume_hint(run.settings.run_dir, run.run_id)):
                console.print_status(f"what was done is on record; go on later with: {command}")
            raise


class _StopOnSignal:
    """The first Ctrl-C ends the run and prints what is known; the second ends this process."""

    def __init__(self, run: Run) -> None:
        self.called = False
        self._run = run
        self._task: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        if self.called:
            console.leave_at_once()
        self.called = True
        console.print_status("interrupted: stopping the run (once more to leave at once)")
        self._task = asyncio.ensure_future(self._run.stop())


def print_result(result: Result, *, as_json: bool) -> None:
    """The answer on stdout; why there is none, or not the whole one, on stderr."""
    if as_json:
        console.write(json.dumps(result.as_dict(), ensure_ascii=False))
    elif result.answer is not None:
        console.write(result.answer)
    if not result.answered:
        known = "nothing was known by then" if result.answer is None else "what is printed was known by then"
        console.print_status(f"{result.why} (stop reason: {result.stop_reason}); {known}")
        command = resume_hint(result.run_dir, result.run_id, result.stop_reason) if result.run_dir else ""
        if command:
            console.print_status(f"go on with: {command}")


def exit_code_for(result: Result) -> int:
    """The exit code that tells how a run ended."""
    if result.stop_reason == "interrupted":
        return console.INTERRUPTED
    return console.OK if result.answered else console.LIMIT
