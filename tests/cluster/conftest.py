"""One Ray cluster for the whole test session, with two session actors at most."""

from __future__ import annotations

import pytest
import ray
from beside_others import usual_port_left_free
from scripts import run_script

from rlm_ray import RLM, Cluster
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import recursion

CLUSTER = Cluster(min_actors=2, max_actors=2, sessions_per_actor=64)


def pytest_collection_modifyitems(items):
    """Refuse a test that would start Ray, here or in a script, among the fast ones."""
    for item in items:
        starts_ray = "cluster" in item.fixturenames or hasattr(item.module, "run_script")
        if starts_ray and not item.get_closest_marker("ray"):
            raise pytest.UsageError(
                f"{item.nodeid} needs Ray: put pytestmark = pytest.mark.ray into its file"
            )


@pytest.fixture(scope="session")
def cluster():
    """Ray with both actors warm."""
    with usual_port_left_free():
        RLM("openai/root", cluster=CLUSTER).prewarm(2)
    yield CLUSTER
    ray.shutdown()


@pytest.fixture
def ask(cluster):
    """Make an RLM against a server: `ask(server, max_depth=2)`."""

    def make(server, **options):
        settings = {
            "model": "openai/root",
            "api_base": server.url,
            "api_key": "k",
            "cluster": cluster,
        } | options
        return RLM(**settings)

    return make


@pytest.fixture
def server():
    """A model that plays whatever tree its question asks for."""
    with ModelServer(recursion, latency_s=0.01) as running:
        yield running


@pytest.fixture(scope="session")
def over_two_nodes():
    """What was found of runs over two nodes while nothing was killed, a sandbox, an actor, a whole node."""
    return run_script("two_nodes.py")
