"""A tree of depth 3 over two nodes, traced by a real receiver, and what of it arrives. A part of the script two_nodes.py."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from contextlib import contextmanager

import ray
from process_tree import kill_repls

from rlm_ray import RLM
from rlm_ray.cluster.driver import ClusterDriver
from rlm_ray.events.records import CallEnded, CallSent, CellEnded, MapOpened, SessionOpened
from rlm_ray.journal.run_store import RunStore
from rlm_ray.testing import ModelServer
from rlm_ray.testing.otlp_receiver import OtlpReceiver
from rlm_ray.testing.responses import recursion, run_query
from rlm_ray.tracing.exporters import flush

LEAVES = run_query(
    "r = recursive_map('what?', [context[i*40:i*40+30] for i in range(6)])", "FINAL(str(len(r)))"
)
MIDDLE = run_query(
    f"r = recursive_map('''{LEAVES}''', [context[i*400:(i+1)*400] for i in range(3)])", "FINAL('-'.join(r))"
)
TREE = run_query(
    f"r = recursive_map('''{MIDDLE}''', [context[i*2000:(i+1)*2000] for i in range(4)])", "FINAL('|'.join(r))"
)
EXPECTED = "|".join(["6-6-6"] * 4)


async def strike_at(kind, run, cluster, server):
    """Kill one in the middle of the run."""
    while server.calls < 12:
        await asyncio.sleep(0.01)
    engine = await ClusterDriver.connect(cluster)
    if kind == "actor":
        handles = await engine.run_on_ray_thread(_handles(engine))
        ray.kill(next(handle for name, handle in handles.items() if name != run.actor))
    if kind == "sandbox":
        while not kill_repls(await engine.stats()):  # a session may end between the list and the signal
            await asyncio.sleep(0.01)


async def _handles(engine):
    return await engine._pool.handles.remote()


def findings(result, spans):
    """What the collector got, against what the journal says."""
    records = RunStore(result.run_dir, result.run_id).records()
    ids = {span.span_id: span for span in spans}
    names = Counter(span.name.split()[0] for span in spans)
    ended = {(record.path, record.call) for record in records if isinstance(record, CallEnded)}
    lost = {
        (r.path, r.call, r.id) for r in records if isinstance(r, CallSent) and (r.path, r.call) not in ended
    }
    kinds = Counter(type(record) for record in records)
    return {
        "answer": result.answer,
        "expected": EXPECTED,
        "traces": len({span.trace_id for span in spans}),
        "roots": sum(not span.parent_id for span in spans),
        "orphans": [span.name for span in spans if span.parent_id and span.parent_id not in ids],
        "misplaced": [span.name for span in spans if span.parent_id and not fits(span, ids[span.parent_id])],
        "spans": [
            names["invoke_agent"],
            names["execute_tool"],
            names["recursive_map"],
            names["chat"] >= kinds[CallEnded],
        ],
        "journal": [kinds[SessionOpened], kinds[CellEnded], kinds[MapOpened], True],
        "lost_calls": len(lost),
        "errors": sorted({span.name for span in spans if span.status == "error"}),
    }


def fits(span, parent):
    """A span stands below what the records say caused it."""
    kind, above = span.name.split()[0], parent.name.split()[0]
    path, over = span.attributes.get("rlm.path"), parent.attributes.get("rlm.path")
    allowed = {
        "invoke_agent": ("recursive_map", "invoke_workflow", "invoke_agent"),
        "recursive_map": ("invoke_agent",),
        "execute_tool": ("invoke_agent",),
        "chat": ("invoke_agent", "recursive_map"),
    }
    return above in allowed[kind] and (
        not path or not over or path == over or path.rpartition("/")[0] == over
    )


async def traced(kind, cluster):
    """One run and what was received of it."""
    with received_spans() as receiver, ModelServer(recursion, latency_s=0.15) as server:
        rlm = RLM(
            model="openai/m",
            api_base=server.url,
            api_key="k",
            max_depth=3,
            max_leaf_chars=100,
            deduplicate_maps=False,
            cluster=cluster,
        )
        await rlm.aprewarm(2)
        census = await (await ClusterDriver.connect(cluster)).stats()
        run = await rlm.astart(TREE, "some text " * 1000)
        await strike_at(kind, run, cluster, server)
        result = await run.result()
        assert await asyncio.to_thread(flush, 20.0)
        found = findings(result, receiver.spans)
    return found | {"nodes": len({counts["node"] for counts in census.values()})}


@contextmanager
def received_spans():
    """A collector, and the environment that names it."""
    with OtlpReceiver() as receiver:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url
        try:
            yield receiver
        finally:
            del os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
