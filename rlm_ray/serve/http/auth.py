"""Checks who asks: by a bearer key; without keys, only programs of this machine. `Origins` says which pages of the web may
ask through their user's browser (CORS), and what browsers are told of it.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.security import HTTPBearer

from rlm_ray.errors import ConfigError
from rlm_ray.serve.api_keys import LOCAL_KEY, ApiKey, KeyStore, holder_of
from rlm_ray.serve.http.errors import ApiError


class BearerAuth(HTTPBearer):
    """A dependency of routes that returns the `ApiKey` of who asks."""

    def __init__(self, keys: KeyStore, origins: Origins | None = None) -> None:
        super().__init__(auto_error=False, scheme_name="key", description="Authorization: Bearer <key>")
        self._keys = keys
        self._origins = origins or Origins((), has_keys=bool(keys))

    async def __call__(self, request: Request) -> ApiKey:  # type: ignore[override]  # a key instead of a text
        return self.authenticate(request)

    def authenticate(self, request: Request) -> ApiKey:
        """Return the key of who asks. Raises `ApiError` where the key is missing or unknown."""
        if not self._keys:
            return self._require_local(request)
        key = self._keys.authenticate(request.headers.get("authorization", ""))
        if key is None:
            raise ApiError(
                401, "invalid_api_key", "the API key is missing or unknown; send Authorization: Bearer <key>"
            )
        return key

    def authenticate_report(self, request: Request, ticket: str, run_id: str, secret: bytes) -> ApiKey:
        """Return the key of who reads a report: by a ticket signed with the `secret`, else by the key. Raises
        `ApiError`.
        """
        if not ticket or not self._keys:
            return self.authenticate(request)
        key = holder_of(secret, self._keys, ticket, run_id, time.time())
        if key is None:
            raise ApiError(
                401, "invalid_ticket", "this link has expired; ask for the run again to get a new one"
            )
        return key

    def _require_local(self, request: Request) -> ApiKey:
        """Let only this machine ask. A page of the web must not ask through the user's browser, either: hence the
        names it was asked by.
        """
        client = request.client.host if request.client is not None else ""
        if not all(map(is_local, [client, request.url.hostname or ""])):
            raise ApiError(
                401, "no_keys", "this service has no keys, so only its own machine may ask; set keys_file"
            )
        origin = request.headers.get("origin")
        if origin is not None and not self._origins.allows(origin):
            why = (
                "this service has no keys, so pages of other sites may not ask through a browser; set cors_origins "
                "to allow this one (CORS)"
            )
            raise ApiError(403, "origin_not_allowed", why)
        return LOCAL_KEY


def is_local(host: str) -> bool:
    """Tell whether it is a name or address of this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_LOCAL = r"https?://(localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(:\d{1,5})?"
_ORIGIN = re.compile(r"https?://[^/?#@\s]+", re.IGNORECASE)
_EXPOSED = ["x-rlm-run-id", "x-request-id", "retry-after"]
MAX_AGE_S = 600


class Origins:
    """The origins that an operator allows; without keys, pages of this machine besides."""

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
        """Tell whether a page of this origin may ask."""
        is_listed = "*" in self._origins or origin in self._origins
        return is_listed or bool(self._local and re.fullmatch(self._local, origin))

    def options(self) -> dict[str, Any]:
        """Return the options of Starlette's middleware, which answers preflight requests before anybody asks for a
        key.
        """
        return {
            "allow_origins": self._origins,
            "allow_origin_regex": self._local or None,
            "allow_methods": ["GET", "POST", "DELETE"],
            "allow_headers": ["*"],
            "expose_headers": _EXPOSED,
            "max_age": MAX_AGE_S,
        }


def _plain(origin: str) -> str:
    """Return an origin as browsers send it: in small letters, without the default port."""
    parts = urlsplit(origin.lower())
    try:
        is_default = parts.port == {"http": 80, "https": 443}[parts.scheme]
    except ValueError as error:
        raise ConfigError("cors_origins", f"holds {origin!r}, which has no readable port") from error
    netloc = parts.netloc.rpartition(":")[0] if is_default else parts.netloc
    return f"{parts.scheme}://{netloc}"
