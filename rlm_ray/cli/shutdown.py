"""`rlm-ray shutdown`: end the lasting actors that rlm_ray leaves on a cluster."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from rlm_ray.cli import console, options

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
        from rlm_ray.cluster.services.detached_actor import end_lasting_actors

        address = options.settings_of(options.given_of(sets)).cluster.address
        ended = asyncio.run(end_lasting_actors(address, force=force, all_versions=all_versions))
        for name in ended:
            console.write(name)
        console.print_status(
            f"ended {len(ended)} lasting actors" if ended else "there are no lasting actors to end"
        )
    raise typer.Exit(console.OK)
