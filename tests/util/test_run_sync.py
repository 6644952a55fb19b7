"""From async to sync: outcomes come over, and an interrupt ends the work."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest

from rlm_ray.util.run_sync import run_sync


def in_a_notebook(work):
    """Call it where a loop is running already."""

    async def cell():
        return run_sync(work)

    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(cell())
    finally:
        loop.close()


@pytest.fixture
def interrupts():
    """A shell has its background jobs ignore interrupts, and the tests may be one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


async def three():
    return 3


async def fails():
    raise ValueError("no")


@pytest.mark.parametrize("where", [run_sync, in_a_notebook])
def test_the_outcome_comes_over(where):
    assert where(three()) == 3
    with pytest.raises(ValueError, match="no"):
        where(fails())


@pytest.mark.parametrize("where", [run_sync, in_a_notebook])
def test_an_interrupt_ends_the_work_in_order(where, interrupts):
    ends = []

    async def paid():
        # To the main thread, whose loop wakes often: a signal that comes as it falls asleep would be seen a minute later.
        interrupt = (threading.main_thread().ident, signal.SIGINT)
        threading.Thread(target=signal.pthread_kill, args=interrupt).start()
        try:
            for _ in range(600):
                await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            ends.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        where(paid())
    assert ends == ["cancelled", "cleaned up"]
    assert not [thread for thread in threading.enumerate() if thread.name == "rlm_ray" and not thread.daemon]
