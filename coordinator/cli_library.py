"""`commonlens-coordinator library`: extractors that nobody trained here, from the first day on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from coordinator.config import CONFIG_FILE
from coordinator.operator import Operator
from shared.domain.clock import SystemClock
from shared.domain.release import CatalogueEntry
from shared.extractors.standard_entries import STANDARD_EXTRACTORS, standard_extractor

app = typer.Typer(
    no_args_is_help=True, help="Standard extractors: classical, random, public pretrained ones."
)
Home = Annotated[
    Path,
    typer.Option("--home", envvar="COMMONLENS_COORDINATOR_HOME", help="The coordinator's folder."),
]


@app.command("list")
def list_standard(home: Home = Path()) -> None:
    """The standard extractors that this software can put into the library, and what some of them need first.

    In a coordinator's folder also which are in its library already.
    """
    there = {}
    for one in _releases(home) if (home / CONFIG_FILE).exists() else ():
        there[one.extractor_name] = f"{one.id}, withdrawn" if one.yanked else one.id
    for name, entry in STANDARD_EXTRACTORS.items():
        typer.echo(f"{name:<20} {entry.kind:<10} {there.get(name, entry.missing)}".rstrip())


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
    for name in names or ():
        standard_extractor(name)  # all of them before the first is made
    for name, entry in STANDARD_EXTRACTORS.items():
        if not names and not entry.needs.installed:
            typer.echo(f"{name}: {entry.missing}")
    there = {one.id for one in _releases(home)}
    for name in names or [name for name, entry in STANDARD_EXTRACTORS.items() if entry.needs.installed]:
        release = service.keep_standard(name, "operator", export_of(config))
        typer.echo(f"{release}{'  (was there)' if release in there else ''}")


def _releases(home: Path) -> Sequence[CatalogueEntry]:
    """Whatever is in that coordinator's catalogue."""
    from coordinator.registry.shelf import Shelf, read_catalogue

    return read_catalogue(Shelf(home), SystemClock()).releases
