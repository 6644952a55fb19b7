"""`rlm-ray models`: models by name, what their windows hold and what they cost; those of litellm, or of one's own server."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from rlm_ray.cli import console, options
from rlm_ray.config import Settings
from rlm_ray.errors import ModelUnavailableError
from rlm_ray.llm.model_check import chat_models, check_address, price_of
from rlm_ray.llm.server_limits import list_models

Part = Annotated[
    str, typer.Argument(metavar="[PART]", help="Only names that hold this, such as gpt-5 or anthropic/.")
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Only the first N; default: 40 at a terminal, else all.", show_default=False
    ),
]
AT_A_TERMINAL = 40
_FIELDS = ("model", "window_tokens", "reply_tokens", "input_usd", "output_usd", "source")


@options.settings_options("params.api_base", "params.api_key", "prices")
def models(
    part: Part = "", limit: Limit = None, *, given: options.Overrides, as_json: options.Json = False
) -> None:
    """List models: what a window holds, the most a reply may hold, and US dollars per million tokens in and out.

    With an address of a server (--api-base, or the settings), what that offers; else what litellm knows.
    """
    with console.handle_errors():
        settings = options.settings_of(given)
        base = str(settings.params.get("api_base") or "")
        every = _of_server(base, settings) if base else _of_litellm(settings)
        found = [facts for facts in every if part.lower() in facts["model"].lower()]
    at_a_terminal = sys.stdout is not None and sys.stdout.isatty()
    shown = found[: limit or (AT_A_TERMINAL if at_a_terminal and not as_json else len(found))]
    if as_json:
        console.write(json.dumps(shown))
    elif shown:
        console.write("\n".join(_lines(shown)))
    if not found:
        console.print_status(f"no model of {base or 'litellm'} has {part!r} in its name")
    elif len(shown) < len(found):
        console.print_status(f"{len(shown):,} of {len(found):,} models; name a part, or --limit N")
    raise typer.Exit(console.OK)


def _of_server(base: str, settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield what an OpenAI-compatible server lists, by the names to give as --model."""
    check_address("models", settings.params, settings, os.environ)
    key = settings.params.get("api_key")
    listed = list_models(base, key if isinstance(key, str) else "")
    if listed is None:
        why = f"{base}/models lists none; check --api-base (api_base=), which often ends with /v1, and --api-key"
        raise ModelUnavailableError("models", why)
    for name, limits in listed.items():
        price = settings.prices.get(f"openai/{name}") or settings.prices.get(name)
        usd = (None, None) if price is None else (price.input_usd, price.output_usd)
        yield dict(
            zip(_FIELDS, (f"openai/{name}", limits.window_tokens, limits.max_tokens, *usd, base), strict=True)
        )


def _of_litellm(settings: Settings) -> Iterator[dict[str, Any]]:
    yield dict(zip(_FIELDS, ("offline/extractive", None, None, 0.0, 0.0, "rlm_ray"), strict=True))
    for name, facts in chat_models().items():
        price = settings.prices.get(name) or price_of(name, settings)
        usd = (None, None) if price is None else (price.input_usd, price.output_usd)
        window = _count(facts, "max_input_tokens") or _count(facts, "max_tokens")
        yield dict(
            zip(_FIELDS, (name, window, _count(facts, "max_output_tokens"), *usd, "litellm"), strict=True)
        )


def _count(facts: Mapping[str, Any], name: str) -> int | None:
    value = facts.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _lines(shown: list[dict[str, Any]]) -> Iterator[str]:
    wide = max(len("MODEL"), *(len(facts["model"]) for facts in shown))
    yield f"{'MODEL':<{wide}}  {'WINDOW':>10}  {'REPLY':>9}  {'$/M IN':>9}  {'$/M OUT':>9}"
    for facts in shown:
        counts = [_shown(facts[name], ",") for name in ("window_tokens", "reply_tokens")]
        usd = [_shown(facts[name], ",.6g") for name in ("input_usd", "output_usd")]
        yield f"{facts['model']:<{wide}}  {counts[0]:>10}  {counts[1]:>9}  {usd[0]:>9}  {usd[1]:>9}"


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
