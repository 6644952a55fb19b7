"""Links to a report that open in a browser, which sends no key with a link: signed, for one run, for a while.

They are signed with a secret of the service, which only its desk makes and no file of keys holds.
"""

from __future__ import annotations

import hashlib
import hmac

from rlm_ray.serve.keys import Key, Keys

VALID_S = 3600.0
SECRET_BYTES = 32


def make_ticket(secret: bytes, key: Key, run_id: str, now: float) -> str:
    """Lets whoever has it read the report of one run, for as long as the key is known here."""
    expires = int(now + VALID_S)
    return f"{key.name}.{expires}.{_signature(secret, key, run_id, expires)}"


def holder_of(secret: bytes, keys: Keys, ticket: str, run_id: str, now: float) -> Key | None:
    """The key that made a ticket; None where it is not valid for this run, or not any more."""
    name, _, rest = ticket.partition(".")
    expires, _, signature = rest.partition(".")
    key = keys.named(name)
    if key is None or not (expires.isascii() and expires.isdigit() and len(expires) < 15):
        return None
    right = hmac.compare_digest(
        _signature(secret, key, run_id, int(expires)).encode(), signature.encode("utf-8", "replace")
    )
    return key if right and int(expires) > now else None


def _signature(secret: bytes, key: Key, run_id: str, expires: int) -> str:
    """Of a key as it is now: one that was replaced opens nothing any more."""
    if len(secret) < SECRET_BYTES:
        raise ValueError("the secret that signs links is too short")
    said = f"report {key.name} {key.sha256} {run_id} {expires}"
    return hmac.new(secret, said.encode(), hashlib.sha256).hexdigest()
