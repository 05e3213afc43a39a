"""Compares two releases: `python -m coordinator.workers.difference_worker`, JSON in, JSON out.

Verifies both as a member would, then measures what they do on public records, as `commonlens diff`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from shared.domain.canonical import canonical_bytes
from shared.domain.errors import CommonlensError, DigestMismatch
from shared.domain.strict import to_plain
from shared.evaluation.release_difference import compare_releases
from shared.evaluation.release_shape import ReleaseDifference
from shared.verification import VerifiedExtractor, verify_extractor

NICENESS = 10
"""Rounds go first: a comparison has time."""


def main() -> None:
    """Read one question from stdin, write one line of JSON to stdout."""
    question = json.loads(sys.stdin.read())
    os.nice(NICENESS)
    try:
        answer = canonical_bytes({"difference": to_plain(_compare(question))})
    except CommonlensError as error:
        answer = canonical_bytes({"error": error.code, "message": error.message})
    sys.stdout.buffer.write(answer + b"\n")


def _compare(question: dict[str, Any]) -> ReleaseDifference:
    folders = [Path(question[name]["folder"]) for name in ("before", "after")]
    before, after = (_verified(question[name], question["root"]) for name in ("before", "after"))
    return compare_releases(before, folders[0], after, folders[1])


def _verified(asked: dict[str, str], root: str) -> VerifiedExtractor:
    """Also one whose trust document's time is over: it is the coordinator's own, and was verified when it was made."""
    found = verify_extractor(Path(asked["folder"]), pinned_root=root, allow_expired=True)
    if found.manifest_digest != asked["manifest_digest"]:
        raise DigestMismatch(
            f"The catalogue lists {found.manifest.release} with the manifest {asked['manifest_digest'][:23]}…, its "
            f"folder has {found.manifest_digest[:23]}…. Nothing was compared. Restore the folder from a backup."
        )
    return found


if __name__ == "__main__":
    main()
