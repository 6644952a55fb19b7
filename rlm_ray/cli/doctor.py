"""`rlm-ray doctor`: is everything here that a run needs, and what to do where it is not."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass

import typer

from rlm_ray.cli import console, options
from rlm_ray.config import Settings
from rlm_ray.core.context import make_context
from rlm_ray.core.llm import Message, ModelRequest
from rlm_ray.errors import RLMError
from rlm_ray.llm.litellm_client import LitellmModel, missing_keys
from rlm_ray.sandbox.host.kernel_features import Layer, layers
from rlm_ray.sandbox.host.sandbox import SandboxHost

MODEL_TIMEOUT_S = 30.0
"""A model that says nothing for so long is not well, however patient the settings are."""


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    ok: bool
    said: str


@options.settings_options("model", "recursive_model", "params.api_base", "params.api_key")
def doctor(given: options.Given) -> None:
    """Check what a run needs, and say what to do.

    The sandbox, Ray, keys and models, one line for each.
    """
    with console.errors_as_exits():
        settings = options.settings_of(given)
    healthy = True
    for finding in examine(settings):
        healthy = healthy and finding.ok
        console.write(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.what}: {finding.said}")
    raise typer.Exit(console.OK if healthy else console.CONFIGURATION)


def examine(settings: Settings) -> Iterator[Finding]:
    """One finding after the other, the cheap ones first."""
    yield Finding("Python", ok=True, said=f"{platform.python_version()} on {platform.platform()}")
    for layer in layers():
        yield Finding(
            f"kernel {layer.name}",
            ok=layer.works or _can_do_without(layer, settings),
            said=layer.detail if layer.works else _without(layer, settings),
        )
    yield asyncio.run(_sandbox(settings))
    yield _ray(settings)
    for model in dict.fromkeys((settings.model, settings.recursive_model or settings.model)):
        yield _key(model, settings)
        yield asyncio.run(_model(model, settings))


def _can_do_without(layer: Layer, settings: Settings) -> bool:
    return layer.name == "Landlock" and settings.sandbox.allow_degraded


def _without(layer: Layer, settings: Settings) -> str:
    if layer.name != "Landlock":
        return f"{layer.missing}; run on Linux 5.13 or newer, nothing works without this layer"
    if settings.sandbox.allow_degraded:
        return f"{layer.missing}; done without, as sandbox.allow_degraded says"
    return (
        f"{layer.missing}; use kernel 5.13+ with Landlock enabled, or do without this layer: "
        "--set sandbox.allow_degraded=true"
    )


async def _sandbox(settings: Settings) -> Finding:
    async def no_sub_calls(_: object) -> tuple[()]:
        return ()

    host = SandboxHost(settings.sandbox)
    try:
        await host.start()
        repl = await host.open(make_context("abc"), "?")
        result = await repl.run(["print(len(context))"], no_sub_calls)
    except RLMError as error:
        return Finding("sandbox", ok=False, said=str(error))
    finally:
        await host.aclose()
    if result.output.strip() != "3":
        return Finding("sandbox", ok=False, said=f"a cell should have printed 3: {result}")
    return Finding("sandbox", ok=True, said="a cell ran in a jailed process")


def _ray(settings: Settings) -> Finding:
    from rlm_ray.cluster.driver import Engine
    from rlm_ray.cluster.ray_init import describe_cluster

    try:
        asyncio.run(Engine.connect(settings.cluster))
    except RLMError as error:
        return Finding(
            "Ray", ok=False, said=f"{error}; check RAY_ADDRESS and that the cluster runs this Ray version"
        )
    cluster = describe_cluster()
    where = os.environ.get("RAY_ADDRESS") or settings.cluster.address or "started on this machine"
    if cluster.cpus < settings.cluster.cpus_per_actor:
        return Finding(
            "Ray", ok=False, said=f"{where} has {cluster.cpus:g} CPUs; a session actor needs more: add nodes"
        )
    return Finding(
        "Ray", ok=True, said=f"{cluster.ray_version}, {where}, {cluster.cpus:g} CPUs, {cluster.nodes} node(s)"
    )


def _key(model: str, settings: Settings) -> Finding:
    if "api_key" in settings.params:
        return Finding(f"key of {model}", ok=True, said="given as api_key")
    if missing := missing_keys(model):
        said = f"wants {' and '.join(missing)} in the environment, or --api-key (any text for a server that checks none)"
        return Finding(f"key of {model}", ok=False, said=said)
    return Finding(f"key of {model}", ok=True, said="here, or none is wanted")


async def _model(model: str, settings: Settings) -> Finding:
    params = {**settings.params, "timeout": min(settings.timeout, MODEL_TIMEOUT_S)}
    request = ModelRequest(model, (Message("user", "Say yes."),), 16, params)
    try:
        reply = await LitellmModel().complete(request)
    except RLMError as error:
        return Finding("model", ok=False, said=str(error))
    return Finding("model", ok=True, said=f"{model} answered with {reply.usage.output_tokens} tokens")
