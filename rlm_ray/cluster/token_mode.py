"""Whether the cluster to connect to wants Ray's token, found out by asking it without one.

The first Ray that a user starts by a driver leaves a token in `~/.ray`; every later `ray start` makes a cluster that
wants it, but a driver with an explicit address sends it only where `RAY_AUTH_MODE=token` says so.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray._private.grpc_utils import init_grpc_channel

from rlm_ray.errors import ClusterError

_PROBE = "/ray.rpc.NodeInfoGcsService/CheckAlive"
_TIMEOUT_S = 5.0
_VARIABLE = "RAY_AUTH_MODE"


def follow_token_mode(address: str) -> None:
    """Send the token to a cluster that wants it. Raises `ClusterError` where it does and there is none."""
    if os.environ.get(_VARIABLE) or "://" in address or not wants_token(address):
        return
    logging.getLogger(maybe_enable_token_auth_if_token_available.__module__).setLevel(logging.ERROR)
    if not maybe_enable_token_auth_if_token_available(warn_if_disabled=False):
        why = "it wants a token; give that of its `ray get-auth-token` as RAY_AUTH_TOKEN, or its file as RAY_AUTH_TOKEN_PATH"
        raise ClusterError(f"cannot use Ray at {address}: {why}")


def wants_token(address: str) -> bool:
    """The cluster refuses to answer without one."""
    channel = init_grpc_channel(address)
    try:
        channel.unary_unary(_PROBE)(b"", timeout=_TIMEOUT_S)
    except Exception as error:  # noqa: BLE001 - gRPC's own classes are not ours to import; Ray will say the rest
        return _code(error) == "UNAUTHENTICATED"
    finally:
        channel.close()
    return False


def _code(error: Any) -> str:
    return str(error.code().name) if hasattr(error, "code") else ""
