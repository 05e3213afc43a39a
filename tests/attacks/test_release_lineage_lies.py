"""A release that started from another carries that one's cost too; a dishonest publisher would rather not say so.

Whoever downloads the second learns from the records behind both: its weights are a function of the first one's.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.registry.build import make_certificate
from participant.home import Home
from participant.releases import check_against_ledger
from shared.certificate_proofs import prove_sound
from shared.domain.canonical import canonical_bytes, digest_of
from shared.domain.errors import (
    CertificateWrong,
    CommonlensError,
    DigestMismatch,
    Invalid,
    InvalidWeights,
    ProofFailed,
    UnsoundPlan,
)
from shared.domain.plan import Plan, PlanMember
from shared.domain.privacy import Budget, Charge, Unit
from shared.domain.release import Certificate, CohortRound
from shared.domain.run import RoundState
from shared.domain.strict import build, to_plain
from shared.extractors.files import Origin, read_weights, write_weights
from shared.privacy import accountant
from shared.privacy.ledger import Ledger
from shared.release import limits
from shared.release.certificate import parse_certificate, spends
from shared.release.lineage import check_continues
from shared.release.signing import SigningKey
from shared.verification import VerifiedRelease, verify_release
from tests.joined_home import joined
from tests.release_kit import Kit, continued, make_kit, make_secure_kit, on_certificate, refused

CENTRE = "mem_000000000005"


def without_centre(plan: Plan) -> dict[str, Any]:
    """Four of the five go on."""
    return {"members": tuple(m for m in plan.members if m.member_id != CENTRE), "quorum": 3}


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Two releases: digits-2 goes on from digits-1, without Centre."""
    folder = tmp_path_factory.mktemp("lineage")
    first = make_secure_kit(folder)
    first.publish()
    secure = replace(first.plan.secure, share_threshold=3) if first.plan.secure else None
    second = continued(first, 1, folder / "second.safetensors", secure=secure, **without_centre(first.plan))
    second.publish("two")
    return second


@pytest.fixture
def folder(kit: Kit, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kit.folder(2), tmp_path / "release"))


def verified(kit: Kit, number: int) -> VerifiedRelease:
    return verify_release(kit.folder(number), pinned_root=kit.root, clock=kit.clock)


def test_what_both_runs_cost_stands_on_the_second_release(kit: Kit) -> None:
    """Without it the certificate would claim what the second run cost by itself: less than anybody can promise."""
    one, two = verified(kit, 1), verified(kit, 2)
    delta = kit.plan.privacy.delta
    for member_id in kit.identities:
        runs = [spends(each.plan, each.certificate.rounds)[member_id] for each in (one, two)]
        both = [event for run in runs for event in run.events]
        alone = [event for run in runs for event in run.events_alone]
        spent = two.recomputed[member_id][0]
        assert spent.epsilon == pytest.approx(accountant.epsilon(both, delta), rel=1e-9)
        assert spent.alone == pytest.approx(accountant.epsilon(alone, delta), rel=1e-9)
        own_run_only = accountant.epsilon(runs[1].events, delta)
        assert spent.epsilon > 1.2 * own_run_only
    assert [link.release for link in two.line] == ["digits-2", "digits-1"]


def test_who_took_part_only_in_the_first_is_still_promised_what_it_was(kit: Kit) -> None:
    one, two = verified(kit, 1), verified(kit, 2)
    assert CENTRE not in kit.identities
    assert two.recomputed[CENTRE] == one.recomputed[CENTRE]


def test_a_third_release_carries_all_three_runs(kit: Kit, tmp_path: Path) -> None:
    kit = kit.copy(tmp_path / "coordinator")
    third = continued(kit, 2, tmp_path / "third.safetensors", run_id="run_000000000003")
    third.publish("three")
    found = verified(third, 3)
    assert [link.release for link in found.line] == ["digits-3", "digits-2", "digits-1"]
    counts = [sum(e.count for e in m.events) for m in found.certificate.members]
    of_two = {m.member_id: sum(e.count for e in m.events) for m in verified(kit, 2).certificate.members}
    own = {i: sum(e.count for e in s.events) for i, s in spends(third.plan, third.rounds()).items()}
    assert counts == [of_two[m.member_id] + own.get(m.member_id, 0) for m in found.certificate.members]


def own_run_only(certificate: Any, kit: Kit) -> None:
    """What a certificate said before there was any other: its own run, and numbers that fit it."""
    plan, rounds = kit.plan, kit.rounds()
    for line in certificate["members"]:
        spend = spends(plan, rounds).get(line["member_id"])
        if spend is not None:
            line["events"], line["events_alone"] = to_plain(spend.events), to_plain(spend.events_alone)


def in_first(certificate: Any) -> Any:
    return certificate["predecessor"]["certificate"]


def drop_centre(certificate: Any) -> None:
    certificate["members"] = [m for m in certificate["members"] if m["member_id"] != CENTRE]


def other_key(certificate: Any) -> None:
    """A key of the publisher's own in place of the member's that cannot be asked any more."""
    (centre,) = (m for m in certificate["members"] if m["member_id"] == CENTRE)
    centre["identity_public_key"] = "ab" * 32


def other_name(certificate: Any) -> None:
    (centre,) = (m for m in certificate["members"] if m["member_id"] == CENTRE)
    centre["name"] = "General Hospital"


LIES: list[tuple[str, Callable[[Any], Any], int, type[CommonlensError], str]] = [
    ("leaves the predecessor out", lambda c: c.pop("predecessor"), 4, DigestMismatch, "from digits-1, and nothing"),
    ("cuts the predecessor's last round", lambda c: in_first(c)["rounds"].pop(), 4, DigestMismatch, "not the one that"),
    ("changes the predecessor's manifest", lambda c: c["predecessor"]["manifest"].update(run_id="run_x"), 4,
     DigestMismatch, "are of two runs"),
    ("changes when the predecessor was made",
     lambda c: c["predecessor"]["manifest"].update(created_at="2026-01-01T00:00:00Z"), 4, DigestMismatch,
     "starts from digits-1, the certificate composes digits-1"),
    ("gives a library's manifest", lambda c: c["predecessor"]["manifest"].update(format="commonlens-kept/1"), 4,
     ProofFailed, "unknown key|missing"),
    ("gives the predecessor a name with an escape in it",
     lambda c: c["predecessor"]["manifest"].update(release="\x1b[2Jdigits-1"), 4, ProofFailed, "names itself"),
    ("leaves out a member that did not go on", drop_centre, 9, CertificateWrong, f"{CENTRE} was charged in a release"),
    ("gives that member another key", other_key, 6, ProofFailed, "5 members and consents of 4"),
    ("gives that member another name", other_name, 6, ProofFailed, "5 members and consents of 4"),
    ("adds a consent of nobody", lambda c: c["consents"].append({**c["consents"][0], "member_id": "mem_x"}), 6,
     ProofFailed, "a consent of mem_x, who is not among its members"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "proof", "kind", "text"), [r[1:] for r in LIES], ids=[r[0] for r in LIES])
def test_publisher(
    kit: Kit, folder: Path, change: Callable[[Any], Any], proof: int, kind: type[CommonlensError], text: str
) -> None:
    kit.lie(folder, "certificate.json", on_certificate(change))
    refused(kit, folder, proof, kind, text)


def test_publisher_counts_its_own_run_only(kit: Kit, folder: Path) -> None:
    kit.lie(folder, "certificate.json", on_certificate(lambda c: own_run_only(c, kit)))
    refused(kit, folder, 9, CertificateWrong, r"its rounds make \d+ events of σ 1\.5, the certificate lists")


def test_publisher_says_of_the_plan_that_it_started_from_nothing(kit: Kit, folder: Path) -> None:
    """The plan is what members signed: without the name of its start it is another plan, with consents of nobody."""

    def forget(plan: Any) -> Any:
        plan.pop("starting_release")
        return plan

    kit.lie(folder, "plan.json", forget)

    def follow(certificate: Any) -> None:
        certificate["plan_digest"] = digest_of(json.loads((folder / "plan.json").read_text()))
        certificate.pop("predecessor")

    kit.lie(folder, "certificate.json", on_certificate(follow))
    refused(kit, folder, 6, ProofFailed, "consent of mem_000000000001 is to another plan|consents of 4")


def test_a_shorter_predecessor_made_up_for_the_purpose_is_caught_by_the_members_own_ledger(
    tmp_path: Path,
) -> None:
    """Everybody signed a plan that names it, so a stranger takes it; whoever paid for the missing round does not."""
    kit = make_kit(tmp_path)
    kit.publish("short", rounds=kit.rounds()[:2])
    second = continued(kit, 1, tmp_path / "second.safetensors")
    home = joined(kit, tmp_path / "north")
    paid = Ledger(home.ledger)
    for number in range(1, 5):
        events = second.plan.events_of_round(number)
        paid.charge(
            Charge("dat_own", second.plan.digest, second.run_id, number, events), Budget(1000.0, 1e-5)
        )

    honest_of_short = continued(kit, 1, tmp_path / "other.safetensors", rounds=4)
    honest_of_short.publish("two")
    check_against_ledger(home, verified(kit, 1))

    rounds = list(kit.rounds()[:2])
    rounds[1] = replace(rounds[1], asked=rounds[1].asked[1:], contributed=rounds[1].asked[1:])
    kit.publish("without North in round 2", rounds=tuple(rounds))
    lying = continued(kit, 3, tmp_path / "lying.safetensors")
    lying.publish("four")
    release = verified(lying, 4)
    with pytest.raises(
        CertificateWrong, match=r"digits-3: this member's ledger paid for 2 steps at σ 1\.5, .* lists 1"
    ):
        check_against_ledger(Home(home.root), release)


UNSOUND: list[tuple[str, Callable[[Plan], Plan], str]] = [
    ("another unit", lambda p: replace(p, privacy=replace(p.privacy, unit=Unit.PERSON)), "hides one record and"),
    ("more colluders", lambda p: replace(p, colluders=2), "holds against 1 colluders, and the plan promises 2"),
    ("a larger δ", lambda p: replace(p, privacy=replace(p.privacy, delta=2e-5)), "at δ 1e-05, and the plan at δ 2e-05"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "text"), [row[1:] for row in UNSOUND], ids=[row[0] for row in UNSOUND])
def test_a_plan_promises_no_more_than_what_it_starts_from(
    kit: Kit, change: Callable[[Plan], Plan], text: str
) -> None:
    first = verified(kit, 1).plan
    check_continues(kit.plan, first, "digits-1")
    with pytest.raises(UnsoundPlan, match=text):
        check_continues(change(kit.plan), first, "digits-1")


def test_one_key_under_two_names_in_a_line_would_halve_what_it_cost(tmp_path: Path) -> None:
    """Each of the two is charged a part; whoever owns the key spent both."""
    kit = make_kit(tmp_path, members=3)
    kit.publish("one")
    first, *others = kit.identities
    annex = "mem_0000000000ff"
    members = (*kit.plan.members, PlanMember(annex, 500))
    second = continued(kit, 1, tmp_path / "second.safetensors", members=members, quorum=2)
    everyone, rest = (*kit.identities, annex), (*others, annex)
    rounds = (
        CohortRound(1, RoundState.CLOSED, everyone, everyone),
        *(CohortRound(number, RoundState.CLOSED, rest, rest) for number in (2, 3, 4)),
    )
    second.identities = {**kit.identities, annex: kit.identities[first]}
    second.identities[first] = SigningKey.generate()
    with pytest.raises(
        ProofFailed, match=f"Proof 6 of 10.*{first} has another identity key in digits-1 than"
    ):
        second.publish("two", rounds=rounds)
    second.identities = {**kit.identities, annex: kit.identities[first]}
    del second.identities[first]
    second.plan = replace(second.plan, members=members[1:])
    alone = (CohortRound(1, RoundState.CLOSED, rest, rest),)
    with pytest.raises(ProofFailed, match="The certificate names one identity key twice"):
        second.publish("three", rounds=alone)


HEADERS: list[tuple[str, Callable[[Origin], Origin | None], str]] = [
    ("another release", lambda o: replace(o, name="digits-9"), "release digits-9"),
    (
        "other weights of its name",
        lambda o: replace(o, digest="sha256:" + "0" * 64),
        r"release digits-1 \(sha256:0000",
    ),
    ("nothing", lambda o: None, "no release"),
    ("public weights", lambda o: replace(o, kind="public"), "public digits-1"),
]


@pytest.mark.parametrize(("change", "text"), [row[1:] for row in HEADERS], ids=[row[0] for row in HEADERS])
def test_weights_say_that_they_started_from(
    tmp_path: Path, change: Callable[[Origin], Origin | None], text: str
) -> None:
    kit = make_kit(tmp_path)
    kit.publish("one")
    second = continued(kit, 1, tmp_path / "second.safetensors")
    honest = read_weights(second.starting)
    assert honest.origin is not None
    digest = write_weights(second.starting, honest.tensors, honest.spec, honest.layout, change(honest.origin))
    second.plan = replace(second.plan, starting_weights=digest)
    with pytest.raises(InvalidWeights, match=f"Proof 5 of 10.*that they started from {text}"):
        second.publish("two")


def test_a_fault_in_a_release_behind_names_it(kit: Kit) -> None:
    line = verified(kit, 2).line
    unsound = replace(line[1], plan=replace(line[1].plan, quorum=2))
    with pytest.raises(UnsoundPlan, match="About digits-1, which it came out of: .* Do not rely on it; tell"):
        prove_sound((line[0], unsound))


def test_no_release_is_made_of_a_plan_that_promises_more_than_its_start(kit: Kit) -> None:
    with pytest.raises(UnsoundPlan, match="holds against 1 colluders"):
        make_certificate(replace(kit, plan=replace(kit.plan, colluders=2)).request())


def test_a_plan_of_mode_local_does_not_start_from_mode_secure_but_the_other_way_it_may(
    kit: Kit, tmp_path: Path
) -> None:
    secure, local = verified(kit, 1).plan, make_kit(tmp_path).plan
    check_continues(secure, local, "digits-1")
    with pytest.raises(UnsoundPlan, match="promises to count on nobody. .* Plan in mode secure"):
        check_continues(local, secure, "digits-1")


def inside(certificate: dict[str, Any], deep: int) -> dict[str, Any]:
    for _ in range(deep):
        certificate = {**certificate, "predecessor": {"manifest": {}, "certificate": certificate}}
    return certificate


@pytest.mark.parametrize("deep", [limits.ANCESTORS + 1, 400])
def test_certificates_inside_each_other_end(kit: Kit, deep: int) -> None:
    plain: dict[str, Any] = to_plain(verified(kit, 1).certificate)
    parse_certificate(inside(plain, limits.ANCESTORS))
    with pytest.raises(Invalid, match=f"at most|may have {limits.ANCESTORS} others"):
        parse_certificate(inside(plain, deep))


def test_a_file_of_certificates_inside_each_other_is_refused_before_it_is_read(
    kit: Kit, folder: Path
) -> None:
    text = (folder / "certificate.json").read_bytes().strip()
    begins, ends = b'{"predecessor":{"certificate":', b"}}"
    (folder / "certificate.json").write_bytes(begins * 100_000 + text + ends * 100_000)
    kit.sign(folder)
    refused(kit, folder, 4, ProofFailed, "Nothing was read")


def test_a_certificate_without_predecessor_is_written_as_it_always_was(kit: Kit) -> None:
    plain = json.loads((kit.folder(1) / "certificate.json").read_text())
    assert "predecessor" not in plain
    assert canonical_bytes(to_plain(build(Certificate, plain, "c"))) == canonical_bytes(plain)
