"""What of a folder is passed over: what git ignores, hidden files, caches, lock files, and what the user excludes."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

_CACHES = frozenset(
    ["node_modules", "bower_components", "__pycache__", "__pypackages__", "venv", "site-packages", "htmlcov"]
)  # those that begin with a dot are hidden
_CACHE_SUFFIXES = (".egg-info", ".dist-info")
_LOCKS = frozenset(
    [
        "package-lock.json",
        "npm-shrinkwrap.json",
        "pnpm-lock.yaml",
        "packages.lock.json",
        "go.sum",
        "bun.lockb",
    ]
)
_GENERATED = (".lock", ".min.js", ".min.css", ".js.map", ".css.map", ".pyc")


@dataclass(frozen=True, slots=True)
class IgnoreFile:
    """The patterns of one `.gitignore`."""

    spec: GitIgnoreSpec
    folder: str = ""
    """Where it lies below the folder that is read; empty: there, or above."""
    above: str = ""
    """The way from where it lies to the folder that is read, for one above."""

    def says(self, path: str) -> bool | None:
        """Whether it ignores a path below the folder that is read; None where it says nothing of it."""
        below = f"{self.above}/{path}" if self.above else path.removeprefix(f"{self.folder}/")
        return self.spec.check_file(below).include


@dataclass(frozen=True, slots=True)
class Selection:
    """What a user asks for of a folder."""

    include: GitIgnoreSpec | None
    exclude: GitIgnoreSpec

    @classmethod
    def of(cls, include: Sequence[str], exclude: Sequence[str]) -> Selection:
        """Patterns are those of `.gitignore`: `*.md`, `docs/`, `src/**/test_*.py`."""
        return cls(GitIgnoreSpec.from_lines(include) if include else None, GitIgnoreSpec.from_lines(exclude))

    def reason(  # noqa: PLR0911 - a table of reasons
        self, path: str, ignoring: Sequence[IgnoreFile], *, is_folder: bool
    ) -> str:
        """Say why a file or folder is passed over, in a word; empty: it is not. `path` is relative to the folder."""
        name = posixpath.basename(path)
        if name.startswith("."):
            return "hidden"
        if is_folder and (name in _CACHES or name.endswith(_CACHE_SUFFIXES)):
            return "caches"
        if not is_folder and (name in _LOCKS or name.endswith(_GENERATED)):
            return "lock files and generated ones"
        shown = f"{path}/" if is_folder else path
        if is_ignored(shown, ignoring):
            return "ignored by .gitignore"
        if self.exclude.match_file(shown):
            return "excluded"
        if not is_folder and self.include is not None and not self.include.match_file(path):
            return "not included"
        return ""


def is_ignored(path: str, ignoring: Sequence[IgnoreFile]) -> bool:
    """Tell whether the nearest `.gitignore` that says something of a path ignores it."""
    said = (one.says(path) for one in reversed(ignoring))
    return next((word for word in said if word is not None), False)


def parse_ignore_file(lines: Iterable[str], folder: str = "", above: str = "") -> IgnoreFile:
    """Parse a `.gitignore`; a pattern that is none is left out, as git does."""
    good = []
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
        except ValueError:
            continue
        good.append(line)
    return IgnoreFile(GitIgnoreSpec.from_lines(good), folder, above)


def ignore_files_above(root: Path) -> list[IgnoreFile]:
    """Those that git would read between the top of a repository and a folder in it; none where git ignores the folder."""
    root = root.resolve()
    folders = [root, *root.parents]
    top = next((place for place, folder in enumerate(folders) if (folder / ".git").exists()), None)
    if top is None:
        return []
    found = read_ignore_file(folders[top] / ".git" / "info" / "exclude", above=_way(folders[top], root))
    for folder in reversed(folders[1 : top + 1]):
        found += read_ignore_file(folder / ".gitignore", above=_way(folder, root))
    return [] if any(one.above and one.spec.match_file(f"{one.above}/") for one in found) else found


def _way(folder: Path, root: Path) -> str:
    return "" if folder == root else root.relative_to(folder).as_posix()


def read_ignore_file(file: Path, folder: str = "", above: str = "") -> list[IgnoreFile]:
    """One that is there and can be read; none else."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [parse_ignore_file(text.splitlines(), folder, above)]
