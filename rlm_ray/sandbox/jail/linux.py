"""The few Linux calls that Python has no function for, by ctypes; nothing decides anything here."""

from __future__ import annotations

import ctypes
import os
import platform
import signal

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.prctl.restype = ctypes.c_int

PR_SET_PDEATHSIG = 1
PR_SET_SECCOMP = 22
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

MACHINE = platform.machine()
_CLOSE_RANGE = 436
_CAPSET = {"x86_64": 126, "aarch64": 91}


def syscall(number: int, *arguments: object) -> int:
    """The result, or `OSError`."""
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def prctl(option: int, first: object = 0, second: object = 0) -> None:
    """`prctl`, or `OSError`."""
    wide = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in (first, second, 0, 0)]
    if _libc.prctl(option, *wide) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process as soon as `parent` is gone, also when it is gone already."""
    prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def close_from(lowest: int) -> None:
    """Close every file descriptor from `lowest` on."""
    try:
        syscall(_CLOSE_RANGE, ctypes.c_uint(lowest), ctypes.c_uint(0xFFFFFFFF), ctypes.c_uint(0))
    except OSError:  # before Linux 5.9
        os.closerange(lowest, os.sysconf("SC_OPEN_MAX"))


def drop_capabilities() -> None:
    """Root without its powers is an ordinary user that owns root's files."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    number = _CAPSET.get(MACHINE)
    if number is not None:
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        syscall(number, header, (ctypes.c_uint32 * 6)())
