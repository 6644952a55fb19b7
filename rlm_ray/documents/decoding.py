"""Bytes of a text decoded: UTF-8, what a mark at their beginning says, what the user says, or what they look like."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from rlm_ray.documents.formats import HEAD_BYTES, utf16_of
from rlm_ray.errors import InputError

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE_BYTES = 65_536
_BEYOND_ASCII = bytes(range(128, 256))
_MANY = 5
"""So many whole characters of UTF-8 to a broken one are no accident."""
_MIN_EVIDENCE = 4
"""So many bytes beyond ASCII a guess at statistics needs; one wrong byte is no encoding."""
_CANDIDATES = [
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "iso8859_2", "iso8859_5", "iso8859_7", "iso8859_15", "koi8_r",
    "koi8_u", "cp437", "cp850", "cp852", "cp866", "mac_roman", "cp932", "euc_jp", "iso2022_jp", "gb18030", "big5", "cp949", "euc_kr", "tis_620",
]  # fmt: skip
_DECLARED = re.compile(rb"""(?:charset|encoding|coding)\s*[:=]\s*["']?\s*([A-Za-z0-9_.-]{2,40})""")
_WESTERN = re.compile(
    "[\u00a0-\u00ff\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u2013\u2014\u2018-\u2022\u2026\u20ac\u2122]"
)
_NOT_WESTERN = re.compile("[A-Za-z][^\0-\x7fÀ-ÖØ-öø-ÿŒœŠšŽžŸ\u2019\u00b7\u2013\u2014\u00ad][a-z]|[ÐðÞþÝ]")
"""A sign inside a word, as Windows-1252 shows letters of other encodings; and letters that are Turkish ones elsewhere."""
_WESTERN_LETTERS = re.compile("[A-Za-zÀ-ÖØ-öø-ÿŒœŠšŽžŸ]")


@dataclass(frozen=True, slots=True)
class DecodedText:
    """A text and how it was decoded."""

    text: str
    guessed: str = ""
    """The encoding, where it was neither said nor certain."""


def check_encoding(name: str) -> str:
    """Return the name that Python has for an encoding; empty stays empty. Raises `InputError` for an unknown one."""
    if not name:
        return ""
    try:
        found = codecs.lookup(name)
    except LookupError:
        found = None
    if found is None or not getattr(found, "_is_text_encoding", True):
        raise InputError("encoding", f"{name!r} is none that Python knows; give one such as utf-8, latin-1, cp1252 or utf-16")  # fmt: skip
    return found.name


def decode_text(data: bytes, name: str, encoding: str = "") -> DecodedText:
    """Decode a text: by its mark, as UTF-8, as the `encoding` given for what is no UTF-8, or by what it looks like.

    Raises `InputError` that names the source where none of these fits.
    """
    marked = next((known for mark, known in _MARKS if data.startswith(mark)), "")
    if marked:
        return DecodedText(_decode_as(data, marked, name))
    if (unmarked := utf16_of(data[:HEAD_BYTES])) and _decodes(data, unmarked):
        return DecodedText(data.decode(unmarked), unmarked)
    try:
        return DecodedText(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        if encoding:
            return DecodedText(_decode_as(data, encoding, name))
        if (mended := _mend_utf8(data)) is not None:
            return mended
        guessed = _guess(data)
        if not guessed:
            why = f"is not UTF-8 (byte 0x{data[error.start]:02x} at offset {error.start}), and no encoding fits; "
            raise InputError(
                name, f"{why}name it with --encoding (encoding=), or save it as UTF-8"
            ) from error
        return DecodedText(data.decode(guessed), guessed)


def decode_anyway(data: bytes) -> DecodedText:
    """Decode, as `decode_text` does, what is shown whatever it holds, as browsers show a page: what nobody knows is replaced."""
    try:
        return decode_text(data, "")
    except InputError:
        return DecodedText(data.decode("utf-8", "replace"), "utf-8, as nothing fits")


def _mend_utf8(data: bytes) -> DecodedText | None:
    """Decode UTF-8 in which a few characters are broken: cut off, or put in from elsewhere. None where it is none."""
    text = data.decode("utf-8-sig", "replace")
    broken = text.count("\ufffd") - data.count(b"\xef\xbf\xbd")
    beyond = len(text) - len(text.encode("ascii", "ignore"))
    if beyond - broken < _MANY * broken or _has_controls(text):
        return None
    return DecodedText(text, f"utf-8 with {broken:,} broken character{'s' if broken != 1 else ''} replaced")


def _decode_as(data: bytes, encoding: str, name: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        why = f"is broken {encoding.upper()} ({error.reason} at offset {error.start:,}); save it as UTF-8"
        raise InputError(name, why) from error


def _guess(data: bytes) -> str:
    """Name an encoding that decodes all of it; empty where there is none that looks like a text."""
    found = (*_declared(data), *_western(data), *_detected(data))
    return next((name for name in found if _decodes(data, name)), "")


def _declared(data: bytes) -> list[str]:
    """Return what the text itself says, as source code, XML and HTML do."""
    said = _DECLARED.search(data[:1024])
    if said is None:
        return []
    try:
        found = codecs.lookup(said[1].decode("ascii"))
    except LookupError:
        return []
    return [found.name] if getattr(found, "_is_text_encoding", True) else []


def _western(data: bytes) -> list[str]:
    """Decode as Windows-1252 where all beyond ASCII is a letter or a sign of Western texts, standing among ASCII letters."""
    sample = _sample(data)
    try:
        text = sample.decode("cp1252")
    except UnicodeDecodeError:
        return []
    beyond = sum(not char.isascii() for char in text)
    fits = len(_WESTERN.findall(text)) == beyond
    letters = len(_WESTERN_LETTERS.findall(text)) or 1
    return ["cp1252"] if fits and beyond <= 0.4 * letters and not _NOT_WESTERN.search(text) else []


def _detected(data: bytes) -> list[str]:
    from charset_normalizer import from_bytes

    sample = _sample(data)
    if len(sample) - len(sample.translate(None, _BEYOND_ASCII)) < _MIN_EVIDENCE:
        return []
    best = from_bytes(sample, cp_isolation=_CANDIDATES, threshold=0.3, enable_fallback=False).best()
    return [] if best is None else [best.encoding]


def _sample(data: bytes) -> bytes:
    """Return the beginning of a text, and what lies around its first byte beyond ASCII, at the ends of lines."""
    if len(data) <= _SAMPLE_BYTES:
        return data
    first = re.search(rb"[\x80-\xff]", data)
    start = data.rfind(b"\n", 0, first.start() if first else 0) + 1
    piece = data[start : start + _SAMPLE_BYTES]
    return piece[: piece.rfind(b"\n") + 1] or piece


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        return not _has_controls(data.decode(encoding))
    except (UnicodeDecodeError, LookupError):
        return False


_CONTROLS = re.compile("[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]")


def _has_controls(text: str) -> bool:
    """Tell whether it holds more control characters than a text does."""
    return len(_CONTROLS.findall(text)) > 0.001 * len(text)
