"""Clients that go away, and replicas that die."""

from __future__ import annotations

import httpx
import openai
import pytest
import ray
from serve_waiting import MODEL, QUICK, SLOW, asked, eventually

from rlm_ray.admission.open_runs import DRIVERLESS_S
from rlm_ray.admission.server import SWEEP_INTERVAL_S
from rlm_ray.cluster.pool import POOL_NAME
from rlm_ray.cluster.services import admission_actor
from rlm_ray.testing.responses import run_query

pytestmark = pytest.mark.ray


def replicas():
    named = ray.util.list_named_actors(all_namespaces=True)
    return [one["name"] for one in named if one["name"].startswith("SERVE_REPLICA::rlm#")]


def kill_the_replicas():
    for name in replicas():
        ray.kill(ray.get_actor(name, namespace="serve"))


def slots_taken():
    return ray.get(ray.get_actor(POOL_NAME).stats.remote())["taken_slots"]


def at_admission():
    return ray.get(admission_actor().stats.remote())


def whats_left():
    pool = ray.get_actor(POOL_NAME)
    actors = ray.get(pool.handles.remote())
    return ray.get(pool.stats.remote()), {name: ray.get(one.stats.remote()) for name, one in actors.items()}


def nothing_is_left(models, census):
    return models.in_flight == 0 and not any(census().values())


def test_a_stream_that_is_closed_leaves_nothing_behind(site, models, census):
    before = models.calls
    stream = site.client().chat.completions.create(model=MODEL, messages=asked(SLOW), stream=True)
    for _ in stream:
        if models.calls > before + 10:
            break
    stream.close()
    assert eventually(lambda: nothing_is_left(models, census), 2)
    after = models.calls
    assert not eventually(lambda: models.calls > after, 0.5)


def test_a_client_that_gives_up_waiting_leaves_nothing_behind(site, models, census):
    with pytest.raises(openai.APITimeoutError):
        site.client(timeout=1.5).chat.completions.create(model=MODEL, messages=asked(SLOW))
    assert eventually(lambda: nothing_is_left(models, census), 2)


def test_a_background_run_goes_on_when_its_replica_dies_and_pays_nothing_twice(site, models):
    client = site.client()
    question = run_query(*["print(recursive_map('q', ['a', 'b', 'c']))"] * 12)
    before = models.calls
    begun = client.responses.create(model=MODEL, input=question, background=True)
    assert eventually(lambda: models.calls > before + 12, 30)
    kill_the_replicas()

    def state():
        try:
            return client.responses.retrieve(begun.id).status
        except openai.APIError:
            return "no replica"

    assert eventually(lambda: state() == "completed", 90)
    assert client.responses.retrieve(begun.id).output_text == "session done"
    under_way = 4
    assert models.calls - before <= 12 * 4 + 1 + under_way


@pytest.mark.timeout(300)
def test_a_waiting_client_gets_an_error_it_may_retry_when_the_replica_dies(site, models):
    """A session whose sub-calls are under way, and a plain call that hangs at the provider."""
    assert eventually(lambda: len(replicas()) == 2, 30)
    client = site.client()
    before = models.calls
    assert eventually(lambda: at_admission()["drivers"] == 0, 30)
    stream = client.chat.completions.create(model=MODEL, messages=asked(SLOW), stream=True)
    plain = client.chat.completions.create(model="shallow", messages=asked("HANGING"), stream=True)
    for _ in stream:
        if models.calls > before + 5 and at_admission()["drivers"] == 2:
            break
    kill_the_replicas()
    for cut in (stream, plain):
        with pytest.raises((openai.APIError, httpx.RemoteProtocolError)):  # the answer is cut, and says so
            for _ in cut:
                pass
    retried = site.client(max_retries=5).chat.completions.create(model=MODEL, messages=asked(QUICK))
    assert retried.choices[0].message.content == "session done"
    # Those of the dead replicas too, also one that was leased and never used.
    assert eventually(lambda: slots_taken() == 0, 60), whats_left()
    swept_s = DRIVERLESS_S + 2 * SWEEP_INTERVAL_S
    assert eventually(lambda: at_admission()["runs"] == 0, swept_s), (at_admission(), whats_left())
