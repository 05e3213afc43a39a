"""The folder of a release as commands take it: verified first, and said whose word that rests on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from shared.console import terminal
from shared.domain.clock import SystemClock
from shared.domain.errors import Invalid, InvalidWeights, ProofFailed

if TYPE_CHECKING:
    from shared.verification import VerifiedExtractor

Root = Annotated[
    str | None,
    typer.Option("--root", help="The consortium's root key (64 hex digits) or root fingerprint (sha256:…)."),
]
AllowExpired = Annotated[
    bool,
    typer.Option(
        "--allow-expired", help="Accept a trust file whose time is over; all other proofs must hold."
    ),
]


def verified(directory: Path, root: str | None, allow_expired: bool) -> VerifiedExtractor:
    """The release in `directory`. Raises Invalid where there is no folder, else as `verify_extractor`."""
    from shared.verification import verify_extractor

    if not directory.is_dir():
        raise Invalid(f"There is no folder {directory}. Nothing was checked. Give the folder of one release.")
    try:
        return verify_extractor(directory, pinned_root=root, clock=SystemClock(), allow_expired=allow_expired)
    except InvalidWeights as error:
        # To whoever verifies, weights that are none are a proof that failed: exit code 3 like the others.
        raise ProofFailed(error.message) from error


def say_if_unpinned(release: VerifiedExtractor, *, on_stderr: bool) -> None:
    """Under which root it was verified; without one, that the folder vouches only for itself."""
    console = terminal(stderr=on_stderr, highlight=False, soft_wrap=True)
    if release.pinned:
        console.print(Text(f"Verified: {release.manifest.release}, under the root that you gave."))
        return
    console.print(
        Text(
            "No root was given: the folder vouches only for itself. Anybody could have made such a folder. "
            f"Compare this root with the one your consortium gave you, or give it with --root: "
            f"{', '.join(release.trust.root.keys)}",
            style="yellow",
        )
    )
