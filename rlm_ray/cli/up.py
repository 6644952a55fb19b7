"""`rlm-ray up` and `rlm-ray down`: a Ray of one's own that stays, so that questions begin at once; `shutdown` ends what stays on any cluster."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from rlm_ray.cli import console, options


@options.settings_options("model", "recursive_model")
def up(given: options.Overrides) -> None:
    """Start Ray on this machine and keep it, with session actors ready: later runs begin at once.

    Nobody else can use it. It has the keys of this environment; `rlm-ray down` ends it.
    """
    with console.handle_errors():
        settings = options.settings_of(given)
        from rlm_ray.cluster.local_cluster import find_keeper, start_keeper

        if (keeper := find_keeper()) is not None:
            console.print_status(f"a cluster is up at {keeper.address} already; `rlm-ray down` ends it")
            raise typer.Exit(console.OK)
        console.print_status("starting Ray, which takes some seconds")
        keeper = start_keeper(settings.cluster, settings.all_models())
        console.print_status(f"up at {keeper.address}; runs of this machine use it until `rlm-ray down`")
    raise typer.Exit(console.OK)


def down() -> None:
    """End the Ray that `rlm-ray up` keeps, and what runs on it."""
    with console.handle_errors():
        from rlm_ray.cluster.local_cluster import end_keeper

        console.print_status("ended" if end_keeper() else "no cluster is up")
    raise typer.Exit(console.OK)


Force = Annotated[
    bool, typer.Option("--force", help="Also while runs are under way; they fail or lose records.")
]
AllVersions = Annotated[
    bool,
    typer.Option(
        "--all-versions", help="Also those of other versions of rlm_ray, whose runs cannot be asked for."
    ),
]


def shutdown(
    *, force: Force = False, all_versions: AllVersions = False, sets: options.SetOption = None
) -> None:
    """End the admission, journals, caches and run registries that rlm_ray keeps on a running cluster.

    Refused while runs are under way. The next run starts them again.
    """
    with console.handle_errors():
        from rlm_ray.cluster.detached_actor import end_detached_actors

        address = options.settings_of(options.given_of(sets)).cluster.address
        ended = asyncio.run(end_detached_actors(address, force=force, all_versions=all_versions))
        for name in ended:
            console.write(name)
        console.print_status(
            f"ended {len(ended)} detached actors" if ended else "there are no detached actors to end"
        )
    raise typer.Exit(console.OK)
