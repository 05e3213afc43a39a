"""`commonlens list|search|show|compare`: choose an extractor by looking, before anything large is downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.filesize import decimal
from rich.markdown import Markdown
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from shared.console import one_line, plain, terminal
from shared.domain.clock import SystemClock
from shared.domain.errors import Invalid
from shared.domain.files import write_atomically

if TYPE_CHECKING:
    from shared.library_facts import Facts
    from shared.release.library import Library

Url = Annotated[str, typer.Argument(metavar="URL", help="The coordinator, https://…")]
Name = Annotated[
    str,
    typer.Argument(
        help="An extractor (digits: its newest), a channel (digits@stable) or a release (digits-3)."
    ),
]
Fingerprint = Annotated[
    str | None,
    typer.Option("--ca-fingerprint", help="sha256:… of the consortium's CA; needed the first time."),
]
Folder = Annotated[Path, typer.Option("--to", help="The folder that pull uses: the pin is kept in it.")]
Token = Annotated[
    str | None,
    typer.Option(envvar="COMMONLENS_TOKEN", help="For a registry that is not public; better set than typed."),
]
RELEASES = Path("releases")
MOST_COMPARED = 3
MOST_WITHDRAWN = 12
"""Named below a list."""
MOST_DRAWN_CHARACTERS = 256 * 1024
"""Of a card; a longer one is printed as it is, since drawing a wide table takes minutes."""


def add_library_commands(app: typer.Typer) -> None:
    """`commonlens` shows them beside its own."""
    for command, name in (
        (list_extractors, "list"),
        (search, "search"),
        (show, "show"),
        (compare, "compare"),
    ):
        app.command(name)(command)


def list_extractors(
    url: Url, ca_fingerprint: Fingerprint = None, to: Folder = RELEASES, token: Token = None
) -> None:
    """Every extractor of a coordinator's library, with what each sees. Nothing large is downloaded."""
    from shared.library_facts import newest

    with _library(url, ca_fingerprint, to, token) as library:
        _list(newest(library), "The library offers no extractor.")
        _list_withdrawn(library)


def search(
    url: Url,
    words: Annotated[
        list[str], typer.Argument(help="All of them must be in the name, the kind or the card.")
    ],
    ca_fingerprint: Fingerprint = None,
    to: Folder = RELEASES,
    token: Token = None,
) -> None:
    """The extractors whose card has all these words; of what a lens profile asks, such as texture, the best first."""
    from shared.library_facts import matching, newest

    with _library(url, ca_fingerprint, to, token) as library:
        _list(matching(newest(library), words), "No extractor has all these words. Try fewer.")


def show(
    url: Url,
    name: Name,
    ca_fingerprint: Fingerprint = None,
    to: Folder = RELEASES,
    token: Token = None,
) -> None:
    """One release: its card, its channels, and the changelog of the line that it stands in."""
    from shared.library_facts import facts_of
    from shared.release.card import body_of

    with _library(url, ca_fingerprint, to, token) as library:
        facts = facts_of(library, library.find(name))
        _warn_of_withdrawn(library, [facts])
        console = terminal(highlight=False)
        console.print(_Drawn(body_of(facts.card)))
        console.print()
        for line in _line_of_releases(library, facts):
            console.print(Text(line))


def compare(
    url: Url,
    names: Annotated[list[str], typer.Argument(help="Two or three extractors, channels or releases.")],
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Also draw their lens profiles, as FILE.svg.")
    ] = None,
    ca_fingerprint: Fingerprint = None,
    to: Folder = RELEASES,
    token: Token = None,
) -> None:
    """What two or three extractors see, side by side."""
    from shared.lens.picture import draw
    from shared.library_facts import facts_of

    if not 2 <= len(names) <= MOST_COMPARED:
        raise Invalid(
            f"Two or three extractors can be compared, not {len(names)}. Nothing was done. Name them after the address."
        )
    with _library(url, ca_fingerprint, to, token) as library:
        every = [facts_of(library, library.find(name)) for name in names]
        _warn_of_withdrawn(library, every)
    _compare(every)
    if picture is not None:
        drawn = draw([(facts.entry.id, facts.profile) for facts in every if facts.profile is not None])
        write_atomically(picture, drawn.encode("utf-8"), mode=0o644)


class _Drawn:
    """Somebody else's Markdown, drawn; what a terminal would obey is taken out of what is drawn.

    Before that would not do: `&#x202e;` is a character that turns the direction of writing.
    """

    def __init__(self, text: str) -> None:
        self._what = Markdown(text, hyperlinks=False) if len(text) <= MOST_DRAWN_CHARACTERS else Text(text)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for part in console.render(self._what, options):
            yield Segment(plain(part.text), part.style)


@contextmanager
def _library(url: str, fingerprint: str | None, to: Path, token: str | None) -> Iterator[Library]:
    from shared.release.library import open_library

    with open_library(url, to, fingerprint, SystemClock(), token) as library:
        yield library


def _list(every: list[Facts], nothing: str) -> None:
    console = terminal(highlight=False)
    if not every:
        console.print(nothing)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("release", "kind", "channels", "weights"):
        table.add_column(heading, justify="right" if heading == "weights" else "left")
    table.add_column("what it is for and sees, what is new", ratio=1)
    for facts in every:
        table.add_row(
            Text(facts.entry.id),
            facts.kind,
            Text(", ".join(facts.channels)),
            decimal(facts.weights_bytes),
            Text("\n".join([*_purpose(facts), one_line(facts.sees) or "not measured", *_news(facts)])),
        )
    console.print(table)


def _list_withdrawn(library: Library) -> None:
    """What nobody should rely on any more, and why: who has one of them sees it here."""
    gone = library.catalogue.withdrawn
    for entry in gone[:MOST_WITHDRAWN]:
        typer.echo(f"Withdrawn: {entry.id}{entry.because}")
    if len(gone) > MOST_WITHDRAWN:
        typer.echo(f"and {len(gone) - MOST_WITHDRAWN} more that were withdrawn; show NAME has them")


def _warn_of_withdrawn(library: Library, shown: list[Facts]) -> None:
    from shared.release.hub_client import withdrawal_warning

    for facts in shown:
        if facts.entry.yanked:
            typer.echo(f"! {withdrawal_warning(library.catalogue, facts.entry)}", err=True)


def _purpose(facts: Facts) -> list[str]:
    return [f"For: {one_line(facts.purpose)}"] if facts.purpose else []


def _news(facts: Facts) -> list[str]:
    """The first of its notes, and how many more there are."""
    notes = facts.about.notes
    more = f" (and {len(notes) - 1} more)" if len(notes) > 1 else ""
    return [f"New: {one_line(notes[0])}{more}"] if notes else []


def _line_of_releases(library: Library, shown: Facts) -> Iterator[str]:
    """The changelog, with channels and what was withdrawn."""
    from shared.library_facts import changelog

    name = shown.entry.extractor_name
    pointing, changes = library.catalogue.channels_of(name), changelog(library, name)
    for change in changes:
        entry = change.entry
        channels = ", ".join(channel for channel, found in pointing.items() if found.id == entry.id)
        marks = [channels] if channels else []
        marks += [f"withdrawn{entry.because}"] if entry.yanked else []
        marks += ["this one"] if entry.id == shown.entry.id else []
        yield f"{entry.id}  {change.created_at[:10]}  {entry.manifest_digest[:23]}…  {'; '.join(marks)}".rstrip()
        yield from (f"  - {one_line(what)}" for what in change.what)
    older = sum(entry.extractor_name == name for entry in library.catalogue.releases) - len(changes)
    if older:
        yield f"and {older} before {changes[-1].entry.id}"


def _compare(every: list[Facts]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for facts in every:
        mark = " (withdrawn)" if facts.entry.yanked else ""
        table.add_column(Text(facts.entry.id + mark), justify="right")
    profiles = [facts.profile for facts in every]
    table.add_row("kind", *(facts.kind for facts in every))
    dims = (facts.embedding_dim for facts in every)
    table.add_row("numbers in an embedding", *("–" if dim is None else str(dim) for dim in dims))
    table.add_row("weights", *(decimal(facts.weights_bytes) for facts in every))
    known = [p for p in profiles if p is not None]
    if known:
        table.add_section()
        for k, move in enumerate(known[0].moves):
            cells = ("–" if p is None else f"{p.moves[k].distance:.2f}" for p in profiles)
            table.add_row(f"moves under {move.change}", *cells)
        table.add_section()
        for k, probe in enumerate(known[0].tells):
            cells = ("–" if p is None else f"{100 * p.tells[k].accuracy:.0f} %" for p in profiles)
            table.add_row(f"tells {probe.question} (chance {100 * probe.chance:.0f} %)", *cells)
    terminal(highlight=False).print(table)
    typer.echo(
        "Moves: 0 is not at all, 1 as far as to another photograph. Tells: of a linear probe's answers."
    )
