"""What a user calls a context, read into one: texts, bytes, documents, files, folders, object refs.

The context of a run is stored beside its journal as long as the run may be resumed. What was read from files is not copied: where
they are is noted, and they are read again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from rlm_ray.core.context import Context, make_context
from rlm_ray.documents.files import FileContext, Files
from rlm_ray.errors import InputError
from rlm_ray.journal.run_store import RunStore

_log = logging.getLogger(__name__)
_MAX_PATH_CHARS = 300


def read_context(source: Any) -> Context:
    """Make a context of anything the interface allows. Raises `InputError` with what to do."""
    if isinstance(source, FileContext):
        _check_text(source)
        return source.context
    if (files := files_of(source)) is not None:
        found = files.read()
        _log.log(logging.WARNING if found.report.doubtful() else logging.INFO, "%s", found.report.line())
        _check_text(found)
        return found.context
    if _is_object_ref(source):
        from rlm_ray.cluster.ray_calls import get_object

        return read_context(get_object(source))
    if _is_table(source):
        raise InputError(
            "context", f"is a table ({type(source).__name__}); RLM.batch asks about each of its rows"
        )
    if _is_open_file(source):
        return _read_open_file(source)
    if isinstance(source, list | tuple) and any(
        map(_is_open_file, source)
    ):  # of a str, each character were one
        source = [_document_of(item, number) for number, item in enumerate(source)]
    if isinstance(source, str):
        _warn_of_path(source)
    return make_context(source)


def _check_text(found: FileContext) -> None:
    """Raise `InputError` where files were named and nothing stands in them: that is a mistake, and a run would cost all the same."""
    if not found.report.chars:
        count = found.report.kinds.total()
        what = "is empty" if count == 1 else f"holds {count:,} files, all of them empty"
        raise InputError(", ".join(map(str, found.files.paths)), f"{what}; there is nothing to ask about")


def contexts_of(source: Any) -> list[Any]:
    """Return the contexts of a map. Raises `InputError` for what is one context itself."""
    is_one = isinstance(
        source, str | bytes | bytearray | memoryview | os.PathLike | Files | FileContext | Context
    )
    if is_one or _is_object_ref(source) or _is_open_file(source):
        why = f"is one context ({type(source).__name__}), and map asks about each of several; give a list of them, or ask run(query, context)"
        raise InputError("contexts", why)
    if _is_table(source):
        raise InputError(
            "contexts", f"is a table ({type(source).__name__}); RLM.batch asks about each of its rows"
        )
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise InputError("contexts", f"must be a list of contexts; got {type(source).__name__}")
    return list(source)


def _is_object_ref(source: Any) -> bool:
    return type(source).__name__ == "ObjectRef"


def _is_table(source: Any) -> bool:
    """Tell whether it is a dataframe, an Arrow table or a Ray dataset, without importing what makes these."""
    return hasattr(source, "__arrow_c_stream__") or any(
        kind.__module__.startswith("ray.data") and kind.__name__ == "Dataset" for kind in type(source).__mro__
    )


def _is_open_file(source: Any) -> bool:
    return callable(getattr(source, "read", None)) and not isinstance(
        source, type | Path | Files | FileContext
    )


def _read_open_file(file: Any) -> Context:
    """Read an open file from where it stands to its end."""
    name = str(getattr(file, "name", "")) or type(file).__name__
    try:
        data = file.read()
    except (OSError, ValueError) as error:  # not opened for reading, closed, or not of its encoding
        raise InputError("context", f"{name} cannot be read: {error}") from error
    if isinstance(data, str):
        return make_context(data)
    if not isinstance(data, bytes | bytearray):
        raise InputError("context", f"{name} gives no text when it is read, but {type(data).__name__}")
    try:
        return make_context(bytes(data))
    except InputError as error:
        why = f"{name} is not UTF-8; give its path as pathlib.Path(...), which reads documents and other encodings, too"
        raise InputError("context", why) from error


def _document_of(item: Any, number: int) -> Any:
    """Return one item of a list as a document; that of an open file has its name."""
    if not _is_open_file(item):
        return item
    return {"id": str(getattr(item, "name", "") or number), "text": _read_open_file(item).text()}


def _warn_of_path(text: str) -> None:
    """Say so where a text that is to be read is the name of a file."""
    if len(text) > _MAX_PATH_CHARS or "\n" in text or not text.strip():
        return
    try:
        is_file = Path(text).exists()
    except (OSError, ValueError):  # no name that a file could have
        return
    if is_file:
        _log.warning("the context is the text %r; to read what is there, give pathlib.Path(%r)", text, text)


def files_of(source: Any) -> Files | None:
    """Return the files and folders a source names; None where it is the input itself."""
    match source:
        case Files():
            return source
        case FileContext():
            return source.files
        case Path():
            return Files(source)
        case os.PathLike():
            return Files(os.fsdecode(source))
    if isinstance(source, Sequence) and source and all(isinstance(item, Path) for item in source):
        return Files(*source)
    return None


METADATA_FILE, DATA_FILE = "context.json", "context.bin"


def save_context(folder: RunStore, context: Context, files: Files | None) -> None:
    """Save the context: a copy, or only where its files are and how they were read."""
    facts = {
        # Of the first attempt: what later ones do with another context goes by another name (`RunHistory.changed_context_key`).
        "fingerprint": saved_fingerprint(folder) or context.fingerprint(),
        "paths": files.absolute() if files is not None else [],
        "reading": files.options() if files is not None else {},
        "offsets": None if context.offsets is None else list(context.offsets),
        "ids": context.ids,
    }
    if files is None:
        folder.save(DATA_FILE, memoryview(context.data).cast("B"))
    folder.save(METADATA_FILE, json.dumps(facts).encode())


def delete_context(folder: RunStore) -> None:
    """Delete the stored context: the run has its answer."""
    folder.discard(DATA_FILE)


def load_context(folder: RunStore) -> tuple[Context, str]:
    """Return the context, and the fingerprint that the first one had. Raises `InputError` where it is not there any more."""
    facts = _saved_facts(folder)
    if facts is None:
        why = "was killed before its context was kept, or keeps none that can be read; give the context again"
        raise InputError(folder.run_id, why)
    if facts["paths"]:
        return Files(*facts["paths"], **facts["reading"]).read().context, facts["fingerprint"]
    data = folder.load(DATA_FILE)
    if data is None:
        raise InputError(folder.run_id, "keeps its context no more; give it again")
    return _context(data, facts["offsets"], facts["ids"]), facts["fingerprint"]


def saved_fingerprint(folder: RunStore) -> str:
    """Return the fingerprint of the context that the run began with; empty where none is saved that can be read."""
    facts = _saved_facts(folder)
    return "" if facts is None else str(facts["fingerprint"])


def noted_paths(folder: RunStore) -> list[str]:
    """Return the files it was read from; none where a copy is stored."""
    facts = _saved_facts(folder)
    return [] if facts is None else list(facts["paths"])


def _saved_facts(folder: RunStore) -> dict[str, Any] | None:
    """Return what `save_context` noted; None where there is nothing, or nothing of ours: anybody may have written it."""
    try:
        facts = {"reading": {}} | json.loads(folder.load(METADATA_FILE) or b"null")
        paths, offsets, ids = facts["paths"], facts["offsets"], facts["ids"]
        if paths:
            Files(*paths, **facts["reading"])
        is_ours = all(isinstance(text, str) for text in (facts["fingerprint"], *paths, *(ids or ())))
        is_ours &= all(type(offset) is int and offset >= 0 for offset in offsets or ())
        is_ours &= ids is None or len(ids) == len(offsets) - 1
    except (ValueError, TypeError, KeyError, RecursionError, InputError):
        return None
    return facts if is_ours else None


def _context(data: bytes, offsets: list[int] | None, ids: list[str] | None) -> Context:
    if offsets is None:
        return make_context(data)
    texts = [data[start:stop].decode("utf-8", "replace") for start, stop in pairwise(offsets)]
    if ids is None:
        return make_context(texts)
    return make_context([{"id": name, "text": text} for name, text in zip(ids, texts, strict=True)])
