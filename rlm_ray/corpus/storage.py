"""Files behind any fsspec URL, or on this machine: whole ones or none, and every failure as one sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlm_ray.errors import InputError, RLMError
from rlm_ray.journal.storage import local_path, storage_error


@contextmanager
def errors_of(address: str) -> Iterator[None]:
    """Whatever a storage raises becomes an `InputError`; drivers raise anything."""
    try:
        yield
    except RLMError:
        raise
    except Exception as error:
        why = storage_error(address, error).why.replace("run_dir", "place")
        raise InputError(address, why) from error


def filesystem(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the path in it."""
    import fsspec

    local = local_path(address)
    with errors_of(address):
        fs, path = fsspec.core.url_to_fs(str(local) if local is not None else address)
    return fs, path.rstrip("/") or "/"


class Folder:
    """A folder whose files are written whole or not at all."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.fs, self.path = filesystem(address)
        self._local = local_path(address)

    def names(self) -> list[str]:
        """In order; a folder that is not there holds none."""
        with errors_of(self.address):
            self.fs.invalidate_cache()
            try:
                found = self.fs.ls(self.path, detail=False)
            except FileNotFoundError:
                return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    def read(self, name: str) -> bytes | None:
        """None where there is no such file."""
        with errors_of(self.address):
            try:
                data: bytes = self.fs.cat_file(f"{self.path}/{name}")
            except FileNotFoundError:
                return None
        return data

    def write(self, name: str, data: bytes) -> None:
        """After a crash it is the old file, the new one or none; an object store does so by itself."""
        with errors_of(self.address):
            if self._local is None:
                self.fs.pipe_file(f"{self.path}/{name}", data)
            else:
                _replace(self._local / name, data)

    def delete(self, name: str) -> None:
        with errors_of(self.address):
            self.fs.rm_file(f"{self.path}/{name}")


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
