"""What the site is made of beside the pages of this folder, for `make docs`.

Pages from elsewhere in the repository (changelog, benchmarks, deploying ...) and pages made from the code (commands, settings, examples)
are generated when the site is built and never committed. Links are written so that they work in the repository; those that lead out of
this folder are rewritten to the generated page, or to plain text where the site has none.

`python docs/hooks.py SITE` then looks at every link of the built pages, those of menus and of HTML included.
"""

from __future__ import annotations

import ast
import posixpath
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES_FROM_ELSEWHERE = {
    "benchmarks/README.md": "benchmarks.md",
    "deploy/README.md": "deploying.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "reporting.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
}
"""Files of the repository by the names of their pages."""
PLOTS = ROOT / "benchmarks"
"""Whose SVGs its page shows."""
INSTEAD = {
    "README.md": "index.md",
    "examples": "examples.md",
    "examples/quickstart.ipynb": "examples.md",
    "rlm_ray/cli/app.py": "cli-reference.md",
    "rlm_ray/config/settings.py": "settings-reference.md",
}
"""Files and folders without a page of their own, and the page that says the same."""
_LINK = re.compile(r"(?<!!)\[([^\]\n]*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^( {0,3})(```|~~~).*?^\1\2[ \t]*$", re.MULTILINE | re.DOTALL)


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for name, text in generated_pages().items():
        files.append(File.generated(config, name, content=text))
    for plot in PLOTS.glob("*.svg"):
        files.append(File.generated(config, plot.name, abs_src_path=str(plot)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite links of a page of this folder that lead out of it."""
    return with_links_of_the_site(markdown, f"docs/{page.file.src_uri}")


def generated_pages() -> dict[str, str]:
    """Return the Markdown of every page that is made when the site is built, by its name."""
    pages = {
        "cli-reference.md": command_reference(),
        "settings-reference.md": settings_reference(),
        "examples.md": examples_page(),
    }
    for source, name in PAGES_FROM_ELSEWHERE.items():
        pages[name] = with_links_of_the_site((ROOT / source).read_text(), source)
    return pages


def with_links_of_the_site(text: str, source: str) -> str:
    """Return Markdown of a file of the repository (`source`, from its root) with links as the site has them; code stays as it is."""
    fenced = [found.span() for found in _FENCE.finditer(text)]

    def rewritten(found: re.Match[str]) -> str:
        if any(start <= found.start() < end for start, end in fenced):
            return found[0]
        target = site_target(found[2], source)
        return found[1] if target is None else f"[{found[1]}]({target})"

    return _LINK.sub(rewritten, text)


def site_target(link: str, source: str) -> str | None:
    """Return where a link of this file leads on the site; None where the site has no such page."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc or not parts.path:
        return link
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), parts.path))
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    if path.startswith("docs/"):
        return path.removeprefix("docs/") + fragment
    if path.startswith("examples/") and path.endswith(".py"):
        return f"examples.md#{Path(path).stem}"
    page = PAGES_FROM_ELSEWHERE.get(path) or INSTEAD.get(path)
    return None if page is None else page + fragment


def command_reference() -> str:
    """Return a page with every command, its arguments and options, as the command line declares them."""
    from typer.main import get_command

    from rlm_ray.cli.app import app

    lines = [
        "# Commands",
        "",
        "Made from the commands themselves. In prose, with exit codes and JSON: [Command line](cli.md).",
        "",
    ]
    for name, command in walk_commands(get_command(app), "rlm-ray"):
        lines += [
            f"## {name}",
            "",
            _usage(name, command),
            "",
            *_help_of(command),
            "",
            *_parameters(command),
            "",
        ]
    return "\n".join(lines)


def walk_commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield every command that is shown, with its whole name; groups before what is in them."""
    yield name, command
    for child, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from walk_commands(below, f"{name} {child}")


def shown_parameters(command: Any) -> list[Any]:
    """Return the parameters of a command that are shown, arguments first."""
    found = [each for each in command.params if not getattr(each, "hidden", False) and each.name != "help"]
    return sorted(found, key=lambda each: each.param_type_name != "argument")


def _usage(name: str, command: Any) -> str:
    words = [_metavar(each) for each in shown_parameters(command) if each.param_type_name == "argument"]
    tail = " COMMAND" if getattr(command, "commands", None) else ""
    return f"```\n{' '.join([name, '[OPTIONS]', *words])}{tail}\n```"


def _metavar(parameter: Any) -> str:
    shown = parameter.metavar or parameter.name.upper()
    shown += "..." if parameter.nargs == -1 or getattr(parameter, "multiple", False) else ""
    return shown if parameter.required else f"[{shown}]"


def _kind(option: Any) -> str:
    kind = getattr(getattr(option, "type_descriptor", None), "annotation", str)
    return {"float": "NUMBER", "int": "NUMBER", "Path": "PATH"}.get(getattr(kind, "__name__", ""), "TEXT")


def _help_of(command: Any) -> list[str]:
    return [
        _escaped(line) for line in (command.help or command.short_help or "").replace("\b", "").splitlines()
    ]


def _parameters(command: Any) -> list[str]:
    found = shown_parameters(command)
    if not found:
        return []
    rows = ["| argument or option | default | does |", "|---|---|---|"]
    for each in found:
        is_argument = each.param_type_name == "argument"
        names = [_metavar(each)] if is_argument else [*each.opts, *each.secondary_opts]
        value = "" if is_argument or each.is_flag or each.count else f" {each.metavar or _kind(each)}"
        default = (
            each.default
            if isinstance(each.default, str | int | float) and not isinstance(each.default, bool)
            else ""
        )
        shown = ", ".join(f"`{name}{value}`".replace("|", "\\|") for name in names)
        rows.append(f"| {shown} | {default} | {_escaped(getattr(each, 'help', None) or '')} |")
    return rows


def settings_reference() -> str:
    """Return a page with every setting: type, default, meaning."""
    from dataclasses import fields, is_dataclass

    from rlm_ray.config import Settings
    from rlm_ray.config.settings import setting_docs, setting_names

    docs, defaults = setting_docs(), Settings()
    groups = {item.name for item in fields(Settings) if is_dataclass(getattr(defaults, item.name))}
    lines = [
        "# All settings",
        "",
        "Made from `rlm_ray.Settings`. How they are given: [Settings](settings.md).",
        "",
        "| setting | default | means |",
        "|---|---|---|",
    ]
    for name in [*setting_names(), "params"]:
        group, _, inner = name.rpartition(".")
        owner = getattr(defaults, group) if group in groups else defaults
        value = getattr(owner, inner)
        default = "" if value in ("", (), {}, None) else repr(value).replace(str(Path.home()), "~")
        lines.append(f"| `{name}` | {f'`{default}`' if default else ''} | {_escaped(docs.get(name, ''))} |")
    return "\n".join(lines) + "\n"


def examples_page() -> str:
    """Return a page with every program of `examples/`, the first sentence of its docstring above it."""
    lines = [
        "# Examples",
        "",
        "Each runs as it stands, offline and without a key, and tests run them all; `RLM_RAY_MODEL=openai/gpt-5-mini python examples/tools.py` asks a real model. The",
        "offline model quotes and does not reason: where an example wants a model that calls a tool or writes JSON, its offline run plays scripted replies and says so.",
        "The notebook `examples/quickstart.ipynb` shows the first questions, and how results look there.",
        "",
    ]
    for path in sorted((ROOT / "examples").glob("*.py")):
        source = path.read_text()
        told = (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0]
        lines += [
            f"## {path.stem}",
            "",
            _escaped(" ".join(told.split())),
            "",
            f'```python title="examples/{path.name}"',
            source.rstrip(),
            "```",
            "",
        ]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Return one line of plain text as Markdown shows it unchanged, also in a table; what stands between backticks is code."""
    parts = " ".join(text.split()).split("`")
    parts[::2] = [re.sub(r"([\\<>*\[\]|])", r"\\\1", plain) for plain in parts[::2]]
    return "`".join(parts)


class _Links(HTMLParser):
    """Collects the targets that a page links to, and the names within it."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"href", "src"} and value:
                self.targets.append(value)
            elif value and (name == "id" or (tag == "a" and name == "name")):
                self.names.add(value)


def broken_links(site: Path) -> list[str]:
    """Return every link of the built pages that leads to no file or no name of the site, as a line each; other sites are not asked."""
    pages = {}
    for path in site.rglob("*.html"):
        pages[path] = _Links()
        pages[path].feed(path.read_text())
    broken = []
    for path, page in sorted(pages.items()):
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            base = site if parts.path.startswith("/") else path.parent
            found = (base / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            found = found / "index.html" if found.is_dir() else found
            known = pages.get(found)
            if not found.is_file() or (
                parts.fragment and known and unquote(parts.fragment) not in known.names
            ):
                broken.append(f"{path.relative_to(site)}: {target}")
    return broken


if __name__ == "__main__":
    if lines := broken_links(Path(sys.argv[1]).resolve()):
        sys.exit("\n".join(["links that lead nowhere:", *lines]))
