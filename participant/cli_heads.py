"""`commonlens-participant head`: pull a release, fit a private linear head on it, predict with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from participant.home import Home
from shared.console import terminal

if TYPE_CHECKING:
    from shared.verification import VerifiedExtractor

app = typer.Typer(no_args_is_help=True, help="Private linear heads on released extractors; they stay here.")
HomeOption = Annotated[Path, typer.Option("--home", envvar="COMMONLENS_HOME", help="This member's folder.")]
out = terminal()


@app.command()
def pull(
    release: Annotated[
        str | None, typer.Argument(help="An id such as digits-3, or an extractor's name.")
    ] = None,
    home: HomeOption = Path(),
) -> None:
    """Pull a release into releases/ and verify it under the root key pinned when joining."""
    from participant.releases import pull_release

    pulled = pull_release(Home(home), release)
    verified = pulled.verified
    if pulled.warning:
        typer.echo(f"! {pulled.warning}", err=True)
    typer.echo(f"{verified.manifest.release}: {len(verified.proofs)} proofs hold, {verified.manifest_digest}")


@app.command()
def fit(
    release: Annotated[str, typer.Argument(help="A pulled release, such as digits-3.")],
    data: Annotated[str, typer.Option(help="Data set to fit on.")],
    name: Annotated[str, typer.Option(help="Name of the head.")],
    test: Annotated[
        str | None, typer.Option(help="Data set to measure on; left out: the held-out fifth of --data.")
    ] = None,
    home: HomeOption = Path(),
) -> None:
    """Fit a multinomial logistic head on frozen embeddings and measure it on held-out records."""
    from participant.heads.fitting import fit_on_release
    from participant.releases import open_release

    opened = open_release(Home(home), release)
    _warn_if_withdrawn(home, opened)
    head = fit_on_release(Home(home), opened, data, test, name)
    measured = head.accuracy
    shown = (
        "not measured"
        if measured is None
        else f"{measured.accuracy:.3f} ({measured.low:.3f} to {measured.high:.3f})"
    )
    typer.echo(f"{name}: {len(head.classes)} classes, {head.labels_fitted} labels, accuracy {shown}")


@app.command()
def predict(
    name: Annotated[str, typer.Argument(help="Name of the head.")],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES...",
            help="Images, or folders of them; for an extractor of texts, files with one text a line, or - for stdin.",
        ),
    ],
    home: HomeOption = Path(),
) -> None:
    """Classify images or texts: the likeliest class and its probability, one line each."""
    from participant.heads.fitting import predict_files
    from participant.heads.store import load_head
    from participant.releases import open_release_of

    head = load_head(home, name)
    release = open_release_of(Home(home), head.release_digest)
    _warn_if_withdrawn(home, release)
    for what, label, probability in predict_files(Home(home), head, release, files):
        typer.echo(f"{what}\t{label}\t{probability:.3f}")


@app.command()
def compare(
    release: Annotated[str, typer.Argument(help="A pulled release, such as digits-3.")],
    data: Annotated[str, typer.Option(help="Data set to fit heads on.")],
    test: Annotated[str, typer.Option(help="Data set to measure them on.")],
    unseen: Annotated[str | None, typer.Option(help="A few labels of classes nobody trained on.")] = None,
    unseen_test: Annotated[str | None, typer.Option(help="Data set to measure those on.")] = None,
    public: Annotated[
        str | None,
        typer.Option(help="A release of the library to stand beside it, such as efficientnet-lite0-1."),
    ] = None,
    home: HomeOption = Path(),
) -> None:
    """What the consortium is worth here, against raw pixels, fixed features, a public backbone and training alone.

    Of pictures with more than 4,096 numbers the head on raw pixels is given the means of square blocks, and the table
    says how large: "7×7 means". The numbers are written to comparison.json in this folder and nowhere else.
    """
    from participant.comparison import Task
    from participant.comparison import compare as compare_ways
    from participant.releases import open_release
    from shared.domain.files import write_json
    from shared.domain.strict import to_plain
    from shared.verification import VerifiedRelease

    opened = open_release(Home(home), release)
    _warn_if_withdrawn(home, opened)
    found = compare_ways(
        Home(home),
        opened,
        Task(data, test),
        Task(unseen, unseen_test) if unseen and unseen_test else None,
        open_release(Home(home), public) if public else None,
        out.print,
    )
    write_json(home / "comparison.json", to_plain(found))
    # A release of the library is not the consortium's work.
    this = "consortium" if isinstance(opened, VerifiedRelease) else release
    words = {"raw_pixels": found.raw_numbers, "public": public, "unseen_public": f"unseen {public}"}
    words |= {"consortium": this, "unseen_consortium": f"unseen {this}"}
    for way, accuracy in to_plain(found).items():
        if isinstance(accuracy, list):
            called = words.get(way) or way.replace("_", " ")
            typer.echo(f"{called:<24}{accuracy[0]:.3f}  ({accuracy[1]:.3f} to {accuracy[2]:.3f})")


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="Name of the head.")],
    to: Annotated[Path, typer.Option(help="JSON file to write, in place of what is there.")],
    home: HomeOption = Path(),
) -> None:
    """Write a head as one JSON file that any language can apply (docs/formats.md).

    It was fitted on this member's records without noise: hand it to nobody who may not learn of them.
    """
    from participant.heads.head_file import head_file, write_head_file
    from participant.heads.store import load_head
    from participant.releases import open_release_of

    head = load_head(home, name)
    release = open_release_of(Home(home), head.release_digest)
    _warn_if_withdrawn(home, release)
    write_head_file(to, head_file(head, release))
    typer.echo(f"{name}: {len(head.classes)} labels on {release.manifest.release}, in {to}")


@app.command("list")
def list_all(home: HomeOption = Path()) -> None:
    """All heads of this member, and of which the release was withdrawn, as the last pull saw it."""
    from participant.heads.store import list_heads, load_head
    from participant.releases import withdrawn_mark

    if not (names := list_heads(home)):
        typer.echo("There is no head here yet. Fit one: commonlens-participant head fit --help", err=True)
    for name in names:
        head = load_head(home, name)
        mark = withdrawn_mark(Home(home), head.release_digest)
        typer.echo(f"{name}  {len(head.classes)} classes  on {head.release_digest}  {mark}".rstrip())


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="Name of the head.")],
    home: HomeOption = Path(),
) -> None:
    """Delete a head. The release that it was fitted on stays."""
    from participant.heads.store import remove_head

    remove_head(home, name)
    typer.echo(f"{name} is removed")


def _warn_if_withdrawn(home: Path, release: VerifiedExtractor) -> None:
    from participant.releases import withdrawn_mark

    mark = withdrawn_mark(Home(home), release.manifest_digest)
    if mark:
        typer.echo(
            f"! {release.manifest.release} was {mark.rstrip('.')}. Heads on it work as before. Pull another release "
            "and fit the head again.",
            err=True,
        )
