"""What the kernel refuses one REPL: put up in the child after fork and before it reads anything.

Order matters: limits first, then descriptors, then the layers that forbid the calls made here.
A layer that is missing is an error unless the host may run degraded; seccomp is never
optional, for it is what keeps a child from opening, connecting and forking.

The system calls a REPL may make are a BPF program, an allow-list: what is not named fails with EPERM, so Python raises
PermissionError and goes on. Memory is never executable. Nothing opens, connects, forks, executes, or touches another process.
Written for x86_64 and aarch64; a call of another architecture kills the process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
import sys
from dataclasses import dataclass

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.prctl.restype = ctypes.c_int
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)

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
    """Make a system call and return its result. Raises `OSError`."""
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def prctl(option: int, first: int = 0, second: int = 0) -> None:
    """Call `prctl`. Raises `OSError`."""
    if _libc.prctl(option, first, second, 0, 0) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def die_with_parent(parent: int) -> None:
    """Have this process killed as soon as `parent` is gone, also when it is gone already."""
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
    """Drop all capabilities: root without its powers is an ordinary user that owns root's files."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    number = _CAPSET.get(MACHINE)
    if number is not None:
        syscall(number, _CAPABILITY_HEADER, _NO_CAPABILITIES)


# Made here and not in the child: each kind of array is a class, and a child copies all memory that it writes to.
_CAPABILITY_HEADER = (ctypes.c_uint32 * 2)(0x20080522, 0)
_NO_CAPABILITIES = (ctypes.c_uint32 * 6)()
_LandlockAttributes = ctypes.c_uint64 * 3


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


def seccomp_supported(machine: str = MACHINE) -> bool:
    """Tell whether the table below knows this machine's system calls."""
    return machine in _ARCHITECTURES


def check_seccomp() -> None:
    """Raise `OSError` unless this kernel takes filters: it must look for the seccomp_program, and find none."""
    try:
        prctl(PR_SET_SECCOMP, 2, 0)
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise


def seccomp_program(machine: str = MACHINE) -> bytes:
    """Return the filter as BPF instructions."""
    column = 0 if machine == "x86_64" else 1
    plain = [number for numbers in _ALLOWED.values() if (number := numbers[column]) is not None]
    guarded = sorted(numbers[column] for numbers in _UNLESS_EXECUTABLE.values())
    return b"".join(
        (
            _bpf(_LOAD, _AT_ARCHITECTURE),
            _bpf(_JUMP_EQUAL, _ARCHITECTURES[machine], 1, 0),
            _bpf(_RETURN, _KILL),
            _bpf(_LOAD, _AT_NUMBER),
            # The x32 calls of x86_64 are others under the same architecture.
            _bpf(_JUMP_AT_LEAST, 0x40000000, 0, 1),
            _bpf(_RETURN, _REFUSE),
            *(_allow(number) for number in sorted(plain)),
            *(_allow_unless_executable(number) for number in guarded),
            _bpf(_RETURN, _REFUSE),
        )
    )


def _install_filter(instructions: ctypes.Array[ctypes.c_char]) -> None:
    """Allow only the calls of the filter from here on. Needs no_new_privs."""
    wanted = _Program(len(instructions) // 8, ctypes.addressof(instructions))
    prctl(PR_SET_SECCOMP, 2, ctypes.addressof(wanted))


def _allow(number: int) -> bytes:
    return _bpf(_JUMP_EQUAL, number, 0, 1) + _bpf(_RETURN, _ALLOW)


def _allow_unless_executable(number: int) -> bytes:
    return b"".join(
        (
            _bpf(_JUMP_EQUAL, number, 0, 4),
            _bpf(_LOAD, _AT_THIRD_ARGUMENT),
            _bpf(_JUMP_BITS, _PROT_EXEC, 1, 0),
            _bpf(_RETURN, _ALLOW),
            _bpf(_RETURN, _REFUSE),
        )
    )


def _bpf(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, when_true, when_false, value)


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


_instructions = seccomp_program() if seccomp_supported() else b""
_filter = ctypes.create_string_buffer(_instructions, len(_instructions))


def enter_jail(limits: JailLimits, channel: int) -> None:
    """Enter the jail, never to leave it. Raises `OSError` when a wall cannot be put up."""
    _keep_only(channel)
    _set_limits(limits.memory_bytes)
    drop_capabilities()
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    if limits.landlock:
        _deny_files_and_network()
    _install_filter(_filter)


def _keep_only(channel: int) -> None:
    if channel != CHANNEL_FD:
        os.dup2(channel, CHANNEL_FD, inheritable=False)
    close_from(CHANNEL_FD + 1)


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
    statm = os.open("/proc/self/statm", os.O_RDONLY)  # no file object: it is not worth its memory here
    try:
        return int(os.read(statm, 100).split()[0]) * resource.getpagesize()
    finally:
        os.close(statm)


def landlock_version() -> int:
    """Return the version of the kernel's Landlock interface, 1 or more; `OSError` where there is none."""
    return syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_ASK_VERSION))


def _deny_files_and_network() -> None:
    """Deny whatever this kernel's Landlock can: the file system, TCP, and other processes' signals and sockets."""
    abi = landlock_version()
    files = (1 << _FILE_ACCESS.get(abi, 16)) - 1
    tcp = 0b11 if abi >= 4 else 0
    scopes = 0b11 if abi >= 6 else 0
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    attributes = _LandlockAttributes(files, tcp, scopes)
    ruleset = syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint(0))
    try:
        syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        os.close(ruleset)
