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

    folder: str
    """Where it lies, relative to the folder that is read; `..` and the like where above."""
    spec: GitIgnoreSpec


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
    for one in reversed(ignoring):
        below = posixpath.relpath(path, one.folder or ".")
        if path.endswith("/"):
            below += "/"
        said = one.spec.check_file(below).include
        if said is not None:
            return said
    return False


def parse_ignore_file(folder: str, lines: Iterable[str]) -> IgnoreFile:
    """Parse a `.gitignore`; a pattern that is none is left out, as git does."""
    good = []
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
        except ValueError:
            continue
        good.append(line)
    return IgnoreFile(folder, GitIgnoreSpec.from_lines(good))


def ignore_files_above(root: Path) -> list[IgnoreFile]:
    """Those that git would read between the top of a repository and a folder in it; none where git ignores the folder."""
    root = root.resolve()
    above = [root, *root.parents]
    top = next((place for place, folder in enumerate(above) if (folder / ".git").exists()), None)
    if not top:
        return _exclude_file(root) if top == 0 else []
    found = _exclude_file(above[top], "/".join([".."] * top))
    for place in range(top, 0, -1):
        found += read_ignore_file(above[place] / ".gitignore", "/".join([".."] * place))
    names = [(root.relative_to(folder).as_posix(), folder) for folder in above[1 : top + 1]]
    ignored = any(
        one.spec.match_file(f"{root.relative_to((root / one.folder).resolve()).as_posix()}/") for one in found
    )
    return [] if ignored or not names else found


def _exclude_file(top: Path, folder: str = "") -> list[IgnoreFile]:
    return read_ignore_file(top / ".git" / "info" / "exclude", folder)


def read_ignore_file(file: Path, folder: str) -> list[IgnoreFile]:
    """One that is there and can be read; none else."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [parse_ignore_file(folder, text.splitlines())]
