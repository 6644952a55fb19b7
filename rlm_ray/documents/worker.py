"""The process that takes documents apart: exec-ed with an empty environment, it never held a key.

It answers one request after the other on one socket, and ends when that is closed:

    request   _REQUEST (bytes of options, bytes of data) + options (JSON) + data
    answer    _ANSWER (bytes of facts, bytes of text) + facts (JSON) + text (UTF-8)

Each document is read in a child that is forked for it and enters the jail of the sandbox first: it cannot open, connect
or start anything, and its memory, its time and what it writes are limited. This process imports libraries and passes
bytes on; it looks into none.
"""

from __future__ import annotations

import codecs
import contextlib
import gc
import importlib
import json
import os
import re
import resource
import select
import signal
import socket
import struct
import sys
import time
from typing import Any, NoReturn

from rlm_ray.documents.parsers import DocumentError, ParsedDocument, archive
from rlm_ray.sandbox import jail

REQUEST, ANSWER = struct.Struct("<IQ"), struct.Struct("<IQ")
_MAIL = (
    "charset_normalizer", "email.parser", "email.contentmanager", "email.headerregistry", "email.iterators", "email.quoprimime", "email.base64mime",
    "binascii", "quopri",
)  # fmt: skip
_PARSERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "pdf": ("pdf", "parse_pdf", ("pypdfium2",)),
    "docx": ("office", "parse_word", ("docx", "docx.oxml")),
    "pptx": ("office", "parse_slides", ("pptx",)),
    "sheets": ("office", "parse_sheets", ("python_calamine",)),
    "epub": ("open_formats", "parse_epub", ("charset_normalizer", "xml.etree.ElementTree")),
    "odt": ("open_formats", "parse_odt", ("xml.etree.ElementTree",)),
    "rtf": ("plain_formats", "parse_rtf", ("striprtf.striprtf",)),
    "html": ("html", "parse_html", ("charset_normalizer",)),
    "eml": ("plain_formats", "parse_mail", _MAIL),
    "mbox": ("plain_formats", "parse_mailbox", _MAIL),
    "ipynb": ("plain_formats", "parse_notebook", ()),
}
"""By format: the module in `parsers`, its function, and what is imported before a document is read: in the jail nothing can be."""
_CODECS = (
    "utf-8-sig utf-16 utf-16-le utf-16-be utf-32 utf-7 latin-1 ascii cp037 cp437 cp850 cp852 cp866 cp874 cp932 cp949 cp1250 cp1251 "
    "cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 iso8859-2 iso8859-5 iso8859-7 iso8859-8 iso8859-9 iso8859-15 koi8-r koi8-u "
    "mac-roman euc-jp shift_jis iso2022_jp gb2312 gbk gb18030 big5 euc-kr tis-620 idna unicode_escape"
)
_CHUNK = 1 << 20
_NO_MEMORY = 3


def main(descriptor: int) -> NoReturn:
    """Answer requests until the socket is closed."""
    for name in _CODECS.split():
        codecs.lookup(name)
    with socket.socket(fileno=descriptor) as control:
        while (request := _receive(control)) is not None:
            options, data = request
            facts, text = _answer(control, options, data)
            plain = json.dumps(facts).encode()
            control.sendall(ANSWER.pack(len(plain), len(text)) + plain)
            control.sendall(text)
            del request, data, text
    os._exit(0)


def _receive(control: socket.socket) -> tuple[dict[str, Any], bytearray] | None:
    head = _receive_exactly(control, REQUEST.size)
    if head is None:
        return None
    options_size, data_size = REQUEST.unpack(head)
    options, data = _receive_exactly(control, options_size), _receive_exactly(control, data_size)
    return None if options is None or data is None else (json.loads(options), data)


def _receive_exactly(control: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        count = control.recv_into(view[at : at + _CHUNK])
        if not count:
            return None
        at += count
    return data


def _answer(control: socket.socket, options: dict[str, Any], data: bytearray) -> tuple[dict[str, Any], bytes]:
    """Read a document in a child; once more where it turns out to need a library that is not loaded."""
    imported: set[str] = set()
    wanted = options["format"]
    while True:
        if wanted in _PARSERS and wanted not in imported:
            imported.add(wanted)
            try:
                for module in _modules(wanted):
                    importlib.import_module(module)
            except ImportError as error:
                return {"missing": str(error)}, b""
            gc.collect()
            gc.freeze()
        facts, text = _read_in_child(control, options | {"format": wanted}, data)
        wanted = facts.get("wanted", "")
        if wanted not in _PARSERS or wanted in imported:
            return facts, text


def _read_in_child(
    control: socket.socket, options: dict[str, Any], data: bytearray
) -> tuple[dict[str, Any], bytes]:
    read_end, write_end = os.pipe()
    process = os.fork()
    if process == 0:
        _child(write_end, options, data)
    os.close(write_end)
    try:
        output, why = _output_of(control, read_end, options)
    finally:
        os.close(read_end)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
    if why:
        return {"why": why}, b""
    return _parts_of(output, status, options)


def _parts_of(output: bytes, status: int, options: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Return what a child wrote, which may be anything; or why it wrote nothing."""
    try:
        facts_size, text_size = ANSWER.unpack_from(output)
        facts = json.loads(output[ANSWER.size : ANSWER.size + facts_size])
        text = output[ANSWER.size + facts_size :]
        if isinstance(facts, dict) and len(text) == text_size:
            return facts, text
    except (struct.error, ValueError):
        pass
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in {signal.SIGXCPU, signal.SIGKILL} and not output:
        # An orderly end is its own: the kill of `_read_in_child` comes after that. What ends it so is a limit.
        return {"why": _too_slow(options)}, b""
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _NO_MEMORY:
        return {"why": _too_large(options)}, b""
    return {
        "why": f"cannot be read within {options['memory_bytes'] / 1e6:,.0f} MB of memory, or is broken; open it and save it anew"
    }, b""


def _too_slow(options: dict[str, Any]) -> str:
    return f"takes more than the {options['timeout_s']:g} s that a document may take; split it, or save it as text"


def _too_large(options: dict[str, Any]) -> str:
    return f"needs more than the {options['memory_bytes'] / 1e6:,.0f} MB of memory that a document may take (a decompression bomb?); leave it out, or save its text anew"


def _output_of(control: socket.socket, read_end: int, options: dict[str, Any]) -> tuple[bytes, str]:
    """Return all that a child writes, and why it is not waited for any longer."""
    deadline = time.monotonic() + options["timeout_s"]
    poll = select.poll()
    poll.register(read_end, select.POLLIN)
    poll.register(control, select.POLLRDHUP)
    chunks: list[bytes] = []
    size = 0
    while (left_s := deadline - time.monotonic()) > 0:
        ready = dict(poll.poll(left_s * 1000))
        if ready.get(control.fileno()):
            return b"", "is not wanted any more"  # the host is gone
        if read_end in ready:
            chunk = os.read(read_end, _CHUNK)
            if not chunk:
                return b"".join(chunks), ""
            chunks.append(chunk)
            size += len(chunk)
            if size > options["max_text_bytes"]:
                return (
                    b"",
                    f"holds more than {options['max_text_bytes'] / 1e6:,.0f} MB of text (a decompression bomb?); leave it out, or split it",
                )
    return b"", _too_slow(options)


def _child(channel: int, options: dict[str, Any], data: bytearray) -> NoReturn:
    """Read the document in the jail, write what came of it, and end."""
    code = 1
    try:
        jail.die_with_parent(os.getppid())
        cpu_s = int(options["timeout_s"]) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
        jail.enter_jail(jail.JailLimits(options["memory_bytes"], options["landlock"]), channel)
        try:
            facts, text = _read(options, bytes(data))
        except MemoryError:
            os._exit(_NO_MEMORY)
        plain = json.dumps(facts).encode()
        _write(ANSWER.pack(len(plain), len(text)) + plain)
        _write(text)
        code = 0
    except MemoryError:
        code = _NO_MEMORY
    finally:
        os._exit(code)


def _write(data: bytes) -> None:
    view, at = memoryview(data), 0
    while at < len(view):
        at += os.write(jail.CHANNEL_FD, view[at : at + _CHUNK])


def _read(options: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        wanted = _format(options["format"], data)
        if wanted in _PARSERS and any(module not in sys.modules for module in _modules(wanted)):
            return {"wanted": wanted}, b""
        if options.get("rows"):
            from rlm_ray.documents.parsers.office import parse_sheet_rows

            return {"kind": "workbook"}, "\n".join(parse_sheet_rows(data)).encode("utf-8", "replace")
        parsed = _parse(wanted, data)
    except DocumentError as error:
        return {"why": str(error)}, b""
    except MemoryError:
        raise
    except Exception as error:
        if "memory" in str(error).lower() and not isinstance(error, KeyError):
            raise MemoryError from error
        return {"why": f"is a broken document ({_short(error)}); open it and save it anew"}, b""
    facts = {"kind": parsed.kind, "notes": list(parsed.notes)}
    return facts, parsed.text.encode("utf-8", "replace")


def _format(name: str, data: bytes) -> str:
    """Return the format of which a parser reads it. Raises `DocumentError` for what none reads."""
    if name == "zip":
        return archive.format_of(data)
    if name == "ole":
        archive.check_old_office(data)
        return "sheets"
    return name


def _modules(name: str) -> tuple[str, ...]:
    module, _, libraries = _PARSERS[name]
    return (*libraries, f"rlm_ray.documents.parsers.{module}")


def _parse(name: str, data: bytes) -> ParsedDocument:
    module, function, _ = _PARSERS[name]
    parsed: ParsedDocument = getattr(sys.modules[f"rlm_ray.documents.parsers.{module}"], function)(data)
    return parsed


def _short(error: Exception) -> str:
    """Say what a parser found, without where it found it, which says nothing to the owner of the document."""
    if isinstance(error, KeyError | IndexError):
        return "a part of it is missing"
    text = " ".join(str(error).split()) or type(error).__name__
    return re.split(r", (?:see|line) ", text, maxsplit=1)[0][:120]
