"""`commonlens`: what anybody may do with a release — choose, pull, verify offline, embed images or texts."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.text import Text

from shared.cli_evaluate import add_evaluate_commands
from shared.cli_library import add_library_commands
from shared.cli_verified import AllowExpired, Root, say_if_unpinned, verified
from shared.console import one_line, plain, run, terminal
from shared.domain.clock import SystemClock
from shared.domain.errors import Invalid
from shared.release.promise import alone_text, epsilon_text

if TYPE_CHECKING:
    from shared.release.hub_client import Progress as ProgressTold
    from shared.verification import VerifiedExtractor

app = typer.Typer(
    name="commonlens",
    help="Pull, verify and use the shared extractors that a consortium released.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Entry point of the `commonlens` command."""
    run(app)


@app.command()
def version() -> None:
    """Show the installed version."""
    typer.echo(importlib.metadata.version("commonlens"))


@app.command()
def verify(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of one release.")],
    root: Root = None,
    allow_expired: AllowExpired = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say who took part, what each spent, and what that means.")
    ] = False,
    rounds: Annotated[
        bool, typer.Option("--rounds", help="With every round on a line of its own (implies --explain).")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The same for machines, as one JSON object.")
    ] = False,
) -> None:
    """Check every proof of a release, offline. Exit code 3 names the proof that failed."""
    release = verified(directory, root, allow_expired)
    if explain or rounds or as_json:
        _explain(release, every_round=rounds, as_json=as_json)
        return
    _show_proofs(release)
    say_if_unpinned(release, on_stderr=False)


@app.command()
def pull(
    url: Annotated[str, typer.Argument(metavar="URL", help="The coordinator, https://…")],
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="A release (digits-3), an extractor (digits: its newest) or a channel (digits@stable).",
        ),
    ] = None,
    ca_fingerprint: Annotated[
        str | None,
        typer.Option("--ca-fingerprint", help="sha256:… of the consortium's CA; needed the first time."),
    ] = None,
    to: Annotated[Path, typer.Option("--to", help="Folder that gets one folder for each release.")] = Path(
        "releases"
    ),
    token: Annotated[
        str | None,
        typer.Option(
            envvar="COMMONLENS_TOKEN", help="For a registry that is not public; better set than typed."
        ),
    ] = None,
) -> None:
    """Download a release, verify it, and only then show it. Cut off, the next call goes on where this one was.

    The pin, and what came of a release that is not whole yet, are kept in DIR/.commonlens.
    """
    from shared.release import hub_client
    from shared.verification import verify_extractor

    clock = SystemClock()

    def check(folder: Path, pinned_root: str) -> VerifiedExtractor:
        return verify_extractor(folder, pinned_root=pinned_root, clock=clock)

    store = hub_client.connect(url, to, ca_fingerprint, clock)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=terminal(stderr=True),
        transient=True,
    ) as bar:
        pulled = hub_client.pull(store, name, to, check, clock, _shown_on(bar), token)
    _show_proofs(pulled.verified)
    here = "was here already and still holds" if pulled.downloaded_bytes == 0 else "is now"
    console = terminal(highlight=False, soft_wrap=True)
    console.print(Text(f"{pulled.entry.id} {here} in {pulled.folder}. Root: {store.state.pinned_root}"))
    if pulled.warning:
        terminal(stderr=True, soft_wrap=True).print(Text(f"! {pulled.warning}", style="bold"))
    if pulled.resumed_bytes:
        console.print(
            Text(
                f"It went on after {decimal(pulled.resumed_bytes)} that an earlier pull had brought; "
                f"{decimal(pulled.downloaded_bytes)} came now."
            )
        )


@app.command()
def embed(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of one release.")],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES...",
            help="Images, or folders of them; for an extractor of texts, files with one text a line, or - for stdin.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="FILE.npy (float32, one row an image or text) or FILE.csv; CSV on stdout if not given.",
        ),
    ] = None,
    root: Root = None,
    allow_expired: AllowExpired = False,
) -> None:
    """Verify a release, then turn images or texts into embeddings with it, on this machine."""
    from shared.embedding import check_output, embed_given, given_in, write_embeddings

    check_output(out)
    release = verified(directory, root, allow_expired)
    if not release.pinned:
        say_if_unpinned(release, on_stderr=True)
    given = given_in(files, release.spec)
    write_embeddings([one.name for one in given], embed_given(release, given), out)


add_library_commands(app)
add_evaluate_commands(app)


def _shown_on(bar: Progress) -> ProgressTold:
    task = bar.add_task("catalogue", total=None)
    before = 0

    def show(file: str, done: int, total: int, resumed: int) -> None:
        nonlocal before
        if resumed != before:
            # What was here already has no speed.
            bar.reset(task, total=total, completed=done)
            before = resumed
        where = f"{file}, after {decimal(resumed)} from before" if resumed else file
        bar.update(task, description=where, completed=done, total=total)

    return show


def _explain(release: VerifiedExtractor, *, every_round: bool, as_json: bool) -> None:
    from shared.explanation import explain as explain_release
    from shared.explanation_page import print_explanation
    from shared.verification import VerifiedRelease

    if not isinstance(release, VerifiedRelease):
        raise Invalid(
            f"{release.manifest.release} was not trained here: it saw no member's records, so there is nobody's ε to "
            "explain. All its proofs hold. Leave out --explain."
        )
    facts = explain_release(release)
    if as_json:
        typer.echo(json.dumps(facts.as_plain(), ensure_ascii=False, allow_nan=False, indent=2))
        return
    print_explanation(facts, terminal(highlight=False), every_round=every_round)


def _show_proofs(release: VerifiedExtractor) -> None:
    from shared.verification import VerifiedRelease

    console = terminal(highlight=False, soft_wrap=True)
    for proof in release.proofs:
        line = Text("✓ ", style="green")
        line.append(proof.name, style="bold default")
        line.append(f": {plain(proof.line)}", style="not bold default")
        console.print(line)
    console.print()
    if not isinstance(release, VerifiedRelease):
        console.print(Text("  Not trained here: it saw no member's records, so there is no ε."))
        return
    unit = release.plan.privacy.unit.value
    for member in release.certificate.members:
        numbers = ", ".join(
            f"ε {epsilon_text(r.claimed)} at δ {r.delta:g} ({alone_text(r.claimed, r.alone_claimed)})"
            for r in release.recomputed[member.member_id]
        )
        console.print(Text(f"  {one_line(member.name)}: {numbers} (add or remove one {unit})"))
