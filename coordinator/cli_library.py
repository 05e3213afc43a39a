"""`commonlens-coordinator library`: extractors that nobody trained here, from the first day on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.operator import Operator
from shared.domain.clock import SystemClock

app = typer.Typer(
    no_args_is_help=True, help="Standard extractors: classical, random, public pretrained ones."
)
Home = Annotated[
    Path,
    typer.Option("--home", envvar="COMMONLENS_COORDINATOR_HOME", help="The coordinator's folder."),
]


@app.command("list")
def list_standard() -> None:
    """The standard extractors that this software can put into the library."""
    from coordinator.registry.standard import standard_names

    for name in standard_names():
        typer.echo(name)


@app.command()
def add(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAMES...]", help="Which; all of them where none is named.")
    ] = None,
    home: Home = Path(),
) -> None:
    """Make standard extractors on this machine, and publish each as a signed release with card and lens profile."""
    from coordinator.registry.build import weights_only
    from coordinator.registry.service import ReleaseService
    from coordinator.registry.standard import standard_names
    from coordinator.storage.database import open_database
    from coordinator.workers.export import run_export

    config = Operator(home).config
    service = ReleaseService(home, open_database(config.database(home)), SystemClock())
    export = run_export if config.exports else weights_only
    for name in names or standard_names():
        typer.echo(service.keep_standard(name, "operator", export))
