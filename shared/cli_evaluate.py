"""`commonlens diff|reproduce`: what changed between two releases, and whether what one states of itself holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from shared.cli_verified import AllowExpired, Root, say_if_unpinned, verified
from shared.console import one_line, terminal
from shared.domain.errors import Invalid, InvalidWeights, ProofFailed
from shared.domain.strict import to_plain

if TYPE_CHECKING:
    from shared.evaluation.claims import Claim
    from shared.verification import VerifiedExtractor

_NAMED_AT_MOST = 5


def add_evaluate_commands(app: typer.Typer) -> None:
    """`commonlens` shows them beside its own."""
    app.command("diff")(diff)
    app.command("reproduce")(reproduce)


def diff(
    before: Annotated[Path, typer.Argument(metavar="DIR_A", help="Folder of the release before.")],
    after: Annotated[Path, typer.Argument(metavar="DIR_B", help="Folder of the one to compare with it.")],
    root: Root = None,
    allow_expired: AllowExpired = False,
    classes: Annotated[
        bool, typer.Option("--classes", help="Every class of every question, also where nothing changed.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="The same for machines, as one JSON object: always with every class."),
    ] = False,
) -> None:
    """What two releases tell, take for alike, cost in ε, weigh and do a second, on public records."""
    from shared.evaluation.difference_page import print_difference
    from shared.evaluation.release_difference import compare_releases

    first, second = (_verified(folder, root, allow_expired) for folder in (before, after))
    try:
        found = compare_releases(first, before, second, after)
    except InvalidWeights as error:
        raise ProofFailed(error.message) from error
    if as_json:
        typer.echo(json.dumps(to_plain(found), ensure_ascii=False, allow_nan=False, indent=2))
        return
    print_difference(found, terminal(highlight=False), classes)


def reproduce(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of one release.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Also your own records, best more than 20 a class: a folder with one folder of pictures (or of files "
            "with one text a line) for each class; for texts also a CSV with the columns text and label.",
        ),
    ] = None,
    root: Root = None,
    allow_expired: AllowExpired = False,
) -> None:
    """Measure again what a release states of itself. Exit code 3 names the claims that do not hold."""
    from shared.evaluation.own_data import own_classes, probe_own
    from shared.evaluation.reproduction import reproduce as claims_of

    release = _verified(directory, root, allow_expired)
    # First, so that nobody waits for what ends in an error.
    classes = None if data is None else own_classes(data, release.spec)
    show = _Lines()
    try:
        judged = [show(claim) for claim in claims_of(release, directory)]
        if classes is not None:
            judged += [show(claim) for claim in probe_own(release, directory, classes)]
    except InvalidWeights as error:
        raise ProofFailed(error.message) from error
    _conclude(release, judged)


class _Lines:
    """Prints a claim a line as it is judged, under the name of its part."""

    def __init__(self) -> None:
        self._console = terminal(highlight=False, soft_wrap=True)
        self._part = ""

    def __call__(self, claim: Claim) -> Claim:
        if claim.part != self._part:
            self._console.print(Text(f"{'' if not self._part else chr(10)}{claim.part}", style="bold"))
            self._part = claim.part
        mark, style = {True: ("✓", "green"), False: ("✗", "red"), None: ("·", "dim")}[claim.holds]
        line = Text(f"{mark} ", style=style)
        line.append(f"{one_line(claim.what)}: ", style="not bold default")
        line.append(one_line(_said(claim)), style="not bold default")
        self._console.print(line)
        return claim


def _said(claim: Claim) -> str:
    if claim.holds is None:
        return claim.claimed or claim.found
    if claim.within == "equal" and claim.holds:
        return claim.claimed
    verdict = "" if claim.holds else ": does not hold"
    return f"claimed {claim.claimed}, found {claim.found}, {claim.within}{verdict}"


def _conclude(release: VerifiedExtractor, claims: list[Claim]) -> None:
    name = release.manifest.release
    judged = [claim for claim in claims if claim.holds is not None]
    wrong = [claim for claim in judged if not claim.holds]
    if not claims:
        raise Invalid(
            f"{name} states no number that could be measured again: it has neither measured.json nor lens.json. Its "
            "proofs hold. Give records of your own with --data."
        )
    if wrong:
        named = "; ".join(f"{claim.part}, {claim.what}" for claim in wrong[:_NAMED_AT_MOST])
        does = "does" if len(wrong) == 1 else "do"
        more = f"; and {len(wrong) - _NAMED_AT_MOST} more" if len(wrong) > _NAMED_AT_MOST else ""
        raise ProofFailed(
            f"{len(judged)} claims of {name} were measured again, {len(wrong)} {does} not hold: {named}{more}. "
            "Nothing was changed. Do not rely on it; ask whoever published it."
        )
    terminal(highlight=False, soft_wrap=True).print(
        Text(f"\nAll {len(judged)} claims of {name} that can be judged here hold.")
    )


def _verified(directory: Path, root: str | None, allow_expired: bool) -> VerifiedExtractor:
    release = verified(directory, root, allow_expired)
    if not release.pinned:
        say_if_unpinned(release, on_stderr=True)
    return release
