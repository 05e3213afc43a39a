"""Every release format ever written must verify for ever: the folders in data/ are never made again."""

from __future__ import annotations

import io
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from shared.domain.canonical import canonical_bytes
from shared.domain.clock import FixedClock
from shared.domain.errors import NotTrusted
from shared.domain.plan import Plan
from shared.domain.privacy import Mode
from shared.domain.release import Certificate
from shared.domain.strict import build, to_plain
from shared.explanation import explain
from shared.explanation_page import print_explanation
from shared.verification import PROOFS, verify_release

PAGE = Path(__file__).parents[2] / "docs" / "privacy.md"
FROZEN = Path(__file__).parent / "data" / "release-v1"
ROOT = "0cb1ac79312f1810fb4f90af2d371f671e24957f0aa98f94a71e98c8be92d160"
MANIFEST = "sha256:7db59cb8783d16ba3d70133320a6359c7498714fe17a8ca6c1a0fe68ef956460"
SECURE = Path(__file__).parent / "data" / "release-secure-v1"
SECURE_ROOT = "dd8719a1bdf24c4d8dac052275461726b275074829b7175d660a833ff4374e13"
SECURE_MANIFEST = "sha256:71e8d8d687d37d1f326c99c6c52390d52363fe0704955d0a2d4f80f3d8292d10"
CONTINUED = Path(__file__).parent / "data" / "release-continued-v1"
CONTINUED_ROOT = "eb737605fd28d15fd078f75b3cbaae8c46c786da1b94c774af7bb23e312389a4"
CONTINUED_MANIFEST = "sha256:cef2ab6fbb454c659506911b629ed80dae0ce14cd74da3a2d705e2c0f0b8b5c4"
EPSILON, EPSILON_ALONE = 1.161, 4.891
CLOCK = FixedClock(datetime(2026, 12, 1, tzinfo=UTC))


def test_frozen_release_of_format_1_still_verifies() -> None:
    release = verify_release(FROZEN, pinned_root=ROOT, clock=CLOCK)
    assert tuple(proof.name for proof in release.proofs) == PROOFS
    assert release.manifest_digest == MANIFEST
    assert release.manifest.release == "digits-1" and release.plan.quorum == 2
    assert [member.name for member in release.certificate.members] == ["North", "South", "West"]


def test_frozen_release_of_mode_secure_still_verifies_with_both_its_numbers() -> None:
    release = verify_release(SECURE, pinned_root=SECURE_ROOT, clock=CLOCK)
    assert tuple(proof.name for proof in release.proofs) == PROOFS
    assert release.manifest_digest == SECURE_MANIFEST
    plan, certificate = release.plan, release.certificate
    assert (plan.privacy.mode, plan.quorum, plan.colluders) == (Mode.SECURE, 4, 1)
    assert [member.name for member in certificate.members] == ["North", "South", "West", "East", "Centre"]
    spent = release.recomputed["mem_000000000001"][0]
    # To a thousandth: another accountant may be tighter one day, and must say so here.
    assert (round(spent.epsilon, 3), round(spent.alone, 3)) == (EPSILON, EPSILON_ALONE)


def test_frozen_release_that_started_from_another_still_verifies_with_what_both_cost() -> None:
    release = verify_release(CONTINUED, pinned_root=CONTINUED_ROOT, clock=CLOCK)
    assert tuple(proof.name for proof in release.proofs) == PROOFS
    assert "model.sig covers 7 files" in release.proofs[-1].line
    assert release.manifest_digest == CONTINUED_MANIFEST
    assert [link.release for link in release.line] == ["digits-2", "digits-1"]
    spent = [lines[0] for lines in release.recomputed.values()]
    assert [(round(s.epsilon, 3), round(s.alone, 3)) for s in spent] == [
        *[(0.682, 2.971)] * 3,
        (0.639, 2.931),
        (0.478, 2.689),  # Centre, which took part in the first only
    ]


def test_certificate_of_mode_local_is_still_written_as_it_was() -> None:
    """A field that a format gained later leaves no trace in what was written before it (strict.later)."""
    for name, kind in (("certificate.json", Certificate), ("plan.json", Plan)):
        written = (FROZEN / name).read_bytes()
        assert canonical_bytes(to_plain(build(kind, json.loads(written), name))) == written.rstrip(b"\n")


@pytest.mark.parametrize("frozen", [FROZEN, SECURE, CONTINUED], ids=lambda folder: folder.name)
def test_frozen_release_names_every_format_that_it_is_written_in(frozen: Path) -> None:
    manifest = json.loads((frozen / "manifest.json").read_text())["signed"]
    certificate = json.loads((frozen / "certificate.json").read_text())
    trust = json.loads((frozen / "trust.json").read_text())["signed"]
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


def test_example_in_the_privacy_page_is_what_the_command_prints() -> None:
    """Refresh it by putting the command's output between the two marks."""
    release = verify_release(SECURE, pinned_root=SECURE_ROOT, clock=CLOCK)
    printed = io.StringIO()
    print_explanation(explain(release), Console(file=printed, width=80), every_round=False)
    page = PAGE.read_text("utf-8").partition("<!-- explain:begin")[2].partition("<!-- explain:end -->")[0]
    assert page.partition("```text\n")[2].rpartition("```")[0] == printed.getvalue()
