"""Who holds the CPUs of the cluster: what somebody is told who waits for one."""

from __future__ import annotations

import math
from collections import Counter

import ray
from ray._private import state  # the tables of the GCS; the public state API wants a dashboard

MAX_NAMED = 5
_WITHOUT_CPU = frozenset({"Pool", "AdmissionActor", "JournalActor", "CacheActor", "DeskActor"})
"""Classes of ours that take no CPU from the scheduler."""


def cpu_holders(needed: float = math.inf) -> str:
    """A sentence: how many CPUs are free, and which drivers have actors at work. Empty where so many are free."""
    total = float(ray.cluster_resources().get("CPU", 0.0))
    free = float(ray.available_resources().get("CPU", 0.0))
    if free >= needed:
        return ""
    own = ray.get_runtime_context().get_job_id()
    jobs = {job["JobID"]: job for job in state.jobs() if not job["IsDead"]}
    counts: Counter[tuple[str, str]] = Counter()
    for actor in state.actors().values():
        if (
            actor["State"] == "ALIVE"
            and actor["ActorClassName"] not in _WITHOUT_CPU
            and actor["JobID"] in jobs
        ):
            counts[actor["JobID"], actor["ActorClassName"]] += 1
    holders = [
        f"{count} {_kind(cls)} of {'this driver' if job == own else _driver(jobs[job])}"
        for (job, cls), count in counts.most_common(MAX_NAMED)
    ]
    held = f"; at work are {', '.join(holders)}" if holders else ""
    return f"{free:g} of the {total:g} CPUs of the cluster are free{held}"


def _kind(cls: str) -> str:
    return "session actor(s)" if cls == "SessionHost" else f"actor(s) {cls.rpartition('.')[2]}"


def _driver(job: dict[str, object]) -> str:
    entrypoint = str(job.get("Entrypoint") or "").strip()
    command = f", {entrypoint[:80]}" if entrypoint else ""
    return f"the driver {job['DriverPid']} at {job['DriverIPAddress']}{command}"
