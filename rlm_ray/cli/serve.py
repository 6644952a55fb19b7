"""`rlm-ray serve`: the engine behind an OpenAI-compatible address, from this machine."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlm_ray.cli import console, options

if TYPE_CHECKING:
    from rlm_ray.serve.launcher import LocalServer

Config = Annotated[
    Path | None,
    typer.Argument(metavar="[CONFIG]", help="YAML as for `serve deploy`.", show_default=False),
]
Host = Annotated[str | None, typer.Option(help="Address to listen at; default 127.0.0.1.")]
Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen at; default 8000.")]
KeysFile = Annotated[str | None, typer.Option(help="YAML file of keys; without, only this machine may ask.")]
CorsOrigin = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ORIGIN",
        help="A page of this origin may ask through a browser; more with more of this option.",
    ),
]
NewKey = Annotated[
    str | None, typer.Option(metavar="NAME", help="Make a key and its entry for the file of keys, and leave.")
]


@options.settings_options("model", "recursive_model", "max_depth", "params.api_base")
def serve(  # noqa: PLR0913 - each is an option of the command
    config: Config = None,
    host: Host = None,
    port: Port = None,
    keys_file: KeysFile = None,
    *,
    given: options.Overrides,
    new_key: NewKey = None,
    cors_origins: CorsOrigin = None,
) -> None:
    """Serve questions to any OpenAI client, and a web page at /.

    Settings are those of the environment, rlm-ray.toml and the options here; with CONFIG, those of CONFIG.
    """
    with console.handle_errors():
        if new_key is not None:
            _print_key(new_key)
            raise typer.Exit(console.OK)
        if config is not None and given:
            console.print_error("error: settings stand in CONFIG; leave out the other options")
            raise typer.Exit(console.USAGE)
        from rlm_ray.serve.launcher import load_serve_config, serve_forever

        site = load_serve_config(config) if config is not None else _site(given)
        site = replace(site, host=host or site.host, port=port or site.port)
        if keys_file is not None:
            site = replace(
                site, args=site.args.model_copy(update={"keys_file": str(Path(keys_file).absolute())})
            )
        if cors_origins:
            site = replace(site, args=site.args.model_copy(update={"cors_origins": cors_origins}))
        console.print_status(f"starting at {site.url}")
        serve_forever(site, lambda: console.print_status("ready (stop with Ctrl-C)"))
    raise typer.Exit(console.OK)


def _site(given: options.Overrides) -> LocalServer:
    from rlm_ray.serve.config import ServerConfig
    from rlm_ray.serve.launcher import LocalServer

    table = asdict(options.settings_of(given))
    run_dir = table.pop("run_dir")
    return LocalServer(ServerConfig(run_dir=run_dir, settings=table))


def _print_key(name: str) -> None:
    from rlm_ray.serve.api_keys import generate_key

    key, entry = generate_key(name)
    console.print_status(f"The key, shown only now:\n{key}\nIts entry under `keys:` in the file:")
    console.write(entry.rstrip("\n"))
