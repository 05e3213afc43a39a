"""verify_release on honest releases: what it returns, and what it needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from shared.domain.clock import FixedClock
from shared.domain.errors import BadSignature, Expired, Invalid, NotTrusted
from shared.domain.release import CohortRound
from shared.privacy import accountant
from shared.release.envelope import read_signed
from shared.verification import PROOFS, VerifiedRelease, verify_release
from tests.release_kit import CLOSED, Kit, make_kit, make_secure_kit


@dataclass(frozen=True)
class _Signed:
    format: str
    count: int


LATE = FixedClock(datetime(2030, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    kit = make_kit(tmp_path_factory.mktemp("verification"))
    kit.publish()
    return kit


def test_honest_release_holds_every_proof_in_order(kit: Kit) -> None:
    release = verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock)
    assert tuple(proof.name for proof in release.proofs) == PROOFS
    assert all(proof.line for proof in release.proofs)
    assert release.pinned and release.manifest.release == "digits-1"


def test_verified_release_carries_the_weights_that_were_checked(kit: Kit) -> None:
    release = verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock)
    assert sorted(release.weights.tensors) == ["a.weight", "b.filter", "c.bias"]
    assert release.weights.tensors["a.weight"].dtype == np.float32


def test_whole_root_set_can_be_pinned_by_its_fingerprint(kit: Kit) -> None:
    trust = verify_release(kit.folder(), pinned_root=None, clock=kit.clock).trust
    assert verify_release(kit.folder(), pinned_root=trust.root.fingerprint, clock=kit.clock).pinned


def test_without_a_pinned_root_the_release_says_so(kit: Kit) -> None:
    release = verify_release(kit.folder(), pinned_root=None, clock=kit.clock)
    assert not release.pinned
    assert "a root that nobody pinned here" in release.proofs[0].line


def test_expired_trust_is_refused_unless_the_caller_allows_it(kit: Kit) -> None:
    with pytest.raises(Expired, match='Proof 1 of 10, "trust file signed by the root", failed'):
        verify_release(kit.folder(), pinned_root=kit.root, clock=LATE)
    assert verify_release(kit.folder(), pinned_root=kit.root, clock=LATE, allow_expired=True).pinned


@pytest.mark.parametrize(("name", "number"), [("trust.json", 1), ("manifest.json", 2)])
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (
            lambda path: path.write_bytes(b""),
            r"is empty\. Nothing was read\. Get it again from where it came\.$",
        ),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-9]),
            r"is cut off.* Get it again from where it came\.$",
        ),
        (
            lambda path: path.write_bytes(b'{"signed": 1}'),
            r"this one has not\. .* Get it again from where it came\.$",
        ),
        (lambda path: path.unlink(), r"There is no file .* Check that it is the right folder, and whole\.$"),
    ],
)
def test_document_that_cannot_be_read_says_what_to_do(
    kit: Kit, tmp_path: Path, name: str, number: int, harm: Callable[[Path], object], said: str
) -> None:
    folder = Path(shutil.copytree(kit.folder(), tmp_path / "release"))
    harm(folder / name)
    with pytest.raises(NotTrusted, match=f"^Proof {number} of 10, .*{said}"):
        verify_release(folder, pinned_root=kit.root, clock=kit.clock)


def test_signed_document_is_not_to_be_corrected_by_whoever_reads_it() -> None:
    for value in ({"format": "f"}, {"format": "f", "count": "x"}, {"format": "f", "count": 1, "more": 2}):
        with pytest.raises(Invalid, match=r"^doc.* Nothing was read\. Get it again from where it came\.$"):
            read_signed(_Signed, "f", value, "doc")


def test_claimed_epsilon_is_the_accountants_for_every_charged_round(kit: Kit) -> None:
    release = verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock)
    asked_thrice = release.certificate.members[2]
    assert sum(e.count for e in asked_thrice.events if e.sampling_rate < 1) == 3
    assert asked_thrice.guarantees[0].epsilon == pytest.approx(
        accountant.epsilon(asked_thrice.events, 1e-5), rel=1e-9
    )
    assert [g.delta for g in asked_thrice.guarantees] == [1e-5, 1e-6]


def test_recomputed_epsilon_of_mode_local_is_the_same_alone(kit: Kit) -> None:
    release = verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock)
    for member in release.certificate.members:
        found = release.recomputed[member.member_id]
        assert [r.delta for r in found] == [1e-5, 1e-6]
        assert all(r.alone == r.epsilon and r.alone_claimed == r.claimed for r in found)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    kit = make_secure_kit(tmp_path_factory.mktemp("secure-verification"))
    kit.publish()
    return kit


def test_both_numbers_are_recomputed_from_the_rounds_a_member_was_asked_in(secure: Kit) -> None:
    release = verify_release(secure.folder(), pinned_root=secure.root, clock=secure.clock)
    plan, privacy = secure.plan, secure.plan.privacy
    for member_id, rounds in (("mem_000000000001", (1, 2, 3, 4)), ("mem_000000000005", (1, 2, 3))):
        steps = [e for n in rounds for e in plan.events_of_round(n)]
        alone = [e for n in rounds for e in plan.events_alone_of_round(n)]
        assert len(alone) == len(steps) == len(rounds) + len([n for n in rounds if n % 2 == 0])
        for found, delta in zip(release.recomputed[member_id], (privacy.delta, 1e-6), strict=True):
            assert found.delta == delta
            assert found.epsilon == pytest.approx(accountant.epsilon(steps, delta), rel=1e-9)
            assert found.alone == pytest.approx(accountant.epsilon(alone, delta), rel=1e-9)
            assert (found.claimed, found.alone_claimed) == pytest.approx(
                (found.epsilon, found.alone), rel=1e-9
            )


def test_secure_release_says_what_makes_its_plan_sound(secure: Kit) -> None:
    release = verify_release(secure.folder(), pinned_root=secure.root, clock=secure.clock)
    assert release.proofs[7].line.startswith("mode secure, quorum 4 is above (5 + 1) / 2, noise 1.5 times")
    assert "; alone: " in release.proofs[8].line and "the same" not in release.proofs[8].line


def test_150_rounds_of_10_members_are_composed_once_for_equal_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = make_secure_kit(tmp_path, members=10)
    kit.plan = replace(kit.plan, rounds=150, evaluate_every=10)
    everyone = tuple(kit.identities)
    kit.publish(rounds=tuple(CohortRound(n, CLOSED, everyone, everyone[n % 4 :]) for n in range(1, 151)))
    asked: list[float] = []
    computed = accountant.epsilon
    monkeypatch.setattr(
        accountant, "epsilon", lambda events, delta: asked.append(delta) or computed(events, delta)
    )
    verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock)
    assert len(asked) == 4


def test_verified_release_cannot_be_made_by_hand(kit: Kit) -> None:
    real = verify_release(kit.folder(), pinned_root=None, clock=kit.clock)
    with pytest.raises(NotTrusted, match="by verify_release and by nothing else"):
        VerifiedRelease(
            object(),
            None,  # type: ignore[arg-type]
            real.weights,
            (),
            trained=real.manifest,
            line=real.line,
            recomputed={},
        )


def test_release_holds_where_it_was_copied_to(kit: Kit, tmp_path: Path) -> None:
    shutil.copytree(kit.folder(), tmp_path / "copy")
    assert verify_release(tmp_path / "copy", pinned_root=kit.root, clock=kit.clock).pinned


def test_another_consortiums_root_does_not_hold(kit: Kit, tmp_path: Path) -> None:
    other = make_kit(tmp_path)
    with pytest.raises(BadSignature, match=f"The root pinned here, {other.root[:16]}"):
        verify_release(kit.folder(), pinned_root=other.root, clock=kit.clock)


def test_trust_in_the_folder_is_the_coordinators(kit: Kit) -> None:
    release = verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock)
    assert release.trust.release_key == kit.release_key.public_hex


def test_card_says_the_sentence_of_clause_10_and_every_members_epsilon(kit: Kit) -> None:
    card = (kit.folder() / "README.md").read_text()
    assert "is (ε, δ)-indistinguishable with and without r (add or remove one)" in card
    assert "The bound rests on the member's own noise alone" in card
    assert all(f"| {name} |" in card for name in ("North", "South", "West"))


def test_verification_needs_no_torch(kit: Kit) -> None:
    script = (
        "import sys; from pathlib import Path; from shared.verification import verify_release\n"
        f"verify_release(Path({str(kit.folder())!r}), pinned_root={kit.root!r}, allow_expired=True)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_openssf_signature_by_the_key_that_the_trust_names_is_one_of_the_proofs(kit: Kit) -> None:
    release = verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock)
    assert release.proofs[-1].name == "OpenSSF signature over the folder"
    assert "model.sig covers 7 files" in release.proofs[-1].line
