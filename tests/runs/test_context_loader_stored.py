"""The context of a run, kept and found again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.core.context import make_context
from rlm_ray.documents.files import Files
from rlm_ray.errors import InputError
from rlm_ray.journal.run_store import RunStore
from rlm_ray.runs import context_loader
from rlm_ray.runs.context_loader import files_of, read_context
from rlm_ray.runs.run_history import RunHistory

RUN = "20260102-030405-abcdef"


@pytest.fixture
def folder(tmp_path):
    return RunStore(str(tmp_path / "runs"), RUN)


class Blobs:
    """What `contexts` wants of a folder, in memory."""

    run_id = RUN

    def __init__(self):
        self.saved = {}

    def save(self, name, data):
        self.saved[name] = bytes(data)

    def load(self, name):
        return self.saved.get(name)

    def discard(self, name):
        self.saved.pop(name, None)


UTF8 = st.text(max_size=30)  # lone surrogates and all
SOURCES = st.one_of(
    UTF8,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map(str.encode),
    st.lists(UTF8, max_size=4),
    st.lists(st.fixed_dictionaries({"id": UTF8, "text": UTF8}), min_size=1, max_size=4),
)


def seen(context):
    """All that a session may see of a context."""
    bounds = None if context.offsets is None else list(context.offsets)
    return bytes(context.data), context.info, bounds, context.ids, context.text(), context.documents()


@settings(deadline=None, max_examples=60)
@given(SOURCES)
def test_what_was_kept_is_the_same_context(source):
    folder, context = Blobs(), make_context(source)
    context_loader.save_context(folder, context, None)
    again, fingerprint = context_loader.load_context(folder)
    assert seen(again) == seen(context)
    assert fingerprint == context_loader.saved_fingerprint(folder) == again.fingerprint()


@pytest.mark.parametrize(
    "source",
    [
        "",
        "ascii",
        "é ü — \u2028 日本語 🦜 \x00",
        b"\xf0\x9f\xa6\x9c",
        [],
        [""],
        ["a", "é", ""],
        [{"id": "1", "text": "🦜"}],
    ],
)
def test_a_real_folder_keeps_it_until_it_is_forgotten(folder, source):
    context = make_context(source)
    context_loader.save_context(folder, context, None)
    assert seen(context_loader.load_context(folder)[0]) == seen(context)
    context_loader.delete_context(folder)
    context_loader.delete_context(folder)
    with pytest.raises(InputError, match="keeps its context no more; give it again"):
        context_loader.load_context(folder)
    assert context_loader.saved_fingerprint(folder) == context.fingerprint()


def test_a_run_that_was_killed_too_early_keeps_none(folder):
    with pytest.raises(InputError, match="killed before its context was kept"):
        context_loader.load_context(folder)
    assert context_loader.saved_fingerprint(folder) == ""


def key_of(folder, context):
    return RunHistory(RUN, 1, fingerprint=context_loader.saved_fingerprint(folder)).changed_context_key(
        context
    )


def test_files_are_not_copied_but_read_again_and_a_changed_one_is_noticed(folder, tmp_path):
    file = tmp_path / "input.txt"
    file.write_text("before")
    context_loader.save_context(folder, read_context(file), Files(file))
    assert folder.load(context_loader.DATA_FILE) is None
    again, _ = context_loader.load_context(folder)
    assert (again.text(), key_of(folder, again)) == ("before", "")

    file.write_text("after")
    again, _ = context_loader.load_context(folder)
    assert again.text() == "after"
    assert key_of(folder, again) == again.fingerprint() != ""


def test_files_of_a_relative_path_are_found_from_anywhere(folder, tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "one.txt").write_text("text")
    monkeypatch.chdir(tmp_path)
    source = [type(tmp_path)("docs")]
    context_loader.save_context(folder, read_context(source), files_of(source))
    monkeypatch.chdir("/")
    assert context_loader.load_context(folder)[0].documents() == [{"id": "one.txt", "text": "text"}]


def test_files_that_are_gone_are_named(folder, tmp_path):
    file = tmp_path / "input.txt"
    file.write_text("text")
    context_loader.save_context(folder, read_context(file), Files(file))
    file.unlink()
    with pytest.raises(InputError, match=r"input\.txt: does not exist"):
        context_loader.load_context(folder)


def test_over_all_attempts_a_context_has_one_name_and_the_first_one_none(folder):
    """What the second life found out about another context must hold in the third, and what the first did must not."""
    first, other = make_context("the first"), make_context("another")
    names = []
    for context in (first, other, other, first, make_context("a third")):
        names.append(key_of(folder, context))
        context_loader.save_context(folder, context, None)
        assert seen(context_loader.load_context(folder)[0]) == seen(context)
    assert names == ["", other.fingerprint(), other.fingerprint(), "", make_context("a third").fingerprint()]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("ab", ["ab"]),
        (["ab", "c"], ["a", "bc"]),
        ([{"id": "1", "text": "a"}], [{"id": "2", "text": "a"}]),
        ([{"id": "1", "text": "a"}], ["a"]),
        ("a", "b"),
    ],
)
def test_contexts_that_read_differently_have_different_names(one, two):
    assert make_context(one).fingerprint() != make_context(two).fingerprint()
    assert make_context(one).fingerprint() == make_context(one).fingerprint()


OURS = {"fingerprint": "f", "paths": [], "reading": {}, "offsets": [0, 1], "ids": ["a"]}


@pytest.mark.parametrize(
    "noted",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b"\xff",
        b"[" * 100_000,
        b"{}",
        *(
            json.dumps(OURS | other).encode()
            for other in (
                {"fingerprint": 7},
                {"paths": 7},
                {"paths": [7]},
                {"paths": ["a"], "reading": {"no": "option"}},
                {"paths": ["a"], "reading": {"encoding": "no encoding"}},
                {"paths": ["a"], "reading": []},
                {"offsets": "0"},
                {"offsets": [0, "1"]},
                {"offsets": [0, -1]},
                {"offsets": None},
                {"ids": [7]},
                {"ids": ["a", "b"]},
            )
        ),
    ],
)
def test_what_is_none_of_ours_is_no_context_and_says_so(noted):
    folder = Blobs()
    folder.save(context_loader.METADATA_FILE, noted)
    folder.save(context_loader.DATA_FILE, b"a")
    with pytest.raises(InputError, match="give the context again"):
        context_loader.load_context(folder)
    assert (context_loader.saved_fingerprint(folder), context_loader.noted_paths(folder)) == ("", [])
    context_loader.save_context(folder, make_context("given again"), None)
    assert context_loader.load_context(folder)[0].text() == "given again"
