"""The documents name only files, modules and names that exist, and the map shows every package."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rlm_ray"
MAP = ROOT / "docs" / "architecture.md"
DOCUMENTS = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("[bde]*/README.md")]
    if path.name != "CHANGELOG.md"  # it tells of names that are gone
)
FILES = {
    path.relative_to(ROOT).as_posix()
    for folder in ("rlm_ray", "tests", "docs", "deploy", "benchmarks", "examples")
    for path in (ROOT / folder).rglob("*")
    if "__pycache__" not in path.parts
} | {path.name for path in ROOT.iterdir() if path.is_file()}


def names_a_file(token):
    """The token is a path from the root of the repository, or the end of one."""
    wanted = token.removeprefix("../").strip("/")
    return any(path == wanted or path.endswith(f"/{wanted}") for path in FILES)


def named_paths(text):
    """Names of source files anywhere in a text, and of folders between backticks."""
    return sorted(
        {
            *re.findall(r"[\w./-]*\w\.(?:py|md)\b", text),
            *re.findall(r"`((?:rlm_ray|tests|docs)/[\w./-]*)`", text),
        }
    )


def tree_of_the_map():
    """Modules by package as the map draws them; a folder's parents are told by its indentation."""
    block = MAP.read_text().split("```\nrlm_ray/\n", 1)[1].split("```", 1)[0]
    packages, parents, current = {"": []}, {0: ""}, ""
    for line in block.splitlines():
        text = line.split("|")[0]
        indent, words = len(text) - len(text.lstrip()), text.split()
        if not words:
            continue
        if words[0].endswith(".py"):
            packages[""].append(words[0].removesuffix(".py"))
        elif words[0].endswith("/"):
            current = f"{parents[indent - 2]}{words[0]}"
            parents[indent], packages[current] = current, words[1:]
        else:
            packages[current] += words
    return packages


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_that_a_document_names_exists(path):
    missing = [token for token in named_paths(path.read_text()) if not names_a_file(token)]
    assert missing == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_dotted_name_of_the_package_in_a_document_can_be_imported(path):
    for name in set(re.findall(r"\brlm_ray(?:\.[A-Za-z_]\w*)+", path.read_text())) - {"rlm_ray.py"}:
        parts = name.split(".")
        found = PACKAGE.joinpath(*parts[1:])
        if found.is_dir() or found.with_suffix(".py").is_file():
            continue
        assert hasattr(importlib.import_module(".".join(parts[:-1])), parts[-1]), name


def test_the_tree_of_the_map_shows_every_package():
    packages = {
        f"{path.parent.relative_to(PACKAGE).as_posix()}/".replace("./", "")
        for path in PACKAGE.rglob("__init__.py")
    }
    assert set(tree_of_the_map()) == packages


def test_every_module_in_the_tree_of_the_map_exists():
    shown = {f"{package}{module}.py" for package, modules in tree_of_the_map().items() for module in modules}
    assert {module for module in shown if not (PACKAGE / module).is_file()} == set()


def test_every_class_and_constant_in_the_map_is_a_name_of_the_package():
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    words = set(re.findall(r"`(?:[\w/.]+\.)?(_?[A-Z]\w+)(?:\.\w+)?`", MAP.read_text()))
    assert {word for word in words if not re.search(rf"\b{word}\b", source)} == set()
