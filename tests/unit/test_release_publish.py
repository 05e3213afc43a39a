"""Step 13: publishing, crashing between any two steps, withdrawing, rotating."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.registry.build import weights_only
from coordinator.registry.publish import publish
from coordinator.registry.shelf import (
    CATALOGUE_LIFETIME,
    Shelf,
    current_catalogue,
    read_catalogue,
    refresh,
    yank,
)
from shared.domain.errors import (
    DigestMismatch,
    Invalid,
    InvalidConfig,
    InvalidWeights,
    NotFound,
    ProofFailed,
    UnsoundPlan,
)
from shared.release.roles import open_catalogue
from shared.release.signing import SigningKey
from shared.release.trust import parse_trust, rotate
from shared.verification import verify_release
from tests.release_kit import Kit, make_kit, make_secure_kit

STEPS = ("13.1 intent", "13.2 build", "13.3 sign", "13.4 verify", "13.5 place", "13.6 show")


class Killed(BaseException):
    """Stands for kill −9: nothing in the code under test may catch it."""


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return make_kit(tmp_path)


def visible_ids(kit: Kit) -> list[str]:
    return [entry.id for entry in read_catalogue(Shelf(kit.home), kit.clock).releases]


def test_numbers_follow_each_other_and_each_names_the_one_before(kit: Kit) -> None:
    assert [kit.publish("one"), kit.publish("two")] == ["digits-1", "digits-2"]
    first = verify_release(kit.folder(1), pinned_root=kit.root, clock=kit.clock)
    second = verify_release(kit.folder(2), pinned_root=kit.root, clock=kit.clock)
    assert first.manifest.previous is None
    assert second.manifest.previous == first.manifest_digest


def test_publishing_the_same_checkpoint_again_changes_nothing(kit: Kit) -> None:
    kit.publish("one")
    before = (kit.home / "releases" / "catalogue.json").read_bytes()
    assert kit.publish("one") == "digits-1"
    assert (kit.home / "releases" / "catalogue.json").read_bytes() == before


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_any_step_the_next_publish_finishes_what_was_begun(kit: Kit, step: str) -> None:
    kit.publish("one")

    def kill(ended: str) -> None:
        if ended == step:
            raise Killed

    with pytest.raises(Killed):
        publish(kit.home, kit.request("two"), kit.clock, kill, export=weights_only)
    # Visible is what the catalogue lists; whatever it lists is whole.
    shown = visible_ids(kit)
    assert shown == (["digits-1", "digits-2"] if step == "13.6 show" else ["digits-1"])
    kit.clock.advance(3600)
    assert publish(kit.home, kit.request("two"), kit.clock, export=weights_only) == "digits-2"
    assert visible_ids(kit) == ["digits-1", "digits-2"]
    verify_release(kit.folder(2), pinned_root=kit.root, clock=kit.clock)
    left = sorted(path.name for path in (kit.home / "releases").iterdir())
    assert left == [".lock", "catalogue.json", "digits"]


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_any_step_another_release_gets_its_own_number(kit: Kit, step: str) -> None:
    def kill(ended: str) -> None:
        if ended == step:
            raise Killed

    with pytest.raises(Killed):
        publish(kit.home, kit.request("one"), kit.clock, kill, export=weights_only)
    kept = step in ("13.5 place", "13.6 show")
    assert publish(kit.home, kit.request("two"), kit.clock, export=weights_only) == (
        "digits-2" if kept else "digits-1"
    )
    assert publish(kit.home, kit.request("one"), kit.clock, export=weights_only) == (
        "digits-1" if kept else "digits-2"
    )
    assert visible_ids(kit) == ["digits-1", "digits-2"]


def test_a_release_that_does_not_verify_is_never_shown(kit: Kit) -> None:
    short = replace(kit.request(), consents=kit.consents()[:2])
    with pytest.raises(
        ProofFailed, match='"consents signed by the identity keys on the certificate", failed'
    ):
        publish(kit.home, short, kit.clock, export=weights_only)
    assert visible_ids(kit) == [] and not kit.folder(1).exists()
    assert kit.publish() == "digits-1"


def test_publish_refuses_a_checkpoint_of_another_length_or_with_nan(kit: Kit) -> None:
    with pytest.raises(InvalidWeights, match="trains 10 coordinates, 40 bytes; the checkpoint has 36"):
        kit.publish(weights_f32=b"\0" * 36)
    with pytest.raises(InvalidWeights, match="NaN or infinite"):
        kit.publish(weights_f32=b"\xff" * 40)
    assert visible_ids(kit) == []


def test_publish_refuses_other_starting_weights_than_the_plans(kit: Kit, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(kit.starting.read_bytes()[:-1] + b"\x40")
    with pytest.raises(DigestMismatch, match="The plan starts from the weights"):
        kit.publish(starting_weights=other)


def test_publish_refuses_a_name_that_is_no_folder(kit: Kit) -> None:
    kit.plan = replace(kit.plan, extractor_name="../evil")
    with pytest.raises(Invalid, match="An extractor's name has lower-case letters"):
        kit.publish()
    assert not (kit.home / "evil").exists()


def test_plan_from_before_is_published_and_verified_under_a_name_that_no_new_one_gets(kit: Kit) -> None:
    kit.plan = replace(kit.plan, extractor_name="two--hyphens-")
    assert kit.publish() == "two--hyphens--1"
    verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock)


def test_release_of_mode_secure_shows_both_numbers_of_every_member(tmp_path: Path) -> None:
    kit = make_secure_kit(tmp_path)
    assert kit.publish() == "digits-1"
    for member in verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock).certificate.members:
        assert member.events_alone is not None and member.guarantees_alone is not None
        share = math.sqrt(len(kit.plan.members) - kit.plan.colluders)
        assert [(e.sampling_rate, e.count) for e in member.events] == [
            (e.sampling_rate, e.count) for e in member.events_alone
        ]
        for whole, own in zip(member.events, member.events_alone, strict=True):
            assert own.noise_multiplier == pytest.approx(whole.noise_multiplier / share, rel=1e-12)
        for together, alone in zip(member.guarantees, member.guarantees_alone, strict=True):
            assert together.epsilon < alone.epsilon and together.delta == alone.delta
    card = (kit.folder() / "README.md").read_text()
    assert "| member | ε at δ = 1e-05 | ε_alone | ε at δ = 1e-06 | ε_alone |" in card
    assert "provided that of the members in a sum all but 1 add their noise share" in card


def test_certificate_of_mode_local_has_no_word_of_a_second_number(kit: Kit) -> None:
    kit.publish()
    text = (kit.folder() / "certificate.json").read_text()
    assert "alone" not in text
    assert "ε_alone, if all others deviate: the same." in (kit.folder() / "README.md").read_text()


def test_epsilon_without_a_bound_is_not_certified(kit: Kit) -> None:
    kit.plan = replace(kit.plan, privacy=replace(kit.plan.privacy, noise_multiplier=0.001, sampling_rate=1.0))
    with pytest.raises(UnsoundPlan, match="have no finite ε, so there is nothing to certify"):
        kit.publish()


def test_publish_refuses_a_release_key_that_the_trust_does_not_name(kit: Kit) -> None:
    (kit.home / "keys" / "release.pem").unlink()
    SigningKey.generate().save(kit.home / "keys" / "release.pem")
    with pytest.raises(InvalidConfig, match=r"Put the right key in place"):
        kit.publish()


def test_yanked_release_stays_listed_under_the_next_version(kit: Kit) -> None:
    kit.publish("one")
    kit.publish("two")
    yank(kit.home, "digits-2", kit.clock)
    catalogue = read_catalogue(Shelf(kit.home), kit.clock)
    assert [(e.id, e.yanked) for e in catalogue.releases] == [("digits-1", False), ("digits-2", True)]
    newest = catalogue.newest("digits")
    assert newest is not None and newest.id == "digits-1" and catalogue.version == 3
    with pytest.raises(NotFound, match="There is no release 'digits-9'"):
        yank(kit.home, "digits-9", kit.clock)


def test_catalogue_is_signed_again_before_it_expires(kit: Kit) -> None:
    kit.publish()
    assert current_catalogue(kit.home, kit.clock)["signed"]["version"] == 1
    kit.clock.advance(CATALOGUE_LIFETIME.total_seconds() / 2)
    envelope = current_catalogue(kit.home, kit.clock)
    assert envelope["signed"]["version"] == 2
    assert open_catalogue(envelope, Shelf(kit.home).trust(), kit.clock).entry("digits-1") is not None


def test_an_empty_registry_has_a_signed_empty_catalogue(kit: Kit) -> None:
    envelope = current_catalogue(kit.home, kit.clock)
    assert open_catalogue(envelope, Shelf(kit.home).trust(), kit.clock).releases == ()


def rotate_release_key(kit: Kit) -> None:
    current = json.loads((kit.home / "trust.json").read_text())
    (kit.home / "keys" / "release.pem").unlink()
    key = SigningKey.generate()
    key.save(kit.home / "keys" / "release.pem")
    following = replace(parse_trust(current), version=2, release_key=key.public_hex)
    envelope = rotate(current, following, [SigningKey.load(kit.home / "keys" / "root.pem")])
    (kit.home / "trust.json").write_text(json.dumps(envelope))


def test_rotated_release_key_signs_old_releases_again_without_changing_their_digest(kit: Kit) -> None:
    kit.publish()
    before = verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock)
    rotate_release_key(kit)
    assert refresh(kit.home, kit.clock) == 1
    after = verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock)
    assert after.trust.version == 2 and after.manifest_digest == before.manifest_digest
    assert refresh(kit.home, kit.clock) == 0
    assert kit.publish("two") == "digits-2"


def test_markdown_in_a_members_name_stays_text(kit: Kit) -> None:
    kit.renamed[kit.plan.members[0].member_id] = "a|b [x](http://y)\n# c"
    kit.publish()
    card = (kit.folder() / "README.md").read_text()
    assert r"| a\|b \[x\]\(http://y\) \# c |" in card
