"""What the release that a plan starts from cost its members, kept from the proposal to the plan's own release.

The release may lie in a folder that is gone by then, and its price belongs on the next one's certificate.
"""

from __future__ import annotations

from pathlib import Path

from shared.domain.errors import NotFound
from shared.domain.files import read_json, write_json
from shared.domain.plan import Plan, StartingRelease
from shared.domain.release import CERTIFICATE_FILE, MANIFEST_FILE, Manifest, Predecessor
from shared.domain.strict import build, to_plain
from shared.release import limits
from shared.release.certificate import parse_certificate
from shared.release.envelope import read_document, signed_part
from shared.release.lineage import open_predecessor
from shared.release.manifest import parse_manifest

_ENDING = ".predecessor.json"


def predecessor_in(folder: Path) -> Predecessor | None:
    """Of the release in `folder`; None where nobody's records had a part in it.

    Raises Invalid, and DigestMismatch where its files are not of one release; its signature is another question.
    """
    envelope = read_document(folder / MANIFEST_FILE, limits.MANIFEST_BYTES)
    if not isinstance(parse_manifest(envelope).claimed, Manifest):
        return None
    certificate = parse_certificate(read_document(folder / CERTIFICATE_FILE, limits.CERTIFICATE_BYTES))
    found = Predecessor(signed_part(envelope), certificate)
    open_predecessor(found)
    return found


def named(predecessor: Predecessor | None) -> StartingRelease | None:
    """As a plan names it."""
    if predecessor is None:
        return None
    link = open_predecessor(predecessor)
    return StartingRelease(link.release, link.manifest_digest)


class Predecessors:
    """Beside the starting weights, by the digest of the manifest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, predecessor: Predecessor | None) -> None:
        """Write it down, if there is one. Raises OutOfSpace."""
        start = named(predecessor)
        if start is not None:
            write_json(self._path(start), to_plain(predecessor))

    def of(self, plan: Plan) -> Predecessor | None:
        """What was kept for this plan; None where it starts from no trained release.

        Raises NotFound where it is lost. Whether it is what the plan names is for `links_behind` to say.
        """
        start = plan.starting_release
        if start is None:
            return None
        try:
            return build(Predecessor, read_json(self._path(start)), "predecessor")
        except NotFound as error:
            raise NotFound(
                f"The certificate of {start.release}, from which the plan starts, is not beside the starting weights "
                "any more. Nothing was done. Restore the coordinator's folder 'starting' from a backup."
            ) from error

    def _path(self, start: StartingRelease) -> Path:
        return self._folder / f"{start.manifest_digest.removeprefix('sha256:')}{_ENDING}"
