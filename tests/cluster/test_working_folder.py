"""No process of ours runs code that lies in the folder a user happens to stand in; the keys are in these processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from rlm_ray.testing import ModelServer

pytestmark = pytest.mark.ray

MODULES = (
    "httpx", "openai", "litellm", "numpy", "pydantic", "ray", "tiktoken", "aiohttp", "RestrictedPython", "rlm_ray",
    "random", "json", "asyncio", "typing", "sitecustomize", "usercustomize", "conftest", "uvloop", "dotenv", "fsspec",
)  # fmt: skip
BEFORE_US = {"rlm_ray", "typing", "json", "asyncio", "random", "sitecustomize", "usercustomize", "ray"}
"""What Python itself may import for `-m`, or would not get as far as us with."""
OPTIONS = (
    "--model",
    "openai/root",
    "--set",
    "max_attempts=2",
    "--set",
    "direct_call_below_chars=0",
    "--set",
    "run_dir=",
    "--set",
    "cluster.cpus_per_actor=0",
)
SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import ray, helper
from rlm_ray import RLM, Cluster
print(RLM(cluster=Cluster(cpus_per_actor=0), model="openai/root", api_base={url!r}, run_dir=False, max_attempts=2, direct_call_below_chars=0).completion("What?", "some text"))
print(ray.get(ray.remote(num_cpus=0)(helper.double).remote(21)))
import os
sys.stdout.flush()
os._exit(0)
"""


class Trap:
    """A folder whose modules say that they ran."""

    def __init__(self, folder: Path, modules=MODULES) -> None:
        self.folder, self._ran = folder, folder.parent / "ran.txt"
        folder.mkdir()
        (folder / "README.md").write_text("a harmless project\n")
        (folder / ".env").write_text("OPENAI_API_BASE=http://127.0.0.1:1\n")
        for name in modules:
            (folder / name).mkdir()
            code = f"open({str(self._ran)!r}, 'a').write('{name} ')\nraise ImportError('it ran')\n"
            (folder / name / "__init__.py").write_text(code)

    @property
    def ran(self) -> str:
        return self._ran.read_text() if self._ran.exists() else ""


@pytest.fixture
def server():
    with ModelServer(lambda _: "```python\nFINAL('fine')\n```") as running:
        yield running


def run(trap, *command, **environment):
    env = os.environ | {"OPENAI_API_KEY": "sk-0123456789", "RAY_AUTH_MODE": "token"} | environment
    done = subprocess.run(
        [str(part) for part in command], cwd=trap.folder, env=env, capture_output=True, text=True, timeout=110,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout.strip(), done.stderr


def console_script():
    return Path(sys.executable).with_name("rlm-ray")


def running_cluster():
    return ray.get_runtime_context().gcs_address


@pytest.mark.parametrize("path", [":/nowhere:.", ""], ids=["a PYTHONPATH with empty entries", "an empty one"])
@pytest.mark.parametrize("place", ["a Ray started here", "a running cluster"])
def test_the_command_runs_nothing_of_the_working_folder(cluster, server, tmp_path, place, path):
    trap = Trap(tmp_path / "downloaded", [name for name in MODULES if not path or name not in BEFORE_US])
    address = "local" if place == "a Ray started here" else running_cluster()
    command = (console_script(), "ask", "What does it do?", ".", "--api-base", server.url, *OPTIONS)
    said, errors = run(trap, *command, RAY_ADDRESS=address, PYTHONPATH=path)
    assert (said, trap.ran) == ("fine", ""), errors


@pytest.mark.parametrize("start", [["-m", "rlm_ray"], ["-P", "-m", "rlm_ray"]], ids=str)
def test_python_dash_m_runs_nothing_of_the_working_folder(cluster, server, tmp_path, start):
    trap = Trap(tmp_path / "downloaded", [name for name in MODULES if "-P" in start or name not in BEFORE_US])
    command = (sys.executable, *start, "ask", "What does it do?", ".", "--api-base", server.url, *OPTIONS)
    said, errors = run(trap, *command, RAY_ADDRESS=running_cluster())
    assert (said, trap.ran) == ("fine", ""), errors


def test_a_script_from_elsewhere_runs_nothing_of_it_and_its_own_functions_travel(cluster, server, tmp_path):
    trap = Trap(tmp_path / "downloaded")
    own = tmp_path / "own"
    own.mkdir()
    (own / "helper.py").write_text("def double(number):\n    return 2 * number\n")
    (own / "script.py").write_text(SCRIPT.format(folder=str(own), url=server.url))
    said, errors = run(trap, sys.executable, own / "script.py", RAY_ADDRESS=running_cluster())
    assert (said.splitlines(), trap.ran) == (["fine", "42"], ""), errors


def test_a_script_that_lies_there_keeps_its_modules_out_of_our_actors(cluster, server, tmp_path):
    """Its own process imports what lies beside it, as Python does; what only our actors import is not looked for there."""
    trap = Trap(tmp_path / "downloaded", ["httpx", "openai", "tiktoken", "litellm"])
    (trap.folder / "helper.py").write_text("def double(number):\n    return 2 * number\n")
    (trap.folder / "script.py").write_text(SCRIPT.format(folder=str(trap.folder), url=server.url))
    said, errors = run(trap, sys.executable, "script.py", RAY_ADDRESS=running_cluster())
    assert (said.splitlines(), trap.ran) == (["fine", "42"], ""), errors
