"""The first release format ever written must verify for ever: the folder in data/ is never made again."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.domain.clock import FixedClock
from shared.domain.errors import NotTrusted
from shared.verification import PROOFS, verify_release

FROZEN = Path(__file__).parent / "data" / "release-v1"
ROOT = "0cb1ac79312f1810fb4f90af2d371f671e24957f0aa98f94a71e98c8be92d160"
MANIFEST = "sha256:7db59cb8783d16ba3d70133320a6359c7498714fe17a8ca6c1a0fe68ef956460"
CLOCK = FixedClock(datetime(2026, 12, 1, tzinfo=UTC))


def test_frozen_release_of_format_1_still_verifies() -> None:
    release = verify_release(FROZEN, pinned_root=ROOT, clock=CLOCK)
    assert tuple(proof.name for proof in release.proofs) == PROOFS
    assert release.manifest_digest == MANIFEST
    assert release.manifest.release == "digits-1" and release.plan.quorum == 2
    assert [member.name for member in release.certificate.members] == ["North", "South", "West"]


def test_frozen_release_names_every_format_that_it_is_written_in() -> None:
    manifest = json.loads((FROZEN / "manifest.json").read_text())["signed"]
    certificate = json.loads((FROZEN / "certificate.json").read_text())
    trust = json.loads((FROZEN / "trust.json").read_text())["signed"]
    assert [d["format"] for d in (manifest, certificate, trust, manifest["plan"])] == [
        "commonlens-manifest/1",
        "commonlens-certificate/1",
        "commonlens-trust/1",
        "commonlens-plan/1",
    ]


@pytest.mark.parametrize("name", ["manifest.json", "certificate.json", "trust.json"])
def test_a_format_from_the_future_asks_for_an_upgrade(tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(FROZEN, tmp_path / "release"))
    text = (folder / name).read_text()
    (folder / name).write_text(
        text.replace(f"commonlens-{name.removesuffix('.json')}/1", "commonlens-other/9")
    )
    with pytest.raises(NotTrusted, match="upgrade this one|should be sha256|should have .* bytes"):
        verify_release(folder, pinned_root=ROOT, clock=CLOCK)
