"""The exit codes: one table in the code, the same in the documents, and in the help of every command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlm_ray.cli import console
from rlm_ray.cli.app import app

CLI_DOC = Path(__file__).parents[2] / "docs" / "cli.md"


COMMANDS = [
    *([one.name or one.callback.__name__] for one in app.registered_commands),
    *(
        [group.name, one.name]
        for group in app.registered_groups
        for one in group.typer_instance.registered_commands
    ),
]


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
