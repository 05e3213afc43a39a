"""`commonlens-coordinator storage`: the object store for releases' large files, where coordinator.toml names one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.operator import Operator
from shared.domain.clock import SystemClock

app = typer.Typer(
    no_args_is_help=True, help="Where the large files of releases are: on this disk, or in an object store."
)
Home = Annotated[
    Path,
    typer.Option("--home", envvar="COMMONLENS_COORDINATOR_HOME", help="The coordinator's folder."),
]


@app.command()
def check(home: Home = Path()) -> None:
    """Write a few bytes into the store and read them back; the same is done at every start."""
    from coordinator.registry.storage_move import require_objects

    url = Operator(home).config.storage.url
    require_objects(home).try_out()
    typer.echo(f"{url} may be written and read.")


@app.command()
def move(
    home: Home = Path(),
    back: Annotated[
        bool, typer.Option("--back", help="From the store to this machine's disk; the objects stay there.")
    ] = False,
) -> None:
    """Move the large files of all releases into the store that coordinator.toml names; safe while the server runs."""
    from coordinator.registry.storage_move import move as move_all

    Operator(home).config  # noqa: B018 - refuses a folder that holds no coordinator
    total = 0
    for release, count in move_all(home, SystemClock(), back=back):
        total += count
        if count:
            typer.echo(f"{release}: {count}")
    typer.echo(f"{total} file(s) moved {'to this disk' if back else 'into the store'}.")
