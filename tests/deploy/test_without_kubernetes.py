"""compose.yaml and the configuration of `ray up`: what their schemas know, nothing open to others, tokens on, names that lead
somewhere. Each check is shown a mistake that it must see."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
import ray
import yaml
from deploy_files import DEPLOY, VERSION, containers, documents, errors_of, json_schema

from rlm_ray.serve.config import ServerConfig
from rlm_ray.serve.replica import load_models

[COMPOSE] = documents(DEPLOY / "compose.yaml")
[RAY_UP] = documents(DEPLOY / "ray-up-aws.yaml")
RAY_UP_SCHEMA = json.loads(Path(ray.__file__).parent.joinpath("autoscaler/ray-schema.json").read_text())
MADE_BY_THE_USER = {"keys.yaml"}
"""Files that deploy/README.md has the user make."""


def interpolated(text):
    """A text as compose reads it where no variable is set; `VAR:?why` stays, since it must be set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def nodes(compose):
    """The services that are nodes of Ray, or speak to them."""
    return {
        name: service
        for name, service in compose["services"].items()
        if service["image"].startswith("registry.example.org/rlm-ray")
    }


def structure_faults(compose):
    """What the schema refuses, and names that lead nowhere."""
    faults = errors_of(compose, json_schema("compose-spec.json"))
    for name, service in compose["services"].items():
        for other, condition in service.get("depends_on", {}).items():
            waited = compose["services"].get(other, {})
            if condition["condition"] == "service_healthy" and "healthcheck" not in waited:
                faults.append(f"{name} waits for the health of {other}, which has no check")
            if not waited:
                faults.append(f"{name} waits for {other}")
        faults += [f"{name}: {each}" for each in set(service["networks"]) - compose["networks"].keys()]
        configs = {each["source"] for each in service.get("configs", [])}
        faults += [f"{name}: config {each}" for each in configs - compose["configs"].keys()]
        for source in (volume.split(":")[0] for volume in service.get("volumes", [])):
            is_there = (DEPLOY / source).is_file() if source.startswith(".") else source in compose["volumes"]
            faults += [] if is_there else [f"{name}: {source}"]
        hosts = re.findall(r"http://([a-z]+):\d+", json.dumps(service))
        faults += [f"{name}: host {each}" for each in hosts if each not in compose["services"]]
    files = {Path(each["file"]).name for each in compose["configs"].values() if "file" in each}
    return faults + [each for each in files - MADE_BY_THE_USER if not (DEPLOY / each).is_file()]


def test_compose_knows_every_field_and_every_name_leads_somewhere():
    assert structure_faults(COMPOSE) == []


def access_faults(compose):
    """What others can reach or do: ports, privileges, clusters without a token, secrets in the file, images that change."""
    services = compose["services"].items()
    faults = [f"{name}: {fault}" for name, service in services for fault in service_faults(service)]
    for name, service in nodes(compose).items():
        is_wrong = {
            "no token": service["environment"].get("RAY_AUTH_MODE") != "token",
            "token not wanted": not service["environment"]["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?"),
            "can be written to": not service.get("read_only"),
            "another version": service["image"].rpartition(":")[2] != VERSION,
        }
        faults += [f"{name}: {fault}" for fault, holds in is_wrong.items() if holds]
    return faults


def service_faults(service):
    ports = service.get("ports", [])
    is_wrong = {
        "open to other machines": [port for port in ports if not port.startswith("127.0.0.1:")],
        "published": ports and "profiles" not in service and ports != ["127.0.0.1:8000:8000"],
        "capabilities": service.get("cap_drop") != ["ALL"]
        or service.get("privileged")
        or "cap_add" in service,
        "new privileges, or no seccomp": service.get("security_opt") != ["no-new-privileges:true"],
        "image may change": not re.search(r":[\w.-]*\d[\w.-]*$", service["image"]),
        "memory": "mem_limit" not in service,
    }
    in_the_file = [
        variable
        for variable, value in service.get("environment", {}).items()
        if re.search(r"KEY|TOKEN|SECRET|PASSWORD|USER", variable)
        and not re.fullmatch(r"\$\{\w+:[?-].*\}", value)
    ]
    return [fault for fault, holds in is_wrong.items() if holds] + in_the_file


def test_only_serve_is_published_and_nothing_has_privileges():
    assert access_faults(COMPOSE) == []


@pytest.mark.parametrize(
    "mistake",
    [
        lambda services: services["head"].update(ports=["8000:8000"]),
        lambda services: services["head"].update(ports=["127.0.0.1:8265:8265"]),
        lambda services: services["store"].update(ports=["127.0.0.1:9001:9001"]),
        lambda services: services["phoenix"].update(ports=["0.0.0.0:6006:6006"]),
        lambda services: services["worker"].update(privileged=True),
        lambda services: services["worker"].update(cap_add=["SYS_ADMIN"]),
        lambda services: services["worker"].update(security_opt=["seccomp=unconfined"]),
        lambda services: services["worker"]["environment"].pop("RAY_AUTH_MODE"),
        lambda services: services["head"]["environment"].update(RAY_AUTH_TOKEN="${RAY_AUTH_TOKEN:-}"),
        lambda services: services["store"]["environment"].update(MINIO_ROOT_PASSWORD="minioadmin"),
        lambda services: services["collector"].update(image="otel/opentelemetry-collector-contrib:latest"),
        lambda services: services["collector"].update(image="otel/opentelemetry-collector-contrib"),
        lambda services: services["head"].update(image="registry.example.org/rlm-ray:9.9.9"),
        lambda services: services["store"].pop("mem_limit"),
    ],
)
def test_a_hole_in_compose_is_seen(mistake):
    compose = copy.deepcopy(COMPOSE)
    mistake(compose["services"])
    assert access_faults(compose)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda services: services["head"].update(port="127.0.0.1:8000:8000"),
        lambda services: services["worker"].update(replicas=2),
        lambda services: services["head"].pop("healthcheck"),
        lambda services: services["worker"].update(depends_on={"heads": {"condition": "service_healthy"}}),
        lambda services: services["worker"].update(networks=["nodes"]),
        lambda services: services["serve"].update(
            configs=[{"source": "server", "target": "/etc/serve.yaml"}]
        ),
        lambda services: services["collector"].update(volumes=["./otel.yaml:/etc/otelcol/config.yaml:ro"]),
        lambda services: services["worker"]["environment"].update(AWS_ENDPOINT_URL="http://minio:9000"),
    ],
)
def test_a_wrong_field_or_name_in_compose_is_seen(mistake):
    compose = copy.deepcopy(COMPOSE)
    mistake(compose["services"])
    assert structure_faults(compose)


def test_the_serve_config_of_compose_is_one_the_service_takes():
    config = yaml.safe_load(interpolated(COMPOSE["configs"]["serve"]["content"]))
    [application] = config["applications"]
    assert load_models(ServerConfig(**application["args"])).ids() == ["rlm/offline/extractive"]
    assert config["http_options"] == {"host": "0.0.0.0", "port": 8000}
    assert application["args"]["keys_file"] in {
        each["target"] for name in ("head", "worker") for each in COMPOSE["services"][name]["configs"]
    }


def test_compose_and_kubernetes_run_the_same_collector():
    deployment = documents(DEPLOY / "kubernetes/base/otel-collector-deployment.yaml")[0]
    assert COMPOSE["services"]["collector"]["image"] == containers(deployment)[0]["image"]


def test_a_worker_has_time_to_end_its_requests():
    config = yaml.safe_load(interpolated(COMPOSE["configs"]["serve"]["content"]))
    [deployment] = config["applications"][0]["deployments"]
    grace_s = int(COMPOSE["services"]["worker"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > deployment["graceful_shutdown_timeout_s"]


def ray_up_faults(config):
    """What Ray's launcher refuses; machines open to all; nodes without a token, or of another version."""
    faults = errors_of(config, RAY_UP_SCHEMA)
    if config["head_node_type"] not in config["available_node_types"]:
        faults.append("head_node_type")
    if config["docker"]["image"].rpartition(":")[2] != VERSION:
        faults.append("image")
    options = config["docker"]["run_options"]
    if "--env=RAY_AUTH_MODE=token" not in options or "/home/ray/.ray/auth_token" not in config["file_mounts"]:
        faults.append("no token")
    if "--cap-drop=ALL" not in options or any(
        re.search("privileged|unconfined|cap-add", each) for each in options
    ):
        faults.append("privileges")
    if not config["provider"].get("use_internal_ips"):
        faults.append("addresses that all can reach")
    if "dashboard-host=0.0.0.0" in json.dumps(config):
        faults.append("the dashboard listens on all addresses")
    for name, kind in config["available_node_types"].items():
        if kind["node_config"].get("MetadataOptions", {}).get("HttpTokens") != "required":
            faults.append(f"{name}: the keys of its role can be had by a plain request")
    return faults


def test_the_configuration_of_ray_up_is_one_the_launcher_takes():
    assert ray_up_faults(RAY_UP) == []


@pytest.mark.parametrize(
    "mistake",
    [
        lambda config: config.update(min_workers=1),
        lambda config: config["docker"].update(images="x"),
        lambda config: config.update(head_node_type="heads"),
        lambda config: config["docker"].update(image="registry.example.org/rlm-ray:latest"),
        lambda config: config["docker"]["run_options"].remove("--env=RAY_AUTH_MODE=token"),
        lambda config: config["docker"]["run_options"].append("--privileged"),
        lambda config: config["provider"].update(use_internal_ips=False),
        lambda config: config["head_start_ray_commands"].append("ray start --dashboard-host=0.0.0.0"),
        lambda config: config["available_node_types"]["head"]["node_config"].pop("MetadataOptions"),
    ],
)
def test_a_mistake_for_ray_up_is_seen(mistake):
    config = copy.deepcopy(RAY_UP)
    mistake(config)
    assert ray_up_faults(config)
