"""What of a folder is read, and what is passed over."""

from __future__ import annotations

import os
import subprocess

import fsspec
import pytest

from rlm_ray.documents.files import Files
from rlm_ray.errors import InputError


def tree(root, **files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def names(*paths, **how):
    return [document["id"] for document in Files(*paths, **how).read().context.documents()]


@pytest.mark.parametrize(
    ("ignoring", "path", "is_read"),
    [
        ("*.log", "a.log", False),
        ("*.log", "deep/er/a.log", False),
        ("/a.log", "deep/a.log", True),
        ("build/", "build/a.txt", False),
        ("build/", "deep/build/a.txt", False),
        ("build/", "build", True),
        ("/build/", "deep/build/a.txt", True),
        ("docs/*.txt", "docs/a.txt", False),
        ("docs/*.txt", "docs/deep/a.txt", True),
        ("docs/**/a.txt", "docs/deep/er/a.txt", False),
        ("*.txt\n!keep.txt", "keep.txt", True),
        ("*.txt\n!keep.txt", "lose.txt", False),
        ("deep/\n!deep/a.txt", "deep/a.txt", False),
        ("# comment\n\n", "comment", True),
        ("\\#name", "#name", False),
        ("a[0-9].txt", "a7.txt", False),
        ("a?.txt", "ab.txt", False),
        ("name with blanks.txt", "name with blanks.txt", False),
        ("!", "a.txt", True),
        ("a.txt   ", "a.txt", False),
        ("größe.txt", "größe.txt", False),
    ],
)
def test_gitignore_is_obeyed_as_by_git(tmp_path, ignoring, path, is_read):
    tree(tmp_path, **{".gitignore": ignoring, path: "text", "other.md": "text"})
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    said = subprocess.run(["git", "-C", tmp_path, "check-ignore", "-q", path], check=False).returncode
    assert (path in names(tmp_path)) == is_read == bool(said)


def test_nearest_gitignore_has_the_last_word(tmp_path):
    tree(
        tmp_path,
        **{".gitignore": "*.txt", "deep/.gitignore": "!a.txt", "a.txt": "", "deep/a.txt": "", "b.md": ""},
    )
    assert names(tmp_path) == ["b.md", "deep/a.txt"]


def test_gitignore_above_the_folder_counts_up_to_the_top_of_the_repository(tmp_path):
    repository = tree(tmp_path / "repo", **{".gitignore": "*.log\n/src/out/", "src/a.log": "", "src/b.py": "", "src/out/c.py": ""})  # fmt: skip
    tree(tmp_path, **{".gitignore": "*.py"})
    (repository / ".git").mkdir()
    assert names(repository / "src") == ["b.py"]
    assert names(repository / "src" / "out") == ["c.py"], "it was named itself"


@pytest.mark.parametrize(
    "path",
    [
        "node_modules/x/index.js", "deep/node_modules/x.js", "__pycache__/a.py", ".venv/lib/a.py", "venv/lib/a.py",
        "pkg.egg-info/SOURCES.txt", ".git/config", ".hidden", ".env", "package-lock.json", "deep/poetry.lock", "Cargo.lock",
        "go.sum", "app.min.js", "picture.png", "a.bin", "a.zip", "program", "a.pyc",
    ],
)  # fmt: skip
def test_caches_lock_files_and_binaries_are_passed_over_and_counted(tmp_path, path):
    content = {
        "picture.png": b"\x89PNG\0",
        "a.bin": b"a\0\1\2",
        "a.zip": b"\x1f\x8b\0",
        "program": b"\x7fELF\0",
    }
    tree(tmp_path, **{path: content.get(path, "text"), "read.me": "text"})
    found = Files(tmp_path).read()
    assert [document["id"] for document in found.context.documents()] == ["read.me"]
    assert found.report.passed_over.total() == 1
    assert found.report.line().startswith("read 1 file (text), 4 characters; passed over: 1 ")


def test_include_and_exclude_select(tmp_path):
    tree(tmp_path, **{"a.py": "", "b.md": "", "tests/c.py": "", "docs/d.md": "", "docs/e.txt": ""})
    assert names(tmp_path, include=["*.py"]) == ["a.py", "tests/c.py"]
    assert names(tmp_path, include="docs/") == ["docs/d.md", "docs/e.txt"]
    assert names(tmp_path, include=["*.py", "*.md"], exclude=["tests/", "b.*"]) == ["a.py", "docs/d.md"]
    assert names(tmp_path, exclude=["*.md", "*.txt", "/a.py"]) == ["tests/c.py"]


def test_file_that_is_named_is_read_whatever_it_is_called(tmp_path):
    tree(tmp_path, **{".gitignore": "*", ".env": "text", "yarn.lock": "text"})
    assert len(names(tmp_path / ".env", tmp_path / "yarn.lock", exclude=["*"])) == 2


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    outside = tree(tmp_path / "outside", **{"secret.txt": "secret"})
    inside = tree(tmp_path / "inside", **{"a.txt": "text", "deep/b.txt": "text"})
    (inside / "out.txt").symlink_to(outside / "secret.txt")
    (inside / "relative.txt").symlink_to("../outside/secret.txt")
    (inside / "folder").symlink_to(outside)
    (inside / "loop").symlink_to(inside)
    (inside / "gone.txt").symlink_to(inside / "nowhere")
    (inside / "same.txt").symlink_to("deep/b.txt")
    os.mkfifo(inside / "pipe")
    found = Files(inside).read()
    assert [document["id"] for document in found.context.documents()] == ["a.txt", "deep/b.txt", "same.txt"]
    assert found.report.passed_over == {
        "links out of the folder": 3, "links to folders": 1, "broken links": 1, "no regular files": 1,
    }  # fmt: skip


def test_folder_that_is_itself_a_link_is_read(tmp_path):
    tree(tmp_path / "real", **{"a.txt": "text"})
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert names(tmp_path / "link") == ["a.txt"]


def test_unreadable_files_are_named_and_the_others_are_read(tmp_path):
    tree(
        tmp_path,
        **{"a.txt": "text", "b.txt": b"caf\xff\x81", "c.txt": b"caf\xff\x81", "d.txt": b"n\xe4here S\xe4tze"},
    )
    line = Files(tmp_path).read().report.line()
    assert line == (
        "read 2 files (2 text), 16 characters; d.txt (read as cp1252, which is a guess); not read: b.txt, c.txt (is not UTF-8 "
        "(byte 0xff at offset 3), and no encoding fits; name it with --encoding (encoding=), or save it as UTF-8)"
    )


@pytest.mark.parametrize("content", [b"caf\xff\x81", b"n\xe4here S\xe4tze", b"%PDF-1.4 broken"])
def test_strict_reading_refuses_what_cannot_be_read_or_is_a_guess(tmp_path, content):
    tree(tmp_path, **{"a.txt": "text", "b.txt": content})
    with pytest.raises(InputError, match=r"b\.txt"):
        Files(tmp_path, strict=True).read()
    assert len(Files(tmp_path, exclude=["b.txt"], strict=True).read().context.documents()) == 1


def test_files_of_any_storage_are_read_by_the_same_rules():
    fs = fsspec.filesystem("memory")
    files = {".gitignore": "*.log", "a.txt": "one", "b.log": "", "deep/c.txt": "two", "node_modules/d.js": "", "e.png": b"\x89PNG\0", ".f": ""}  # fmt: skip
    for name, content in files.items():
        fs.pipe_file(f"/bucket/{name}", content if isinstance(content, bytes) else content.encode())
    try:
        assert names("memory://bucket") == ["a.txt", "deep/c.txt"]
        assert names("memory://bucket/", include=["deep/"]) == ["deep/c.txt"]
        assert names("memory://bucket/*.txt") == ["a.txt"]
        assert Files("memory://bucket/a.txt").read().context.text() == "one"
        with pytest.raises(InputError, match="does not exist, or holds no file"):
            Files("memory://bucket/nothing").read()
    finally:
        fs.rm("/bucket", recursive=True)


def test_how_files_were_read_is_shown_and_reported_as_plain_values(tmp_path):
    files = Files("a", exclude="*.log", encoding="latin1", strict=True)
    assert repr(files) == "Files('a', exclude=('*.log',), encoding='iso8859-1', strict=True)"
    assert repr(Files("b", **files.options())) == repr(files).replace("'a'", "'b'")


@pytest.mark.parametrize(
    "how", [{"include": ["["]}, {"exclude": ["a\\"]}, {"encoding": "base64"}, {"encoding": "x"}]
)
def test_wrong_options_are_refused_or_harmless(tmp_path, how):
    tree(tmp_path, **{"a.txt": "text"})
    try:
        Files(tmp_path, **how).read()
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_files_of_the_same_name_in_two_folders_have_names_of_their_own(tmp_path):
    tree(tmp_path, **{"one/a.txt": "", "one/b.txt": "", "two/a.txt": ""})
    assert names(tmp_path / "one", tmp_path / "two") == [
        f"{tmp_path}/one/a.txt",
        "b.txt",
        f"{tmp_path}/two/a.txt",
    ]
