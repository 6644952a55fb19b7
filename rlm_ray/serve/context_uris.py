"""Which addresses a context may be read from. Pure: a URI is taken apart once, and what is compared is what is fetched.

    https://wiki.example.org:443/team/a%20b?x=1
    scheme  host             port path          (a query goes with the request and allows nothing)

A URI is below a prefix when scheme, host and port are equal and its path begins with the prefix's, which ends in `/`.
What servers, drivers and parsers read in different ways is refused: users in the authority, backslashes, control
characters, segments of dots and slashes behind any number of percent-encodings, chains of file systems (`::`).
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

from rlm_ray.errors import ConfigError, InputError

MAX_CHARS = 4_096
_DECODINGS = 8
"""Deeper percent-encoding is nobody's honest name."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOCAL = {"file", "local"}
_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)(.*)", re.DOTALL)
_HTTP_PARTS = re.compile(r"([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL)
_HOST = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?")
_PORT = re.compile(r"[0-9]{0,5}")
_SAFE = "%/:@!$&'()*+,;=~-._"


@dataclass(frozen=True, slots=True)
class Location:
    """Where a URI leads."""

    scheme: str
    host: str
    """A bucket or the like where the scheme is none of the web; empty on this machine."""
    port: int | None
    path: str
    """Without percent-encoding where the scheme is of the web, else as it is."""
    target: str
    """What is asked of the server: path and query, encoded; the path where the scheme is none of the web."""

    @property
    def uri(self) -> str:
        """Return the address that is fetched, made of these parts."""
        host = f"[{self.host}]" if ":" in self.host and self.scheme in _DEFAULT_PORTS else self.host
        port = "" if self.port in (None, _DEFAULT_PORTS.get(self.scheme)) else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.target}"

    def is_below(self, prefix: Location) -> bool:
        """Tell whether it lies in the folder that `prefix` names."""
        own_origin, prefix_origin = (
            (self.scheme, self.host, self.port),
            (prefix.scheme, prefix.host, prefix.port),
        )
        return own_origin == prefix_origin and self.path.startswith(prefix.path)


@dataclass(frozen=True, slots=True)
class AllowedUris:
    """The folders that an operator allows to read from."""

    prefixes: tuple[Location, ...] = ()

    def prefix_of(self, location: Location) -> Location | None:
        """Return the first prefix that a location lies below; None where it may not be read."""
        return next((prefix for prefix in self.prefixes if location.is_below(prefix)), None)


def allowed_uris(prefixes: Iterable[str]) -> AllowedUris:
    """Return the allow-list of an operator. Raises `ConfigError` for what is no folder."""
    found = []
    for prefix in prefixes:
        try:
            location = locate(prefix)
        except InputError as error:
            raise ConfigError("context_uris", f"{prefix!r} {error.why}") from error
        has_query = location.scheme in _DEFAULT_PORTS and ("?" in prefix or "#" in prefix)
        if has_query or not prefix.endswith("/") or not location.path.endswith("/"):
            why = f"{prefix!r} must end in /: else it is also the beginning of its neighbours' names"
            raise ConfigError("context_uris", why)
        found.append(location)
    return AllowedUris(tuple(found))


def locate(uri: str) -> Location:
    """Take a URI apart. Raises `InputError` for what could be read in two ways."""
    if len(uri) > MAX_CHARS:
        raise _refused(f"is longer than {MAX_CHARS:,} characters")
    _check_characters(uri)
    found = _PARTS.fullmatch(uri)
    if found is None:
        raise _refused("is no address such as https://host/path or s3://bucket/path")
    scheme, host, rest = found[1].lower(), found[2], found[3]
    if scheme in _DEFAULT_PORTS:
        return _locate_http(scheme, host + rest)
    _check_path(rest)
    if scheme in _LOCAL:
        if host.lower() not in ("", "localhost") or not rest.startswith("/"):
            raise _refused("names a file of another host; write file:///path")
        return Location("file", "", None, rest, rest)
    if not host or "%" in host or any(set(part) == {"."} for part in host.split("/")):
        raise _refused("names no bucket or host")
    return Location(scheme, host, None, rest, rest)


def _locate_http(scheme: str, rest: str) -> Location:
    found = _HTTP_PARTS.fullmatch(rest)
    assert found is not None  # every text matches
    authority, path, query = found[1], found[2] or "/", found[3] or ""
    if "@" in authority:
        raise _refused("has a user before its host; leave that out")
    _check_path(path)
    host, port = _host_and_port(authority)
    target = quote(path, safe=_SAFE) + quote(query, safe=_SAFE + "?")
    return Location(scheme, host, port or _DEFAULT_PORTS[scheme], unquote(path), target)


def _host_and_port(authority: str) -> tuple[str, int | None]:
    bracket, is_bracketed, port = authority.rpartition("]")
    if is_bracketed:
        host, colon = _ip6(bracket), port[:1]
        if port and colon != ":":
            raise _refused("has no readable host")
        port = port[1:]
    else:
        name, _, port = authority.partition(":")
        host = _name(name)
    if not _PORT.fullmatch(port) or int(port or 1) not in range(1, 65_536):
        raise _refused("has no readable port")
    return host, int(port) if port else None


def _ip6(bracket: str) -> str:
    try:
        return ipaddress.IPv6Address(bracket[1:] if bracket.startswith("[") else "").compressed
    except ValueError:
        raise _refused("has no readable host") from None


def _name(name: str) -> str:
    """Return a host as the network knows it: ASCII, in small letters, without the dot of the root."""
    try:
        plain = name.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        raise _refused("has no readable host") from None
    if not _HOST.fullmatch(plain) or ".." in plain:
        raise _refused("has no readable host")
    return plain


def _check_characters(uri: str) -> None:
    if not uri.isprintable() or uri != uri.strip():
        raise _refused("holds control characters, or blanks at its ends")
    if "\\" in uri or "::" in uri.partition("[")[0] or "::" in uri.partition("]")[2]:
        raise _refused("holds a backslash or ::")


def _check_path(path: str) -> None:
    """Refuse dots, slashes and the like behind any number of percent-encodings."""
    slashes = path.count("/")
    for _ in range(_DECODINGS):
        for form in (path, unicodedata.normalize("NFKC", path)):
            segments = [segment.partition(";")[0].strip() for segment in form.split("/")]
            if any(segment in (".", "..") for segment in segments):
                raise _refused("climbs with . or ..; write the path it means")
            if form.count("/") != slashes or "\\" in form or "::" in form or not form.isprintable():
                raise _refused("hides a slash, a backslash, :: or a control character in its path")
        path, before = unquote(path, errors="surrogateescape"), path
        if path == before:
            return
    raise _refused("is percent-encoded too often")


def _refused(why: str) -> InputError:
    return InputError("context_uri", why)
