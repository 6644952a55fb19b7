"""`rlm-ray serve` before anything is started: its configuration, and new keys."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from rlm_ray.cli.serve import serve
from rlm_ray.errors import ConfigError
from rlm_ray.serve.api_keys import read_keys

local = pytest.importorskip("rlm_ray.serve.launcher")
Application = pytest.importorskip("ray.serve").Application
CONFIG = """
http_options: {port: 8100}
applications:
  - name: rlm
    import_path: rlm_ray.serve:app
    args: {run_dir: /tmp/runs, models: {deep: {max_depth: 2}}}
    deployments: [{name: rlm, num_replicas: 2}]
"""


def site_of(text, tmp_path):
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    return local.load_serve_config(path)


def built_by_serve(args):
    """What `serve deploy` and KubeRay do with the import path and the `args` of a config."""
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary

    from rlm_ray.serve import app

    return call_user_app_builder_with_args_if_necessary(app, args)


def test_serve_builds_the_application_of_a_config_itself(tmp_path):
    [application] = yaml.safe_load(CONFIG)["applications"]
    assert isinstance(built_by_serve(application["args"] | {"run_dir": str(tmp_path)}), Application)
    assert isinstance(built_by_serve({}), Application)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"run_dirs": "x"}, "run_dirs"),
        ({"max_runs": 0}, "max_runs"),
        ({"keys_file": "/not/there"}, "keys_file"),
    ],
)
def test_serve_is_told_of_arguments_that_cannot_be_used(args, said):
    with pytest.raises((ValueError, ConfigError), match=said):
        built_by_serve(args)


def test_a_serve_config_says_what_is_served_and_where(tmp_path):
    site = site_of(CONFIG, tmp_path)
    assert site.url == "http://127.0.0.1:8100"
    assert site.args.models == {"deep": {"max_depth": 2}}
    assert site.options == {"num_replicas": 2}
    site.check()


def test_the_config_of_the_deployment_is_read(monkeypatch):
    site = local.load_serve_config(Path(__file__).parents[2] / "deploy" / "serve.yaml")
    assert site.host == "0.0.0.0"
    assert site.options["graceful_shutdown_timeout_s"] == 300


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("rlm_ray.serve:app", "other:app"), "this command serves"),
        (("run_dir", "run_dri"), "run_dri"),
        (("name: rlm, num", "name: web, num"), "the only one is"),
        (("applications:", "applications: []\nothers:"), "one application"),
        (("{port: 8100}", "{port: 8100"), "cannot be read"),
    ],
)
def test_a_config_that_is_wrong_is_said_to_be(tmp_path, change, why):
    with pytest.raises(ConfigError, match=why):
        site_of(CONFIG.replace(*change), tmp_path)


def test_without_keys_nothing_is_served_to_others(tmp_path, monkeypatch):
    monkeypatch.delenv("RLM_RAY_SERVE_KEYS", raising=False)
    site = site_of(CONFIG.replace("{port", "{host: 0.0.0.0, port"), tmp_path)
    with pytest.raises(ConfigError, match="keys_file"):
        site.check()
    monkeypatch.setenv("RLM_RAY_SERVE_KEYS", f"keys: [{{name: a, sha256: '{'0' * 64}'}}]")
    site.check()


def test_an_address_that_is_in_use_is_said_before_ray_starts(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(local, "connect_ray", None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        app = typer.Typer()
        app.command()(serve)
        ran = CliRunner().invoke(app, ["--port", str(port)])
    assert ran.exit_code == 5
    assert (
        f"address: 127.0.0.1:{port} is in use: stop what listens there, or give another --port" in ran.stderr
    )


@pytest.mark.parametrize(
    ("host", "port", "why"),
    [
        ("192.0.2.1", 8000, "address: 192.0.2.1:8000 cannot be listened at"),
    ],
)
def test_an_address_of_another_machine_is_said_to_be_none(host, port, why):
    with pytest.raises(ConfigError, match=why):
        local.LocalServer(local.ServerConfig(), host, port).check_address()


@pytest.mark.parametrize("port", [0, -1, 70_000])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(ConfigError, match="port: must be from 1 to 65535"):
        local.LocalServer(local.ServerConfig(), "127.0.0.1", port).check()


def test_a_new_key_is_shown_once_beside_its_entry():
    app = typer.Typer()
    app.command()(serve)
    ran = CliRunner().invoke(app, ["--new-key", "team"])
    assert ran.exit_code == 0
    keys = read_keys("keys:\n" + ran.stdout, "stdout")
    key = next(word for word in ran.stderr.split() if word.startswith("sk-rlm-"))
    assert keys.authenticate(f"Bearer {key}").name == "team"


def test_the_import_path_of_serve_configs_names_the_function_however_it_is_imported():
    import rlm_ray.serve.replica
    from rlm_ray.serve import app

    assert app is rlm_ray.serve.replica.app
    assert callable(app)
