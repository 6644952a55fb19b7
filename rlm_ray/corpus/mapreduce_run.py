"""A map-reduce as one run: planned here, carried out on the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rlm_ray.config import Settings
from rlm_ray.core.context import Context
from rlm_ray.corpus.mapreduce import MapReduced, map_reduce
from rlm_ray.corpus.mapreduce_spec import spec_of
from rlm_ray.corpus.plan import Plan, plan
from rlm_ray.corpus.plan_model import reader_of
from rlm_ray.job import open_job

if TYPE_CHECKING:
    from rlm_ray.cluster.life import Observer

_SAMPLES = 20
_SAMPLE_BYTES = 1_000


def planned(settings: Settings, query: str, context: Context, **options: Any) -> Plan:
    """What asking this will take. `options` are the fields of `Spec`; nothing is sent anywhere."""
    spec = spec_of(query, **options)
    return plan(spec, context, reader_of(settings, _sample(context)), settings.leaf_chars)


async def carry_out(
    settings: Settings,
    planned: Plan,
    context: Context,
    *,
    run_id: str | None = None,
    observers: Sequence[Observer] = (),
) -> MapReduced:
    """One run; with the `run_id` of one on record, its next life."""
    async with open_job(settings, planned.spec.query, run_id=run_id, observers=observers) as job:
        return await map_reduce(job, planned, context)


def _sample(context: Context) -> str:
    """Bits from all over the context."""
    view = memoryview(context.data).cast("B")
    step = max(1, len(view) // _SAMPLES)
    return "".join(str(view[at : at + _SAMPLE_BYTES], "utf-8", "ignore") for at in range(0, len(view), step))
