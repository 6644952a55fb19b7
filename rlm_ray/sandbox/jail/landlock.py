"""Landlock: the file system, TCP, and other processes' signals and sockets, all denied."""

from __future__ import annotations

import ctypes
import os

from rlm_ray.sandbox.jail import linux

_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_VERSION = 1

_FILE_ACCESS = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many bits of file access each version of the interface knows; 16 from version 5."""


def version() -> int:
    """The kernel's Landlock interface, 1 or more; `OSError` where there is none."""
    return linux.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION))


def deny_everything() -> None:
    """Without a single rule, whatever this kernel's Landlock can deny is denied."""
    abi = version()
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
