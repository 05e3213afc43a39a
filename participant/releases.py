"""Step 14: releases in this member's folder, pulled with its own token and verified before torch sees a byte."""

from __future__ import annotations

from pathlib import Path

from participant.enrol import read_link
from participant.home import Home
from participant.seen_weights import SeenWeights
from shared.domain.clock import SystemClock
from shared.domain.crash_points import crash_point
from shared.domain.errors import CertificateWrong, Invalid, NotFound
from shared.domain.release import MANIFEST_FILE
from shared.privacy.ledger import Ledger
from shared.release import limits
from shared.release.certificate import group_events, spends
from shared.release.envelope import read_document
from shared.release.hub_client import STATE_FILE, STATE_FOLDER, Progress, Pulled, connect, pull
from shared.release.manifest import parse_manifest
from shared.release.store import TrustStore
from shared.verification import VerifiedExtractor, VerifiedRelease, verify_extractor


def pull_release(
    home: Home, wanted: str | None, progress: Progress = lambda *_: None
) -> Pulled[VerifiedExtractor]:
    """Bring a release into releases/<id>/, verified under the root key that this member pinned when it joined."""
    link = read_link(home.root)
    clock = SystemClock()
    store = connect(link.url, home.releases, link.ca_sha256, clock)
    pulled = pull(
        store,
        wanted,
        home.releases,
        lambda folder, root: verify_extractor(folder, pinned_root=root, clock=clock),
        clock,
        progress,
        link.token,
    )
    crash_point("14")
    _check(home, pulled.verified)
    return pulled


def check_against_ledger(home: Home, release: VerifiedRelease) -> None:
    """Raise CertificateWrong where the certificate owns up to less than this member was charged, or has it in a round
    that its ledger does not know.

    A stranger has to believe the publisher about which rounds there were. A member need not: its own ledger
    knows what it paid for, in the release's own run and in those behind it. A list that ends before the last
    rounds is for `SeenWeights.check`.
    """
    member_id, ledger = read_link(home.root).member_id, Ledger.read(home.ledger)
    paid = {(e.charge.run_id, e.charge.round_number) for e in ledger.entries() if e.charge is not None}
    for link in release.line:
        run_id, rounds = link.certificate.run_id, link.certificate.rounds
        for cohort in rounds:
            # Under a run's name that was made up, nothing below would be found to compare with.
            if member_id in cohort.contributed and (run_id, cohort.number) not in paid:
                raise CertificateWrong(
                    f"{link.release}: the certificate has this member in the sum of round {cohort.number} of run "
                    f"{run_id}, and its ledger never paid for that. The publisher made something up. Keep the release "
                    "as evidence and tell the other members."
                )
        charged = group_events(ledger.charged_in(run_id, max(cohort.number for cohort in rounds)))
        own = spends(link.plan, rounds).get(member_id)
        listed = {(e.noise_multiplier, e.sampling_rate): e.count for e in own.events} if own else {}
        for event in charged:
            found = listed.get((event.noise_multiplier, event.sampling_rate), 0)
            if found < event.count:
                raise CertificateWrong(
                    f"{link.release}: this member's ledger paid for {event.count} steps at σ "
                    f"{event.noise_multiplier:g}, the certificate lists {found}. The publisher hides some. Keep "
                    "the release as evidence and tell the other members."
                )


def open_release(home: Home, name: str) -> VerifiedExtractor:
    """A release in this folder, verified again; pulled first where it is not here yet.

    Raises NotFound where nobody has it, NotTrusted leaves when it was touched, and CertificateWrong each time
    where it owns up to less than this member was charged: the folder is kept as evidence, not for use.
    """
    folder = home.releases / name
    if not folder.is_dir():
        return pull_release(home, name).verified
    # It was verified here while its trust document was in date, so a later expiry takes nothing from it.
    root = read_link(home.root).root_public_key
    release = verify_extractor(folder, pinned_root=root, clock=SystemClock(), allow_expired=True)
    _check(home, release)
    return release


def open_release_of(home: Home, manifest_digest: str) -> VerifiedExtractor:
    """The pulled release with this manifest, verified again; others may be broken. Raises as `open_release`."""
    for folder in sorted(p for p in home.releases.glob("*-*") if p.is_dir()):
        if _claimed_digest(folder) == manifest_digest:
            return open_release(home, folder.name)
    raise NotFound(f"The release {manifest_digest[:23]}… is not in this folder. Pull it first.")


def _check(home: Home, release: VerifiedExtractor) -> None:
    if isinstance(release, VerifiedRelease):  # what no run trained cost nobody anything
        check_against_ledger(home, release)
        _check_behind(home, release)
        seen = SeenWeights(home.seen_weights)
        seen.check(release)
        seen.check_line(release)


def _check_behind(home: Home, release: VerifiedRelease) -> None:
    """Raise CertificateWrong where a release behind this one is another than the one of its name in this folder."""
    for behind, digest in release.behind.items():
        here = pulled_digest(home, behind)
        if here not in (None, digest):
            raise CertificateWrong(
                f"{release.manifest.release} composes {behind} with the manifest {digest[:23]}…, and the {behind} in "
                f"this folder has {str(here)[:23]}…: one name was given to two releases. Keep both as evidence and "
                "tell the other members."
            )


def withdrawn_mark(home: Home, manifest_digest: str) -> str:
    """ "withdrawn", and why, where the newest catalogue that this folder saw says so of the release; else "".

    Nobody is asked: heads work without a network.
    """
    try:
        store = TrustStore.open_or_none(home.releases / STATE_FOLDER / STATE_FILE)
    except Invalid:  # a head does not need that file; the next pull says what is wrong with it
        return ""
    if store is None:
        return ""
    reasons = [
        reason
        for release, reason in store.state.withdrawn.items()
        if store.state.releases.get(release) == manifest_digest
    ]
    return ": ".join(["withdrawn", *filter(None, reasons)]) if reasons else ""


def pulled_digest(home: Home, release: str) -> str | None:
    """Of the manifest of a release in this folder, by its name; None where it is not here."""
    folder = home.releases / release
    return _claimed_digest(folder) if folder.is_dir() else None


def _claimed_digest(folder: Path) -> str | None:
    """Of the manifest, before anything of it is proven; None where there is none."""
    try:
        return parse_manifest(read_document(folder / MANIFEST_FILE, limits.MANIFEST_BYTES)).digest
    except Invalid:
        return None
