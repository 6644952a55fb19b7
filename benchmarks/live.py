"""The parts of `admission.py` that need a provider process and Ray: quota, hidden, budget, kill."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import strict

from rlm_ray import RLM, LimitReached, Limits, Price, Rates
from rlm_ray.testing import Request, ServerProcess
from rlm_ray.testing.responses import recursion, run_query

RPM, TPM = 6000, 1_000_000
HIDDEN_RPM = 1200
KILL_RPM = 1200
PRICE = Price(input_usd=1.0, output_usd=4.0)
NO_LIMIT = ("--rpm", "100000000")
"""A strict provider keeps a ledger; one that limits nothing keeps it of everything that arrives."""


def quota(calls: int, ray_data_python: str | None, ray_data_calls: int) -> None:
    """rpm=6000 and tpm=1,000,000, about equally tight: ours, then the peers, each against a provider of its own."""
    print(
        f"{calls} calls of mixed size, rpm={RPM:,} tpm={TPM:,}, answers after {strict.LATENCY_S} s",
        flush=True,
    )
    _quota_ours(calls)
    import ray

    ray.shutdown()  # the peers get the machine to themselves
    lists = [strict.messages(calls // 4, seed) for seed in range(4)]
    payloads = list(itertools.chain.from_iterable(lists))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.json"
        path.write_text(json.dumps(payloads))
        _quota_peer("thread pool, 64 threads", [sys.executable, "threads"], path)
        if ray_data_python:
            path.write_text(json.dumps(payloads[:ray_data_calls]))
            for actors in (4, 16):
                name = f"Ray Data, qps=100, {actors} actors"
                _quota_peer(name, [ray_data_python, "ray-data", "--actors", str(actors)], path)


def _quota_ours(calls: int) -> None:
    with strict.server_for("--rpm", str(RPM), "--tpm", str(TPM)) as server:
        rlm = strict.rlm_for(server, rates=Rates(rpm=RPM, tpm=TPM))
        rlm.prewarm(4)
        with strict.Watch(server) as watch:
            results = asyncio.run(strict.roots(rlm, 4, calls // 4))
        right = sum(int(result.answer or 0) for result in results)
        _quota_row("rlm_ray, 4 actors, 4 roots", watch, right)
        totals = [result.usage.total for result in results]
        print(
            f"    usage of the roots: {sum(total.calls for total in totals)} calls,"
            f" {sum(total.tokens for total in totals)} tokens; the provider: {watch.ledger['admitted']} calls,"
            f" {watch.ledger['tokens']} tokens"
        )


def _quota_peer(name: str, command: list[str], path: Path) -> None:
    with strict.server_for("--rpm", str(RPM), "--tpm", str(TPM)) as server:
        peers = str(Path(__file__).with_name("peers.py"))
        python, peer, *options = command
        with strict.Watch(server) as watch:
            done = subprocess.run(
                [python, peers, peer, server.url, str(path), *options],
                check=False,
                capture_output=True,
                text=True,
                env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            )
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            print(f"{name}: failed after {watch.ledger['admitted']} calls: {said[-1] if said else '?'}")
        else:
            _quota_row(name, watch, json.loads(done.stdout.splitlines()[-1])["answered"])


def _quota_row(name: str, watch: strict.Watch, right: int) -> None:
    ledger = watch.ledger
    ideal_s = 60 * max(ledger["admitted"] / RPM, ledger["tokens"] / TPM)
    end_s = _seconds_until(watch, 0.98)
    then = f"{watch.used(RPM, TPM, 60, max(end_s, 120)):6.1%}" if end_s > 65 else "     -"
    print(
        f"{name:38} used: minute 1 {watch.used(RPM, TPM, 0, min(60.0, end_s)):6.1%}, then {then};"
        f" 429: {watch.refused_share():7.3%} ({sum(ledger['refused'].values())});"
        f" {watch.seconds:5.1f} s, paced ideal {ideal_s:5.1f} s; most in a minute"
        f" {ledger['peak_requests']} requests, {ledger['peak_tokens']} tokens; right answers {right}",
        flush=True,
    )


def _seconds_until(watch: strict.Watch, share: float) -> float:
    """When so much of the work was admitted: after that there is no backlog any more."""
    enough = share * watch.ledger["admitted"]
    return next(at for at, ledger in watch.samples if ledger["admitted"] >= enough) - watch.began


def hidden() -> None:
    """A limit nobody told, and no header that tells it."""
    with strict.server_for("--rpm", str(HIDDEN_RPM), "--no-limit-headers") as server:
        rlm = strict.rlm_for(server)
        rlm.prewarm(4)
        with strict.Watch(server) as watch:
            results = asyncio.run(strict.roots(rlm, 4, int(HIDDEN_RPM * 2.6 / 4)))
        end_s = _seconds_until(watch, 0.98)
        windows = [(start, start + 60.0) for start in (0.0, 30.0, 60.0, 90.0) if start + 60 <= end_s + 1]
        shares = ", ".join(
            f"{start:.0f}-{stop:.0f} s {watch.per_minute('admitted', start, stop) / HIDDEN_RPM:.1%}"
            for start, stop in windows
        )
        print(
            f"hidden rpm={HIDDEN_RPM}, no headers, no rates: used {shares}; 429: first minute"
            f" {watch.refused_share(0, 60):.2%}, then {watch.refused_share(60):.2%}; {watch.seconds:.0f} s,"
            f" right answers {sum(int(result.answer or 0) for result in results)}",
            flush=True,
        )


def kill(calls: int) -> None:
    """The provider limits nothing, so that its ledger holds whatever arrives in any minute."""
    for no_restart in (False, True):
        with strict.server_for(*NO_LIMIT, "--no-limit-headers") as server:
            rlm = strict.rlm_for(server, rates=Rates(rpm=KILL_RPM))
            rlm.prewarm(4)
            with strict.Watch(server) as watch:
                results = asyncio.run(_roots_and_kill(rlm, calls // 4, no_restart=no_restart))
            right = sum(int(result.answer or 0) for result in results)
            peak = watch.ledger["peak_requests"]
            answered = sum(result.usage.total.calls for result in results)
            print(
                f"admission killed at 20 s and 45 s, no_restart={no_restart}: {right} of {calls} right in"
                f" {watch.seconds:.1f} s (ideal {60 * calls / KILL_RPM:.1f} s); most in any 60 s: {peak} ="
                f" {peak / KILL_RPM:.2f} x rpm; usage: {answered} calls,"
                f" {sum(r.usage.total.tokens for r in results)} tokens, {sum(r.usage.total.unknown for r in results)} unknown; provider:"
                f" {watch.ledger['admitted']} calls, {watch.ledger['tokens']} tokens",
                flush=True,
            )


async def _roots_and_kill(rlm: RLM, calls: int, *, no_restart: bool) -> list[Any]:
    import ray

    from rlm_ray.cluster.services import admission_actor

    def shoot() -> None:
        ray.kill(admission_actor(), no_restart=no_restart)

    timers = [threading.Timer(seconds, shoot) for seconds in (20.0, 45.0)]
    for timer in timers:
        timer.start()
    try:
        return await strict.roots(rlm, 4, calls)
    finally:
        for timer in timers:
            timer.cancel()


def costly(request: Request) -> str:
    """A tree that spends, and an answer for the last call."""
    if "has to end now" in request.last:
        return "best so far"
    answer = recursion(request)
    return answer if request.system and "REPL" in request.system else answer.ljust(200, "x")


BELOW = run_query("r = recursive_map('what is it?', [context[i:i+100] for i in range(0, 800, 100)])")
TREE = run_query(
    f"r = recursive_map('''{BELOW}''', [context[i:i+900] for i in range(0, 57600, 900)]); print(len(r))"
)
"""64 children that each ask 8 times."""


def budget() -> None:
    text = strict.TEXT * 1_400
    with ServerProcess(["--script", "live:costly", "--latency-s", "0.05", *NO_LIMIT]) as server:
        options = {"max_depth": 2, "max_leaf_chars": 150, "prices": {"openai/strict": PRICE}}
        rlm = strict.rlm_for(server, **options)
        rlm.prewarm(4)
        total = rlm.run(TREE, text).usage.total
        print(
            f"a root and 64 children without a limit: {total.calls} calls, {total.tokens} tokens, ${total.cost_usd:.4f}"
        )
        tokens_limit, cost_limit = total.tokens // 10, total.cost_usd / 10
        for name, limits in (
            (f"tokens={tokens_limit}", Limits(tokens=tokens_limit)),
            (f"cost_usd={cost_limit:.6f}", Limits(cost_usd=cost_limit)),
        ):
            limited = strict.rlm_for(server, limits=limits, **options)
            before = server.stats()
            started = time.monotonic()
            partial, why = None, ""
            try:
                limited.completion(TREE, text)
            except LimitReached as reached:
                partial, why = reached.partial, str(reached)
            tokens, cost_usd = _spent(before, server.stats())
            print(
                f"  {name}: the provider"
                f" counted {tokens} tokens, ${cost_usd:.6f}, in {time.monotonic() - started:.1f} s; partial={partial!r};\n"
                f"    {why}",
                flush=True,
            )


def _spent(before: dict[str, Any], after: dict[str, Any]) -> tuple[int, float]:
    """Tokens of all that was admitted, and what the answers cost."""
    used = [
        sum(after[side].values()) - sum(before[side].values()) for side in ("input_tokens", "output_tokens")
    ]
    cost_usd = (used[0] * PRICE.input_usd + used[1] * PRICE.output_usd) / 1e6
    return after["provider"]["tokens"] - before["provider"]["tokens"], cost_usd
