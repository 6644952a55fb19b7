"""The exit codes: one table in the code, the same in the documents, and in the help of every command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlm_ray.cli import app, console

CLI_DOC = Path(__file__).parents[2] / "docs" / "cli.md"


COMMANDS = [
    *([name] for name, command in app.COMMANDS.items() if command.home),
    *([name, each] for name, command in app.COMMANDS.items() for each, _ in command.members),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_list_of_commands_says_how_the_help_of_each_begins(invoke, command):
    found = app.COMMANDS[command[0]]
    for name in command[1:]:
        found = dict(found.members)[name]
    shown = " ".join(invoke(*command, "--help").stdout.split()).partition("[ARGS]... ")
    assert found.summary in (shown[2] or shown[0])


def test_the_documents_show_the_table_of_the_code():
    section = CLI_DOC.read_text().split("## Exit codes", 1)[1].split("## ", 1)[0]
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", section, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == dict(console.EXIT_CODES)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_says_codes_of_the_table_in_its_words(invoke, command):
    shown = " ".join(invoke(*command, "--help").stdout.split())
    said = shown.rpartition("Exit codes: ")[2].removesuffix(".")
    codes = dict(re.findall(r"(\d+) ([^;]+)", said))
    assert {"0"} < set(codes)
    assert all(console.EXIT_CODES[int(code)] == meaning.strip() for code, meaning in codes.items())


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_documents_name_every_command(command):
    assert f"`{command[0]}" in CLI_DOC.read_text()
    assert command[-1] in CLI_DOC.read_text()
