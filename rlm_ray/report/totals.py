"""What a run used, summed from its calls: for the whole run, by model and by depth, and what went wrong."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rlm_ray.core.records import CallEnded
from rlm_ray.core.usage import RunUsage, Tallies, Tally
from rlm_ray.report.facts import Facts, state_of


def usage_of(facts: Facts) -> RunUsage:
    """Sums over all calls, those of lost attempts too: they were paid for."""
    tallies = Tallies()
    hits = 0
    for path, calls in facts.calls.items():
        for call in calls:
            hits += call.cache_hit
            tallies.add(call.model, len(path), tally_of(call))
    sessions = sum(len(node.opened) for node in facts.nodes)
    return RunUsage(tallies.rows(), sessions, hits)


def tally_of(call: CallEnded) -> Tally:
    """One call. An answer out of the cache used nothing."""
    if call.cache_hit:
        return Tally()
    answered = not call.error_kind
    return Tally(
        calls=int(answered),
        attempts=len(call.tries) + 1,
        retries=len(call.tries),
        unpriced=int(answered and call.cost_usd is None),
        input_tokens=call.usage.input_tokens,
        output_tokens=call.usage.output_tokens,
        cached_tokens=call.usage.cached_tokens,
        reasoning_tokens=call.usage.reasoning_tokens,
        cost_usd=call.cost_usd or 0.0,
        queue_wait_s=call.queue_wait_s,
        rate_wait_s=call.rate_wait_s,
    )


def totals_of(facts: Facts) -> dict[str, Any]:
    """Plain values for the page."""
    calls = [call for some in facts.calls.values() for call in some]
    cells = [cell for some in facts.cells.values() for cell in some]
    lost = [end for node in facts.nodes for end in node.ends if end.stop_reason == "lost"]
    return usage_of(facts).as_dict() | {
        "nodes": len(facts.nodes) if facts.clock.began else 0,
        "depth": max(node.depth for node in facts.nodes),
        "states": dict(Counter(state_of(facts, node) for node in facts.nodes)),
        "failed_calls": sum(bool(call.error_kind) for call in calls),
        "cells": len(cells),
        "cell_errors": sum(cell.error is not None for cell in cells),
        "killed_repls": sum(cell.killed is not None for cell in cells),
        "lost_sessions": len(lost),
        "tries": dict(Counter(attempt.kind for call in calls for attempt in call.tries)),
    }
