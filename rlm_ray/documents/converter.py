"""Reads one file of any kind: a text is decoded here, a document goes to the worker process and comes back as a text or a sentence.

Without the extra `documents` the formats that the standard library reads (HTML, EPUB, OpenDocument texts, e-mail,
notebooks) are converted all the same; the others name the extra.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rlm_ray.documents.decoding import check_encoding, decode_text
from rlm_ray.documents.formats import HEAD_BYTES, Format, detect_format
from rlm_ray.documents.worker import ANSWER, REQUEST
from rlm_ray.errors import InputError
from rlm_ray.sandbox.host.kernel_features import probe_features

EXTRA = "pip install 'rlm_ray[documents]'"
_BOOTSTRAP = (
    "import sys; sys.path += sys.argv[2:]; from rlm_ray.documents.worker import main; main(int(sys.argv[1]))"
)
_PARSERS = ("pypdfium2", "docx", "pptx", "python_calamine", "striprtf", "lxml", "charset_normalizer")
_GRACE_S = 30.0
"""How much longer than a document may take its answer is waited for."""
_END_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class ConversionLimits:
    """What reading one document may take."""

    timeout_s: float = 120.0
    """Wall clock, and processor time."""
    memory_bytes: int = 1_500_000_000
    """Beyond what the worker process holds, the bytes of the document among them."""
    max_text_bytes: int = 500_000_000


@dataclass(frozen=True, slots=True)
class ConvertedDocument:
    """The text of a document."""

    text: str
    kind: str
    notes: tuple[str, ...] = ()


class DocumentConverter:
    """A worker process, started with the first document. For one thread at a time; use it in a `with`."""

    def __init__(self, limits: ConversionLimits = ConversionLimits()) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def convert(self, data: bytes, format_name: str, name: str) -> ConvertedDocument:
        """Make a text of a document. Raises `InputError` with its name and what to do."""
        facts, text = self._ask(data, {"format": format_name}, name)
        notes = tuple(str(note) for note in facts.get("notes", ()))
        return ConvertedDocument(text, str(facts.get("kind", "")), notes)

    def rows(self, data: bytes, format_name: str, name: str) -> Iterator[str]:
        """Yield the rows of a workbook, a line of JSON each. Raises `InputError` before the first."""
        _, text = self._ask(data, {"format": format_name, "rows": True}, name)
        return iter(text.split("\n") if text else ())

    def close(self) -> None:
        """End the worker process."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            try:
                self._process.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._control = self._process = None

    def _ask(self, data: bytes, wanted: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
        limits, features = self._limits, _kernel_features()
        if missing := [feature for feature, reason in features.items() if reason and feature != "Landlock"]:
            why = f"is a document, and none is taken apart without {missing[0]} ({features[missing[0]]}); save it as text"
            raise InputError(name, why)
        options = wanted | {
            "timeout_s": limits.timeout_s,
            "memory_bytes": limits.memory_bytes,
            "max_text_bytes": limits.max_text_bytes,
            "landlock": not features["Landlock"],
        }
        try:
            facts, text = self._exchange(json.dumps(options).encode(), data)
        except (OSError, EOFError) as error:
            self._kill()  # what it said last belongs to this document; the next one gets a process of its own
            raise InputError(
                name, "ended the process that reads documents; open it and save it anew"
            ) from error
        if "missing" in facts:
            raise InputError(name, f"needs the parsers of documents: {EXTRA} ({facts['missing']})")
        if "why" in facts or "wanted" in facts:
            raise InputError(name, str(facts.get("why", "is no document")))
        return facts, text

    def _exchange(self, options: bytes, data: bytes) -> tuple[dict[str, Any], str]:
        control = self._connection()
        control.settimeout(self._limits.timeout_s + _GRACE_S)
        control.sendall(REQUEST.pack(len(options), len(data)) + options)
        control.sendall(data)
        facts_size, text_size = ANSWER.unpack(_receive(control, ANSWER.size))
        if text_size > self._limits.max_text_bytes + facts_size:
            raise EOFError
        facts = json.loads(_receive(control, facts_size))
        return facts, str(_receive(control, text_size), "utf-8", "replace")

    def _connection(self) -> socket.socket:
        if self._control is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            with theirs:
                try:
                    self._process = _spawn(theirs)
                except BaseException:
                    ours.close()
                    raise
            self._control = ours
        return self._control

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
        self.close()


@cache
def _kernel_features() -> dict[str, str]:
    """Say why each layer of the jail is missing here; empty where it is not."""
    return {feature.name: feature.reason_missing for feature in probe_features()}


def _receive(control: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        count = control.recv_into(view[at:])
        if not count:
            raise EOFError
        at += count
    return data


def _spawn(control: socket.socket) -> subprocess.Popen[bytes]:
    # Never forks this process's memory: without a preexec function subprocess uses vfork.
    return subprocess.Popen(  # noqa: S603 - our own interpreter and our own code
        [
            sys.executable,
            *("-S", "-s", "-P", "-X", "utf8", "-W", "ignore", "-c", _BOOTSTRAP),
            str(control.fileno()),
            *_search_path(),
        ],
        env={"TZ": "UTC0"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(control.fileno(),),
        start_new_session=True,
    )


def _search_path() -> list[str]:
    """Return where the worker finds this package and the parsers, and nothing else on purpose."""
    found = [str(Path(__file__).resolve().parents[2])]
    found += [entry for entry in sys.path if os.path.basename(entry) in ("site-packages", "dist-packages")]  # noqa: PTH119
    for name in _PARSERS:
        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(name)
            if spec is not None and spec.origin is not None:
                found.append(str(Path(spec.origin).resolve().parents[1]))
    return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class DocumentText:
    """The text of a file."""

    text: str
    kind: str
    """`text`, `PDF`, `Word` ..."""
    notes: tuple[str, ...] = ()
    """What is doubtful about it, each a sentence without its name: a guessed encoding, pages without text."""
    guessed: str = ""
    """The encoding of a text, where it is a guess."""


class DocumentReader:
    """Reads files, from as many threads as call it; each document under way has a worker process. Use it in a `with`."""

    def __init__(self, encoding: str = "", limits: ConversionLimits = ConversionLimits()) -> None:
        """`encoding` is that of texts that are not UTF-8; empty: what they look like."""
        self._encoding, self._limits = check_encoding(encoding), limits
        self._idle: queue.LifoQueue[DocumentConverter] = queue.LifoQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while not self._idle.empty():
            self._idle.get().close()

    def read(self, data: bytes, name: str, *, suffix_of: str = "") -> DocumentText:
        """Read a file. Raises `InputError` that names it, and says what to do.

        `suffix_of` is the name that tells its format, where that is not `name`.
        """
        found = detect_format(data[:HEAD_BYTES], suffix_of or name)
        if found.name == "binary":
            raise InputError(name, not_a_text(found))
        if found.name == "text":
            decoded = decode_text(data, name, self._encoding)
            notes = (f"read as {decoded.guessed}, which is a guess",) if decoded.guessed else ()
            return DocumentText(decoded.text, "text", notes, decoded.guessed)
        converter = self._acquire()
        try:
            converted = converter.convert(data, found.name, name)
        finally:
            self._idle.put(converter)
        return DocumentText(converted.text, converted.kind, converted.notes)

    def rows(self, data: bytes, name: str) -> list[str]:
        """Read the rows of a workbook, a line of JSON each. Raises `InputError`."""
        found = detect_format(data[:HEAD_BYTES], name)
        if found.name not in ("zip", "ole"):
            raise InputError(name, "is no workbook, whatever its name says; save it as .xlsx")
        converter = self._acquire()
        try:
            return list(converter.rows(data, found.name, name))
        finally:
            self._idle.put(converter)

    def _acquire(self) -> DocumentConverter:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return DocumentConverter(self._limits)


def not_a_text(found: Format) -> str:
    """Say what a binary file is and what to do."""
    return f"is {found.label}, not a text; {found.remedy}"
