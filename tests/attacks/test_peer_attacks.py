"""Attacks on whom a member sums with: each first seen to work where the coordinator's roll alone is believed.

A member masks its vector with keys of the roster, each signed by an identity key. What the sum hides it behind is
therefore worth as much as the list of identity keys that the member accepts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from participant.enrol import COORDINATOR_FILE
from participant.peers import (
    PeerState,
    approve,
    approved_identities,
    every_peer,
    require_peers,
    waiting,
)
from participant.roll import accept_roll, read_roll, refresh_roll
from shared.domain.consortium import MemberState, RollEntry
from shared.domain.errors import (
    BadSignature,
    Expired,
    Invalid,
    NotTrusted,
    PeersWaiting,
    Revoked,
    RolledBack,
    WrongAuthority,
)
from shared.domain.files import read_json, write_json
from shared.domain.ids import MemberId
from shared.domain.plan import Plan
from shared.release.envelope import Envelope
from shared.release.signing import SigningKey, verify
from tests.desk import Desk, open_desk, prepare_home
from tests.roll_kit import Joined, LyingRoll, RollOfDesk, joined, roll_of, secure_plan

SECRET_VECTOR = np.arange(1, 9, dtype=np.uint32)


@dataclass
class Sender:
    """Whoever offers a mask key under an identity key: a member, or the coordinator playing one."""

    member_id: str
    identity: SigningKey
    mask_key: X25519PrivateKey

    @property
    def offer(self) -> tuple[bytes, str]:
        public = self.mask_key.public_key().public_bytes_raw()
        return public, self.identity.sign(public)


def sender(member_id: str, identity: SigningKey | None = None) -> Sender:
    return Sender(member_id, identity or SigningKey.generate(), X25519PrivateKey.generate())


def mask(mine: X25519PrivateKey, public: bytes) -> np.ndarray:
    shared = mine.exchange(X25519PublicKey.from_public_bytes(public))
    return np.frombuffer(shared, dtype="<u4").astype(np.uint32)


def masked(me: Sender, others: list[Sender], accepted: Mapping[str, str]) -> np.ndarray:
    """The victim's vector under a mask with each of `others`, whose offers verify under `accepted` keys."""
    vector = SECRET_VECTOR.copy()
    for other in others:
        public, signature = other.offer
        if other.member_id not in accepted:
            raise BadSignature(f"{other.member_id} is not accepted. Nothing was sent.")
        verify(accepted[other.member_id], public, signature)
        vector += mask(me.mask_key, public)
    return vector


def unmasked_by(friends: list[Sender], me: Sender, seen: np.ndarray) -> np.ndarray:
    """What the coordinator has left once it takes off every mask that it holds the key of."""
    vector = seen.copy()
    for friend in friends:
        vector -= mask(friend.mask_key, me.offer[0])
    return vector


def believing(entries: tuple[RollEntry, ...], plan: Plan) -> dict[str, str]:
    """The unprotected variant: whoever the coordinator puts on the roll and into the plan is accepted."""
    return {e.member_id: e.identity_public_key for e in entries if plan.member(e.member_id) is not None}


@dataclass(frozen=True)
class Place:
    desk: Desk
    victim: Joined
    south: Joined
    west: Joined

    def look(self, source: object | None = None) -> None:
        refresh_roll(self.victim.home, source or RollOfDesk(self.desk), self.desk.clock)  # type: ignore[arg-type]

    def approve_all(self) -> None:
        approve(self.victim.home, waiting(self.victim.home, self.desk.clock), self.desk.clock)

    def accepted(self, plan: Plan) -> Mapping[str, str]:
        return approved_identities(self.victim.home, plan, self.desk.clock)

    @property
    def plan(self) -> Plan:
        return secure_plan(*((m.member_id, m.name) for m in (self.victim, self.south, self.west)))


@pytest.fixture
def place(desk: Desk, tmp_path: Path) -> Place:
    """Three organisations; the first is the victim, which has approved the other two."""
    place = Place(desk, *(joined(desk, tmp_path, name) for name in ("North", "South", "West")))
    place.look()
    place.approve_all()
    return place


def test_friends_that_the_coordinator_enrols_do_not_unmask_a_member(place: Place) -> None:
    """All of the cohort but the victim are the coordinator's own, properly enrolled and on the signed roll."""
    me = sender(place.victim.member_id, place.victim.identity)
    friends = []
    for name in ("East", "Coast"):
        identity = SigningKey.generate()
        reply = joined_as(place.desk, name, identity)
        friends.append(sender(reply, identity))
    plan = secure_plan((me.member_id, "North"), *((f.member_id, "East") for f in friends))

    unprotected = believing(roll_of(place.desk).entries, plan)
    assert (unmasked_by(friends, me, masked(me, friends, unprotected)) == SECRET_VECTOR).all()

    place.look()
    with pytest.raises(BadSignature, match="is not accepted"):
        masked(me, friends, place.accepted(plan))
    with pytest.raises(PeersWaiting, match=r"of the plan's 3 members 2 are not: East .*, new\), Coast"):
        require_peers(place.victim.home, plan, place.desk.clock)


def joined_as(desk: Desk, name: str, identity: SigningKey) -> str:
    from tests.desk import enrolment

    return desk.room.members.enrol(enrolment(desk.secret(name), identity)).member_id


def swap_south(place: Place, key: SigningKey) -> Callable[[tuple[RollEntry, ...]], tuple[RollEntry, ...]]:
    def change(entries: tuple[RollEntry, ...]) -> tuple[RollEntry, ...]:
        return tuple(
            replace(e, identity_public_key=key.public_hex) if e.member_id == place.south.member_id else e
            for e in entries
        )

    return change


def test_a_swapped_identity_key_does_not_let_the_coordinator_play_a_member(place: Place) -> None:
    """The coordinator signs a roll on which two approved members have keys that it made."""
    me, coordinator = sender(place.victim.member_id, place.victim.identity), SigningKey.generate()
    lie = LyingRoll(place.desk, swap_south(place, coordinator))
    impostor = sender(place.south.member_id, coordinator)

    place.look(lie)
    roll = read_roll(place.victim.home, place.desk.clock)
    seen = masked(me, [impostor], believing(roll.entries, place.plan))
    assert (unmasked_by([impostor], me, seen) == SECRET_VECTOR).all()

    accepted = place.accepted(place.plan)
    assert set(accepted) == {place.victim.member_id, place.west.member_id}
    with pytest.raises(BadSignature):
        masked(me, [impostor], accepted)
    with pytest.raises(PeersWaiting, match=r"South \(mem_\w+, CHANGED\).*peers approve South$"):
        require_peers(place.victim.home, place.plan, place.desk.clock)


def test_a_key_swapped_back_before_anybody_looks_is_the_approved_one_again(place: Place) -> None:
    """The pin is of the key, so a lie that was never approved leaves no trace and opens nothing later."""
    place.look(LyingRoll(place.desk, swap_south(place, SigningKey.generate())))
    place.look(LyingRoll(place.desk, newer=2))
    assert place.accepted(place.plan)[place.south.member_id] == place.south.identity.public_hex


def test_an_approved_name_under_a_new_id_waits_as_changed(place: Place) -> None:
    """The coordinator drops South from the roll and enrols a friend as `SOUTH`."""
    friend = RollEntry(
        MemberId("mem_0123456789ab"), "SOUTH", SigningKey.generate().public_hex, MemberState.ACTIVE
    )
    place.look(
        LyingRoll(
            place.desk,
            lambda entries: (*(e for e in entries if e.member_id != place.south.member_id), friend),
        )
    )
    plan = secure_plan((place.victim.member_id, "North"), (friend.member_id, "South"))
    assert friend.member_id in believing(read_roll(place.victim.home, place.desk.clock).entries, plan)
    assert set(place.accepted(plan)) == {place.victim.member_id}
    states = {p.member_id: p.state for p in every_peer(place.victim.home, place.desk.clock)}
    assert states[friend.member_id] is PeerState.CHANGED
    assert states[place.south.member_id] is PeerState.MISSING


@pytest.mark.parametrize("name", ["South", "south", "S outh", "Ｓｏｕｔｈ"])  # noqa: RUF001 - full-width letters
def test_two_organisations_that_a_person_takes_for_one_are_both_refused(place: Place, name: str) -> None:
    friend = RollEntry(
        MemberId("mem_0123456789ab"), name, SigningKey.generate().public_hex, MemberState.ACTIVE
    )
    place.look(LyingRoll(place.desk, lambda entries: (*entries, friend)))
    plan = secure_plan(
        (place.victim.member_id, "North"), (place.south.member_id, "South"), (friend.member_id, name)
    )
    assert len(believing(read_roll(place.victim.home, place.desk.clock).entries, plan)) == 3
    assert set(place.accepted(plan)) == {place.victim.member_id}
    assert waiting(place.victim.home, place.desk.clock) == ()
    with pytest.raises(PeersWaiting, match="Ask the consortium's admin about those"):
        require_peers(place.victim.home, plan, place.desk.clock)


def test_one_identity_key_under_two_names_is_refused(place: Place) -> None:
    """One friend that counts twice towards the quorum."""
    key = SigningKey.generate().public_hex
    twins = tuple(
        RollEntry(MemberId(f"mem_00000000000{n}"), f"Friend {n}", key, MemberState.ACTIVE) for n in (1, 2)
    )
    before = place.victim.home.roll.read_bytes()
    with pytest.raises(Invalid, match="names one identity key twice"):
        place.look(LyingRoll(place.desk, lambda entries: (*entries, *twins)))
    assert place.victim.home.roll.read_bytes() == before


def test_an_older_roll_does_not_bring_a_revoked_member_back(place: Place) -> None:
    old = RollOfDesk(place.desk).roll()
    place.desk.room.members.revoke(place.south.member_id, "operator")
    place.look()
    assert set(place.accepted(place.plan)) == {place.victim.member_id, place.west.member_id}

    assert place.south.member_id in believing(roll_in(old, place), place.plan)
    with pytest.raises(RolledBack, match=r"has version 3; version 4 was already seen here"):
        accept_roll(place.victim.home, RollOfDesk(place.desk).trust(), old, place.desk.clock)
    assert set(place.accepted(place.plan)) == {place.victim.member_id, place.west.member_id}


def test_the_version_seen_when_joining_is_the_least_even_before_a_roll_was_kept(
    place: Place, tmp_path: Path
) -> None:
    old = RollOfDesk(place.desk).roll()
    place.desk.room.members.revoke(place.south.member_id, "operator")
    newcomer = joined(place.desk, tmp_path, "Late")
    assert not newcomer.home.roll.exists()
    with pytest.raises(RolledBack, match="has version 3; version 5 was already seen"):
        accept_roll(newcomer.home, RollOfDesk(place.desk).trust(), old, place.desk.clock)


def test_another_roll_of_the_same_version_is_refused(place: Place) -> None:
    with pytest.raises(RolledBack, match="Two different roll documents carry version 3"):
        place.look(LyingRoll(place.desk, lambda entries: entries[:1], newer=0))


def test_a_revoked_or_suspended_member_is_not_accepted_and_cannot_be_approved(place: Place) -> None:
    place.desk.room.members.suspend(place.south.member_id, "operator")
    place.desk.room.members.revoke(place.west.member_id, "operator")
    place.look()
    assert set(place.accepted(place.plan)) == {place.victim.member_id}
    for peer in every_peer(place.victim.home, place.desk.clock)[1:]:
        with pytest.raises(Revoked, match="Nothing was approved"):
            approve(place.victim.home, [peer], place.desk.clock)
    place.desk.room.members.resume(place.south.member_id, "operator")
    place.look()
    assert set(place.accepted(place.plan)) == {place.victim.member_id, place.south.member_id}


def roll_in(envelope: Envelope, place: Place) -> tuple[RollEntry, ...]:
    """Lines of an envelope as the unprotected variant reads them: nobody asks for its age."""
    from shared.domain.strict import build

    return build(tuple[RollEntry, ...], envelope["signed"]["entries"], "entries")


@pytest.mark.parametrize("signer", ["a key of the attacker's", "a member's identity key", "the release key"])
def test_a_roll_signed_by_another_key_is_refused(place: Place, signer: str) -> None:
    """Somebody between the member and the coordinator, or another role of the consortium."""
    keys = {
        "a key of the attacker's": SigningKey.generate(),
        "a member's identity key": place.south.identity,
        "the release key": place.desk.room.authority.release_key(),
    }
    lie = LyingRoll(place.desk, swap_south(place, SigningKey.generate()), key=keys[signer])
    before = place.victim.home.roll.read_bytes()
    assert believing(roll_in(lie.roll(), place), place.plan) != place.accepted(place.plan)
    with pytest.raises(BadSignature, match="signature.s. by the roll key; 0 verify"):
        place.look(lie)
    assert place.victim.home.roll.read_bytes() == before


def test_a_roll_with_a_trust_document_of_another_root_is_refused(place: Place, tmp_path: Path) -> None:
    """A whole other consortium of the same name, with a higher version of everything."""
    prepare_home(tmp_path / "stranger")
    stranger = open_desk(tmp_path / "stranger")
    before = place.victim.home.roll.read_bytes()
    with pytest.raises(NotTrusted):
        place.look(RollOfDesk(stranger))
    assert place.victim.home.roll.read_bytes() == before
    place.victim.home.roll.unlink()
    with pytest.raises(NotTrusted):
        place.look(RollOfDesk(stranger))
    assert not place.victim.home.roll.exists()


def test_a_frozen_roll_is_of_no_use_once_its_time_is_over(place: Place) -> None:
    """A coordinator that withholds the roll on which a member is revoked wins thirty days at most."""
    frozen = RollOfDesk(place.desk).roll()
    place.desk.clock.advance(30 * 86400 - 1)
    assert len(place.accepted(place.plan)) == 3
    place.desk.clock.advance(1)
    with pytest.raises(Expired, match="The roll document was valid until"):
        place.accepted(place.plan)
    with pytest.raises(Expired):
        accept_roll(place.victim.home, RollOfDesk(place.desk).trust(), frozen, place.desk.clock)


@pytest.mark.parametrize("attack", ["another key", "left out"])
def test_a_roll_that_misnames_the_member_itself_is_refused(place: Place, attack: str) -> None:
    """Shown to others it would let the coordinator speak for this member; shown to it, it is evidence."""
    key = SigningKey.generate().public_hex

    def change(entries: tuple[RollEntry, ...]) -> tuple[RollEntry, ...]:
        mine = place.victim.member_id
        if attack == "left out":
            return tuple(e for e in entries if e.member_id != mine)
        return tuple(replace(e, identity_public_key=key) if e.member_id == mine else e for e in entries)

    with pytest.raises(WrongAuthority, match="with the key made here; it names"):
        place.look(LyingRoll(place.desk, change))


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "[conceal]x[/]", "$(reboot)", "", "x" * 101, "South\n", "a;b"])
def test_a_name_that_could_trick_a_terminal_or_a_shell_is_refused(place: Place, name: str) -> None:
    friend = RollEntry(
        MemberId("mem_0123456789ab"), name, SigningKey.generate().public_hex, MemberState.ACTIVE
    )
    with pytest.raises(Invalid, match="a name that no organisation can have"):
        place.look(LyingRoll(place.desk, lambda entries: (*entries, friend)))


def test_a_key_swapped_while_the_operator_is_on_the_phone_is_not_approved(place: Place) -> None:
    """What is approved is what was shown, even where the node took a newer roll in between."""
    joined_as(place.desk, "East", SigningKey.generate())
    place.look()
    [shown] = waiting(place.victim.home, place.desk.clock)
    other = SigningKey.generate().public_hex
    place.look(
        LyingRoll(
            place.desk,
            lambda entries: tuple(
                replace(e, identity_public_key=other) if e.name == "East" else e for e in entries
            ),
        )
    )
    with pytest.raises(Invalid, match="East changed on the roll since it was shown"):
        approve(place.victim.home, [shown], place.desk.clock)
    assert len(waiting(place.victim.home, place.desk.clock)) == 1


def test_a_roll_is_followed_from_the_pinned_root_only(place: Place, tmp_path: Path) -> None:
    """A trust document put into the folder that the pinned root never signed vouches for nothing."""
    prepare_home(tmp_path / "stranger")
    stranger, link_file = open_desk(tmp_path / "stranger"), place.victim.home.root / COORDINATOR_FILE
    write_json(link_file, read_json(link_file) | {"trust": stranger.room.authority.trust_envelope()})
    place.victim.home.roll.unlink()
    with pytest.raises(BadSignature, match="did not sign this trust document"):
        place.look(RollOfDesk(stranger))
