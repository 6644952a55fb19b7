"""What `rlm_ray` exports: sorted, importable one by one, documented, and imported only when it is used."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rlm_ray
from rlm_ray import errors

ROOT = Path(__file__).parents[1]
PROSE = "\n".join(path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
PLANNED = {
    "RLM", "Run", "Result", "Conversation", "Settings", "Limits", "Rates", "Price", "Sandbox", "Cluster", "Tracing",
    "MapReduceResult", "Files", "FileContext", "page_of", "Citation", "ToolLimits", "RLMOptions",
}  # fmt: skip
ERRORS = {
    name
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, errors.RLMError) and not name.startswith("_")
}


def test_all_is_sorted_and_without_doubles():
    # ruff's order: constants such as RLM, then classes
    assert rlm_ray.__all__ == sorted(set(rlm_ray.__all__), key=lambda name: (not name.isupper(), name))


def test_all_holds_the_public_classes_and_every_error():
    assert set(rlm_ray.__all__) == PLANNED | ERRORS


@pytest.mark.parametrize("name", rlm_ray.__all__)
def test_public_name_is_importable_and_has_a_docstring(name):
    value = getattr(rlm_ray, name)
    assert value.__name__ == name
    assert value.__module__.startswith("rlm_ray.")
    assert value.__doc__
    assert not value.__doc__.startswith(f"{name}(")  # what dataclass writes where nobody has


@pytest.mark.parametrize("name", rlm_ray.__all__)
def test_public_name_is_documented(name):
    assert re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`|^.*\bimport .*\b{name}\b", PROSE, re.MULTILINE)


def test_dir_lists_what_is_not_imported_yet():
    assert set(rlm_ray.__all__) <= set(dir(rlm_ray))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = rlm_ray.Nothing


def test_importing_the_package_imports_none_of_its_modules():
    program = "import sys, rlm_ray; print([n for n in sys.modules if n.startswith(('rlm_ray.', 'ray', 'litellm', 'pydantic'))])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
