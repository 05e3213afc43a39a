"""Step 14: releases in this member's folder, pulled with its own token and verified before torch sees a byte."""

from __future__ import annotations

from collections.abc import Callable

from participant.enrol import read_link
from participant.home import Home
from shared.domain.clock import SystemClock
from shared.domain.crash_points import crash_point
from shared.domain.errors import NotFound
from shared.release.hub_client import connect, pull
from shared.verification import VerifiedRelease, verify_release


def pull_release(
    home: Home, wanted: str | None, progress: Callable[[str, int, int], None] = lambda *_: None
) -> VerifiedRelease:
    """Bring a release into releases/<id>/, verified under the root key that this member pinned when it joined."""
    link = read_link(home.root)
    clock = SystemClock()
    store = connect(link.url, home.releases, link.ca_sha256, clock)
    pulled = pull(
        store,
        wanted,
        home.releases,
        lambda folder, root: verify_release(folder, pinned_root=root, clock=clock),
        clock,
        progress,
        link.token,
    )
    crash_point("14")
    return pulled.verified


def open_release(home: Home, name: str) -> VerifiedRelease:
    """A release in this folder, verified again; pulled first where it is not here yet.

    Raises NotFound where nobody has it, and NotTrusted leaves when it was touched.
    """
    folder = home.releases / name
    if not folder.is_dir():
        return pull_release(home, name)
    # It was verified here while its trust document was in date, so a later expiry takes nothing from it.
    root = read_link(home.root).root_public_key
    return verify_release(folder, pinned_root=root, clock=SystemClock(), allow_expired=True)


def open_release_of(home: Home, manifest_digest: str) -> VerifiedRelease:
    """The pulled release with this manifest, verified again. Raises NotFound."""
    for folder in sorted(p for p in home.releases.glob("*-*") if p.is_dir()):
        release = open_release(home, folder.name)
        if release.manifest_digest == manifest_digest:
            return release
    raise NotFound(f"The release {manifest_digest[:23]}… is not in this folder. Pull it first.")
