"""Stores the context of a run beside its journal, as long as the run may be resumed.

What was read from files is not copied: where they are is noted, and they are read again.
"""

from __future__ import annotations

import json
from itertools import pairwise

from rlm_ray.core.context import Context, make_context
from rlm_ray.documents.files import Files
from rlm_ray.errors import InputError
from rlm_ray.journal.run_store import RunStore

METADATA_FILE, DATA_FILE = "context.json", "context.bin"


def save_context(folder: RunStore, context: Context, files: Files | None) -> None:
    """Save the context: a copy, or only where its files are and how they were read."""
    facts = {
        # Of the first attempt: what later ones do with another context goes by another name (`Earlier.context_key`).
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
    noted = folder.load(METADATA_FILE)
    if noted is None:
        why = "was killed before its context was kept, or keeps none; give the context again"
        raise InputError(folder.run_id, why)
    facts = json.loads(noted)
    if facts["paths"]:
        return Files(*facts["paths"], **facts.get("reading", {})).read().context, facts["fingerprint"]
    data = folder.load(DATA_FILE)
    if data is None:
        raise InputError(folder.run_id, "keeps its context no more; give it again")
    return _context(data, facts["offsets"], facts["ids"]), facts["fingerprint"]


def saved_fingerprint(folder: RunStore) -> str:
    """Return the fingerprint of the context that the run began with; empty where it was killed before it was saved."""
    noted = folder.load(METADATA_FILE)
    return "" if noted is None else str(json.loads(noted)["fingerprint"])


def noted_paths(folder: RunStore) -> list[str]:
    """Return the files it was read from; none where a copy is stored."""
    noted = folder.load(METADATA_FILE)
    return [] if noted is None else [str(path) for path in json.loads(noted)["paths"]]


def _context(data: bytes, offsets: list[int] | None, ids: list[str] | None) -> Context:
    if offsets is None:
        return make_context(data)
    texts = [data[start:stop].decode("utf-8", "replace") for start, stop in pairwise(offsets)]
    if ids is None:
        return make_context(texts)
    return make_context([{"id": name, "text": text} for name, text in zip(ids, texts, strict=True)])
