"""Why an interpreter is gone, as one sentence for the model; pure."""

from __future__ import annotations

import os
import signal

from rlm_ray.sandbox.settings import Sandbox
from rlm_ray.sandbox.wire.messages import EXIT_MEMORY

UNKNOWN_STATUS = -1
"""The wait status of a child whose zygote died, or that could not be forked."""

_AGAIN = "All variables are lost: define again what you need"


def from_wait_status(status: int, settings: Sandbox) -> str:
    """For a child that ended by itself or by the kernel's hand."""
    if status == UNKNOWN_STATUS:
        return _sentence("its supervising process died")
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGVTALRM:
        return _sentence(
            f"the cell used more than {settings.cell_cpu_s:g} s of processor time in a call that cannot be interrupted",
            "and compute less in one call",
        )
    if code == -signal.SIGXCPU:
        return _sentence("it used processor time while no cell ran")
    if code in (EXIT_MEMORY, -signal.SIGKILL):
        return _sentence(
            f"it ran out of memory ({settings.memory_mb:,} MB beyond the context)", "and keep less at a time"
        )
    what = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return _sentence(f"it crashed ({what})", "without deep recursion or deeply nested data")


def was_external_kill(status: int) -> bool:
    """Its zygote died, or somebody sent SIGKILL: an operator, or the kernel for want of memory."""
    return status == UNKNOWN_STATUS or os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def deadline_exceeded(settings: Sandbox) -> str:
    return _sentence(
        f"the cell ran longer than {settings.cell_timeout_s:g} s (sub-calls not counted) and could not be interrupted",
        "and do less in one call",
    )


def protocol_violation(what: str) -> str:
    return _sentence(f"it broke the protocol ({what})")


def _sentence(why: str, advice: str = "") -> str:
    return f"The interpreter was stopped: {why}. {_AGAIN}{' ' if advice else ''}{advice}."
