"""What is imported is declared, and what is declared is locked."""

from __future__ import annotations

import ast
import email
import re
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSION = PROJECT["project"]["version"]
NAMESPACES = {
    "google.protobuf": "protobuf",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "opentelemetry.exporter": "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry.proto": "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry": "opentelemetry-api",
}
"""Packages that several distributions share, longest first."""


def names_of(requirements):
    found = (
        re.match(r"[\w.-]+", requirement) for requirement in requirements if isinstance(requirement, str)
    )
    return {name[0].lower().replace("_", "-") for name in found}


INSTALLED = packages_distributions()
DECLARED = names_of(PROJECT["project"]["dependencies"])
EXTRAS = names_of(name for extra in PROJECT["project"]["optional-dependencies"].values() for name in extra)
DEVELOPMENT = names_of(PROJECT["dependency-groups"]["dev"] + PROJECT["dependency-groups"]["build"])


def imported_modules(folder):
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def distribution_of(module):
    shared = next(
        (name for package, name in NAMESPACES.items() if f"{module}.".startswith(f"{package}.")), None
    )
    if shared is not None:
        return shared
    top = module.partition(".")[0]
    return next((name.lower().replace("_", "-") for name in INSTALLED.get(top, ())), None)


def third_party(folder):
    tops = {
        module
        for module in imported_modules(folder)
        if module.partition(".")[0] not in sys.stdlib_module_names
    }
    return {distribution_of(module) for module in tops} - {None, "rlm-ray"}


def test_the_package_imports_only_what_it_declares():
    assert third_party("rlm_ray") <= DECLARED | EXTRAS


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "examples"])
def test_tests_and_benchmarks_import_only_what_is_declared(folder):
    assert third_party(folder) <= DECLARED | DEVELOPMENT | EXTRAS


def pins_of(lock):
    return dict(re.findall(r"^([a-z0-9][\w.-]*)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))


def test_the_locks_agree_and_hold_what_is_declared():
    production, development = pins_of("requirements.lock"), pins_of("requirements-dev.lock")
    assert production.items() <= development.items()
    assert {name.partition("[")[0] for name in DECLARED | EXTRAS} <= production.keys()
    assert development.keys() >= {name.lower() for name in DEVELOPMENT}


def test_the_image_installs_no_test_tools():
    production = pins_of("requirements.lock")
    assert not production.keys() & {
        "pytest",
        "hypothesis",
        "mypy",
        "ruff",
        "moto",
        "playwright",
        "schemathesis",
    }
    assert "requirements-dev.lock" not in (ROOT / "deploy/Dockerfile").read_text()


def test_locks_of_tools_agree_with_the_one_of_tests():
    development = pins_of("requirements-dev.lock")
    for group in ("docs", "release"):
        pins = pins_of(f"requirements-{group}.lock")
        assert names_of(PROJECT["dependency-groups"][group]) <= pins.keys()
        assert {name: pins[name] for name in pins.keys() & development.keys()}.items() <= development.items()


def test_peers_of_the_benchmarks_are_locked_with_hashes_and_installed_nowhere_else():
    pins, lock = pins_of("requirements-bench.lock"), (ROOT / "requirements-bench.lock").read_text()
    assert names_of(PROJECT["dependency-groups"]["bench"]) <= pins.keys()
    assert all(
        "--hash=sha256:" in pin for pin in re.split(r"^(?=[a-z0-9][\w.-]*==)", lock, flags=re.MULTILINE)[1:]
    )
    assert "rlms" not in pins_of("requirements-dev.lock").keys() | pins_of("requirements.lock").keys()


def test_every_dependency_has_its_reason_in_the_documents():
    told = (ROOT / "docs/dependencies.md").read_text().lower()
    tools = names_of(PROJECT["dependency-groups"]["docs"] + PROJECT["dependency-groups"]["release"])
    tools |= names_of(PROJECT["dependency-groups"]["bench"])
    assert {name for name in DECLARED | EXTRAS | tools if name not in told} == set()


@pytest.mark.parametrize("extra", ["documents", "gcs", "mcp", "s3"])
def test_extras_are_told_of_where_one_begins(extra):
    assert extra in PROJECT["project"]["optional-dependencies"]
    assert f"`{extra}`" in (ROOT / "docs/quickstart.md").read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel as `make dist` builds it."""
    (path,) = WheelBuilder(str(ROOT)).build(
        directory=str(tmp_path_factory.mktemp("dist")), versions=["standard"]
    )
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel):
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "rlm_ray").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = set(wheel.namelist())
    assert {name for name in names if ".dist-info/" not in name} == package
    assert {"rlm_ray/py.typed", "rlm_ray/serve/static/index.html"} <= package


def test_the_wheel_says_what_the_project_does(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    told = email.message_from_bytes(wheel.read(name))
    assert (told["Name"], told["Version"]) == ("rlm-ray", VERSION)
    assert set(told.get_all("Provides-Extra")) == PROJECT["project"]["optional-dependencies"].keys()
    assert (told["License-Expression"], told["Requires-Python"]) == ("MIT", ">=3.11")
    assert "# rlm_ray" in told.get_payload()
    points = wheel.read(name.replace("METADATA", "entry_points.txt")).decode()
    assert "rlm-ray = rlm_ray.cli:main" in points
    assert any(each.endswith("licenses/LICENSE") for each in wheel.namelist())


def releases_of(changelog):
    return re.findall(r"^## \[?([^\]\s]+)", changelog, re.MULTILINE)


def version_fits(version, headings):
    """The changelog begins with what is not released; the newest release is the version of the project, or an earlier one."""
    released = [tuple(map(int, each.split("."))) for each in headings[1:]]
    now = tuple(map(int, version.split(".")))
    return (
        headings[0] == "Unreleased"
        and released == sorted(released, reverse=True)
        and max([*released, now]) == now
    )


@pytest.mark.parametrize(
    ("version", "headings", "fits"),
    [
        ("0.1.0", ["Unreleased"], True), ("0.1.0", ["Unreleased", "0.1.0"], True), ("0.2.0", ["Unreleased", "0.1.0"], True),
        ("0.1.0", ["Unreleased", "0.2.0", "0.1.0"], False), ("0.1.0", ["0.1.0"], False), ("0.10.0", ["Unreleased", "0.9.0", "0.10.0"], False),
        ("0.10.0", ["Unreleased", "0.10.0", "0.9.0"], True), ("1.0.0", ["Unreleased", "0.9.0", "0.9.1"], False),
    ],
)  # fmt: skip
def test_rule_of_version_and_changelog(version, headings, fits):
    assert version_fits(version, headings) is fits


def test_version_changelog_and_citation_agree():
    assert version_fits(VERSION, releases_of((ROOT / "CHANGELOG.md").read_text()))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (str(citation["version"]), citation["license"], citation["cff-version"]) == (
        VERSION,
        "MIT",
        "1.2.0",
    )


WORKFLOWS = {path.name: path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml")}
TARGETS = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_call_targets_that_there_are_with_no_more_than_they_need(name):
    plain = yaml.safe_load(WORKFLOWS[name])
    called = {
        target
        for words in re.findall(r"^ *- run: make ([\w -]+)$", WORKFLOWS[name], re.MULTILINE)
        for target in words.split()
    }
    assert called
    assert called <= TARGETS
    assert plain["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in plain["jobs"].values())
    used = [step["uses"] for job in plain["jobs"].values() for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[\w./-]*v\d\S*", each) for each in used)


def test_ci_runs_what_has_to_pass_here_on_each_python():
    here = re.findall(r"^make (\w+)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    job = yaml.safe_load(WORKFLOWS["ci.yml"])["jobs"]["test"]
    assert [step["run"] for step in job["steps"] if "run" in step] == [f"make {target}" for target in here]
    told = [
        line.rpartition(" ")[2]
        for line in PROJECT["project"]["classifiers"]
        if re.search(r":: 3\.\d+$", line)
    ]
    assert set(told) <= set(job["strategy"]["matrix"]["python"])


def test_only_the_job_that_publishes_may_write():
    jobs = yaml.safe_load(WORKFLOWS["release.yml"])["jobs"]
    assert {name for name, job in jobs.items() if "write" in job.get("permissions", {}).values()} == {
        "publish"
    }
    assert "secrets." not in "".join(WORKFLOWS.values())
    assert not any("run" in step and "make" in step["run"] for step in jobs["publish"]["steps"])


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda path: path.stem
)
def test_issue_templates_have_what_a_form_needs(path):
    form = yaml.safe_load(path.read_text())
    assert form.keys() >= {"name", "description", "body"}
    assert all({"type", "attributes"} <= part.keys() for part in form["body"])
    assert len({part["id"] for part in form["body"] if "id" in part}) == sum(
        "id" in part for part in form["body"]
    )
