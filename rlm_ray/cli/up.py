"""`rlm-ray up` and `rlm-ray down`: a Ray of one's own that stays, so that questions begin at once."""

from __future__ import annotations

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
