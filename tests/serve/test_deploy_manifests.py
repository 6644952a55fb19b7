"""What stands in deploy/: fields that KubeRay knows, versions of the lock, arguments that the service takes."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from rlm_ray.serve.config import ServerConfig
from rlm_ray.serve.replica import load_models

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CRDS = Path(__file__).parent / "kuberay_crds"
KINDS = {"raycluster": "rayclusters", "rayjob": "rayjobs", "rayservice": "rayservices"}


def manifest(name):
    return yaml.safe_load((DEPLOY / f"{name}.yaml").read_text())


def cluster_of(found):
    spec = found["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def locked(package):
    return re.search(rf"^{package}==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)[1]


def strangers(value, schema, path=""):
    """Fields that a schema does not know; Kubernetes would drop them without a word."""
    if isinstance(value, list):
        return [name for item in value for name in strangers(item, schema.get("items", {}), path)]
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "properties" not in schema
    if not isinstance(value, dict) or open_ended:
        return []
    known = schema["properties"]
    found = [f"{path}.{name}" for name in value if name not in known]
    return found + [
        name
        for key in value.keys() & known.keys()
        for name in strangers(value[key], known[key], f"{path}.{key}")
    ]


@pytest.mark.parametrize("name", KINDS)
def test_kuberay_knows_every_field_and_accepts_every_value(name):
    with gzip.open(CRDS / f"ray.io_{KINDS[name]}.yaml.gz") as packed:
        crd = yaml.load(packed, yaml.CSafeLoader)  # a megabyte, which the loader in Python reads for seconds
    found = manifest(name)
    group, version = found["apiVersion"].split("/")
    [schema] = [
        one["schema"]["openAPIV3Schema"]
        for one in crd["spec"]["versions"]
        if one["name"] == version and one["served"]
    ]
    assert (group, found["kind"]) == (crd["spec"]["group"], crd["spec"]["names"]["kind"])
    assert strangers(found["spec"], schema["properties"]["spec"]) == []
    errors = Draft202012Validator(schema["properties"]["spec"]).iter_errors(found["spec"])
    assert [error.message for error in errors] == []


def test_a_field_kuberay_does_not_know_would_be_seen():
    schema = {"properties": {"a": {"items": {"properties": {"b": {}}}}}}
    assert strangers({"a": [{"b": 1, "c": 2}], "d": 3}, schema) == [".d", ".a.c"]


@pytest.mark.parametrize("name", KINDS)
def test_the_ray_of_the_manifests_is_the_ray_of_the_lock(name):
    assert cluster_of(manifest(name))["rayVersion"] == locked("ray")


def test_one_image_is_used_everywhere_and_has_the_version_of_the_package():
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    images = {
        container["image"]
        for name in KINDS
        for group in [
            cluster_of(manifest(name))["headGroupSpec"],
            *cluster_of(manifest(name))["workerGroupSpecs"],
        ]
        for container in group["template"]["spec"]["containers"]
    }
    assert {image.rpartition(":")[2] for image in images} == {version}
    [image] = images
    assert image in (DEPLOY / "Dockerfile").read_text()
    assert image in (DEPLOY / "README.md").read_text()


def test_the_image_holds_what_the_lock_says_and_runs_without_root():
    lines = (DEPLOY / "Dockerfile").read_text()
    assert "--require-hashes --requirement requirements.lock" in lines
    assert "--no-deps" in lines
    assert lines.rindex("USER 1000") > lines.rindex("RUN ")
    assert re.search(r"^FROM python:3\.1[12]", lines, re.MULTILINE)


def test_the_service_of_kubernetes_is_the_one_of_the_serve_config():
    config = yaml.safe_load((DEPLOY / "serve.yaml").read_text())
    assert yaml.safe_load(manifest("rayservice")["spec"]["serveConfigV2"]) == config


def test_the_serve_config_is_one_the_service_takes():
    config = yaml.safe_load((DEPLOY / "serve.yaml").read_text())
    [application] = config["applications"]
    models = load_models(ServerConfig(**application["args"]))
    assert models.ids() == ["careful", "quick", "rlm/openai/gpt-5"]
    assert models.aliases["careful"].limits.cost_usd == 20
    assert models.aliases["quick"].limits.cost_usd == 5
    assert models.aliases["careful"].recursive_model == "openai/gpt-5-mini"
