"""The walls around one REPL, put up in the child after fork and before it reads anything.

Order matters: limits first, then descriptors, then the layers that forbid the calls made here.
A layer that is missing is an error unless the host may run degraded; seccomp is never
optional, for it is what keeps a child from opening, connecting and forking.
"""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import dataclass

from rlm_ray.sandbox.jail import landlock, linux, seccomp

CHANNEL_FD = 3
"""The child's one file descriptor besides 0, 1 and 2."""

_HARD_CPU_LIMIT_S = 24 * 3600
"""The per-cell limit is the child's timer; this only ends a child that everyone forgot."""


@dataclass(frozen=True, slots=True)
class JailLimits:
    """What a child may use."""

    memory_bytes: int
    """Address space beyond what the zygote had mapped at the fork."""
    landlock: bool = True


_filter = seccomp.program() if seccomp.supported() else b""


def enter_jail(walls: JailLimits, channel: int) -> None:
    """Never to be left. Raises `OSError` when a wall cannot be put up."""
    _keep_only(channel)
    _set_limits(walls.memory_bytes)
    linux.drop_capabilities()
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    if walls.landlock:
        landlock.deny_everything()
    seccomp.install(_filter)


def _keep_only(channel: int) -> None:
    if channel != CHANNEL_FD:
        os.dup2(channel, CHANNEL_FD, inheritable=False)
    linux.close_from(CHANNEL_FD + 1)


def _set_limits(memory_bytes: int) -> None:
    sys.setrecursionlimit(3_000)
    _limit(resource.RLIMIT_AS, _mapped_bytes() + memory_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NOFILE, 16)
    _limit(resource.RLIMIT_CPU, _HARD_CPU_LIMIT_S)


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(what, (value, value))


def _mapped_bytes() -> int:
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - pathlib is not worth its memory here
        return int(statm.read().split()[0]) * resource.getpagesize()
