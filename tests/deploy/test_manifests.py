"""What stands in deploy/kubernetes: fields that the API server knows, versions of the lock, pods without privileges. Each check
is shown a mistake that it must see."""

from __future__ import annotations

import copy
import re

import jsonpatch
import pytest
import yaml
from deploy_files import (
    DEPLOY,
    VERSION,
    build,
    containers,
    crd,
    documents,
    locked,
    pods,
    schema_faults,
    strangers,
)

from rlm_ray.serve.config import ServerConfig
from rlm_ray.serve.replica import load_models

KUBERNETES = DEPLOY / "kubernetes"
OPERATOR_PORTS = {6379, 8000, 8265, 52365}


def overlay(name):
    return build(KUBERNETES / name if name == "monitoring" else KUBERNETES / "overlays" / name)


EVERYTHING = {
    "dev": overlay("dev"),
    "prod": overlay("prod"),
    "monitoring": overlay("monitoring"),
    "rayjob": documents(KUBERNETES / "rayjob.yaml"),
}
INSTALLATIONS = ("dev", "prod")


def one_of(name, kind, called=None):
    """A copy of an object, which a test may break."""
    [found] = [
        each
        for each in EVERYTHING[name]
        if each["kind"] == kind and called in (None, each["metadata"]["name"])
    ]
    return copy.deepcopy(found)


def broken(one, *operations):
    return jsonpatch.apply_patch(
        one, [dict(zip(("op", "path", "value"), each, strict=False)) for each in operations]
    )


def named(one):
    return f"{one['kind']}-{one['metadata']['name']}"


OBJECTS = [
    pytest.param(one, id=f"{name}-{named(one)}") for name, found in EVERYTHING.items() for one in found
]
WITH_PODS = [each for each in OBJECTS if pods(each.values[0])]
CLUSTER = "/spec/rayClusterConfig"
WORKER = f"{CLUSTER}/workerGroupSpecs/0/template/spec"
HEAD = f"{CLUSTER}/headGroupSpec/template/spec"


@pytest.mark.parametrize("one", OBJECTS)
def test_the_api_server_knows_every_field_and_accepts_every_value(one):
    assert schema_faults(one) == []


@pytest.mark.parametrize(
    ("kind", "called", "mistake"),
    [
        ("RayService", None, ("add", f"{CLUSTER}/autoScaling", True)),
        ("RayService", None, ("add", f"{WORKER}/containers/0/livenessProb", {})),
        ("RayService", None, ("replace", f"{CLUSTER}/authOptions/mode", "tokens")),
        ("RayService", None, ("replace", f"{CLUSTER}/tlsOptions/enabled", "yes")),
        ("RayService", None, ("replace", "/apiVersion", "ray.io/v2")),
        ("NetworkPolicy", "rlm-ray", ("add", "/spec/ingres", [])),
        ("NetworkPolicy", "rlm-ray", ("replace", "/spec/ingress/1/ports/0/port", [6379])),
        ("PodDisruptionBudget", "rlm-ray-head", ("add", "/spec/minimum", 1)),
        ("Deployment", None, ("replace", "/spec/replicas", "one")),
        ("Service", None, ("add", "/spec/ports/0/targetport", 1)),
        ("Namespace", None, ("replace", "/kind", "NameSpace")),
    ],
)
def test_a_field_or_value_that_the_api_server_does_not_know_is_seen(kind, called, mistake):
    assert schema_faults(broken(one_of("prod", kind, called), mistake))


def test_a_field_that_a_crd_would_drop_without_a_word_is_seen():
    schema = {"properties": {"a": {"items": {"properties": {"b": {}}}}}}
    assert strangers({"a": [{"b": 1, "c": 2}], "d": 3}, schema) == [".d", ".a.c"]


def version_faults(one):
    """Versions that are not those of the lock and the package."""
    spec = one["spec"]
    cluster = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or {"rayVersion": locked("ray")}
    own = {each["image"] for each in containers(one) if "rlm-ray" in each["image"]}
    return [
        *([] if cluster["rayVersion"] == locked("ray") else [f"Ray {cluster['rayVersion']}"]),
        *(image for image in own if image.rpartition(":")[2] != VERSION),
        *(each["image"] for each in containers(one) if not re.search(r":[\w.-]*\d[\w.-]*$", each["image"])),
    ]


@pytest.mark.parametrize("one", WITH_PODS)
def test_versions_are_those_of_the_lock_and_of_the_package(one):
    assert version_faults(one) == []


@pytest.mark.parametrize(
    "mistake",
    [
        ("replace", f"{CLUSTER}/rayVersion", "2.59.0"),
        ("replace", f"{HEAD}/containers/0/image", "registry.example.org/rlm-ray:0.0.9"),
        ("replace", f"{WORKER}/containers/0/image", "registry.example.org/rlm-ray:latest"),
        ("replace", f"{WORKER}/containers/0/image", "registry.example.org/other"),
    ],
)
def test_another_version_is_seen(mistake):
    assert version_faults(broken(one_of("prod", "RayService"), mistake))


def privilege_faults(one):
    """What a pod may beyond the sandbox's needs, and what it must have and has not."""
    found = []
    for name, pod in pods(one).items():
        spec = pod["spec"]
        context = spec["securityContext"]
        is_wrong = {
            "runs as root": not context.get("runAsNonRoot") or context.get("runAsUser", 0) == 0,
            "seccompProfile": context.get("seccompProfile") != {"type": "RuntimeDefault"},
            "shares with its machine": {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(),
            "hostPath": any("hostPath" in each for each in spec.get("volumes", [])),
            "has a token of the API server": name != "head"
            and spec.get("automountServiceAccountToken") is not False,
        }
        found += [f"{name}: {fault}" for fault, holds in is_wrong.items() if holds]
        found += [f"{name}: {fault}" for each in spec["containers"] for fault in container_faults(each)]
    return found


def container_faults(container):
    context, resources = container["securityContext"], container["resources"]
    is_wrong = {
        "capabilities": context.get("capabilities") != {"drop": ["ALL"]} or context.get("privileged"),
        "allowPrivilegeEscalation": context.get("allowPrivilegeEscalation") is not False,
        "readOnlyRootFilesystem": not context.get("readOnlyRootFilesystem"),
        "requests and limits": resources["requests"] != resources["limits"],
        "Ray cannot write to /tmp": "rlm-ray" in container["image"]
        and "/tmp" not in {each["mountPath"] for each in container["volumeMounts"]},
    }
    return [fault for fault, holds in is_wrong.items() if holds]


@pytest.mark.parametrize("one", WITH_PODS)
def test_pods_have_what_the_sandbox_needs_and_no_more(one):
    assert privilege_faults(one) == []


@pytest.mark.parametrize(
    "mistake",
    [
        ("replace", f"{WORKER}/securityContext/runAsUser", 0),
        ("remove", f"{WORKER}/securityContext/runAsNonRoot"),
        ("replace", f"{HEAD}/securityContext/seccompProfile/type", "Unconfined"),
        ("add", f"{WORKER}/hostNetwork", True),
        ("add", f"{WORKER}/volumes/-", {"name": "docker", "hostPath": {"path": "/var/run/docker.sock"}}),
        ("remove", f"{WORKER}/automountServiceAccountToken"),
        ("add", f"{WORKER}/containers/0/securityContext/capabilities/add", ["SYS_ADMIN"]),
        ("add", f"{WORKER}/containers/0/securityContext/privileged", True),
        ("replace", f"{HEAD}/containers/0/securityContext/allowPrivilegeEscalation", True),
        ("replace", f"{HEAD}/containers/0/securityContext/readOnlyRootFilesystem", False),
        ("replace", f"{HEAD}/containers/0/resources/limits/memory", "99Gi"),
        ("remove", f"{WORKER}/containers/0/volumeMounts/0"),
    ],
)
def test_a_privilege_too_many_is_seen(mistake):
    assert privilege_faults(broken(one_of("prod", "RayService"), mistake))


def secret_faults(one):
    """Secrets written out in a manifest."""
    values = [each for container in containers(one) for each in container.get("env", []) if "value" in each]
    return [
        each["name"]
        for each in values
        if re.search(r"KEY|TOKEN|SECRET|PASSWORD", each["name"]) or re.search(r"sk-|AKIA", str(each["value"]))
    ]


@pytest.mark.parametrize("one", WITH_PODS)
def test_secrets_come_by_reference(one):
    assert secret_faults(one) == []


@pytest.mark.parametrize(
    "variable",
    [{"name": "OPENAI_API_KEY", "value": "x"}, {"name": "PROXY", "value": "http://a:sk-123@proxy"}],
)
def test_a_secret_in_a_manifest_is_seen(variable):
    assert secret_faults(
        broken(one_of("prod", "RayService"), ("add", f"{WORKER}/containers/0/env/-", variable))
    )


def cluster_faults(one):
    """What a cluster of ours must have: Ray's token, room to grow, probes, time to end."""
    spec = one["spec"]
    cluster = spec.get("rayClusterSpec") or spec["rayClusterConfig"]
    found = []
    if cluster.get("authOptions", {}).get("mode") != "token":
        found.append("Ray asks for no token")
    if not cluster.get("enableInTreeAutoscaling"):
        found.append("no autoscaling")
    if cluster["headGroupSpec"]["rayStartParams"].get("num-cpus") != "0":
        found.append("sessions on the head")
    found += [
        f"replicas of {group['groupName']}"
        for group in cluster["workerGroupSpecs"]
        if not group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    ]
    for container in containers(one):
        if container["name"] != "ray-job-submitter":
            found += [
                f"{container['name']}: {probe}"
                for probe in ("startupProbe", "readinessProbe", "livenessProbe")
                if probe not in container
            ]
    if "serveConfigV2" in spec:
        config = yaml.safe_load(spec["serveConfigV2"])
        [deployment] = config["applications"][0]["deployments"]
        grace = pods(one)["sessions"]["spec"]["terminationGracePeriodSeconds"]
        if grace <= deployment["graceful_shutdown_timeout_s"]:
            found.append("a worker is killed before its replica has ended")
    return found


@pytest.mark.parametrize("name", [*INSTALLATIONS, "rayjob"])
def test_a_cluster_has_token_autoscaling_probes_and_time_to_end(name):
    [one] = [each for each in EVERYTHING[name] if each["apiVersion"].startswith("ray.io/")]
    assert cluster_faults(one) == []


@pytest.mark.parametrize(
    "mistake",
    [
        ("remove", f"{CLUSTER}/authOptions"),
        ("replace", f"{CLUSTER}/authOptions/mode", "disabled"),
        ("replace", f"{CLUSTER}/enableInTreeAutoscaling", False),
        ("remove", f"{CLUSTER}/headGroupSpec/rayStartParams/num-cpus"),
        ("replace", f"{CLUSTER}/workerGroupSpecs/0/replicas", 99),
        ("remove", f"{WORKER}/containers/0/livenessProbe"),
        ("remove", f"{HEAD}/containers/0/readinessProbe"),
        ("replace", f"{WORKER}/terminationGracePeriodSeconds", 30),
    ],
)
def test_a_cluster_without_is_seen(mistake):
    assert cluster_faults(broken(one_of("prod", "RayService"), mistake))


def network_faults(found):
    """Whom the policies of an installation let in that should not, and keep out that should."""
    policies = {each["metadata"]["name"]: each["spec"] for each in found if each["kind"] == "NetworkPolicy"}
    [service] = [each for each in found if each["kind"] == "RayService"]
    faults = (
        []
        if policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
        else ["default-deny"]
    )
    cluster = policies["rlm-ray"]
    labels = cluster["podSelector"]["matchLabels"]
    for name, pod in pods(service).items():
        if not labels.items() <= pod["metadata"]["labels"].items():
            faults.append(f"{name} is not under the policy")
    inside = [
        rule for rule in cluster["ingress"] if rule.get("from") == [{"podSelector": {"matchLabels": labels}}]
    ]
    if len(inside) != 1 or "ports" in inside[0]:
        faults.append("actors listen at ports that nobody knows before: all between the pods of the cluster")
    faults += ["all may come in" for rule in cluster["ingress"] if not rule.get("from")]
    outside = [rule for rule in cluster["ingress"] if rule not in inside]
    opened = {port["port"]: rule for rule in outside for port in rule.get("ports", [{"port": "all"}])}
    if set(opened) != OPERATOR_PORTS | {8080}:
        faults.append(f"ports open from outside of the cluster: {sorted(map(str, opened))}")
    declared = {port["containerPort"] for each in containers(service) for port in each["ports"]}
    if not {8000, 8080, 8265} <= declared:
        faults.append("a port of the policy that no pod has")
    leaves = {
        (block["ipBlock"]["cidr"], tuple(block["ipBlock"].get("except", ())))
        for rule in cluster["egress"]
        for block in rule.get("to", [])
        if "ipBlock" in block
    }
    if leaves != {("0.0.0.0/0", ("169.254.0.0/16",))} or not all(
        rule.get("to") for rule in cluster["egress"]
    ):
        faults.append("the machine's metadata can be reached")
    return faults


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_network_policies_know_our_ports(name):
    assert network_faults(EVERYTHING[name]) == []


@pytest.mark.parametrize(
    "mistake",
    [
        ("add", "/spec/ingress/0/ports", [{"protocol": "TCP", "port": 6379}]),
        ("add", "/spec/ingress/-", {"ports": [{"protocol": "TCP", "port": 8265}]}),
        ("add", "/spec/ingress/2/ports/-", {"protocol": "TCP", "port": 10001}),
        ("remove", "/spec/ingress/2/ports"),
        ("remove", "/spec/ingress/3"),
        ("replace", "/spec/podSelector/matchLabels/app", "rlm"),
        ("remove", "/spec/egress/3/to/0/ipBlock/except"),
        ("add", "/spec/egress/-", {}),
    ],
)
def test_a_hole_in_the_network_policies_is_seen(mistake):
    found = copy.deepcopy(EVERYTHING["prod"])
    [index] = [index for index, each in enumerate(found) if named(each) == "NetworkPolicy-rlm-ray"]
    found[index] = broken(found[index], mistake)
    assert network_faults(found)


def budget_faults(found):
    """Disruption budgets that protect nobody, or that no drain gets past."""
    [service] = [each for each in found if each["kind"] == "RayService"]
    budgets = [each["spec"] for each in found if each["kind"] == "PodDisruptionBudget"]
    least = {"head": 1} | {
        group["groupName"]: group["minReplicas"]
        for group in service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    }
    faults = [
        "maxUnavailable needs a controller with a scale" for each in budgets if "maxUnavailable" in each
    ]
    for name, pod in pods(service).items():
        of_the_pod = [
            each
            for each in budgets
            if each["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        ]
        if len(of_the_pod) != 1:
            faults.append(f"{name}: {len(of_the_pod)} budgets")
        elif not 0 < of_the_pod[0].get("minAvailable", 0) <= max(1, least[name] - (name != "head")):
            faults.append(f"{name}: minAvailable")
    return faults


def test_a_drain_leaves_the_head_and_enough_workers():
    assert budget_faults(EVERYTHING["prod"]) == []


@pytest.mark.parametrize(
    "mistake",
    [
        ("replace", "/spec/minAvailable", 3),
        ("replace", "/spec/selector/matchLabels/component", "workers"),
        ("replace", "/spec/selector/matchLabels", {"app": "rlm-ray"}),
        ("add", "/spec/maxUnavailable", 1),
    ],
)
def test_a_budget_that_protects_nobody_or_stops_every_drain_is_seen(mistake):
    found = copy.deepcopy(EVERYTHING["prod"])
    [index] = [
        index for index, each in enumerate(found) if named(each) == "PodDisruptionBudget-rlm-ray-workers"
    ]
    found[index] = broken(found[index], mistake)
    assert budget_faults(found)


def name_faults(found):
    """References inside of one installation to what it does not hold, and objects in another namespace."""
    names = {named(each) for each in found}
    [namespace] = {each["metadata"]["name"] for each in found if each["kind"] == "Namespace"}
    wanted = set()
    for pod in (pod for each in found for pod in pods(each).values()):
        for volume in pod["spec"].get("volumes", []):
            if "configMap" in volume:
                wanted.add(f"ConfigMap-{volume['configMap']['name']}")
            if "persistentVolumeClaim" in volume:
                wanted.add(f"PersistentVolumeClaim-{volume['persistentVolumeClaim']['claimName']}")
        volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])}
        mounted = {mount["name"] for each in pod["spec"]["containers"] for mount in each["volumeMounts"]}
        wanted |= mounted - volumes
        for variable in (
            each for container in pod["spec"]["containers"] for each in container.get("env", [])
        ):
            if variable["name"] == "OTEL_EXPORTER_OTLP_ENDPOINT":
                wanted.add(f"Service-{re.fullmatch(r'http://([a-z-]+):4318', variable['value'])[1]}")
    strays = [named(each) for each in found if each["metadata"].get("namespace", namespace) != namespace]
    return sorted(wanted - names) + strays


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_every_name_leads_to_something_of_the_same_namespace(name):
    assert name_faults(EVERYTHING[name]) == []


@pytest.mark.parametrize(
    "gone", ["PersistentVolumeClaim-rlm-ray-runs", "ConfigMap-otel-collector", "Service-otel-collector"]
)
def test_a_name_that_leads_nowhere_is_seen(gone):
    assert name_faults([each for each in EVERYTHING["dev"] if named(each) != gone]) == [gone]


def test_the_namespace_of_an_installation_refuses_pods_with_privileges():
    for name, called in (("dev", "rlm-ray-dev"), ("prod", "rlm-ray")):
        labels = one_of(name, "Namespace", called)["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_nodes_of_production_speak_tls_and_its_run_store_is_object_storage():
    spec = one_of("prod", "RayService")["spec"]
    assert spec["rayClusterConfig"]["tlsOptions"] == {"enabled": True}
    [application] = yaml.safe_load(spec["serveConfigV2"])["applications"]
    assert application["args"]["run_dir"].startswith("s3://")


def test_the_run_store_of_development_is_a_volume_that_all_pods_mount():
    one = one_of("dev", "RayService")
    [application] = yaml.safe_load(one["spec"]["serveConfigV2"])["applications"]
    for container in containers(one):
        [path] = [each["mountPath"] for each in container["volumeMounts"] if each["name"] == "runs"]
        assert application["args"]["run_dir"].startswith(f"{path}/")


def test_the_service_of_kubernetes_is_the_one_of_the_serve_config():
    [config] = documents(DEPLOY / "serve.yaml")
    assert yaml.safe_load(one_of("prod", "RayService")["spec"]["serveConfigV2"]) == config


@pytest.mark.parametrize(
    ("name", "ids"),
    [("prod", ["careful", "quick", "rlm/openai/gpt-5"]), ("dev", ["rlm/offline/extractive"])],
)
def test_the_serve_config_is_one_the_service_takes(name, ids):
    [application] = yaml.safe_load(one_of(name, "RayService")["spec"]["serveConfigV2"])["applications"]
    models = load_models(ServerConfig(**application["args"]))
    assert models.ids() == ids


def test_an_alias_of_the_serve_config_has_its_own_limits():
    [application] = yaml.safe_load(one_of("prod", "RayService")["spec"]["serveConfigV2"])["applications"]
    models = load_models(ServerConfig(**application["args"]))
    assert models.aliases["careful"].limits.cost_usd == 20
    assert models.aliases["quick"].limits.cost_usd == 5
    assert models.aliases["careful"].recursive_model == "openai/gpt-5-mini"


def test_the_crds_are_those_of_the_operator_that_the_readme_names():
    assert "tlsOptions" in str(crd("RayService"))  # since KubeRay 1.7
    assert "KubeRay 1.7" in (DEPLOY / "README.md").read_text()
