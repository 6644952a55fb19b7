"""`rlm-ray doctor`: is everything here that a run needs, and what to do where it is not."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import typer

from rlm_ray.cli import console, options
from rlm_ray.config import Settings
from rlm_ray.core.context import make_context
from rlm_ray.core.llm import Message, ModelRequest
from rlm_ray.errors import RLMError
from rlm_ray.llm.model_check import check_name_and_key
from rlm_ray.llm.model_provider import ModelProvider
from rlm_ray.llm.server_limits import ask_server
from rlm_ray.sandbox.host.kernel_features import (
    KernelFeature,
    Privileges,
    probe_features,
    read_privileges,
)
from rlm_ray.sandbox.host.sandbox import SandboxManager

MODEL_TIMEOUT_S = 30.0
"""A model that says nothing for so long is not well, however patient the settings are."""
_POD = "KUBERNETES_SERVICE_HOST"
"""Set by Kubernetes in every container."""


@dataclass(frozen=True, slots=True)
class Check:
    what: str
    ok: bool
    message: str


@options.settings_options("model", "recursive_model", "params.api_base", "params.api_key")
def doctor(given: options.Overrides) -> None:
    """Check what a run needs, and say what to do.

    The sandbox, Ray, keys and models, one line for each.
    """
    with console.handle_errors():
        settings = options.settings_of(given)
    healthy = True
    for finding in run_checks(settings):
        healthy = healthy and finding.ok
        console.write(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.what}: {finding.message}")
    raise typer.Exit(console.OK if healthy else console.CONFIGURATION)


def run_checks(settings: Settings) -> Iterator[Check]:
    """Yield one finding after the other, the cheap ones first."""
    yield Check("Python", ok=True, message=f"{platform.python_version()} on {platform.platform()}")
    for layer in probe_features():
        yield Check(
            f"kernel {layer.name}",
            ok=layer.available or _can_do_without(layer, settings),
            message=layer.detail if layer.available else _missing_layer_message(layer, settings),
        )
    if platform.system() == "Linux":
        yield _privileges(read_privileges(), os.environ)
    yield asyncio.run(_sandbox(settings))
    yield _ray(settings)
    for model in dict.fromkeys((settings.model, settings.recursive_model or settings.model)):
        yield _key(model, settings)
        yield asyncio.run(_model(model, settings))
        yield _window(model, settings)


def _can_do_without(layer: KernelFeature, settings: Settings) -> bool:
    return layer.name == "Landlock" and settings.sandbox.allow_degraded


def _missing_layer_message(layer: KernelFeature, settings: Settings) -> str:
    if layer.name != "Landlock":
        return f"{layer.reason_missing}; run on Linux 5.13 or newer, nothing works without this layer"
    if settings.sandbox.allow_degraded:
        return f"{layer.reason_missing}; done without, as sandbox.allow_degraded says"
    return (
        f"{layer.reason_missing}; use kernel 5.13+ with Landlock enabled, or do without this layer: "
        "--set sandbox.allow_degraded=true"
    )


def _privileges(own: Privileges, environment: Mapping[str, str]) -> Check:
    """Check what this process may beyond the sandbox: in a pod more is a mistake of the manifest; elsewhere it is said only."""
    user = "root" if own.uid == 0 else f"user {own.uid}"
    held = ", ".join(
        ("no capabilities" if own.capabilities == 0 else f"{own.capabilities} capabilities",)
        + (("no_new_privs",) if own.no_new_privs else ())
        + (("a seccomp profile",) if own.seccomp else ())
    )
    if own.needless and _POD in environment:
        advice = "the sandbox needs none of it: set runAsNonRoot: true and capabilities.drop: [ALL]"
        return Check("privileges", ok=False, message=f"{user}, {held}; {advice}")
    return Check("privileges", ok=True, message=f"{user}, {held}; the sandbox needs none")


async def _sandbox(settings: Settings) -> Check:
    async def no_sub_calls(_: object) -> tuple[()]:
        return ()

    host = SandboxManager(settings.sandbox)
    try:
        await host.start()
        repl = await host.open(make_context("abc"), "?")
        result = await repl.run(["print(len(context))"], no_sub_calls)
    except RLMError as error:
        return Check("sandbox", ok=False, message=str(error))
    finally:
        await host.aclose()
    if result.output.strip() != "3":
        return Check("sandbox", ok=False, message=f"a cell should have printed 3: {result}")
    return Check("sandbox", ok=True, message="a cell ran in a jailed process")


def _ray(settings: Settings) -> Check:
    from rlm_ray.cluster.driver import ClusterDriver
    from rlm_ray.cluster.ray_init import describe_cluster

    try:
        asyncio.run(ClusterDriver.connect(settings.cluster))
    except RLMError as error:
        return Check(
            "Ray", ok=False, message=f"{error}; check RAY_ADDRESS and that the cluster runs this Ray version"
        )
    cluster = describe_cluster()
    where = os.environ.get("RAY_ADDRESS") or settings.cluster.address or "started on this machine"
    if cluster.cpus < settings.cluster.cpus_per_actor:
        return Check(
            "Ray",
            ok=False,
            message=f"{where} has {cluster.cpus:g} CPUs; a session actor needs more: add nodes",
        )
    return Check(
        "Ray",
        ok=True,
        message=f"{cluster.ray_version}, {where}, {cluster.cpus:g} CPUs, {cluster.nodes} node(s)",
    )


def _key(model: str, settings: Settings) -> Check:
    try:
        check_name_and_key(model, settings.params, os.environ)
    except RLMError as error:
        return Check(f"key of {model}", ok=False, message=str(error))
    if "api_key" in settings.params:
        return Check(f"key of {model}", ok=True, message="given as api_key")
    return Check(f"key of {model}", ok=True, message="here, or none is wanted")


def _window(model: str, settings: Settings) -> Check:
    """Return what the model's window holds, by the settings, the server, or litellm."""
    what, told = f"window of {model}", settings.told_window_tokens
    if told is not None:
        return Check(what, ok=True, message=f"{told:,} tokens, as the settings say")
    base = settings.params.get("api_base")
    key = settings.params.get("api_key")
    found = ask_server(base, model, key if isinstance(key, str) else "") if isinstance(base, str) else None
    if found is not None and found.limits.window_tokens is not None:
        tokens = found.limits.window_tokens
        reply = f", {found.limits.max_tokens:,} of them in a reply" if found.limits.max_tokens else ""
        said = f"{tokens:,} tokens{reply}, says {found.source} of the server; --set window_tokens={tokens} lets runs know it"
        return Check(what, ok=True, message=said)
    known = ModelProvider().output_limit(model)
    if known.window_tokens is None:
        return Check(what, ok=True, message="not known; --set window_tokens=N has longer sub-calls split")
    reply = f", {known.max_tokens:,} in a reply" if known.max_tokens else ""
    return Check(what, ok=True, message=f"{known.window_tokens:,} tokens{reply}, says litellm")


async def _model(model: str, settings: Settings) -> Check:
    params = {**settings.params, "timeout": min(settings.call_timeout_s, MODEL_TIMEOUT_S)}
    request = ModelRequest(model, (Message("user", "Say yes."),), 16, params)
    try:
        reply = await ModelProvider().complete(request)
    except RLMError as error:
        return Check("model", ok=False, message=str(error))
    return Check("model", ok=True, message=f"{model} answered with {reply.usage.output_tokens} tokens")
