"""Which metrics and labels an expression of PromQL reads, and which ones there are: ours as Ray and as the collector export them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import promql_parser
import ray

from rlm_ray.cluster.ray_metrics import TAGS
from rlm_ray.events import metrics

_SECONDS = {"s": "_seconds"}
_OWN_LABELS = {"le", "job", "instance"}
_OPENTELEMETRY_LABELS = {
    name.replace(".", "_")
    for name in (
        metrics.DEPTH, metrics.ERROR_TYPE, metrics.MODEL, metrics.OPERATION, metrics.PROVIDER, metrics.ROLE,
        metrics.STOP_REASON, metrics.TOKEN_TYPE,
    )
}  # fmt: skip
_OF_RAY = {
    "ray_node_cpu_utilization": {"ip"},
    "ray_node_disk_free": {"ip"},
    "ray_node_mem_total": {"ip"},
    "ray_node_mem_used": {"ip"},
    "ray_serve_deployment_queued_queries": {"application", "deployment"},
    "ray_serve_deployment_replica_healthy": {"application", "deployment"},
    "ray_serve_http_request_latency_ms_bucket": {"application", "route", "status_code"},
    "ray_serve_num_http_error_requests_total": {"application", "error_code", "method", "route"},
    "ray_serve_num_http_requests_total": {"application", "method", "route", "status_code"},
    "ray_serve_replica_processing_queries": {"application", "deployment"},
}
"""Ray's own metrics that are used here, and labels that they were seen with."""


def exported_metrics() -> dict[str, set[str]]:
    """Every metric that may be used, with its labels."""
    found = {"up": {"job", "instance"}} | _OF_RAY
    for name, instrument in metrics.INSTRUMENTS.items():
        plain = name.replace(".", "_")
        unit = _SECONDS.get(instrument.unit, "")
        for suffix in _suffixes(instrument.kind):
            found[f"ray_{plain}{suffix}"] = set(TAGS)
            found[f"{plain}{unit}{suffix}"] = _OPENTELEMETRY_LABELS
    return found


def _suffixes(kind: str) -> tuple[str, ...]:
    return {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}.get(kind, ("",))


def query_faults(query: str) -> list[str]:
    """What is wrong with a query: it does not parse, or reads what nobody exports."""
    text = re.sub(r"\$__(rate_interval|interval|range)", "5m", query)
    try:
        parsed = promql_parser.parse(text)
    except ValueError as error:
        return [str(error)]
    known = exported_metrics()
    faults, labels = [], set()
    for name, matched in _selectors(parsed):
        if name not in known:
            faults.append(f"no metric {name}")
            continue
        labels |= known[name]
        faults += [f"{name} has no label {label}" for label in sorted(matched - known[name] - _OWN_LABELS)]
    grouped = {label for each in _nodes(parsed) for label in _grouping(each)}
    return faults + [f"no label {label}" for label in sorted(grouped - labels - _OWN_LABELS)]


def _nodes(node: object) -> Iterator[object]:
    yield node
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        child = getattr(node, name, None)
        if child is not None:
            yield from _nodes(child)
    for child in getattr(node, "args", ()):
        yield from _nodes(child)


def _selectors(node: object) -> Iterator[tuple[str, set[str]]]:
    for each in _nodes(node):
        if isinstance(each, promql_parser.VectorSelector):
            yield each.name or "", {matcher.name for matcher in each.matchers.matchers}


def _grouping(node: object) -> list[str]:
    modifier = getattr(node, "modifier", None)
    if isinstance(node, promql_parser.AggregateExpr) and modifier is not None:
        return list(modifier.labels)
    return []


@cache
def _source_of_ray() -> str:
    root = Path(ray.__file__).parent
    files = [*(root / "serve/_private").glob("*.py"), root / "dashboard/modules/reporter/reporter_agent.py"]
    return "\n".join(path.read_text() for path in files)


def rays_own_metrics_that_are_gone() -> list[str]:
    """Names of Ray's own metrics that the installed Ray does not define."""
    source = _source_of_ray().replace("{protocol_name}", "http")
    plain = {name: re.sub(r"_(total|bucket)$", "", name.removeprefix("ray_")) for name in _OF_RAY}
    return [
        name
        for name, called in plain.items()
        if f'"{called}"' not in source and f'"{name.removeprefix("ray_")}"' not in source
    ]
