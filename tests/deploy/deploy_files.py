"""What stands in deploy/, read as programs read it: overlays built as kustomize does, pods of all kinds, versions of the lock."""

from __future__ import annotations

import gzip
import json
import re
from functools import cache
from pathlib import Path

import jsonpatch
import yaml
from jsonschema import Draft7Validator, Draft202012Validator
from jsonschema.validators import validator_for

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SCHEMAS = Path(__file__).parent / "schemas"
VERSION = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
CRDS = {
    "RayJob": "ray.io_rayjobs",
    "RayService": "ray.io_rayservices",
    "PodMonitor": "monitoring.coreos.com_podmonitors",
    "PrometheusRule": "monitoring.coreos.com_prometheusrules",
}
_KUSTOMIZATION = {"apiVersion", "kind", "namespace", "resources", "patches", "images"} | {
    "configMapGenerator",
    "generatorOptions",
}


def locked(package):
    """The version of a package in requirements.lock."""
    return re.search(rf"^{package}==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)[1]


def documents(path):
    """The YAML documents of a file; anchors are written out, so that no part is shared."""
    return json.loads(json.dumps(list(yaml.safe_load_all(path.read_text()))))


def build(folder):
    """Build a kustomization of what is used here: resources, a generated ConfigMap, JSON patches, images, a namespace."""
    [wanted] = documents(folder / "kustomization.yaml")
    assert wanted.keys() <= _KUSTOMIZATION, "teach this function the rest of kustomize first"
    found = []
    for name in wanted["resources"]:
        path = folder / name
        found += build(path) if path.is_dir() else documents(path)
    for generated in wanted.get("configMapGenerator", []):
        data = {name: (folder / name).read_text() for name in generated["files"]}
        metadata = {"name": generated["name"]}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    for patch in wanted.get("patches", []):
        target = patch["target"]
        [index] = [
            index
            for index, each in enumerate(found)
            if (each["kind"], each["metadata"]["name"]) == (target["kind"], target["name"])
        ]
        text = (folder / patch["path"]).read_text() if "path" in patch else patch["patch"]
        found[index] = jsonpatch.apply_patch(found[index], json.loads(json.dumps(yaml.safe_load(text))))
    for image in wanted.get("images", []):
        for container in (each for one in found for each in containers(one)):
            name, _, _ = container["image"].rpartition(":")
            if name == image["name"]:
                container["image"] = f"{image.get('newName', name)}:{image['newTag']}"
    if "namespace" in wanted:
        for each in found:
            if each["kind"] != "Namespace":
                each["metadata"]["namespace"] = wanted["namespace"]
    return found


@cache
def _text_of(schema):
    with gzip.open(SCHEMAS / f"{schema}.gz") as packed:
        return packed.read()


@cache
def crd(kind):
    """The schema of the newest served version of a custom resource."""
    found = yaml.load(_text_of(f"{CRDS[kind]}.yaml"), yaml.CSafeLoader)  # the loader in Python takes seconds
    return {one["name"]: one for one in found["spec"]["versions"] if one["served"]}, found["spec"]


@cache
def json_schema(name):
    return json.loads(_text_of(name))


def schema_faults(one):
    """What the API server of Kubernetes would refuse of an object, or drop without a word."""
    if one["kind"] in CRDS:
        versions, spec = crd(one["kind"])
        group, _, version = one["apiVersion"].partition("/")
        if group != spec["group"] or version not in versions:
            return [f"apiVersion: {one['apiVersion']}"]
        schema = versions[version]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        errors = Draft202012Validator(schema).iter_errors(one["spec"])
        return strangers(one["spec"], schema) + [f"{error.json_path}: {error.message}" for error in errors]
    known = json_schema("kubernetes-1.37.json")
    if one["kind"] not in known["kinds"]:
        return [f"kind: {one['kind']}"]
    schema = {"$ref": f"#/$defs/{known['kinds'][one['kind']]}", "$defs": known["$defs"]}
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(one)]


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


def errors_of(document, schema):
    """What a JSON Schema refuses."""
    return [
        f"{error.json_path}: {error.message}"
        for error in validator_for(schema, Draft7Validator)(schema).iter_errors(document)
    ]


def pods(one):
    """The pod templates of an object, by the name of their group."""
    spec = one.get("spec", {})
    cluster = spec.get("rayClusterSpec") or spec.get("rayClusterConfig")
    found = {}
    if cluster:
        found["head"] = cluster["headGroupSpec"]["template"]
        found |= {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    if "submitterPodTemplate" in spec:
        found["submitter"] = spec["submitterPodTemplate"]
    if "template" in spec:
        found["pods"] = spec["template"]
    return found


def containers(one):
    return [container for pod in pods(one).values() for container in pod["spec"]["containers"]]
