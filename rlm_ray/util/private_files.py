"""Files that hold questions and answers of users: only their owner reads them, whatever the umask.

Folders that are already there stay as they are; inside a shared one, a run's own folder is private.
"""

from __future__ import annotations

import os
import stat
from itertools import takewhile
from pathlib import Path

FOLDER_MODE, FILE_MODE = 0o700, 0o600


def make_private_folder(path: Path) -> None:
    """Make the folder, and those above it that are not there, for this user alone."""
    if path.is_dir():
        return
    missing = list(takewhile(lambda each: not each.exists(), (path, *path.parents)))
    for each in reversed(missing):
        try:
            each.mkdir(mode=FOLDER_MODE)
        except FileExistsError:  # another process made it meanwhile
            continue
        each.chmod(FOLDER_MODE)  # a umask may have taken away the owner's own rights
    if not path.is_dir():
        path.mkdir()  # raises what says why


def open_private(path: Path, flags: int) -> int:
    """A descriptor of the file, made if need be, for this user alone."""
    fd = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_mode & 0o777 != FILE_MODE:
        os.fchmod(fd, FILE_MODE)
    return fd


def write_private(path: Path, data: bytes) -> None:
    """The file holds this and nothing else."""
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(data)
