"""A release says who took part. Ways to name somebody that did not agree to it, not under that name, or for what
another did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.registry.build import weights_only
from coordinator.registry.publish import publish
from coordinator.registry.shelf import Shelf
from coordinator.runs.publishing import publish_request
from participant.consents import give_consent, save_reviewed
from shared.domain.errors import BadSignature, PolicyForbids, ProofFailed
from shared.domain.plan import Plan
from shared.domain.run import RunState
from shared.domain.strict import to_plain
from shared.release.signing import SigningKey
from shared.verification import verify_release
from tests.desk import Desk
from tests.release_kit import Kit, make_kit, on_certificate, refused
from tests.roll_kit import root_of
from tests.simulator import ConsortiumSimulator


@pytest.fixture
def sim(desk: Desk, tmp_path: Path) -> ConsortiumSimulator:
    return ConsortiumSimulator(desk, tmp_path, sizes=(6,) * 3)


def released(sim: ConsortiumSimulator, plan: Plan) -> Path:
    """A release of a run of the first two members; the third was proposed the plan, too, and never answered."""
    sim.consent(plan, sim.members[:2])
    run = sim.drive(sim.service.start(str(plan.digest), "operator"))
    assert run.state is RunState.COMPLETED, run.reason
    request = publish_request(run, sim.store, sim.driver, sim.every_member())
    publish(sim.desk.home, request, sim.desk.clock, export=weights_only)
    folder = Shelf(sim.desk.home).folder("tiny", 1)
    verify_release(folder, pinned_root=root_of(sim.desk), clock=sim.desk.clock)
    return folder


def naming(folder: Path, name: str) -> list[str]:
    """The files of a release that say it."""
    return sorted(p.name for p in folder.iterdir() if name.encode() in p.read_bytes())


def test_a_plan_that_names_its_members_names_in_every_release_who_never_consented(
    sim: ConsortiumSimulator,
) -> None:
    """What plans of earlier versions do: their digest covers the names, so that none can be cut out."""
    plan = sim.plan(quorum=2)
    names = sim.service.names()
    old = replace(plan, members=tuple(replace(m, name=names[m.member_id]) for m in plan.members))
    sim.store.add_plan(old, "operator", sim.store.starting_weights(str(plan.digest)))
    assert naming(released(sim, old), "Org 2") == ["manifest.json", "plan.json"]


def test_a_release_names_nobody_that_did_not_consent(sim: ConsortiumSimulator) -> None:
    folder = released(sim, sim.plan(quorum=2))
    assert naming(folder, "Org 2") == []
    assert naming(folder, "Org 1") == ["README.md", "certificate.json"]


def test_a_node_signs_no_plan_that_gives_it_another_name(sim: ConsortiumSimulator) -> None:
    """As plans of earlier versions could: their releases would call it so, with its own signature."""
    plan, member = sim.plan(quorum=2), sim.members[0]
    weights = sim.service.starting_weights(str(plan.digest)).read_bytes()
    own, other = (
        replace(
            plan,
            members=tuple(replace(m, name=name if m.member_id == member.id else "") for m in plan.members),
        )
        for name in ("Org 0", "Another Bank")
    )
    for old in (own, other):
        save_reviewed(member.home, old, weights)
    give_consent(member.home, own)
    with pytest.raises(PolicyForbids, match="names this member 'Another Bank', it is 'Org 0'"):
        give_consent(member.home, other)


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    made = make_kit(tmp_path)
    made.publish()
    return made


def called(name: str, in_consent: str | None) -> Any:
    """A certificate whose first member has this name, and `in_consent` in its consent, or none there at all."""

    def change(certificate: Any) -> None:
        certificate["members"][0]["name"] = name
        consent = certificate["consents"][0]
        del consent["name"]
        if in_consent is not None:
            consent["name"] = in_consent

    return on_certificate(change)


@pytest.mark.parametrize(
    ("in_consent", "kind", "said"),
    [
        ("North", ProofFailed, "did not consent to the name that the certificate gives it"),
        ("Another Bank", BadSignature, "does not verify"),
        (None, ProofFailed, "did not consent to the name that the certificate gives it"),
    ],
    ids=["in the certificate alone", "in the consent too", "without any in the consent"],
)
def test_a_publisher_cannot_put_another_name_to_what_a_member_signed(
    kit: Kit, in_consent: str | None, kind: type[ProofFailed], said: str
) -> None:
    kit.lie(kit.folder(), "certificate.json", called("North", "North"))
    verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock)  # an honest one, signed again, holds
    kit.lie(kit.folder(), "certificate.json", called("Another Bank", in_consent))
    refused(kit, kit.folder(), 6, kind, said)


def test_a_publisher_cannot_put_a_members_name_to_what_another_did(kit: Kit) -> None:
    """North was asked in five rounds, West in three: both signed this plan, and each of the two signatures holds."""

    def exchange(certificate: Any) -> None:
        for lines, keys in (
            ("members", ("name", "identity_public_key")),
            ("consents", ("name", "signature")),
        ):
            north, _, west = certificate[lines]
            for key in keys:
                north[key], west[key] = west[key], north[key]

    kit.lie(kit.folder(), "certificate.json", on_certificate(exchange))
    refused(kit, kit.folder(), 6, BadSignature, "does not verify")


@pytest.mark.parametrize(
    "named_by_plan", [True, False], ids=["plan and consent differ", "neither has a name"]
)
def test_who_signed_one_name_stands_under_no_other_and_not_without(kit: Kit, named_by_plan: bool) -> None:
    """A plan that names members as those of earlier versions do, beside consents as those of today; and neither."""
    first, *rest = kit.plan.members
    name = "Another Bank" if named_by_plan else ""
    plan = replace(kit.plan, members=(replace(first, name=name), *rest))
    key: SigningKey = kit.identities[first.member_id]
    said = {"plan_digest": str(plan.digest)}
    if named_by_plan:
        said |= {"member_id": first.member_id, "name": "North"}
    kit.lie(kit.folder(), "plan.json", lambda _: to_plain(plan))

    def change(certificate: Any) -> None:
        certificate["plan_digest"] = str(plan.digest)
        certificate["members"][0]["name"] = name
        for consent in certificate["consents"]:
            consent["plan_digest"] = str(plan.digest)
        mine = certificate["consents"][0]
        mine["signature"] = key.sign_value("consent", said)
        if not named_by_plan:
            del mine["name"]

    kit.lie(kit.folder(), "certificate.json", on_certificate(change))
    refused(kit, kit.folder(), 6, ProofFailed, "did not consent to the name that the certificate gives it")
