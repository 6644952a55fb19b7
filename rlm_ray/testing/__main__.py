"""`python -m rlm_ray.testing`: a model server in a process of its own. It ends when stdin closes."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence

from rlm_ray.testing.mock_server import ModelServer
from rlm_ray.testing.rate_limits import Burst, Faults, Quota, StrictProvider
from rlm_ray.testing.responses import SCRIPTS, Script


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    faults = Faults(
        bursts=tuple(options.burst),
        error_rate=options.error_rate,
        drop_rate=options.drop_rate,
        slow_rate=options.slow_rate,
        slow_s=options.slow_s,
        usage_factor=options.usage_factor,
        seed=options.seed,
    )
    quota = Quota(options.rpm, options.tpm, options.window_s, headers=not options.no_limit_headers)
    script = _script(options.script)
    if (quota, faults) != (Quota(), Faults()):
        script = StrictProvider(script, quota, faults)
    server = ModelServer(
        script, latency_s=options.latency_s, record=False, host=options.host, port=options.port
    )
    with server:
        sys.stdout.write(json.dumps({"url": server.url}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rlm_ray.testing", description=__doc__)
    parser.add_argument("--script", default="echo", help="echo, recursion, or module:function")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--latency-s", type=float, default=0.0)
    strict = parser.add_argument_group("strict provider")
    strict.add_argument("--rpm", type=int, help="requests in any window, for each key")
    strict.add_argument("--tpm", type=int, help="tokens in any window, for each key")
    strict.add_argument("--window-s", type=float, default=60.0)
    strict.add_argument("--no-limit-headers", action="store_true")
    strict.add_argument("--burst", type=_burst, action="append", default=[], help="START,STOP,STATUS,SHARE")
    strict.add_argument("--error-rate", type=float, default=0.0)
    strict.add_argument("--drop-rate", type=float, default=0.0)
    strict.add_argument("--slow-rate", type=float, default=0.0)
    strict.add_argument("--slow-s", type=float, default=5.0)
    strict.add_argument("--usage-factor", type=float, default=1.0)
    strict.add_argument("--seed", type=int, default=0)
    return parser


def _burst(text: str) -> Burst:
    start, stop, status, share = text.split(",")
    return Burst(float(start), float(stop), int(status), float(share))


def _script(name: str) -> Script:
    if name in SCRIPTS:
        return SCRIPTS[name]
    module, _, function = name.partition(":")
    if not function:
        raise SystemExit(f"there is no script {name!r}; try {', '.join(SCRIPTS)} or module:function")
    found: Script = getattr(importlib.import_module(module), function)
    return found


if __name__ == "__main__":
    main()
