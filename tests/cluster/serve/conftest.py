"""The service on the shared cluster, once for the whole test session, and clients for its keys."""

from __future__ import annotations

import json
import logging
import socket
import warnings
from collections import Counter
from dataclasses import dataclass, field

import httpx
import openai
import pytest
import ray
import yaml

from rlm_ray.serve.api_keys import hash_key
from rlm_ray.testing import Failure, ModelServer, Raw, Reply
from rlm_ray.testing.responses import recursion

KEYS = {
    "ann": {},
    "bob": {},
    "poor": {"budget_usd": 0.01, "run_usd": 0.004},
    "narrow": {"concurrency": 1},
    "slow": {"rpm": 1},
    "guest": {"models": ["shallow"]},
    "crowd": {"budget_usd": 0.02, "run_usd": 0.001},
    "uncounted": {"budget_usd": 0.02, "run_usd": 0.001},
    "leaving": {"budget_usd": 0.02, "run_usd": 0.001},
}
PRICES = {name: {"input_usd": 1.0, "output_usd": 1.0} for name in ("openai/root", "openai/leaf")}


@dataclass(frozen=True)
class Site:
    url: str
    run_dir: str
    keys_file: str
    clients: list = field(default_factory=list)

    def client(self, key="ann", **options):
        options = {"max_retries": 0, "timeout": 60} | options
        self.clients.append(openai.OpenAI(base_url=f"{self.url}/v1", api_key=f"sk-{key}", **options))
        return self.clients[-1]

    def async_client(self, key="ann"):
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=f"sk-{key}", max_retries=0, timeout=60)

    def http(self, key="ann"):
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer sk-{key}"}, timeout=60)


REFUSED_KEY = "of an account without any rate"


class Bills:
    """The scripted model, and what its provider bills: in truth, whatever usage it reports, if any."""

    def __init__(self):
        self._tokens = Counter()

    def __call__(self, request):
        if request.api_key == REFUSED_KEY:
            return Failure(429, "slow down")
        is_slow = "LEAVING" in request.last or "HANGING" in request.last
        reply = Reply(recursion(request), latency_s=30.0 if is_slow else None)
        usage = reply.usage(request)
        for word in ("CROWD", "UNCOUNTED", "LEAVING"):
            if word in request.last:
                self._tokens[word] += usage.input_tokens + usage.output_tokens
        if "UNCOUNTED" not in request.last:
            return reply
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": reply.text},
            "finish_reason": "stop",
        }
        return Raw(json.dumps({"id": "x", "object": "chat.completion", "choices": [choice]}).encode())

    def cost_usd(self, word):
        """Of all requests whose last message has this word."""
        return self._tokens[word] / 1e6


@pytest.fixture(scope="session")
def bills():
    return Bills()


@pytest.fixture(scope="session")
def models(bills):
    """The scripted model every run of the service asks."""
    with ModelServer(bills, latency_s=0.05) as server:
        yield server


@pytest.fixture
def site(service):
    """The service; clients made for the test are closed after it."""
    yield service
    while service.clients:
        service.clients.pop().close()


@pytest.fixture(scope="session")
def service(cluster, models, tmp_path_factory):
    """The service, ready: two replicas, so that a run is often asked for where it is not."""
    with warnings.catch_warnings(action="ignore"):  # Serve's own, as it is imported
        from ray import serve

        from rlm_ray.serve import ServerConfig
        from rlm_ray.serve.replica import application

    folder = tmp_path_factory.mktemp("serve")
    keys_file = folder / "keys.yaml"
    keys = [{"name": name, "sha256": hash_key(f"sk-{name}")} | rights for name, rights in KEYS.items()]
    keys_file.write_text(yaml.safe_dump({"keys": keys}))
    (folder / "shared").mkdir()
    (folder / "shared" / "note.txt").write_text("shared note " * 100)
    port = _free_port()
    args = ServerConfig(
        run_dir=str(folder / "runs"),
        keys_file=str(keys_file),
        settings={
            "model": "openai/root",
            "recursive_model": "openai/leaf",
            "direct_call_below_chars": 0,
            "deduplicate_maps": False,
            "params": {"api_base": models.url, "api_key": "k"},
            "prices": PRICES,
            "cluster": {"min_actors": 1, "max_actors": 2, "cpus_per_actor": 0.0},
        },
        models={
            "deep": {"max_depth": 2},
            "shallow": {"max_depth": 0},
            "refused": {
                "params": {"api_key": REFUSED_KEY},
                "limits": {"time_s": 20.0},
            },  # nobody waits for ever
        },
        direct_without_context=False,  # most questions of these tests are short programs for a session
        context_uris=[f"file://{folder}/shared/"],
        file_bytes=200 << 20,
        body_bytes=4 << 20,
        keep_alive_s=0.3,
    )
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(application(args, {"num_replicas": 2}), name="rlm", route_prefix="/")
    yield Site(f"http://127.0.0.1:{port}", args.run_dir, str(keys_file))
    serve.shutdown()


@pytest.fixture
def census(site):
    """What is alive in the session actors of the service, summed up."""

    def count():
        pool = ray.get_actor("rlm_ray.pool")
        handles = ray.get(pool.handles.remote())
        counts = ray.get([handle.stats.remote() for handle in handles.values()])
        return {name: sum(one[name] for one in counts) for name in ("sessions", "sandboxes")}

    return count


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
