"""A dishonest publisher signs its lies about a release of mode secure, where two numbers stand beside each other.

Proofs come one after the other, so the number of the one that fails says that all before it were taken in.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.registry.build import make_certificate
from participant.enrol import COORDINATOR_FILE, CoordinatorLink
from participant.home import Home
from participant.releases import check_against_ledger, open_release, open_release_of
from shared.certificate_proofs import prove_cohorts, prove_consents, prove_epsilon
from shared.domain.errors import CertificateWrong, CommonlensError, ProofFailed
from shared.domain.files import write_json
from shared.domain.plan import Plan
from shared.domain.privacy import Budget, Charge, Mode
from shared.domain.release import CohortRound
from shared.domain.strict import to_plain
from shared.privacy.ledger import Ledger
from shared.release.lineage import Link
from shared.verification import VerifiedRelease, verify_release
from tests.release_kit import Kit, make_kit, make_secure_kit, on_certificate, refused


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    kit = make_secure_kit(tmp_path_factory.mktemp("secure-lies"))
    kit.publish()
    return kit


@pytest.fixture
def folder(kit: Kit, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kit.folder(), tmp_path / "release"))


def first(certificate: Any) -> Any:
    return certificate["members"][0]


def understate_alone(certificate: Any) -> None:
    for guarantee in first(certificate)["guarantees_alone"]:
        guarantee["epsilon"] *= 0.99


def swap(certificate: Any) -> None:
    line = first(certificate)
    line["events"], line["events_alone"] = line["events_alone"], line["events"]
    line["guarantees"], line["guarantees_alone"] = line["guarantees_alone"], line["guarantees"]


def smaller_share(certificate: Any) -> None:
    """As if the others' noise were there even when they deviate."""
    line = first(certificate)
    line["events_alone"], line["guarantees_alone"] = line["events"], line["guarantees"]


def forget_member(certificate: Any, *, round_place: int) -> None:
    """East was asked in this round, and the certificate says that it was not."""
    cohort = certificate["rounds"][round_place]
    for names in (cohort["asked"], cohort["contributed"]):
        if "mem_000000000004" in names:
            names.remove("mem_000000000004")


LIES: list[tuple[str, Callable[[Any], Any], int, type[CommonlensError], str]] = [
    ("understates ε_alone by 1 %", understate_alone, 9, CertificateWrong, "alone: the certificate claims ε"),
    ("swaps what was spent and what was spent alone", swap, 9, CertificateWrong, r"of σ 1\.5, the .* lists 0"),
    ("shows ε as ε_alone too", smaller_share, 9, CertificateWrong, r"alone: its rounds make 4 events of σ 0\.75"),
    ("leaves ε_alone out", lambda c: first(c).pop("guarantees_alone"), 9, ProofFailed, "mode secure has two numbers"),
    ("leaves what was spent alone out", lambda c: first(c).pop("events_alone"), 9, ProofFailed, "has two numbers"),
    ("shows ε_alone at another δ", lambda c: first(c)["guarantees_alone"][0].update(delta=1e-4), 9, CertificateWrong,
     "alone: the certificate must claim one ε at δ 1e-05"),
    ("shows a second ε_alone", lambda c: first(c)["guarantees_alone"].append(first(c)["guarantees_alone"][0]), 9,
     CertificateWrong, "alone: 2 guarantees are proven here, the certificate shows 3"),
    ("leaves an abandoned round out of what was spent alone",
     lambda c: c["members"][4]["events_alone"][0].update(count=2), 9, CertificateWrong, "make 3 events .* lists 2"),
    ("lists more than the rounds make, to fit a ledger that knows more",
     lambda c: first(c)["events"][0].update(count=5), 9, CertificateWrong, "rounds make 6 events, .* lists 7"),
    ("drops the first round", lambda c: c["rounds"].pop(0), 7, ProofFailed, "Round 2 stands there before round 1"),
    ("drops a round in the middle", lambda c: c["rounds"].pop(1), 7, ProofFailed, "before round 2 was closed"),
    ("drops the last round", lambda c: c["rounds"].pop(), 9, CertificateWrong, "make 4 events, .* lists 6"),
    ("drops a member from a sum of no more than the quorum", lambda c: forget_member(c, round_place=4), 7,
     ProofFailed, "needs 4 contributions, 3 came"),
    ("drops a member from a larger cohort", lambda c: forget_member(c, round_place=0), 9, CertificateWrong,
     "mem_000000000004: its rounds make 5 events, the certificate lists 6"),
    ("drops a member from the certificate", lambda c: (c["members"].pop(1), c["consents"].pop(1)), 7, ProofFailed,
     "asked a member that is not on the certificate"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("act", "proof", "kind", "text"), [row[1:] for row in LIES], ids=[row[0] for row in LIES]
)
def test_publisher_signs_a_secure_certificate_that(
    kit: Kit, folder: Path, act: Callable[[Any], Any], proof: int, kind: type[CommonlensError], text: str
) -> None:
    kit.lie(folder, "certificate.json", on_certificate(act))
    refused(kit, folder, proof, kind, text)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("1e999", r"guarantees\[0\].epsilon: expected a finite number, found inf"),
        ("NaN", "not a JSON document"),
        ("Infinity", "not a JSON document"),
    ],
)
def test_publisher_claims_an_epsilon_that_is_no_number(kit: Kit, folder: Path, word: str, text: str) -> None:
    path = folder / "certificate.json"
    path.write_text(re.sub(r'"epsilon":[0-9.e+]+', f'"epsilon":{word}', path.read_text(), count=1))
    kit.sign(folder)
    with pytest.raises(ProofFailed, match=f"^Proof 4 of 10, .*{text}"):
        verify_release(folder, pinned_root=kit.root, clock=kit.clock)


def test_publisher_shows_two_numbers_for_a_plan_of_mode_local(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    kit.publish()

    def two(certificate: Any) -> None:
        line = first(certificate)
        line["events_alone"], line["guarantees_alone"] = line["events"], line["guarantees"]

    kit.lie(kit.folder(), "certificate.json", on_certificate(two))
    refused(kit, kit.folder(), 9, ProofFailed, "mode local has one number")


UNSOUND: list[tuple[str, Callable[[Plan], Plan], str]] = [
    ("a quorum of one", lambda p: _quorum(p, 1, colluders=0), r"quorum must be above .* = 2\.5"),
    (
        "a quorum that two lists of survivors could reach",
        lambda p: _quorum(p, 3, colluders=1),
        r"above .* = 3",
    ),
    ("as many colluders as a sum has members", lambda p: replace(p, colluders=p.quorum), "than may collude"),
    ("three members", lambda p: replace(p, members=p.members[:3], quorum=3), "at least 4 members"),
    (
        "several local steps",
        lambda p: replace(p, training=replace(p.training, local_steps=2)),
        "1 local step",
    ),
    ("no grid", lambda p: replace(p, secure=None), "secure must be set"),
]


def _quorum(plan: Plan, quorum: int, colluders: int) -> Plan:
    assert plan.secure is not None
    return replace(
        plan, quorum=quorum, colluders=colluders, secure=replace(plan.secure, share_threshold=quorum)
    )


@pytest.mark.parametrize(("change", "text"), [row[1:] for row in UNSOUND], ids=[row[0] for row in UNSOUND])
def test_publisher_claims_mode_secure_with(tmp_path: Path, change: Callable[[Plan], Plan], text: str) -> None:
    """Even where every member was made to sign that plan: all other proofs of the certificate hold."""
    kit = make_secure_kit(tmp_path)
    kit.plan = change(kit.plan)
    named = {member.member_id for member in kit.plan.members}
    kit.identities = {i: key for i, key in kit.identities.items() if i in named}
    line = [Link("digits-1", "", kit.plan, make_certificate(kit.request()), "")]
    prove_consents(line)
    prove_cohorts(line)
    prove_epsilon(line)
    with pytest.raises(ProofFailed, match=f'Proof 8 of 10, "the plan is sound.*{text}'):
        kit.publish()


class Member:
    """The member's own side: a ledger that was charged for every round that it was asked in."""

    def __init__(self, folder: Path, kit: Kit, member_id: str) -> None:
        self.home = Home(folder)
        link = CoordinatorLink(
            "https://127.0.0.1",
            "",
            kit.fingerprint,
            kit.root,
            {},
            kit.plan.consortium,
            member_id,
            "",
            "t",
            500,
            1,
        )
        write_json(folder / COORDINATOR_FILE, to_plain(link))
        ledger, plan = Ledger(self.home.ledger, kit.clock), kit.plan
        for number in sorted({r.number for r in kit.rounds() if member_id in r.asked}):
            events, alone = plan.events_of_round(number), plan.events_alone_of_round(number)
            charge = Charge("dat_1", plan.digest, "run_000000000001", number, events, alone)
            ledger.charge(charge, Budget(50.0, 1e-5))


def published(kit: Kit, checkpoint: str, rounds: tuple[CohortRound, ...]) -> VerifiedRelease:
    """A release whose certificate tells of `rounds` and agrees with itself: a stranger takes it."""
    number = int(kit.publish(checkpoint, rounds=rounds).rpartition("-")[2])
    return verify_release(kit.folder(number), pinned_root=kit.root, clock=kit.clock)


def test_a_lie_that_agrees_with_itself_is_caught_by_the_members_own_ledger(kit: Kit, tmp_path: Path) -> None:
    kit, east = kit.copy(tmp_path / "coordinator"), "mem_000000000004"
    (tmp_path / "east").mkdir()
    home = Member(tmp_path / "east", kit, east).home
    check_against_ledger(home, verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock))

    first_round, *others = kit.rounds()
    unasked = replace(
        first_round,
        asked=tuple(i for i in first_round.asked if i != east),
        contributed=tuple(i for i in first_round.contributed if i != east),
    )
    lying = published(kit, "without East in round 1", (unasked, *others))
    with pytest.raises(CertificateWrong, match=r"paid for 4 steps at σ 1\.5, the certificate lists 3"):
        check_against_ledger(home, lying)


def test_a_lying_release_already_in_the_folder_is_not_used_and_stops_no_other(
    kit: Kit, tmp_path: Path
) -> None:
    """As after CertificateWrong in a pull, or a kill between the folder's rename and the comparison."""
    kit, east = kit.copy(tmp_path / "coordinator"), "mem_000000000004"
    (tmp_path / "east").mkdir()
    home = Member(tmp_path / "east", kit, east).home
    first_round, *others = kit.rounds()
    unasked = replace(
        first_round,
        asked=tuple(i for i in first_round.asked if i != east),
        contributed=tuple(i for i in first_round.contributed if i != east),
    )
    lying = published(kit, "without East in round 1", (unasked, *others)).manifest
    # Sorted before the honest one, so that a search meets it first.
    shutil.copytree(kit.folder(lying.number), home.releases / "digits-0")
    shutil.copytree(kit.folder(), home.releases / "digits-1")

    for _ in range(2):
        with pytest.raises(CertificateWrong, match=r"paid for 4 steps at σ 1\.5, the certificate lists 3"):
            open_release(home, "digits-0")
    honest = open_release(home, "digits-1")
    assert open_release_of(home, honest.manifest_digest).manifest == honest.manifest


def test_a_list_that_ends_early_is_what_a_stranger_cannot_see(kit: Kit, tmp_path: Path) -> None:
    """The limit that --explain names: a shorter run is a run, and a ledger may know of later rounds."""
    kit = kit.copy(tmp_path / "coordinator")
    shorter = published(kit, "without the last round", kit.rounds()[:-1])
    assert shorter.plan.privacy.mode is Mode.SECURE
    honest = verify_release(kit.folder(1), pinned_root=kit.root, clock=kit.clock)
    member_id = "mem_000000000001"
    assert shorter.recomputed[member_id][0].epsilon < honest.recomputed[member_id][0].epsilon
