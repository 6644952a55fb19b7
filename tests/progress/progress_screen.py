"""A terminal in a few lines: what stands on the screen after an application has written to it.

It knows what rich uses, and folds lines when it is made narrower, as most terminals do.
"""

from __future__ import annotations

import re

from rich.cells import cell_len

_SEQUENCE = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])")


class Screen:
    """`feed` it what was written; read `lines` and `cursor_shown`."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.cursor_shown = True
        self._rows = [""]
        self._folded = [False]
        """Whether a row goes on in the next."""
        self._at = (0, 0)
        self._rest = ""

    @property
    def lines(self) -> list[str]:
        """Without what is empty at the end."""
        shown = [row.rstrip() for row in self._rows]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    def feed(self, text: str) -> None:
        text = self._rest + text
        while text:
            found = _SEQUENCE.match(text)
            if found:
                self._obey(*found.groups())
                text = text[found.end() :]
            elif text[0] == "\x1b":
                break  # the rest of it is still on its way
            else:
                self._write(text[0])
                text = text[1:]
        self._rest = text

    def resize(self, columns: int) -> None:
        """Fold every line anew; the cursor stays where it was in its line."""
        row, column = self._at
        lines, line, cursor = [], "", (0, 0)
        for number, (text, folded) in enumerate(zip(self._rows, self._folded, strict=True)):
            if number == row:
                cursor = (len(lines), len(line) + column)
            line += text
            if not folded:
                lines.append(line)
                line = ""
        self.columns, self._rows, self._folded = columns, [], []
        for number, text in enumerate(lines):
            if number == cursor[0]:
                down, column = divmod(cursor[1], columns)
                if cursor[1] and column == 0:
                    down, column = down - 1, columns
                self._at = (len(self._rows) + down, column)
            parts = [text[start : start + columns] for start in range(0, len(text), columns)] or [""]
            self._rows += parts
            self._folded += [True] * (len(parts) - 1) + [False]

    def _obey(self, private: str, numbers: str, command: str) -> None:
        row, column = self._at
        match private, command:
            case "?", "l" if numbers == "25":
                self.cursor_shown = False
            case "?", "h" if numbers == "25":
                self.cursor_shown = True
            case "", "A":
                self._at = (max(row - int(numbers or 1), 0), min(column, self.columns - 1))
            case "", "K":
                assert numbers == "2", "only whole rows are erased"
                self._rows[row], self._folded[row] = "", False
            case "", "m":
                pass
            case _:
                raise AssertionError(f"unknown sequence {private}{numbers}{command}")

    def _write(self, letter: str) -> None:
        row, column = self._at
        if letter == "\r":
            self._at = (row, 0)
        elif letter == "\n":
            self._down(row + 1, column)
        else:
            assert letter.isprintable(), repr(letter)
            assert cell_len(letter) == 1, "this terminal has narrow letters only"
            if column >= self.columns:
                self._folded[row] = True
                self._down(row + 1, 0)
                row, column = self._at
            text = self._rows[row].ljust(column)
            self._rows[row] = text[:column] + letter + text[column + 1 :]
            self._at = (row, column + 1)

    def _down(self, row: int, column: int) -> None:
        if row == len(self._rows):
            self._rows.append("")
            self._folded.append(False)
        self._at = (row, column)
