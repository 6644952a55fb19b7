"""The cluster that `ray start` left the address of, in a folder that every user of the machine may write to.

It is believed only where this user wrote the address, and, where it is of this machine, owns who listens there: our
keys go to it, and its code runs as ours.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

ADDRESS_FILE = "ray_current_cluster"
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENS = "0A"


def running_cluster(folder: Path) -> str:
    """The address left in Ray's folder; empty where there is none, or it is somebody else's."""
    address = _own_text(folder / ADDRESS_FILE)
    return address if address and _is_own(address) else ""


def _own_text(path: Path) -> str:
    """Of a plain file that this user wrote."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(fd, encoding="utf-8") as file:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                return file.read().strip()
    return ""


def _is_own(address: str) -> bool:
    host, _, port = address.rpartition(":")
    if not port.isdigit() or not _is_of_this_machine(host.strip("[]")):
        return True
    owners = listeners(int(port))
    return owners is None or owners == {os.geteuid()}


def _is_of_this_machine(host: str) -> bool:
    with contextlib.suppress(OSError):
        family, kind, protocol, _, (ip, *_) = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind((ip, 0))
            return True
    return False


def listeners(port: int) -> set[int] | None:
    """The users who listen at a port of this machine; None where the kernel does not tell."""
    rows, told = [], False
    for table in _TABLES:
        with contextlib.suppress(OSError):
            rows += [line.split() for line in table.read_text("ascii").splitlines()[1:]]
            told = True
    here = f":{port:04X}"
    users = {int(row[7]) for row in rows if row[1].endswith(here) and row[3] == _LISTENS}
    return users if told else None
