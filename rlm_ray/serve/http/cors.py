"""Which pages of the web may ask through their user's browser (CORS), and what browsers are told of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from rlm_ray.errors import ConfigError

_LOCAL = r"https?://(localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(:\d{1,5})?"
_ORIGIN = re.compile(r"https?://[^/?#@\s]+", re.IGNORECASE)
_EXPOSED = ["x-rlm-run-id", "x-request-id", "retry-after"]
MAX_AGE_S = 600


class Origins:
    """Those that an operator allows; without keys, pages of this machine besides."""

    def __init__(self, origins: Sequence[str], *, has_keys: bool) -> None:
        """Raises `ConfigError` for what is no origin, and for everybody where there are no keys."""
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                why = f"must be origins such as https://chat.example.org, without a path; got {origin!r}"
                raise ConfigError("cors_origins", why)
            if origin == "*" and not has_keys:
                why = "may not be * without keys: any page of the web could ask through a browser of this machine"
                raise ConfigError("cors_origins", why)
        self._origins = ["*" if origin == "*" else _plain(origin) for origin in origins]
        self._local = "" if has_keys else _LOCAL

    def allows(self, origin: str) -> bool:
        """A page of this origin may ask."""
        is_listed = "*" in self._origins or origin in self._origins
        return is_listed or bool(self._local and re.fullmatch(self._local, origin))

    def options(self) -> dict[str, Any]:
        """For Starlette's middleware, which answers preflight requests before anybody asks for a key."""
        return {
            "allow_origins": self._origins,
            "allow_origin_regex": self._local or None,
            "allow_methods": ["GET", "POST", "DELETE"],
            "allow_headers": ["*"],
            "expose_headers": _EXPOSED,
            "max_age": MAX_AGE_S,
        }


def _plain(origin: str) -> str:
    """As browsers send it: in small letters, without the port that goes without saying."""
    parts = urlsplit(origin.lower())
    try:
        is_default = parts.port == {"http": 80, "https": 443}[parts.scheme]
    except ValueError as error:
        raise ConfigError("cors_origins", f"holds {origin!r}, which has no readable port") from error
    netloc = parts.netloc.rpartition(":")[0] if is_default else parts.netloc
    return f"{parts.scheme}://{netloc}"
