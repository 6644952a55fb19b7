"""Run by itself: a service on a Ray that was started in another environment. Prints what was found, as JSON."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path

import httpx
import ray
import yaml
from gcs_memory import canaries_in_the_gcs
from scripts import tell

import rlm_ray
from rlm_ray.serve.api_keys import hash_key
from rlm_ray.testing import ModelServer

KNOWN = "not-a-secret-0123456789"
OF_THE_CLUSTER = "sk-of-the-raylets-environment"
OF_THE_COMMAND = "sk-of-the-commands-environment"
SETTING = "header-of-the-settings-0123456789"
CLIENT = "sk-client-0123456789"


def script(request):
    return "```python\nFINAL('fine')\n```" if "REPL" in request.system else "fine"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until_served(url: str, process: subprocess.Popen[bytes] | None) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        try:
            urllib.request.urlopen(f"{url}/healthz", timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
        else:
            return
    raise TimeoutError(url)


def ask(url: str, server: ModelServer, **rlm: object) -> dict[str, object]:
    """One chat: its answer, and with what its provider was asked."""
    asked = len(server.requests)
    body = {"model": "rlm/openai/m", "messages": [{"role": "user", "content": "What?"}], "rlm": rlm}
    reply = httpx.post(
        f"{url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {CLIENT}"}, timeout=90
    )
    said = reply.json()
    last = server.requests[-1] if len(server.requests) > asked else None
    return {
        "answer": said["choices"][0]["message"]["content"] if reply.is_success else said["error"]["message"],
        "key": last and last.api_key,
        "header": last and last.headers.get("x-auth"),
    }


def replica() -> tuple[str, object]:
    [name] = [
        each["name"]
        for each in ray.util.list_named_actors(all_namespaces=True)
        if each["name"].startswith("SERVE_REPLICA::")
    ]
    return name, ray.get_actor(name, namespace="serve")


def main() -> None:
    os.environ["OPENAI_API_KEY"] = OF_THE_CLUSTER
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    ray.experimental.internal_kv._internal_kv_put("known", KNOWN, namespace="test")
    runs = tempfile.mkdtemp()
    found: dict[str, object] = {}
    with ModelServer(script) as server:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        keys = yaml.safe_dump({"keys": [{"name": "ann", "sha256": hash_key(CLIENT)}]})
        environment = os.environ | {
            "RAY_ADDRESS": ray.get_runtime_context().gcs_address,
            "OPENAI_API_KEY": OF_THE_COMMAND,
            "OPENAI_API_BASE": server.url,
            "RLM_RAY_SERVE_KEYS": keys,
            "PYTHONPATH": str(Path(rlm_ray.__file__).parents[1]),
        }
        settings_file = Path(runs, "settings.toml")  # not on the command line, which everybody may list
        settings_file.write_text(
            f'model = "openai/m"\nrun_dir = "{runs}/runs"\ncluster.cpus_per_actor = 0.0\n'
            f'params.extra_headers = {{ X-Auth = "{SETTING}" }}\n'
        )
        environment["RLM_RAY_CONFIG"] = str(settings_file)
        command = [sys.executable, "-m", "rlm_ray", "serve", "--port", str(port)]
        process = subprocess.Popen(command, env=environment)
        wait_until_served(url, process)
        found["session"] = ask(url, server, max_depth=1)
        found["direct"] = ask(url, server, direct_without_context=True)
        name, actor = replica()
        ray.kill(actor, no_restart=False)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and found.get("next_replica", name) == name:
            time.sleep(0.3)
            try:
                found["next_replica"] = replica()[0]
                wait_until_served(url, process)
            except (ValueError, TimeoutError):
                continue
        found["is_another_replica"] = found.pop("next_replica") != name
        found["after_a_replica_was_killed"] = ask(url, server, max_depth=1)
        secrets = {OF_THE_COMMAND, SETTING, hash_key(CLIENT), CLIENT}
        found["in_the_gcs"] = sorted(canaries_in_the_gcs(KNOWN, *secrets))
        process.send_signal(signal.SIGINT)
        found["exit"] = process.wait(60)

        with warnings.catch_warnings(action="ignore"):  # Serve's own, as it is imported
            from ray import serve

            from rlm_ray.serve import ServerConfig, app

        # as `serve deploy` does: without our command
        deployed = free_port()
        serve.start(http_options={"host": "127.0.0.1", "port": deployed})
        settings = {
            "model": "openai/m",
            "params": {"api_base": server.url},
            "cluster": {"cpus_per_actor": 0.0},
        }
        serve.run(app(ServerConfig(run_dir=runs, settings=settings)), name="rlm", route_prefix="/")
        found["deployed"] = ask(f"http://127.0.0.1:{deployed}", server, max_depth=1)
        serve.shutdown()
    tell(found)
    ray.shutdown()


main()
