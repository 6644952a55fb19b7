"""Waiting for what happens in other processes or threads, with a limit."""

from __future__ import annotations

import asyncio
import inspect
import time


async def until(condition, timeout_s=30.0):
    """Return when the condition (a function or a coroutine function) holds; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if await value if inspect.isawaitable(value) else value:
            return
        assert time.monotonic() < deadline, f"it did not happen in {timeout_s:g} s"
        await asyncio.sleep(0.01)


def wait_until(condition, timeout_s=30.0):
    """Return when the condition holds, without an event loop; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen in {timeout_s:g} s"
        time.sleep(0.01)
