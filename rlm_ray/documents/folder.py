"""The files that a path or URL names, in the order of their names; of a folder, those that are worth reading.

- Passed over are what git ignores, hidden files, caches, lock files, and what the user excludes: `Selection`. They are
  counted by their reason, and never looked into.
- Links that lead out of a folder are not followed, nor are links to folders.
- A file that is named itself is read whatever it is called.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pathspec import GitIgnoreSpec

from rlm_ray.core.display import replace_surrogates
from rlm_ray.errors import InputError
from rlm_ray.util.filesystem import filesystem, local_path, map_storage_errors

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
        """Tell whether the file ignores a path below the folder that is read; None where it says nothing of it."""
        below = f"{self.above}/{path}" if self.above else path.removeprefix(f"{self.folder}/")
        return self.spec.check_file(below).include


@dataclass(frozen=True, slots=True)
class Selection:
    """What a user asks for of a folder."""

    include: GitIgnoreSpec | None
    exclude: GitIgnoreSpec

    @classmethod
    def of(cls, include: Sequence[str], exclude: Sequence[str]) -> Selection:
        """Read patterns as `.gitignore` has them: `*.md`, `docs/`, `src/**/test_*.py`."""
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
    """List those that git would read between the top of a repository and a folder in it; none where git ignores the folder."""
    root = root.resolve()
    folders = [root, *root.parents]
    top = next((place for place, folder in enumerate(folders) if (folder / ".git").exists()), None)
    if top is None:
        return []
    found = read_ignore_file(
        folders[top] / ".git" / "info" / "exclude", above=_relative_folder(folders[top], root)
    )
    for folder in reversed(folders[1 : top + 1]):
        found += read_ignore_file(folder / ".gitignore", above=_relative_folder(folder, root))
    return [] if any(one.above and one.spec.match_file(f"{one.above}/") for one in found) else found


def _relative_folder(folder: Path, root: Path) -> str:
    return "" if folder == root else root.relative_to(folder).as_posix()


def read_ignore_file(file: Path, folder: str = "", above: str = "") -> list[IgnoreFile]:
    """Return the ignore file of a folder in a list; an empty one where there is none that can be read."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [parse_ignore_file(text.splitlines(), folder, above)]


LINKS = "links out of the folder"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that is to be read."""

    id: str
    """What its document is called: the path, below the folder that was named where it was one."""
    path: str
    fs: Any = None
    """The fsspec file system of a URL; None on this machine."""
    discovered: bool = False
    """In a folder, and not named itself."""
    nbytes: int = 0
    """Its size, of one in a folder."""

    def read(self, max_bytes: int = -1) -> bytes:
        """Read it, or on this machine only its beginning: a storage is asked once. Raises `InputError`."""
        try:
            if self.fs is None:
                with open(self.path, "rb") as stream:  # noqa: PTH123 - a third of the time of pathlib's, for each file
                    return stream.read(max_bytes)
            with map_storage_errors(self.path):
                return bytes(self.fs.cat_file(self.path))
        except OSError as error:
            raise InputError(self.id, f"cannot be read: {error.strerror or error}") from error


@dataclass(slots=True)
class Listing:
    """The files that are to be read, and how many are not."""

    files: list[SourceFile] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    """How many files and folders for which reason."""


def describe_passed_over(counts: Counter[str]) -> str:
    """Say how many files were passed over, by reason; empty where none was."""
    found = ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items()))
    return f"passed over: {found}" if found else ""


def list_files(paths: Sequence[str | Path], selection: Selection) -> Listing:
    """List the files that paths and URLs name. Raises `InputError` for one that is not there."""
    listing = Listing()
    for path in paths:
        local = path if isinstance(path, Path) else local_path(path)
        if local is None:
            _list_url(str(path), selection, listing)
            continue
        if isinstance(path, str) and "://" not in path:
            local = Path(path)
        if local.is_dir():
            _list_folder(local, selection, listing)
        elif local.exists():
            listing.files.append(SourceFile(replace_surrogates(str(local)), str(local)))
        else:
            raise InputError(str(local), "does not exist; check the path")
    named = Counter(file.id for file in listing.files)
    if len(named) < len(listing.files):  # two folders hold a file of the same name
        listing.files = [
            file if named[file.id] == 1 else replace(file, id=replace_surrogates(file.path))
            for file in listing.files
        ]
    return listing


def _list_folder(root: Path, selection: Selection, listing: Listing) -> None:
    real_root = os.path.realpath(root)

    def walk(folder: str, below: str, ignoring: list[IgnoreFile]) -> Iterator[SourceFile]:
        ignoring = ignoring + read_ignore_file(Path(folder, ".gitignore"), below)
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if not below:
                raise InputError(folder, f"cannot be read: {error.strerror}") from error
            listing.passed_over["folders that cannot be read"] += 1
            return
        for entry in found:
            path = posixpath.join(below, entry.name)
            is_folder = entry.is_dir(follow_symlinks=False)
            if why := selection.reason(path, ignoring, is_folder=is_folder) or _skip_reason(entry, real_root):
                listing.passed_over[why] += 1
            elif is_folder:
                yield from walk(entry.path, path, ignoring)
            else:
                size = entry.stat().st_size
                yield SourceFile(replace_surrogates(path), entry.path, discovered=True, nbytes=size)

    listing.files += walk(str(root), "", ignore_files_above(root))


def _skip_reason(entry: os.DirEntry[str], real_root: str) -> str:
    """Say why a file is none that can be read: a link out of the folder, a pipe, a device."""
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        if os.path.commonpath([real_root, target]) != real_root:
            return LINKS
        if os.path.isdir(target):  # noqa: PTH112 - of a text
            return "links to folders"
        return "" if os.path.isfile(target) else "broken links"  # noqa: PTH113
    if entry.is_dir(follow_symlinks=False):
        return ""
    return "" if stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode) else "no regular files"


def would_be_read(root: Path, path: Path) -> bool:
    """Tell whether a file at this path, were it there, would be read with the folder `root`."""
    root, path = root.absolute(), path.absolute()
    if root == path or not path.is_relative_to(root) or not root.is_dir():
        return False
    ignoring = [*ignore_files_above(root), *read_ignore_file(root / ".gitignore")]
    return not _stored_skip_reason(path.relative_to(root).as_posix(), Selection.of((), ()), ignoring)


def _list_url(url: str, selection: Selection, listing: Listing) -> None:
    fs, path = filesystem(url)
    with map_storage_errors(url):
        if fs.isfile(path):
            listing.files.append(SourceFile(url, path, fs))
            return
        is_glob = any(mark in path for mark in "*?[")
        found = fs.glob(path, detail=True) if is_glob else fs.find(path, detail=True)
        names = sorted(name for name, facts in found.items() if facts.get("type") == "file")
        if not names:
            raise InputError(url, "does not exist, or holds no file; check the address")
        root = (
            path.rstrip("/")
            if not is_glob
            else posixpath.dirname(path[: min(path.find(m) % (len(path) + 1) for m in "*?[")])
        )
        below = {name.removeprefix(root).lstrip("/"): name for name in names}
        ignoring = [
            parse_ignore_file(
                fs.cat_file(name).decode("utf-8", "replace").splitlines(), posixpath.dirname(short)
            )
            for short, name in below.items()
            if posixpath.basename(short) == ".gitignore"
        ]
    for short, name in below.items():
        if why := _stored_skip_reason(short, selection, ignoring):
            listing.passed_over[why] += 1
        else:
            size = found[name].get("size") or 0
            listing.files.append(SourceFile(short, name, fs, discovered=True, nbytes=size))


def _stored_skip_reason(short: str, selection: Selection, ignoring: Sequence[IgnoreFile]) -> str:
    """Say why a stored file is passed over: for itself, or for a folder that it lies in."""
    parts = short.split("/")
    for place in range(1, len(parts) + 1):
        path = "/".join(parts[:place])
        over = [one for one in ignoring if not one.folder or f"{path}/".startswith(f"{one.folder}/")]
        if why := selection.reason(path, over, is_folder=place < len(parts)):
            return why
    return ""
