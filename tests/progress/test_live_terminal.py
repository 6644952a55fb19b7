"""The display on a real pseudo-terminal, as a screen would show it."""

import codecs
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from progress_screen import Screen

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("show_a_run.py")


class Terminal:
    """A process on a terminal of so many columns, and the screen of that terminal."""

    def __init__(self, columns, rows=30, **environment):
        self.screen = Screen(columns)
        self._rows = rows
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._master, slave = pty.openpty()
        self._size(columns)
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        named = {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environment}
        kept = {
            name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}
        }
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, str(commands), str(answers)],
            stdin=slave, stdout=slave, stderr=slave, pass_fds=(commands, answers), env={**kept, **named},
        )  # fmt: skip
        for descriptor in (slave, commands, answers):
            os.close(descriptor)

    def ask(self, command):
        """Have it done, and drawn."""
        os.write(self._commands, command.encode() + b"\n")
        while not select.select([self._answers], [], [], 0)[0]:
            self._read(0.05)
        assert os.read(self._answers, 100) == b"done\n"
        while self._read(0):
            pass
        return self.screen.lines

    def resize(self, columns):
        self._size(columns)
        self.screen.resize(columns)

    def end(self, command=""):
        if command:
            os.write(self._commands, command.encode() + b"\n")
        os.close(self._commands)
        while self._read(5):
            pass
        os.close(self._answers)
        os.close(self._master)
        return self.process.wait(10)

    def _size(self, columns):
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", self._rows, columns, 0, 0))

    def _read(self, seconds):
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            self.screen.feed(self._decoder.decode(os.read(self._master, 1 << 16)))
        except OSError:  # the other end is closed
            return False
        return True


@pytest.fixture
def terminal():
    opened = []

    def start(*arguments, **options):
        opened.append(Terminal(*arguments, **options))
        return opened[-1]

    yield start
    for each in opened:
        each.process.kill()
        each.process.wait()


def test_a_run_is_shown_in_eighty_columns_and_gone_in_the_end(terminal):
    shell = terminal(80)
    shell.ask("records")
    lines = shell.ask("draw")
    assert lines[0] == "before"
    assert "Which of the chapters" in lines[1]
    assert sum("Who is blamed" in line for line in lines) == 11
    assert sum("Which of the chapters" in line for line in lines) == 1
    assert any("✗ 3 Who" in line and "SandboxError" in line for line in lines)
    assert any("780 calls · 45 in flight" in line for line in lines)
    assert any("12 calls wait for the rate limit of the account" in line for line in lines)
    assert any("$0.78 of $5.00" in line for line in lines)
    assert not shell.screen.cursor_shown
    assert shell.end() == 0
    assert shell.screen.lines == ["before", "after"]
    assert shell.screen.cursor_shown


def test_a_terminal_made_narrower_and_wider_again_keeps_no_leftovers(terminal):
    shell = terminal(80)
    shell.ask("records")
    for columns in (40, 33, 120, 60):
        shell.resize(columns)
        lines = shell.ask("draw")
        assert lines[0] == "before", columns
        assert sum("780 calls" in line for line in lines) == 1, columns
        assert sum("Who is" in line for line in lines) == 11, columns
    assert shell.end() == 0
    assert shell.screen.lines == ["before", "after"]


def test_what_others_print_stays_above_it(terminal):
    shell = terminal(80)
    shell.ask("records")
    lines = shell.ask("print")
    assert lines[:2] == ["before", "a warning of something else"]
    assert "Which of the chapters" in lines[2]
    assert shell.end() == 0
    assert shell.screen.lines == ["before", "a warning of something else", "after"]


def test_a_low_terminal_gets_fewer_rows(terminal):
    shell = terminal(80, rows=10)
    shell.ask("records")
    lines = shell.ask("draw")
    assert len(lines) <= 10
    assert any("780 calls" in line for line in lines)
    assert shell.end() == 0
    assert shell.screen.lines == ["before", "after"]


def test_a_run_that_fails_gives_the_terminal_back(terminal):
    shell = terminal(80)
    shell.ask("records")
    assert shell.end("raise") == 3
    assert shell.screen.lines == ["before"]
    assert shell.screen.cursor_shown


def test_a_terminal_that_can_do_nothing_gets_plain_lines(terminal):
    shell = terminal(80, TERM="dumb")
    assert shell.ask("records") == ["before"]
    assert shell.end() == 0
    assert shell.screen.lines == ["before", "after"]
