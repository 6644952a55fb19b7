"""What is imported is declared, and what is declared is locked."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
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
DEVELOPMENT = names_of(PROJECT["dependency-groups"]["dev"])


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
