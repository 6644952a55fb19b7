"""A context read from where a URI leads: no redirects, no links out of a folder, never more than a size.

Blocking, for a thread that may be lost to a server that stalls: everything ends at a deadline, as far as the operating
system or the driver lets it. `until` is a time of `time.monotonic()`.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

from rlm_ray.errors import InputError
from rlm_ray.journal.storage.base import map_storage_errors
from rlm_ray.serve.context_uris import Location
from rlm_ray.serve.file_store import PayloadTooLargeError

_CHUNK = 1 << 16
_CONNECT_S = 10.0
_REDIRECTS = range(300, 400)


def fetch(location: Location, prefix: Location, max_bytes: int, until: float) -> bytes:
    """Read the bytes at a location, which lies below `prefix`. Raises `InputError`, `PayloadTooLargeError` or
    `JournalError`.
    """
    _check_time(until)
    if location.scheme in ("http", "https"):
        return _fetch_http(location, max_bytes, until)
    if location.scheme == "file":
        return _fetch_file(location, prefix, max_bytes, until)
    return _fetch_stored(location, prefix, max_bytes, until)


def _fetch_http(location: Location, max_bytes: int, until: float) -> bytes:
    kind = http.client.HTTPSConnection if location.scheme == "https" else http.client.HTTPConnection
    connection = kind(
        location.host, location.port, timeout=min(_CONNECT_S, max(0.001, until - time.monotonic()))
    )
    headers = {"Accept-Encoding": "identity", "Connection": "close", "User-Agent": "rlm_ray"}
    try:
        connection.connect()
        with _cut_at(connection.sock, until):
            connection.request("GET", location.target, headers=headers)
            response = connection.getresponse()
            _check_status(response)
            length = response.getheader("Content-Length", "")
            size = int(length) if length.isascii() and length.isdigit() and not response.chunked else None
            data = _read(response.read1, max_bytes, until, size)
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: TLS that was cut
        _check_time(until)
        raise InputError("context_uri", f"cannot be read: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if size is not None and len(data) < size:
        _check_time(until)
        raise InputError("context_uri", "broke off before its end; ask again")
    return data


def _check_status(response: http.client.HTTPResponse) -> None:
    if response.status in _REDIRECTS:
        why = (
            f"leads elsewhere (status {response.status}), which is not followed; give the address it leads to"
        )
        raise InputError("context_uri", why)
    if response.status != http.client.OK:
        raise InputError("context_uri", f"was answered with status {response.status}")


@contextmanager
def _cut_at(sock: socket.socket, until: float) -> Iterator[None]:
    """Shut the connection at the deadline, whatever the thread that reads it waits for."""

    def cut() -> None:
        with contextlib.suppress(OSError):  # it is closed already
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, until - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _fetch_file(location: Location, prefix: Location, max_bytes: int, until: float) -> bytes:
    """Read a regular file; what was opened is checked, so no link can be put in its place meanwhile."""
    folder = os.path.realpath(prefix.path)
    try:
        # not blocking: to open a named pipe would wait for its writer
        descriptor = os.open(location.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError("context_uri", f"cannot be read: {why}") from error
    try:
        opened = os.path.realpath(f"/proc/self/fd/{descriptor}")
        if os.path.commonpath([folder, opened]) != folder:
            raise InputError("context_uri", "is a link that leads out of the folder this service may read")
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputError("context_uri", "is no regular file")
        return _read(partial(os.read, descriptor), max_bytes, until)
    finally:
        os.close(descriptor)


def _fetch_stored(location: Location, prefix: Location, max_bytes: int, until: float) -> bytes:
    """Read by fsspec's driver; what the driver makes of the address is compared once more."""
    import fsspec

    with map_storage_errors(location.uri):
        fs, path = fsspec.core.url_to_fs(location.uri)
        folder = str(fs._strip_protocol(prefix.uri)).rstrip("/") + "/"  # noqa: SLF001 - how every driver reads a URL
        if not str(path).startswith(folder):
            raise InputError("context_uri", "is not among the URIs this service may read")
        with fs.open(path, "rb") as source:
            return _read(source.read, max_bytes, until)


def _read(read: Callable[[int], Any], max_bytes: int, until: float, size: int | None = None) -> bytes:
    """Read a stream to its end, or to the `size` that was announced."""
    if size is not None and size > max_bytes:
        _raise_too_large(max_bytes)
    data = bytearray()
    while size is None or len(data) < size:
        chunk = read(_CHUNK)
        _check_time(until)
        if not chunk:
            break
        data += chunk
        if len(data) > max_bytes:
            _raise_too_large(max_bytes)
    return bytes(data)


def _raise_too_large(max_bytes: int) -> NoReturn:
    raise PayloadTooLargeError("context_uri", f"names more than the {max_bytes:,} bytes allowed here")


def _check_time(until: float) -> None:
    if time.monotonic() >= until:
        raise InputError("context_uri", "was not read in time; try again, or upload it as a file")
