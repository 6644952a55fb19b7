"""What a user calls a context, read into one: texts, bytes, documents, files, folders, object refs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlm_ray.core.context import Context, make_context
from rlm_ray.documents.files import FileContext, Files

_log = logging.getLogger(__name__)


def read_context(source: Any) -> Context:
    """The context of anything the interface allows. Raises `InputError` with what to do."""
    if isinstance(source, FileContext):
        return source.context
    if (files := files_of(source)) is not None:
        found = files.read()
        _log.log(logging.WARNING if found.report.doubtful() else logging.INFO, "%s", found.report.line())
        return found.context
    if type(source).__name__ == "ObjectRef":
        from rlm_ray.cluster.ray_calls import get_object

        return read_context(get_object(source))
    return make_context(source)


def files_of(source: Any) -> Files | None:
    """The files and folders a source names; None where it is the input itself."""
    match source:
        case Files():
            return source
        case FileContext():
            return source.files
        case Path():
            return Files(source)
    if isinstance(source, Sequence) and source and all(isinstance(item, Path) for item in source):
        return Files(*source)
    return None
