"""The engine's own interface: events, reports, cancellation, traces, and requests made twice."""

from __future__ import annotations

import json

import pytest
from serve_waiting import MODEL, QUICK, SLOW, eventually

from rlm_ray.events.records import RunStarted, from_line
from rlm_ray.journal.run_store import RunStore
from rlm_ray.testing.responses import run_query

pytestmark = pytest.mark.ray


def start(http, query=QUICK, headers=None, **fields):
    reply = http.post("/v1/runs", json={"model": MODEL, "query": query} | fields, headers=headers)
    assert reply.status_code == 200, reply.text
    return reply.json()


def ended(http, run):
    assert eventually(lambda: http.get(f"/v1/runs/{run['id']}").json()["state"] != "running", 30)
    return http.get(f"/v1/runs/{run['id']}").json()


def test_every_record_of_a_run_is_streamed_and_its_result_kept(site):
    with site.http() as http:
        run = start(http, run_query("recursive_map('q', ['a', 'b'])"), context="text")
        with http.stream("GET", f"/v1/runs/{run['id']}/events") as reply:
            lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line.startswith("data: ")]
        over = ended(http, run)
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds[0] == "run"
    assert kinds[-1] == "run_end"
    assert {"session", "map", "call", "cell"} <= set(kinds)
    assert isinstance(from_line(lines[0]), RunStarted)
    assert (over["state"], over["answer"]) == ("answered", "session done")
    assert over["usage"]["total"]["calls"] == 4


def test_a_report_opens_by_its_link_without_a_key(site):
    import httpx

    with site.http() as http:
        run = ended(http, start(http))
        assert httpx.get(site.url + run["report_url"]).text.startswith("<!doctype html>")
        assert http.get(f"/v1/runs/{run['id']}/report").status_code == 200
        other = ended(http, start(http))
    stolen = run["report_url"].replace(run["id"], other["id"])
    assert httpx.get(site.url + stolen).status_code == 401
    assert httpx.get(f"{site.url}/v1/runs/{run['id']}/report").status_code == 401


def test_runs_and_reports_of_one_key_do_not_exist_for_another(site):
    with site.http("ann") as ann, site.http("bob") as bob:
        run = ended(ann, start(ann))
        for path in ("", "/events", "/report"):
            assert bob.get(f"/v1/runs/{run['id']}{path}").status_code == 404
        assert bob.post(f"/v1/runs/{run['id']}/cancel").status_code == 404


def test_a_cancelled_run_is_over(site):
    with site.http() as http:
        run = start(http, SLOW)
        assert http.post(f"/v1/runs/{run['id']}/cancel").json()["state"] == "cancelled"
        assert http.post(f"/v1/runs/{run['id']}/cancel").json()["state"] == "cancelled"


def test_the_traceparent_of_a_request_is_the_parent_of_its_run(site):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with site.http() as http:
        run = ended(http, start(http, headers={"traceparent": parent}))
    opened = RunStore(site.run_dir, run["id"]).first_record()
    assert opened.traceparent == parent


def test_a_request_made_twice_with_one_idempotency_key_is_one_run(site, models):
    with site.http() as http:
        again = {"idempotency-key": "order-1"}
        first = start(http, headers=again)
        ended(http, first)
        calls = models.calls
        assert start(http, headers=again)["id"] == first["id"]
        assert models.calls == calls
        other = http.post("/v1/runs", json={"model": MODEL, "query": "another"}, headers=again)
        assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
        assert start(http)["id"] != first["id"]


@pytest.mark.parametrize("run_id", ["20200101-000000-abcdef", "..", "%2e%2e%2fserve", "serve"])
def test_what_is_no_run_is_not_found(site, run_id):
    with site.http() as http:
        assert http.get(f"/v1/runs/{run_id}").status_code == 404
