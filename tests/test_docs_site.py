"""The site's pages: every command, setting and example has its place, links lead somewhere, sentences are those that are printed.

mkdocs itself is not needed here: `make docs` builds the site.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.main import get_command

from rlm_ray.cli.app import app
from rlm_ray.cli.console import EXIT_CODES
from rlm_ray.config.settings import setting_names

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def load_hooks():
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks = load_hooks()
COMMANDS = dict(hooks.walk_commands(get_command(app), "rlm-ray"))
GENERATED = hooks.generated_pages()
PAGES = {path.name: path.read_text() for path in DOCS.glob("*.md")}
IN_REPOSITORY = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in [*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("[bde]*/README.md")]
}


def test_the_commands_are_those_of_the_command_line():
    assert {"rlm-ray ask", "rlm-ray serve", "rlm-ray runs prune", "rlm-ray cache prune"} <= COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_reference_names_every_command_and_all_its_options(name):
    section = GENERATED["cli-reference.md"].split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]
    for parameter in hooks.shown_parameters(COMMANDS[name]):
        names = [parameter.name.upper()] if parameter.param_type_name == "argument" else parameter.opts
        wanted = [parameter.metavar or names[0]] if parameter.param_type_name == "argument" else names
        for each in wanted:
            assert each.replace("|", "\\|") in section
        assert not parameter.help or " ".join(parameter.help.split())[:20].replace("*", "\\*") in section


def test_reference_names_every_setting():
    assert [
        name for name in setting_names() if f"| `{name}` |" not in GENERATED["settings-reference.md"]
    ] == []


def test_every_example_is_on_its_page():
    names = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert set(re.findall(r"^## (\w+)$", GENERATED["examples.md"], re.MULTILINE)) == names


def test_every_page_is_in_the_menu_once():
    menu = re.findall(r"- ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(menu) == sorted({*PAGES, *GENERATED}), "a page is named under `nav` of mkdocs.yml"


def anchors_of(text):
    """The names that headings of a page get, as GitHub and mkdocs both make them."""
    plain = hooks._FENCE.sub("", text)
    headings = re.findall(r"^#+ +(.+?) *$", plain, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def links_of(text):
    plain = hooks._FENCE.sub("", text)
    return [found[1] for found in re.findall(r"(!?\[[^\]\n]*\])\(([^)\s]+)\)", plain)]


@pytest.mark.parametrize("source", IN_REPOSITORY)
def test_links_of_a_document_lead_to_files_and_headings_of_the_repository(source):
    broken = []
    for link in links_of(IN_REPOSITORY[source]):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        found = ((ROOT / source).parent / parts.path).resolve() if parts.path else ROOT / source
        known = found.suffix != ".md" or not parts.fragment or parts.fragment in anchors_of(found.read_text())
        if not found.exists() or not known:
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize(
    ("link", "source", "target"),
    [
        ("cli.md#json", "docs/use.md", "cli.md#json"), ("../README.md", "docs/python.md", "index.md"), ("docs/cli.md", "CONTRIBUTING.md", "cli.md"),
        ("../docs/serving.md#keys", "deploy/README.md", "serving.md#keys"), ("../benchmarks/README.md#quality", "docs/faq.md", "benchmarks.md#quality"),
        ("../examples/tools.py", "docs/repl.md", "examples.md#tools"), ("../examples", "docs/models.md", "examples.md"), ("#keys", "docs/serving.md", "#keys"),
        ("https://ray.io", "docs/index.md", "https://ray.io"), ("../rlm_ray/cli/app.py", "docs/index.md", "cli-reference.md"),
        ("../pyproject.toml", "docs/why.md", None), ("deploy/serve.yaml", "CHANGELOG.md", None),
    ],
)  # fmt: skip
def test_a_link_leads_to_the_page_of_the_site_or_nowhere(link, source, target):
    assert hooks.site_target(link, source) == target


def test_links_are_rewritten_in_prose_and_never_in_code():
    text = "[a](../README.md) [b](../LICENSE)\n```\n[c](../README.md)\n```\n![d](tree.svg)"
    assert hooks.with_links_of_the_site(text, "docs/x.md") == (
        "[a](index.md) b\n```\n[c](../README.md)\n```\n![d](tree.svg)"
    )


@pytest.mark.parametrize(
    ("page", "broken"),
    [
        ('<a href="b.html">', []), ('<a href="b.html#here">', []), ('<a href="#top"></a><h1 id="top">', []), ('<a href="https://x.org/y">', []),
        ('<a href="c.html">', ["a.html: c.html"]), ('<a href="b.html#gone">', ["a.html: b.html#gone"]), ('<img src="x.svg">', ["a.html: x.svg"]),
        ('<a href="#gone">', ["a.html: #gone"]), ('<link href="/b.html">', []), ('<link href="/no.css">', ["a.html: /no.css"]),
    ],
)  # fmt: skip
def test_a_link_of_the_built_site_that_leads_nowhere_is_found(tmp_path, page, broken):
    (tmp_path / "a.html").write_text(page)
    (tmp_path / "b.html").write_text('<p id="here">')
    assert hooks.broken_links(tmp_path) == broken


def test_the_runbook_has_every_exit_code():
    table = PAGES["runbook.md"].split("## Exit codes", 1)[1].split("## ", 1)[0]
    rows = dict(re.findall(r"^\| (\d+) \| (.+?) \|", table, re.MULTILINE))
    assert rows == {str(code): meaning for code, meaning in EXIT_CODES.items()}


SOURCE = " ".join(
    re.sub(r'"\s*\n?\s*f?"', "", path.read_text()) for path in sorted((ROOT / "rlm_ray").rglob("*.py"))
)
"""All of the code, with texts that are written in several pieces joined."""


def test_sentences_of_the_runbook_are_those_of_the_code():
    table = PAGES["runbook.md"].split("## Sentences", 1)[1].split("\n## ", 1)[0]
    sentences = [
        sentence
        for row in re.findall(r"^\| (`.+?) \| ", table, re.MULTILINE)
        for sentence in re.findall(r"`([^`]+)`", row)
    ]
    assert len(sentences) > 20
    fixed = [
        part.strip(" .;:,()'/")
        for sentence in sentences
        for part in re.split(r"[;:]|\.\.\.|'\w+'|\$?\b[\d,.:]+\b|\b0x\w+|http://|OPENAI_API_KEY", sentence)
    ]
    assert [part for part in fixed if part.count(" ") >= 2 and part not in SOURCE] == []
