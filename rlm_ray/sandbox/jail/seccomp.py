"""The system calls a REPL may make, as a BPF program.

An allow-list: what is not named fails with EPERM, so Python raises PermissionError and goes on.
Memory is never executable. Nothing opens, connects, forks, executes, or touches another process.
Written for x86_64 and aarch64; a call of another architecture kills the process.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from rlm_ray.sandbox.jail import linux

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64); None where the architecture has no such call.
_ALLOWED: dict[str, tuple[int | None, int]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "poll": (7, 73),  # ppoll on aarch64
    "lseek": (8, 62),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "getitimer": (36, 102),
    "setitimer": (38, 103),
    "getpid": (39, 172),
    "exit": (60, 93),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "times": (100, 153),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "time": (201, 169),
    "futex": (202, 98),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "exit_group": (231, 94),
    "getrandom": (318, 278),
}
_UNLESS_EXECUTABLE = {"mmap": (9, 222), "mprotect": (10, 226)}
_PROT_EXEC = 4

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_KILL, _ALLOW, _REFUSE = 0x80000000, 0x7FFF0000, 0x00050000 | errno.EPERM
_AT_NUMBER, _AT_ARCHITECTURE, _AT_THIRD_ARGUMENT = 0, 4, 32


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def supported(machine: str = linux.MACHINE) -> bool:
    """The table below knows this machine's system calls."""
    return machine in _ARCHITECTURES


def available() -> None:
    """`OSError` unless this kernel takes filters: it must look for the program, and find none."""
    try:
        linux.prctl(linux.PR_SET_SECCOMP, 2, 0)
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise


def program(machine: str = linux.MACHINE) -> bytes:
    """The filter as BPF instructions."""
    column = 0 if machine == "x86_64" else 1
    plain = [number for numbers in _ALLOWED.values() if (number := numbers[column]) is not None]
    guarded = sorted(numbers[column] for numbers in _UNLESS_EXECUTABLE.values())
    return b"".join(
        (
            _instruction(_LOAD, _AT_ARCHITECTURE),
            _instruction(_JUMP_EQUAL, _ARCHITECTURES[machine], 1, 0),
            _instruction(_RETURN, _KILL),
            _instruction(_LOAD, _AT_NUMBER),
            # The x32 calls of x86_64 are others under the same architecture.
            _instruction(_JUMP_AT_LEAST, 0x40000000, 0, 1),
            _instruction(_RETURN, _REFUSE),
            *(_allow(number) for number in sorted(plain)),
            *(_allow_unless_executable(number) for number in guarded),
            _instruction(_RETURN, _REFUSE),
        )
    )


def install(instructions: bytes) -> None:
    """From here on, only the allowed calls. Needs no_new_privs."""
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    wanted = _Program(len(instructions) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    linux.prctl(linux.PR_SET_SECCOMP, 2, ctypes.byref(wanted))


def _allow(number: int) -> bytes:
    return _instruction(_JUMP_EQUAL, number, 0, 1) + _instruction(_RETURN, _ALLOW)


def _allow_unless_executable(number: int) -> bytes:
    return b"".join(
        (
            _instruction(_JUMP_EQUAL, number, 0, 4),
            _instruction(_LOAD, _AT_THIRD_ARGUMENT),
            _instruction(_JUMP_BITS, _PROT_EXEC, 1, 0),
            _instruction(_RETURN, _ALLOW),
            _instruction(_RETURN, _REFUSE),
        )
    )


def _instruction(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, when_true, when_false, value)
