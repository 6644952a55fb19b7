"""What holds one REPL back, put up in the child after fork and before it reads anything.

Order matters: limits first, then descriptors, then the layers that forbid the calls made here.
A layer that is missing is an error unless the host may run degraded; seccomp is never
optional, for it is what keeps a child from opening, connecting and forking.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from dataclasses import dataclass

from rlm_ray.sandbox.jail import linux, seccomp

CHANNEL_FD = 3
"""The child's one file descriptor besides 0, 1 and 2."""

_HARD_CPU_LIMIT_S = 24 * 3600
"""The per-cell limit is the child's timer; this only ends a child that everyone forgot."""


_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_ASK_VERSION = 1

_FILE_ACCESS = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many bits of file access each version of the interface knows; 16 from version 5."""


@dataclass(frozen=True, slots=True)
class JailLimits:
    """What a child may use."""

    memory_bytes: int
    """Address space beyond what the zygote had mapped at the fork."""
    landlock: bool = True


_filter = seccomp.program() if seccomp.supported() else b""


def enter_jail(limits: JailLimits, channel: int) -> None:
    """Never to be left. Raises `OSError` when a wall cannot be put up."""
    _keep_only(channel)
    _set_limits(limits.memory_bytes)
    linux.drop_capabilities()
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    if limits.landlock:
        _deny_files_and_network()
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


def landlock_version() -> int:
    """Return the version of the kernel's Landlock interface, 1 or more; `OSError` where there is none."""
    return linux.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_ASK_VERSION))


def _deny_files_and_network() -> None:
    """Deny whatever this kernel's Landlock can: the file system, TCP, and other processes' signals and sockets."""
    abi = landlock_version()
    files = (1 << _FILE_ACCESS.get(abi, 16)) - 1
    tcp = 0b11 if abi >= 4 else 0
    scopes = 0b11 if abi >= 6 else 0
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    attributes = (ctypes.c_uint64 * 3)(files, tcp, scopes)
    ruleset = linux.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint(0))
    try:
        linux.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        os.close(ruleset)
