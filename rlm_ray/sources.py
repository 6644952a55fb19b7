"""What a user calls a context, read into one: texts, bytes, documents, files, folders, object refs.

One file is one text. A folder, or several paths, are documents whose ids are their paths. Hidden files and binary
ones (with a NUL byte near the start) in a folder are passed over; anything else must be UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlm_ray.core.context import Context, Document, make_context
from rlm_ray.errors import InputError

_SNIFF_BYTES = 8192


def read_context(source: Any) -> Context:
    """The context of anything the interface allows. Raises `InputError` with what to do."""
    if paths := paths_of(source):
        return read_paths(paths)
    if type(source).__name__ == "ObjectRef":
        import ray

        return read_context(ray.get(source))
    return make_context(source)


def paths_of(source: Any) -> list[Path]:
    """The files and folders a source names; none where it is the input itself."""
    if isinstance(source, Path):
        return [source]
    if isinstance(source, Sequence) and source and all(isinstance(item, Path) for item in source):
        return list(source)
    return []


def read_paths(paths: Sequence[Path]) -> Context:
    """One file as a text; a folder or several paths as documents."""
    for path in paths:
        if not path.exists():
            raise InputError(str(path), "does not exist; check the path")
    if len(paths) == 1 and not paths[0].is_dir():
        return make_context(_read_text(paths[0]))
    documents: list[Document] = [document for path in paths for document in _documents(path)]
    if not documents:
        named = ", ".join(map(str, paths))
        raise InputError(named, "holds no text file; give files or a folder with UTF-8 text in it")
    return make_context(documents)


def _documents(path: Path) -> Iterator[Document]:
    if not path.is_dir():
        yield {"id": str(path), "text": _read_text(path)}
        return
    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if file.is_file() and not hidden and not _is_binary(file):
            yield {"id": str(file.relative_to(path)), "text": _read_text(file)}


def _is_binary(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return b"\0" in stream.read(_SNIFF_BYTES)
    except OSError as error:
        raise InputError(str(file), f"cannot be read: {error.strerror}") from error


def _read_text(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(str(file), f"cannot be read: {error.strerror}") from error
    return decode(data, str(file))


def decode(data: bytes, name: str) -> str:
    """UTF-8 bytes as text, without a byte order mark. Raises `InputError` that names the source and the offset."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            name,
            f"is not UTF-8 (byte 0x{data[error.start]:02x} at offset {error.start}); convert it first, "
            "for instance with: iconv -f latin1 -t utf-8",
        ) from error
