"""`commonlens-coordinator library`: extractors that nobody trained here, from the first day on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.operator import Operator
from shared.domain.clock import SystemClock
from shared.extractors.standard_entries import STANDARD_EXTRACTORS

app = typer.Typer(
    no_args_is_help=True, help="Standard extractors: classical, random, public pretrained ones."
)
Home = Annotated[
    Path,
    typer.Option("--home", envvar="COMMONLENS_COORDINATOR_HOME", help="The coordinator's folder."),
]


@app.command("list")
def list_standard() -> None:
    """The standard extractors that this software can put into the library, and what some of them need first."""
    for entry in STANDARD_EXTRACTORS.values():
        typer.echo(f"{entry.name:<20} {entry.kind:<10} {entry.missing}".rstrip())


@app.command()
def add(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAMES...]", help="Which; where none is named, all that can be made here."),
    ] = None,
    home: Home = Path(),
) -> None:
    """Make standard extractors on this machine, and publish each as a signed release with card and lens profile."""
    from coordinator.registry.service import ReleaseService
    from coordinator.storage.database import open_database
    from coordinator.workers.export import export_of

    config = Operator(home).config
    service = ReleaseService(home, open_database(config.database(home)), SystemClock())
    for name, entry in STANDARD_EXTRACTORS.items():
        if not names and not entry.needs.installed:
            typer.echo(f"{name}: {entry.missing}")
    for name in names or [name for name, entry in STANDARD_EXTRACTORS.items() if entry.needs.installed]:
        typer.echo(service.keep_standard(name, "operator", export_of(config)))
