"""What `rlm-ray ask` reads, and what it says about what it cannot read."""

from __future__ import annotations

import os

import pytest

from rlm_ray.cli.console import CONFIGURATION, USAGE


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.txt").write_text("alpha")
    (tmp_path / "b.txt").write_text("beta")
    (tmp_path / "deep" / "c.md").write_text("gamma")
    return tmp_path


def read(fake_run):
    """The context the one run was given, as the REPL would show it."""
    (run,) = fake_run.asked
    return run.context.text() if run.context.info.kind == "text" else run.context.documents()


@pytest.mark.parametrize("paths", [[], ["-"]], ids=["no path", "a dash"])
def test_piped_text_is_the_context(invoke, fake_run, paths):
    assert invoke("ask", "what?", *paths, stdin="größer\n".encode()).exit_code == 0
    assert read(fake_run) == "größer\n"


def test_a_byte_order_mark_on_stdin_is_not_text(invoke, fake_run):
    invoke("ask", "what?", "-", stdin=b"\xef\xbb\xbftext")
    assert read(fake_run) == "text"


def test_one_file_is_one_text(invoke, fake_run, folder):
    invoke("ask", "what?", "a.txt")
    assert read(fake_run) == "alpha"


@pytest.mark.parametrize(
    ("paths", "ids"),
    [
        (["a.txt", "b.txt"], ["a.txt", "b.txt"]),
        (["*.txt"], ["a.txt", "b.txt"]),
        (["**/*.md", "a.txt"], ["deep/c.md", "a.txt"]),
        (["."], ["a.txt", "b.txt", "deep/c.md"]),
    ],
    ids=["files", "glob", "deep glob and file", "folder"],
)
def test_several_files_are_documents_named_by_their_paths(invoke, fake_run, folder, paths, ids):
    assert invoke("ask", "what?", *paths).exit_code == 0
    assert [document["id"] for document in read(fake_run)] == ids


def test_a_file_whose_name_looks_like_a_glob_is_that_file(invoke, fake_run, folder):
    (folder / "a[1].txt").write_text("odd")
    invoke("ask", "what?", "a[1].txt")
    assert read(fake_run) == "odd"


def refused(result, code, *words):
    """One sentence on stderr, nothing on stdout, no traceback."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line
    return True


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["", "a.txt"], ["question", "empty"]),
        (["what?", "missing.txt"], ["missing.txt", "does not exist"]),
        (["what?", "*.pdf"], ["*.pdf", "matches no file"]),
        (["what?", "a.txt", "-"], ["stdin cannot be mixed"]),
        (["a.txt", "why is it so? " * 30], ["question: is missing", "ask first, then name files"]),
        (["what?", "why is it so? " * 30], ["cannot be a path", "the question comes first"]),
    ],
    ids=[
        "empty question",
        "missing path",
        "glob without match",
        "dash and file",
        "question last",
        "two questions",
    ],
)
def test_unusable_input_is_named_in_one_sentence(invoke, fake_run, folder, arguments, words):
    assert refused(invoke("ask", *arguments), USAGE, *words)
    assert fake_run.asked == []


def test_a_folder_without_text_is_named(invoke, fake_run, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "x.png").write_bytes(b"\x89PNG\0\0")
    assert refused(invoke("ask", "what?", "pictures"), USAGE, "pictures", "no text file")


def test_a_file_that_is_not_utf8_is_read_by_a_guess_and_named(invoke, fake_run, tmp_path):
    (tmp_path / "old.txt").write_bytes(b"caf\xe9 noir")
    done = invoke("ask", "what?", "old.txt")
    assert "old.txt (read as cp1252, which is a guess)" in done.stderr
    assert fake_run.asked[0].context.text() == "caf\xe9 noir"


def test_strict_reading_refuses_a_guess(invoke, fake_run, tmp_path):
    (tmp_path / "old.txt").write_bytes(b"caf\xe9 noir")
    assert refused(invoke("ask", "what?", "old.txt", "--strict"), USAGE, "old.txt", "cp1252", "guess")
    assert fake_run.asked == []


def test_encoding_is_taken_from_the_option(invoke, fake_run, tmp_path):
    (tmp_path / "old.txt").write_bytes("Größe".encode("cp437"))
    invoke("ask", "what?", "old.txt", "--encoding", "cp437", "--strict")
    assert fake_run.asked[0].context.text() == "Größe"


def test_unknown_encoding_is_named(invoke, fake_run, folder):
    assert refused(invoke("ask", "what?", "a.txt", "--encoding", "klingon"), USAGE, "klingon", "cp1252")


def test_stdin_that_no_encoding_fits_is_named_with_the_offset(invoke, fake_run):
    assert refused(
        invoke("ask", "what?", "-", stdin=b"caf\xff\x81"), USAGE, "stdin", "offset 3", "--encoding"
    )


@pytest.mark.parametrize("paths", [[], ["-"]], ids=["no path", "a dash"])
def test_empty_stdin_is_said_instead_of_asking_about_nothing(invoke, fake_run, paths):
    assert refused(invoke("ask", "what?", *paths), USAGE, "stdin", "is empty", "name files")


def test_no_input_on_a_terminal_is_said_instead_of_waiting(rlm_ray):
    controller, terminal = os.openpty()
    try:
        done = rlm_ray("ask", "what?", stdin=terminal, timeout=20)
    finally:
        os.close(controller)
        os.close(terminal)
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert done.stderr.startswith("error: input: is missing; name files")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "max_deph=2"], ["max_deph", "did you mean 'max_depth'"]),
        (["--set", "limits.csot_usd=1"], ["limits.csot_usd", "did you mean 'cost_usd'"]),
        (["--set", "max_depth"], ["--set", "NAME=VALUE"]),
        (["--set", "max_leaf_chars=many"], ["max_leaf_chars", "'many'"]),
        (["--max-iterations", "0"], ["max_iterations", "from 1"]),
        (["--model", " "], ["model", "is empty"]),
    ],
    ids=["unknown name", "unknown name in a table", "no value", "no number", "out of range", "empty model"],
)
def test_a_wrong_setting_is_named_in_one_sentence(invoke, fake_run, folder, arguments, words):
    assert refused(invoke("ask", "what?", "a.txt", *arguments), CONFIGURATION, *words)
    assert fake_run.asked == []


def test_a_config_file_that_is_no_toml_is_named_with_the_line(invoke, fake_run, folder):
    (folder / "rlm-ray.toml").write_text("model = openai/gpt-5\n")
    assert refused(invoke("ask", "what?", "a.txt"), CONFIGURATION, "rlm-ray.toml", "TOML", "line 1")


def test_options_override_the_environment_and_that_the_file(invoke, fake_run, folder, monkeypatch):
    (folder / "rlm-ray.toml").write_text(
        'model = "from/file"\nmax_depth = 1\nmax_iterations = 3\n[params]\nseed = 7\n'
    )
    monkeypatch.setenv("RLM_RAY_MAX_DEPTH", "2")
    monkeypatch.setenv("RLM_RAY_MAX_ITERATIONS", "4")
    options = [
        "--max-iterations",
        "5",
        "--set",
        "limits.calls=9",
        "--temperature",
        "0.5",
        "--api-base",
        "http://x/v1",
    ]
    assert invoke("ask", "what?", "a.txt", *options).exit_code == 0
    settings = fake_run.asked[0].settings
    assert (settings.model, settings.max_depth, settings.max_iterations) == ("from/file", 2, 5)
    assert settings.limits.calls == 9
    assert dict(settings.params) == {"seed": 7, "temperature": 0.5, "api_base": "http://x/v1"}
