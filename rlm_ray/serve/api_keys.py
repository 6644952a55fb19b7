"""Who may ask: bearer keys, of which only hashes are kept, each with what it may do.

A key is 32 random bytes, so one round of SHA-256 guards it as well as a slow hash would. The file is YAML:

    keys:
      - name: search-team
        sha256: 5e88...          # of the key; `rlm-ray serve --new-key search-team` makes both
        models: ["rlm/*"]
        rpm: 60
        concurrency: 20
        budget_usd: 50

Links to a report that open in a browser, which sends no key with a link: signed, for one run, for a while.

They are signed with a secret of the service, which only its run registry makes and no file of keys holds.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import yaml  # type: ignore[import-untyped]  # it comes with Ray, without types
from pydantic import TypeAdapter, ValidationError

from rlm_ray.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key: its name, its hash, and what it may do."""

    name: str
    """Also the folder of its files, and its place in the queue of the cluster."""
    sha256: str
    models: tuple[str, ...] = ("*",)
    """Patterns of model ids."""
    rpm: float | None = None
    """Requests that start a run, per minute."""
    concurrency: int | None = None
    """Runs at the same time."""
    budget_usd: float | None = None
    """US dollars in all, over the life of the key."""
    run_usd: float | None = None
    """What one run may use of the budget; None: a twentieth."""
    weight: float = 1.0
    """Its share where several keys want more than the provider gives."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError("keys.name", f"must be letters, digits, - and _; got {self.name!r}")
        if not _HASH.fullmatch(self.sha256):
            raise ConfigError(f"keys.{self.name}.sha256", "must be the SHA-256 of the key in hexadecimal")
        for field in ("rpm", "concurrency", "budget_usd", "run_usd", "weight"):
            value = getattr(self, field)
            if value is not None and not 0 < value < 1e12:
                raise ConfigError(f"keys.{self.name}.{field}", f"must be above 0; got {value!r}")

    def may_use(self, model: str) -> bool:
        return any(fnmatchcase(model, pattern) for pattern in self.models)


LOCAL_KEY = ApiKey("local", "0" * 64)
"""Whoever asks from this machine where no keys are set."""


class KeyStore:
    """The API keys of a deployment."""

    def __init__(self, keys: Sequence[ApiKey] = ()) -> None:
        self._keys = tuple(keys)
        self._by_name = {key.name: key for key in keys} if keys else {LOCAL_KEY.name: LOCAL_KEY}
        if len(self._by_name) < len(self._keys):
            raise ConfigError("keys", "two have the same name")

    def __bool__(self) -> bool:
        return bool(self._keys)

    def get(self, name: str) -> ApiKey | None:
        return self._by_name.get(name)

    def authenticate(self, authorization: str) -> ApiKey | None:
        """Return the key of an `Authorization` header. Takes the same time whichever it is, or none."""
        scheme, _, given = authorization.partition(" ")
        digest = hash_key(given.strip())
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest) and scheme.lower() == "bearer":
                found = key
        return found


def read_keys(text: str, name: str) -> KeyStore:
    """Read keys from YAML. Raises `ConfigError`, which never shows what stands in the file."""
    try:
        plain: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(name, "is no YAML") from error
    if not isinstance(plain, dict) or set(plain) != {"keys"}:
        raise ConfigError(name, "must hold one list named keys")
    try:
        keys = _KEYS.validate_python(plain["keys"])
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(name, f"keys.{where}: {first['msg']}") from error
    if not keys:
        raise ConfigError(name, "holds no key; leave it out to serve this machine only")
    return KeyStore(keys)


def generate_key(name: str) -> tuple[str, str]:
    """Make a key, and its entry for the file."""
    key = f"sk-rlm-{secrets.token_urlsafe(32)}"
    entry = ApiKey(name, hash_key(key))
    return key, f"  - name: {entry.name}\n    sha256: '{entry.sha256}'\n"


def hash_key(key: str) -> str:
    """Return the hash of a key as the file has it."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


_KEYS = TypeAdapter(list[ApiKey])


VALID_S = 3600.0
SECRET_BYTES = 32


def make_ticket(secret: bytes, key: ApiKey, run_id: str, now: float) -> str:
    """Sign a ticket that lets whoever has it read the report of one run for an hour, while the key is known here."""
    expires = int(now + VALID_S)
    return f"{key.name}.{expires}.{_signature(secret, key, run_id, expires)}"


def holder_of(secret: bytes, keys: KeyStore, ticket: str, run_id: str, now: float) -> ApiKey | None:
    """Return the key that made a ticket; None where it is not valid for this run, or not any more."""
    name, _, rest = ticket.partition(".")
    expires, _, signature = rest.partition(".")
    key = keys.get(name)
    if key is None or not (expires.isascii() and expires.isdigit() and len(expires) < 15):
        return None
    right = hmac.compare_digest(
        _signature(secret, key, run_id, int(expires)).encode(), signature.encode("utf-8", "replace")
    )
    return key if right and int(expires) > now else None


def _signature(secret: bytes, key: ApiKey, run_id: str, expires: int) -> str:
    """Sign with the key as it is now: a ticket of a key that was replaced opens nothing any more."""
    if len(secret) < SECRET_BYTES:
        raise ValueError("the secret that signs links is too short")
    said = f"report {key.name} {key.sha256} {run_id} {expires}"
    return hmac.new(secret, said.encode(), hashlib.sha256).hexdigest()
