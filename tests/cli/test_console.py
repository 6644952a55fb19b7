"""What reaches a terminal: no control characters of models or files; what reaches a pipe: the bytes as they are."""

from __future__ import annotations

import ast
import io
import json
import logging
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rlm_ray import cli
from rlm_ray.cli import console
from rlm_ray.core.display import printable
from rlm_ray.progress.live_state import one_line

HOSTILE = {
    "colour": "\x1b[31mred\x1b[0m",
    "title": "\x1b]0;title\x07",
    "clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "link": "\x1b]8;;https://example.org\x1b\\here\x1b]8;;\x1b\\",
    "C1 sequence": "\x9b31m and \x9d52;c;ZXZpbA==\x9c",
    "device query": "\x1b[6n\x1b[c",
    "overwriting": "rm -rf /\rls       ",
    "backspace": "abc\b\b\bxyz",
    "bell, form feed, shift": "\x07\x0c\x0e\x0f",
    "delete": "a\x7fb",
    "override": "user\u202egnp.exe",
    "isolate": "\u2066a\u2069\u2067b\u2069",
    "marks": "\u200ea\u200fb\u061c",
    "separators": "a\u2028b\u2029c",
    "NUL": "a\0b",
    "half a pair": "\ud800",
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_terminal_is_sent_nothing_that_it_obeys(kind, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    console.write(HOSTILE[kind])
    errors = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=errors, highlight=False, emoji=False, width=200))
    console.print_status(f"error: {HOSTILE[kind]}")
    for sent in (terminal.getvalue(), errors.getvalue(), one_line(HOSTILE[kind])):
        assert not any(
            unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in sent.strip("\n")
        )


@pytest.mark.parametrize("kind", sorted(set(HOSTILE) - {"half a pair"}))  # which no encoding can hold
def test_a_pipe_is_sent_the_text_as_it_is(kind, capsys):
    console.write(HOSTILE[kind])
    assert capsys.readouterr().out == HOSTILE[kind] + "\n"


@pytest.mark.parametrize("kind", HOSTILE)
def test_json_at_a_terminal_stays_json(kind):
    line = json.dumps({"answer": HOSTILE[kind]}, ensure_ascii=False)
    assert json.loads(printable(line)) == {"answer": HOSTILE[kind]}


@given(st.text())
def test_what_can_be_printed_stays_as_it_is(text):
    found = printable(text)
    assert printable(found) == found
    if all(letter.isprintable() or letter in "\n\t" for letter in text):
        assert found == text
    assert found.count("\n") == text.count("\n")


@pytest.mark.parametrize("text", ["plain", "Grüße 😀 👩‍👩‍👧", "col\tumn\nline", "क्षि", "עברית", "a\r\nb"])
def test_people_can_read_their_scripts(text):
    assert printable(text) == text.replace("\r\n", "\n")


def test_log_lines_are_printable():
    record = logging.LogRecord("x", logging.WARNING, "", 1, "row %s failed", ("\x1b]0;evil\x07",), None)
    assert console.PrintableFormatter().format(record) == "row \\u001b]0;evil\\u0007 failed"


def test_commands_print_in_one_place_only():
    printing = [
        (path.name, ast.unparse(node)[:40])
        for path in sorted(Path(cli.__file__).parent.glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("print", "typer.echo", "sys.stdout.write")
    ]
    assert [name for name, _ in printing] == ["app.py", "console.py"], printing
    assert "version_of" in printing[0][1]
