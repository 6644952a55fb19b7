"""A real collector, arize-phoenix, reads our spans as what they are. How to run it: docs/observability.md."""

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

import pytest
from run_records import CHAT, RUN, SESSION, Child, Leaf, Played, expected

from rlm_ray.tracing.exporters import flush, provider_from_environment
from rlm_ray.tracing.tracer import Tracer

pytestmark = pytest.mark.skipif(
    os.environ.get("RLM_RAY_TEST_PHOENIX") != "1",
    reason="needs a running arize-phoenix: RLM_RAY_TEST_PHOENIX=1",
)
ENDPOINT = os.environ.get("PHOENIX_ENDPOINT", "http://127.0.0.1:6006").rstrip("/")
KINDS = {"chat": "LLM", "invoke_agent": "AGENT", "execute_tool": "TOOL"}


def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(ENDPOINT + path, data, {"content-type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        return json.load(answer)


def spans_in(project, count):
    """The project's spans as soon as there are so many: Phoenix stores them in batches."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            found = ask(f"/v1/projects/{urllib.parse.quote(project)}/spans?limit=1000")["data"]
        except urllib.error.HTTPError:  # the project is made with its first span
            found = []
        if len(found) >= count:
            return found
        time.sleep(0.5)
    raise AssertionError(f"{len(found)} of {count} spans came")


def test_phoenix_shows_the_tree_the_tokens_and_the_cost(monkeypatch):
    project = f"rlm-ray-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", f"openinference.project.name={project}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT)
    played = Played(step_s=0.05).run(Child(((Leaf(), Leaf(fails=True), Child(((Leaf(),),), dies=True)), ())))
    provider, _ = provider_from_environment()
    tracer = Tracer(provider, "run-1", capture_content=True)
    for record in played.records:
        tracer.add(record)
    tracer.finish()
    assert flush(10.0, provider)

    spans = spans_in(project, len(played.spans))
    names = {span["context"]["span_id"]: span["name"] for span in spans}
    tree = sorted(
        (span["name"], names.get(span["parent_id"]), span["status_code"] == "ERROR") for span in spans
    )
    starts = {start: name for name, start, _, _ in expected(played)}
    assert tree == sorted((name, starts.get(parent), failed) for name, _, parent, failed in expected(played))
    assert {span["context"]["trace_id"] for span in spans} == {tracer.trace_id}
    for span in spans:
        assert span["span_kind"] == KINDS.get(span["name"].split()[0], "UNKNOWN")
    assert {RUN, SESSION, CHAT} <= set(names.values())
    check_sums(project, spans)


def check_sums(project, spans):
    answered = [span for span in spans if "gen_ai.usage.input_tokens" in span["attributes"]]
    query = "{projects(first: 1000) {edges {node {name tokenCountTotal costSummary {total {cost}}}}}}"
    nodes = [edge["node"] for edge in ask("/graphql", {"query": query})["data"]["projects"]["edges"]]
    (summary,) = [node for node in nodes if node["name"] == project]
    assert summary["tokenCountTotal"] == 110 * len(answered) > 0
    assert summary["costSummary"]["total"]["cost"] > 0  # Phoenix's own prices, found by the model's name
    assert sum(span["attributes"]["rlm.cost"] for span in answered) == 0.5 * len(answered)
