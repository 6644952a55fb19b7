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
    "BatchOptions", "BatchSummary", "CallStats", "MapReduceOptions", "RunTree", "RunUsage",
    "AnswerDelta", "AnswerRestarted",
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


METHODS = {
    "RLM": {
        "abatch": "query source **how", "acompletion": "query context schema **changes",
        "amap": "query contexts schema run_id **changes", "amap_reduce": "query contexts **how", "aprewarm": "actors",
        "aresume": "run_id context schema trust_record run **changes",
        "arun": "query context schema progress **changes",
        "astart": "query context schema observers traceparent **changes",
        "astream": "query context schema **changes", "awarm": "actors", "batch": "query source **how",
        "completion": "query context schema **changes", "conversation": "context run_id run",
        "map": "query contexts schema run_id **changes", "map_reduce": "query contexts **how", "prewarm": "actors",
        "resume": "run_id context schema trust_record run **changes",
        "run": "query context schema progress **changes", "session": "context run",
        "stream": "query context schema **changes", "warm": "actors",
    },
    "Conversation": {
        "aask": "query schema", "arun": "query schema", "ask": "query schema", "close": "", "run": "query schema",
    },
    "Result": {"as_dict": "", "report": "path", "with_value": "schema"},
}  # fmt: skip
"""The methods that programs call, and the names of what they take: a change here is one for users."""


@pytest.mark.parametrize("name", METHODS)
def test_methods_take_what_they_took(name):
    found = {}
    for method, value in inspect.getmembers(getattr(rlm_ray, name), inspect.isroutine):
        if not method.startswith("_"):
            parameters = list(inspect.signature(value).parameters.values())
            shown = [
                f"**{p.name}" if p.kind is p.VAR_KEYWORD else p.name for p in parameters if p.name != "self"
            ]
            found[method] = " ".join(shown)
    assert found == METHODS[name]


@pytest.mark.parametrize("name", METHODS)
def test_methods_have_docstrings_and_types(name):
    for method, value in inspect.getmembers(getattr(rlm_ray, name), inspect.isroutine):
        if not method.startswith("_"):
            assert value.__doc__, method
            assert inspect.signature(value).return_annotation is not inspect.Signature.empty, method


@pytest.mark.parametrize("method", sorted(METHODS["RLM"].keys() - {"warm", "awarm", "session"}))
def test_methods_are_documented(method):
    assert re.search(rf"\b{method}\b|`{method[1:]}\b" if method[0] == "a" else rf"\b{method}\b", PROSE)
