"""What a user calls a context, read into one: texts, bytes, documents, files, folders, object refs.

One file is one text. A folder, or several paths, are documents whose ids are their paths. Hidden files and binary
ones (with a NUL byte near the start) in a folder are passed over; anything else must be UTF-8.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlm_ray.core.context import Context, Document, make_context
from rlm_ray.core.printable import replace_surrogates
from rlm_ray.errors import InputError

_SNIFF_BYTES = 8192
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PACKED = "a packed file"
_KINDS = (
    (b"%PDF-", "a PDF file"),
    (b"PK\x03\x04", "a ZIP or Office file"),
    (b"\xd0\xcf\x11\xe0", "an old Office file"),
    (b"PAR1", "a Parquet file"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"\x7fELF", "a program"),
    (b"\x1f\x8b", _PACKED),
    (b"BZh", _PACKED),
    (b"\x28\xb5\x2f\xfd", _PACKED),
    (b"\xfd7zXZ\0", _PACKED),
)
_REMEDIES = {
    _PACKED: "unpack it first",
    "a Parquet file": "ask about its rows with `rlm-ray batch` or `map-reduce`, under a name that ends in .parquet",
}


def read_context(source: Any) -> Context:
    """The context of anything the interface allows. Raises `InputError` with what to do."""
    if paths := paths_of(source):
        return read_paths(paths)
    if type(source).__name__ == "ObjectRef":
        from rlm_ray.cluster.ray_calls import get_object

        return read_context(get_object(source))
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
        yield {"id": replace_surrogates(str(path)), "text": _read_text(path)}
        return
    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if file.is_file() and not hidden and not _is_binary(file):
            yield {"id": replace_surrogates(str(file.relative_to(path))), "text": _read_text(file)}


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
    return decode_utf8(data, str(file))


def decode_utf8(data: bytes, name: str) -> str:
    """UTF-8 bytes (or UTF-16 and UTF-32 behind their marks) as text, without the mark. Raises `InputError` that names
    the source, what it is where that is known, and what to do.
    """
    encoding = next((known for mark, known in _MARKS if data.startswith(mark)), "utf-8-sig")
    if encoding == "utf-8-sig" and (kind := kind_of(data)):
        raise InputError(
            name, f"is {kind}, not a text; {_REMEDIES.get(kind, 'save or export it as UTF-8 text')}"
        )
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig":
            raise InputError(
                name, f"is broken {encoding.upper()} ({error.reason}); save it as UTF-8"
            ) from error
        raise InputError(
            name,
            f"is not UTF-8 (byte 0x{data[error.start]:02x} at offset {error.start}); convert it first, "
            "for instance with: iconv -f latin1 -t utf-8",
        ) from error


def kind_of(data: bytes) -> str:
    """What a file is by its first bytes where it is no text; empty where nobody knows."""
    return next((kind for mark, kind in _KINDS if data.startswith(mark)), "")
