"""The actors that outlive drivers: of one version only, counted, and ended when nothing is under way."""

from __future__ import annotations

import asyncio
import sys

import pytest
import ray
from waiting import until

from rlm_ray.cluster.detached_actor import (
    NAMESPACE,
    DetachedActor,
    check_version,
    detached_actors,
    end_detached_actors,
    service_stats,
)
from rlm_ray.cluster.ray_calls import current_ray_thread
from rlm_ray.errors import ClusterError, VersionMismatchError
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import Hang
from rlm_ray.util.rpc import PROTOCOL

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def none_at_work(cluster):
    """End the service of other tests, and runs that they opened at the admission themselves: these stay open for a minute."""
    if "ray.serve" in sys.modules:
        sys.modules["ray.serve"].shutdown()
    asyncio.run(end_detached_actors(None, force=True, all_versions=True))


async def none_has_runs():
    stats = await current_ray_thread().run(service_stats())
    return not any(tables["runs"] - tables.get("driverless", 0) for tables in stats.values())


@pytest.fixture(
    params=[
        ("rlm_ray.admission.v1", 1),
        ("rlm_ray.journal.0123456789abcdef", 1),
        ("rlm_ray.admission.v99", 99),
    ]
)
def stranger(cluster, request):
    name, protocol = request.param

    class Stranger:
        """The admission of another version, which this one knows nothing of."""

        def name(self):
            return name

    options = {"name": name, "namespace": NAMESPACE, "lifetime": "detached", "num_cpus": 0}
    actor = ray.remote(Stranger).options(**options).remote()
    ray.get(actor.name.remote())
    yield DetachedActor(name, protocol)
    if DetachedActor(name, protocol) in detached_actors():
        ray.kill(ray.get_actor(name, namespace=NAMESPACE))


async def test_two_versions_on_one_cluster_refuse_each_other_with_a_sentence(stranger):
    with pytest.raises(VersionMismatchError) as raised:
        check_version()
    assert f"another version of rlm_ray ({stranger.name} (protocol {stranger.protocol}))" in str(raised.value)
    assert f"(protocol {PROTOCOL})" in str(raised.value)
    assert "rlm-ray shutdown --all-versions" in str(raised.value)


async def test_actors_of_another_version_are_ended_only_when_it_is_insisted_on(stranger):
    with pytest.raises(
        ClusterError, match="another version's, so whether runs are under way there cannot be told"
    ):
        await end_detached_actors(None, force=False, all_versions=True)
    assert stranger in detached_actors()
    assert stranger.name in await end_detached_actors(None, force=True, all_versions=True)
    assert detached_actors() == []
    check_version()


async def test_they_are_not_ended_under_a_run_and_the_next_run_makes_them_again(ask, tmp_path):
    with ModelServer(lambda _: Hang(600)) as server:
        run = asyncio.create_task(
            (await ask(server, max_depth=0, run_dir=str(tmp_path)).astart("what is it?", "a text")).result()
        )
        while not server.calls:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)
        with pytest.raises(ClusterError, match=r"runs are under way on this cluster .* has 1 run"):
            await end_detached_actors(None, force=False, all_versions=False)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
    await until(none_has_runs, 90)
    assert await end_detached_actors(None, force=False, all_versions=False)
    assert detached_actors() == []
    with ModelServer(lambda _: "an answer") as server:
        result = await ask(server, max_depth=0, run_dir=str(tmp_path)).arun("what is it?", "a text")
    assert result.answer == "an answer"
