"""Who asks: a bearer key; without keys, only programs of this machine."""

from __future__ import annotations

import ipaddress
import time

from fastapi import Request
from fastapi.security import HTTPBearer

from rlm_ray.serve.api_keys import LOCAL_KEY, ApiKey, KeyStore, holder_of
from rlm_ray.serve.http.cors import Origins
from rlm_ray.serve.http.errors import ApiError


class BearerAuth(HTTPBearer):
    """A dependency of routes that gives the `Key` of the one who asks."""

    def __init__(self, keys: KeyStore, origins: Origins | None = None) -> None:
        super().__init__(auto_error=False, scheme_name="key", description="Authorization: Bearer <key>")
        self._keys = keys
        self._origins = origins or Origins((), has_keys=bool(keys))

    async def __call__(self, request: Request) -> ApiKey:  # type: ignore[override]  # a key instead of a text
        return self.authenticate(request)

    def authenticate(self, request: Request) -> ApiKey:
        """Raises `Refusal` for strangers."""
        if not self._keys:
            return self._require_local(request)
        key = self._keys.authenticate(request.headers.get("authorization", ""))
        if key is None:
            raise ApiError(
                401, "invalid_api_key", "the API key is missing or unknown; send Authorization: Bearer <key>"
            )
        return key

    def authenticate_report(self, request: Request, ticket: str, run_id: str, secret: bytes) -> ApiKey:
        """Who reads a report: by a ticket signed with the `secret`, else by the key. Raises `Refusal`."""
        if not ticket or not self._keys:
            return self.authenticate(request)
        key = holder_of(secret, self._keys, ticket, run_id, time.time())
        if key is None:
            raise ApiError(
                401, "invalid_ticket", "this link has expired; ask for the run again to get a new one"
            )
        return key

    def _require_local(self, request: Request) -> ApiKey:
        """A page of the web must not ask through the user's browser, either: hence the names it was asked by."""
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
    """A name or address of this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
