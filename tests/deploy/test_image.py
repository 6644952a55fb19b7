"""The rules of the image: pinned bases, the lock by its hashes, no root, no secret, nothing fetched beside it. Each is shown a
Dockerfile that breaks it."""

from __future__ import annotations

import re
import tomllib

import pytest
from deploy_files import DEPLOY, ROOT, VERSION

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
IGNORE = (DEPLOY / "Dockerfile.dockerignore").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions(text):
    """The instructions of a Dockerfile by stage, as pairs of name and arguments; comments and line breaks are gone."""
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    plain = [line.split(None, 1) for line in re.sub(r"\\\n\s*", " ", lines).splitlines() if line.strip()]
    stages = []
    for name, arguments in plain:
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, arguments))
    return stages


def base_faults(stages):
    """Bases that may change from one day to the next, or that are another Python than the package wants."""
    bases = {arguments.split()[0] for stage in stages for name, arguments in stage if name == "FROM"}
    faults = [] if len(bases) == 1 else ["build and run on different bases"]
    for base in bases:
        exact = re.fullmatch(r"python:(\d+)\.(\d+)\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base)
        if not exact:
            faults.append(f"{base} is no exact tag")
        elif f"Programming Language :: Python :: {exact[1]}.{exact[2]}" not in PROJECT["classifiers"]:
            faults.append(f"{base} is no Python of ours")
    return faults


def run_faults(stages):
    """Commands that install what the lock does not name, leave lists behind, or fetch from somewhere."""
    faults = []
    for command in (arguments for stage in stages for name, arguments in stage if name == "RUN"):
        for part in re.split(r"&&|;|\|", command):
            if re.search(r"\bpip\d?\b", part) and " install " in part:
                is_locked = "--require-hashes" in part and part.rstrip().endswith("requirements.lock")
                is_own = {"--no-deps", "--no-build-isolation", "."} <= set(part.split())
                if not (is_locked or is_own) or "--no-cache-dir" not in part:
                    faults.append(part.strip())
            if re.search(r"\b(curl|wget|git|sudo|conda|npm)\b", part) and "apt-get" not in part:
                faults.append(part.strip())
            if "apt-get upgrade" in part or "chmod 777" in part:
                faults.append(part.strip())
        if "apt-get install" in command:
            wanted = ("apt-get update", "--yes", "--no-install-recommends", "rm -rf /var/lib/apt/lists/*")
            faults += [f"apt-get without {each}" for each in wanted if each not in command]
    return faults


def content_faults(stages):
    """What ends in the image and should not: test tools, secrets, other people's files; and who runs it."""
    last = stages[-1]
    faults = [] if len(stages) > 1 else ["build tools are left in the image"]
    copied = [arguments for stage in stages for name, arguments in stage if name == "COPY"]
    faults += [each for each in copied if re.search(r"tests|requirements-dev|(^| )\. ", each)]
    faults += [arguments for stage in stages for name, arguments in stage if name == "ADD"]
    if not any("--from=build /install /usr/local" in each for each in copied):
        faults.append("the image does not hold what was built")
    settings = [arguments for stage in stages for name, arguments in stage if name in {"ENV", "ARG"}]
    faults += [each for each in settings if re.search(r"(KEY|TOKEN|SECRET|PASSWORD)\w*=", each)]
    users = [arguments for name, arguments in last if name == "USER"]
    if not users or not re.fullmatch(r"[1-9]\d*(:\d+)?", users[-1]):
        faults.append("the user is no number above 0")
    names = [name for name, _ in last]
    if "USER" in names and "RUN" in names[names.index("USER") :]:
        faults.append("a command runs after USER")
    if not any(name == "ENTRYPOINT" and arguments.startswith("[") for name, arguments in last):
        faults.append("ENTRYPOINT is no list: a shell would keep signals from Ray")
    return faults


def image_faults(text):
    stages = instructions(text)
    return base_faults(stages) + run_faults(stages) + content_faults(stages)


def test_the_image_follows_its_rules():
    assert image_faults(DOCKERFILE) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("python:3.11.14-slim-bookworm\n\n# KubeRay", "python:latest\n\n# KubeRay"),
        ("3.11.14-slim", "3.11-slim"),
        ("3.11.14-slim", "3.14.1-slim"),
        ("python:3.11.14-slim-bookworm AS build", "ubuntu:24.04 AS build"),
        ("--require-hashes ", ""),
        ("--requirement requirements.lock", "--requirement requirements-dev.lock"),
        ("--no-deps --no-build-isolation .", "."),
        (
            "--no-cache-dir --no-warn-script-location --prefix /install --no-deps",
            "--prefix /install --no-deps",
        ),
        ("USER 1000\n", ""),
        ("USER 1000\n", "USER root\n"),
        ("USER 1000\n", "USER 0\n"),
        ("USER 1000\n", "USER 1000\nRUN true\n"),
        ("COPY rlm_ray ./rlm_ray", "COPY . ./"),
        ("COPY rlm_ray ./rlm_ray", "COPY rlm_ray tests ./"),
        ("COPY rlm_ray ./rlm_ray", "ADD https://example.org/rlm_ray.tar.gz ./"),
        ("ENV LITELLM", "ENV OPENAI_API_KEY=x\nENV LITELLM"),
        ("EXPOSE 8000", "ARG AWS_SECRET_ACCESS_KEY=x"),
        ("    && rm -rf /var/lib/apt/lists/* \\\n", ""),
        ("--no-install-recommends ", ""),
        ("    && useradd", "    && wget https://example.org/install.sh \\\n    && useradd"),
        ('ENTRYPOINT ["tini", "--"]', "ENTRYPOINT tini --"),
        ("COPY --from=build /install /usr/local", ""),
    ],
)
def test_a_broken_rule_is_seen(old, new):
    assert old in DOCKERFILE
    assert image_faults(DOCKERFILE.replace(old, new)) != []


def test_the_context_of_the_build_holds_what_is_copied_and_nothing_else():
    lines = [line for line in IGNORE.splitlines() if line and not line.startswith("#")]
    copied = {
        source.removeprefix("./")
        for name, arguments in instructions(DOCKERFILE)[0]
        if name == "COPY"
        for source in arguments.split()[:-1]
    }
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied
    assert lines[-1] == "**/__pycache__"


def test_the_image_has_the_version_of_the_package_everywhere():
    for path in (DEPLOY / "Dockerfile", DEPLOY / "README.md", ROOT / "Makefile"):
        named = re.findall(r"rlm-ray:(\d[\w.]*)", path.read_text())
        assert set(named) <= {VERSION}, path
    assert f"rlm-ray:{VERSION}" in DOCKERFILE
