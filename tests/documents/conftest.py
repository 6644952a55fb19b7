"""The parsers of documents are an extra: where they are not installed its tests are skipped, with `CI=true` they fail."""

from __future__ import annotations

import importlib.util
import os

import pytest

from rlm_ray.documents.reader import DocumentReader

PARSERS = ("pypdfium2", "docx", "pptx", "python_calamine", "striprtf", "fpdf", "xlsxwriter")
MISSING = [name for name in PARSERS if importlib.util.find_spec(name) is None]


@pytest.fixture(scope="session")
def samples(tmp_path_factory):
    """A folder with a document of each kind."""
    if MISSING and not os.environ.get("CI"):
        pytest.skip(f"not installed: {', '.join(MISSING)}; make venv installs them")
    import sample_documents

    return sample_documents.write_all(tmp_path_factory.mktemp("documents"))


@pytest.fixture(scope="module")
def reader():
    with DocumentReader() as reader:
        yield reader
