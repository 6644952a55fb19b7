"""`rlm-ray doctor` says what is missing and what to do about it; Ray and the sandbox are taken as well here."""

from __future__ import annotations

import pytest

from rlm_ray.cli import doctor
from rlm_ray.cli.doctor import Check
from rlm_ray.sandbox.host.kernel_features import KernelFeature, Privileges
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import echo


@pytest.fixture
def well(monkeypatch):
    """Ray and the sandbox answer at once that all is well."""

    async def sandbox(_):
        return Check("sandbox", ok=True, message="taken as well")

    monkeypatch.setattr(doctor, "_sandbox", sandbox)
    monkeypatch.setattr(doctor, "_ray", lambda _: Check("Ray", ok=True, message="taken as well"))


@pytest.fixture
def layers(monkeypatch):
    """Set what the kernel offers."""
    return lambda *found: monkeypatch.setattr(doctor, "probe_features", lambda: found)


def failures(done):
    return [line for line in done.stdout.splitlines() if line.startswith("FAIL")]


@pytest.mark.usefixtures("well")
def test_all_is_well_with_the_offline_model(invoke):
    done = invoke("doctor")
    assert (done.exit_code, failures(done), done.stderr) == (0, [], "")
    assert "offline/extractive answered" in done.stdout


@pytest.mark.usefixtures("well")
def test_a_missing_key_is_named(invoke):
    done = invoke("doctor", "--model", "openai/gpt-5")
    assert done.exit_code == 5
    assert failures(done)[0].startswith(
        "FAIL  key of openai/gpt-5: openai/gpt-5: its key is missing: set OPENAI_API_KEY"
    )
    assert "--api-key" in failures(done)[0]


@pytest.mark.usefixtures("well")
def test_an_unreachable_model_is_named_with_its_address(invoke):
    done = invoke("doctor", "--model", "openai/x", "--api-base", "http://127.0.0.1:9/v1", "--api-key", "k")
    assert done.exit_code == 5
    (line,) = failures(done)
    assert "cannot reach http://127.0.0.1:9/v1; check api_base" in line


@pytest.mark.usefixtures("well")
def test_both_models_are_asked(invoke):
    with ModelServer(echo) as server:
        server_options = ["--api-base", server.url, "--api-key", "k"]
        done = invoke("doctor", "--model", "openai/root", "--recursive-model", "openai/leaf", *server_options)
        assert sorted(request.model for request in server.requests) == ["leaf", "root"]
    assert (done.exit_code, failures(done)) == (0, [])


@pytest.mark.usefixtures("well")
def test_a_kernel_without_landlock_may_be_done_without(invoke, layers):
    layers(KernelFeature("seccomp"), KernelFeature("Landlock", "not enabled at boot"))
    done = invoke("doctor")
    assert done.exit_code == 5
    (line,) = failures(done)
    assert "Landlock: not enabled at boot" in line
    assert "--set sandbox.allow_degraded=true" in line
    assert invoke("doctor", "--set", "sandbox.allow_degraded=true").exit_code == 0


@pytest.mark.usefixtures("well")
def test_a_kernel_without_seccomp_cannot_be_done_without(invoke, layers):
    layers(KernelFeature("seccomp", "Function not implemented"))
    done = invoke("doctor", "--set", "sandbox.allow_degraded=true")
    assert done.exit_code == 5
    (line,) = failures(done)
    assert "seccomp: Function not implemented; run on Linux 5.13 or newer" in line
    assert "allow_degraded" not in line


@pytest.mark.usefixtures("well")
@pytest.mark.parametrize(
    ("own", "is_pod", "said"),
    [
        (Privileges(1000, 0, no_new_privs=True, seccomp=True), True,
         "ok    privileges: user 1000, no capabilities, no_new_privs, a seccomp profile; the sandbox needs none"),
        (Privileges(0, 14, no_new_privs=False, seccomp=True), True,
         "FAIL  privileges: root, 14 capabilities, a seccomp profile; the sandbox needs none of it: set runAsNonRoot"),
        (Privileges(1000, 1, no_new_privs=False, seccomp=False), True, "FAIL  privileges: user 1000, 1 capabilities;"),
        (Privileges(0, 0, no_new_privs=True, seccomp=False), True, "FAIL  privileges: root, no capabilities"),
        (Privileges(0, 40, no_new_privs=False, seccomp=False), False,
         "ok    privileges: root, 40 capabilities; the sandbox needs none"),
    ],
)  # fmt: skip
def test_a_pod_with_more_privileges_than_the_sandbox_needs_is_told_so(invoke, monkeypatch, own, is_pod, said):
    monkeypatch.setattr(doctor, "read_privileges", lambda: own)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    if is_pod:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    done = invoke("doctor")
    assert any(line.startswith(said) for line in done.stdout.splitlines()), done.stdout
    assert done.exit_code == (5 if said.startswith("FAIL") else 0)


def test_a_wrong_setting_is_named_before_anything_is_examined(invoke):
    done = invoke("doctor", "--set", "max_deph=1")
    assert (done.exit_code, done.stdout) == (5, "")
    assert "did you mean 'max_depth'" in done.stderr


@pytest.mark.usefixtures("well")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--model", "openai/gpt-4o"],
            "window of openai/gpt-4o: 128,000 tokens, 16,384 in a reply, says litellm",
        ),
        (
            ["--model", "openai/nobody-knows-me"],
            "window of openai/nobody-knows-me: not known; --set window_tokens=N",
        ),
        (
            ["--model", "openai/x", "--set", "window_tokens=9000"],
            "window of openai/x: 9,000 tokens, as the settings say",
        ),
        (
            ["--model", "openai/x", "--set", "params.num_ctx=4096"],
            "window of openai/x: 4,096 tokens, as the settings say",
        ),
    ],
)
def test_the_window_of_a_model_is_said(invoke, arguments, said):
    with ModelServer(echo) as server:
        done = invoke("doctor", *arguments, "--api-base", server.url, "--api-key", "k")
    assert said in done.stdout
