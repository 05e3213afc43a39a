"""A dishonest publisher signs its lies about a release of mode local: only the recomputation is left to stop it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.domain.errors import (
    BadSignature,
    CertificateWrong,
    CommonlensError,
    DigestMismatch,
    ProofFailed,
)
from shared.domain.plan import Plan
from shared.domain.release import CohortRound
from shared.domain.run import RoundState
from shared.domain.strict import build, to_plain
from shared.release.certificate import sign_consent, spends
from shared.release.signing import SigningKey
from shared.verification import verify_release
from tests.release_kit import Kit, make_kit, on_certificate, refused


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    kit = make_kit(tmp_path_factory.mktemp("lies"))
    kit.publish()
    return kit


@pytest.fixture
def folder(kit: Kit, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kit.folder(), tmp_path / "release"))


def claim(factor: float) -> Callable[[Any], Any]:
    def act(certificate: Any) -> None:
        for guarantee in certificate["members"][0]["guarantees"]:
            guarantee["epsilon"] *= factor

    return act


def claim_more_noise(certificate: Any) -> None:
    for event in certificate["members"][0]["events"]:
        event["noise_multiplier"] *= 2


def never_asked(certificate: Any) -> None:
    """The last member stands there with its consent and its ε, and in no round."""
    last = certificate["members"][-1]["member_id"]
    for cohort in certificate["rounds"]:
        for names in ("asked", "contributed"):
            cohort[names] = [name for name in cohort[names] if name != last]


LIES: list[tuple[str, Callable[[Any], Any], int, type[CommonlensError], str]] = [
    ("claims 1 % less ε than the events make", claim(0.99), 9, CertificateWrong, r"its own events\s+recompute to"),
    ("claims a five-thousandth less", claim(0.9998), 9, CertificateWrong, r"its own events\s+recompute to"),
    (
        "leaves an abandoned round out of the events",
        lambda c: c["members"][0]["events"][0].update(count=3),
        9,
        CertificateWrong,
        "its rounds make 4 events of σ 1.5, the certificate lists 3",
    ),
    ("leaves all events out", lambda c: c["members"][0].update(events=[]), 9, CertificateWrong, "lists 0"),
    ("writes a larger σ into the events", claim_more_noise, 9, CertificateWrong, "the certificate lists 0"),
    (
        "states no ε at the plan's δ",
        lambda c: c["members"][0]["guarantees"][0].update(delta=3e-6),
        9,
        CertificateWrong,
        "must claim one ε at δ 1e-05 .* claims 0",
    ),
    (
        "states a second, smaller ε beside the true one",
        lambda c: c["members"][0]["guarantees"].insert(0, c["members"][0]["guarantees"][0] | {"epsilon": 0.01}),
        9,
        CertificateWrong,
        "2 guarantees are proven here, the certificate shows 3",
    ),
    (
        "keeps only the last round",
        lambda c: c.update(rounds=c["rounds"][-1:]),
        7,
        ProofFailed,
        "Round 4 stands there before round 1 was closed",
    ),
    (
        "leaves a round in the middle out",
        lambda c: c["rounds"].pop(1),
        7,
        ProofFailed,
        "Round 3 stands there before round 2 was closed",
    ),
    (
        "tells of one abandoned round that asked nobody",
        lambda c: c.update(rounds=[{"number": 1, "state": "abandoned", "asked": [], "contributed": []}]),
        7,
        ProofFailed,
        "Round 1 asked nobody",
    ),
    (
        "tells of nobody and nothing",
        lambda c: c.update(members=[], rounds=[], consents=[]),
        7,
        ProofFailed,
        "rounds, the certificate closes 0",
    ),
    (
        "closes more rounds than the plan has",
        lambda c: c["rounds"].extend(c["rounds"][-1] | {"number": n} for n in range(5, 500)),
        7,
        ProofFailed,
        "rounds, the certificate closes 499",
    ),
    ("changes the relation", lambda c: c.update(relation="replace-one"), 9, ProofFailed, "unit or relation"),
    ("changes the unit", lambda c: c.update(unit="person"), 9, ProofFailed, "unit or relation"),
    ("drops a consent", lambda c: c["consents"].pop(), 6, ProofFailed, "3 members and consents of 2"),
    (
        "uses one member's consent for another",
        lambda c: c["consents"][0].update(signature=c["consents"][1]["signature"]),
        6,
        BadSignature,
        "does not verify under the key",
    ),
    (
        "shows a consent to another plan",
        lambda c: c["consents"][0].update(plan_digest="sha256:" + "0" * 64),
        6,
        ProofFailed,
        "is to another plan",
    ),
    ("renames a member", lambda c: c["members"][0].update(name="Elsewhere"), 6, ProofFailed,
     "did not consent to the name"),
    ("averages one member alone", lambda c: c["rounds"][0].update(contributed=c["rounds"][0]["asked"][:1]), 7,
     ProofFailed, "needs 2 contributions, 1 came"),
    ("counts one member twice", lambda c: c["rounds"][0].update(contributed=[c["rounds"][0]["asked"][0]] * 2), 7,
     ProofFailed, "names a member twice"),
    ("counts one who was not asked", lambda c: c["rounds"][3].update(contributed=c["rounds"][0]["asked"]), 7,
     ProofFailed, "a member that was not asked"),
    ("names a member that no round asked", never_asked, 7, ProofFailed, "consents of 3 members, its rounds asked 2"),
    ("asks one who is not on the certificate", lambda c: c["rounds"][0]["asked"].append("mem_ghost"), 7,
     ProofFailed, "not on the certificate"),
    ("closes a round twice", lambda c: c["rounds"].append(c["rounds"][0]), 7, ProofFailed, "closed twice"),
    ("names a member twice", lambda c: c["members"].append(c["members"][0]), 4, ProofFailed, "one member twice"),
    ("gives two members one key", lambda c: c["members"][0].update(
        identity_public_key=c["members"][1]["identity_public_key"]), 4, ProofFailed, "one identity key twice"),
    ("has a σ that would stall the accountant", lambda c: c["members"][0]["events"][0].update(
        noise_multiplier=1e-300), 4, ProofFailed, "it is between 0.1 and"),
    ("has a count that would stall the accountant", lambda c: c["members"][0]["events"][0].update(count=10**15), 4,
     ProofFailed, "more than 10000000 events"),
    ("is of another plan", lambda c: c.update(plan_digest="sha256:" + "0" * 64), 4, DigestMismatch, "certificate sha"),
    ("is of another run", lambda c: c.update(run_id="run_other"), 4, ProofFailed, "different runs"),
    ("is of a later format", lambda c: c.update(format="commonlens-certificate/2"), 4, ProofFailed, "upgrade this"),
    ("has an unknown key", lambda c: c.update(note="hi"), 4, ProofFailed, "unknown key 'note'"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("act", "proof", "kind", "text"), [row[1:] for row in LIES], ids=[row[0] for row in LIES]
)
def test_publisher_signs_a_certificate_that(
    kit: Kit, folder: Path, act: Callable[[Any], Any], proof: int, kind: type[CommonlensError], text: str
) -> None:
    kit.lie(folder, "certificate.json", on_certificate(act))
    refused(kit, folder, proof, kind, text)


def test_a_round_to_which_nobody_contributed_is_charged_to_all_who_were_asked(kit: Kit) -> None:
    rounds, everyone = kit.rounds(), tuple(kit.identities)
    empty = CohortRound(5, RoundState.ABANDONED, everyone, ())
    before, after = spends(kit.plan, rounds), spends(kit.plan, (*rounds, empty))
    for member in everyone:
        more = sum(e.count for e in after[member].events) - sum(e.count for e in before[member].events)
        assert more == len(kit.plan.events_of_round(5)) > 0


def test_publisher_may_claim_more_epsilon_than_the_events_make(kit: Kit, folder: Path) -> None:
    kit.lie(folder, "certificate.json", on_certificate(claim(1.01)))
    assert verify_release(folder, pinned_root=kit.root, clock=kit.clock).proofs


def test_publisher_signs_a_plan_that_the_members_did_not_consent_to(kit: Kit, folder: Path) -> None:
    def weaker(plan: Any) -> Any:
        plan["privacy"]["noise_multiplier"] = 0.5
        return plan

    kit.lie(folder, "plan.json", weaker)
    refused(kit, folder, 4, DigestMismatch, "that of the certificate")
    digest = json.loads((folder / "manifest.json").read_text())["signed"]["plan_digest"]
    kit.lie(folder, "certificate.json", on_certificate(lambda c: c.update(plan_digest=digest)))
    refused(kit, folder, 6, ProofFailed, "is to another plan")
    forger, signed = (
        SigningKey.generate(),
        build(Plan, json.loads((folder / "plan.json").read_text()), "plan"),
    )
    consents = [to_plain(sign_consent(signed, m, kit.name_of(m), forger)) for m in kit.identities]
    kit.lie(folder, "certificate.json", on_certificate(lambda c: c.update(consents=consents)))
    refused(kit, folder, 6, BadSignature, "does not verify")
