"""A reader whose worker process serves the tests of a module."""

from __future__ import annotations

import pytest

from rlm_ray.documents.converter import DocumentReader


@pytest.fixture(scope="module")
def reader():
    with DocumentReader() as reader:
        yield reader
