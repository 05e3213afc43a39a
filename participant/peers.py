"""The organisations that this member sums with: those on the signed roll that its operator approved (clause 5.1).

The coordinator holds the key that signs the roll, so it could enrol friends of its own or give a member another
key. What is new or changed therefore waits for the operator, who compares a fingerprint by phone.
"""

from __future__ import annotations

import enum
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from participant.approvals import Approval, alike, read_approvals, write_approvals
from participant.enrol import read_link
from participant.home import Home
from participant.roll import RollSource, read_roll, refresh_roll
from shared.domain.clock import Clock, SystemClock, to_text
from shared.domain.consortium import MemberState, RollEntry
from shared.domain.errors import (
    AlreadyExists,
    CommonlensError,
    Invalid,
    NotFound,
    PeersWaiting,
    Revoked,
)
from shared.domain.locking import held_lock
from shared.domain.plan import Plan
from shared.release.fingerprint import fingerprint
from shared.release.signing import SigningKey

APPROVE: Final = "commonlens-participant peers approve"


class PeerState(enum.Enum):
    """Where an organisation stands with this member."""

    SELF = "this member"
    APPROVED = "approved"
    NEW = "new"
    CHANGED = "CHANGED"
    """Approved before under another key, id or name."""
    TWICE = "named twice"
    """Another organisation in use has the same name, so a person cannot tell which is meant."""
    PENDING = "pending"
    """Joined, and waits for an admin's approval."""
    SUSPENDED = "suspended"
    REVOKED = "revoked"
    MISSING = "not on the roll"
    """Approved here and gone from the roll, which names everyone who ever enrolled."""


WAITING = frozenset({PeerState.NEW, PeerState.CHANGED})
UNSETTLED = WAITING | {PeerState.TWICE, PeerState.MISSING}


@dataclass(frozen=True)
class Peer:
    """One organisation as this member sees it now."""

    member_id: str
    name: str
    identity_public_key: str
    """Ed25519, 64 hex digits; empty for a member of a plan that is not on the roll."""
    state: PeerState

    @property
    def fingerprint(self) -> str:
        """The key as 8 groups of 5 digits, to be compared on the phone."""
        return fingerprint(self.identity_public_key)


def every_peer(home: Home, clock: Clock | None = None) -> tuple[Peer, ...]:
    """Everybody on the newest roll, this member first, then by name. Raises NotFound, Expired, as `read_roll`."""
    roll, me, approvals = read_roll(home, clock), read_link(home.root).member_id, read_approvals(home)
    names = Counter(alike(e.name) for e in roll.entries if e.state is not MemberState.REVOKED)
    listed = [
        Peer(e.member_id, e.name, e.identity_public_key, _state(e, me, names, approvals))
        for e in roll.entries
    ]
    gone = [
        Peer(member_id, approval.name, approval.identity_public_key, PeerState.MISSING)
        for member_id, approval in approvals.items()
        if roll.entry(member_id) is None
    ]

    def place(peer: Peer) -> tuple[bool, str, str]:
        return peer.state is not PeerState.SELF, alike(peer.name), peer.member_id

    return tuple(sorted([*listed, *gone], key=place))


def waiting(home: Home, clock: Clock | None = None) -> tuple[Peer, ...]:
    """Active organisations on the roll that the operator has not approved as they are now."""
    return tuple(peer for peer in every_peer(home, clock) if peer.state in WAITING)


def approved_identities(home: Home, plan: Plan, clock: Clock | None = None) -> Mapping[str, str]:
    """Member id → identity public key (64 hex digits) of the plan's members that this member sums with.

    They are active on the newest valid roll and approved under the key that they have there; this member is
    always among them, with the key in its own folder. Raises NotFound or Expired where no valid roll is kept.
    """
    accepted = {
        peer.member_id: peer.identity_public_key
        for peer in every_peer(home, clock)
        if peer.state is PeerState.APPROVED and plan.member(peer.member_id) is not None
    }
    return accepted | {read_link(home.root).member_id: SigningKey.load(home.identity_key).public_hex}


def unsettled_in_plan(home: Home, plan: Plan, clock: Clock | None = None) -> tuple[Peer, ...]:
    """Members of the plan that the operator, or the admin, has to settle before this member sums with them.

    One that is suspended or revoked is not among them: its node is shut out, and nobody can approve it.
    """
    known = {peer.member_id: peer for peer in every_peer(home, clock)}
    members = (
        known.get(line.member_id, Peer(line.member_id, line.member_id, "", PeerState.MISSING))
        for line in plan.members
    )
    return tuple(peer for peer in members if peer.state in UNSETTLED)


def require_peers(home: Home, plan: Plan, clock: Clock | None = None) -> None:
    """Raise PeersWaiting unless every member of the plan is settled: approved, or shut out by the admin."""
    unsettled = unsettled_in_plan(home, plan, clock)
    if not unsettled:
        return
    listed = ", ".join(f"{peer.name} ({peer.member_id}, {peer.state.value})" for peer in unsettled)
    mine = [peer for peer in unsettled if peer.state in WAITING]
    steps = [f"Compare their fingerprints with them by phone, then run: {approve_command(mine)}"] * bool(mine)
    if len(mine) < len(unsettled):
        steps.insert(0, "Ask the consortium's admin about those that are not on the roll, or named twice.")
    raise PeersWaiting(
        f"This member sums only with organisations that its operator approved; of the plan's "
        f"{len(plan.members)} members {len(unsettled)} are not: {listed}. Nothing was signed. {' '.join(steps)}"
    )


def approve(home: Home, peers: Sequence[Peer], clock: Clock | None = None) -> None:
    """Pin each of `peers` as it was shown: name and key. What was approved alike before is replaced.

    All or none. Raises Revoked for one that is suspended or revoked, AlreadyExists for one whose name another
    has too, NotFound for one that is not on the roll, Invalid when the roll changed since it was shown.
    """
    moment = to_text((clock or SystemClock()).now())
    with held_lock(home.peers_lock):
        now = {peer.member_id: peer for peer in every_peer(home, clock)}
        approvals = read_approvals(home)
        for peer in peers:
            _check_approvable(peer, now.get(peer.member_id))
            if peer.state in WAITING:
                approvals = {
                    member_id: other for member_id, other in approvals.items() if not _known_as(other, peer)
                }
                approvals[peer.member_id] = Approval(peer.name, peer.identity_public_key, moment)
        write_approvals(home, approvals)


def find_peer(peers: Iterable[Peer], wanted: str) -> Peer:
    """The organisation with this member id or name; a revoked one by its id only. Raises NotFound."""
    every = tuple(peers)
    by_id = [peer for peer in every if peer.member_id == wanted]
    by_name = [p for p in every if alike(p.name) == alike(wanted) and p.state is not PeerState.REVOKED]
    # Somebody who is gone from the roll may have come back under a new id: then that one is meant.
    by_name.sort(key=lambda peer: peer.state is PeerState.MISSING)
    for peer in [*by_id, *by_name]:
        return peer
    raise NotFound(
        f"There is no organisation {wanted[:100]!r} on the roll. Nothing was changed. Run "
        "commonlens-participant peers to see their names."
    )


def approve_command(peers: Iterable[Peer]) -> str:
    """The command line that approves `peers`, safe to paste into a shell."""
    # A name that starts with - would be read as an option.
    return f"{APPROVE} {shlex.join(p.member_id if p.name.startswith('-') else p.name for p in peers)}"


class RollWatch:
    """Looks at the roll when a node starts, connects again or meets a stranger, and says what is new on it."""

    def __init__(self, home: Home, source: RollSource, report: Callable[[str], None]) -> None:
        self._home = home
        self._source = source
        self._report = report
        self._said: set[Peer] = set()

    def look(self) -> None:
        """Fetch the roll and report each organisation that waits, once. Reports what fails, raises nothing.

        A node whose roll is refused still serves plans of mode local, which sum with nobody.
        """
        try:
            refresh_roll(self._home, self._source)
            for peer in waiting(self._home):
                if peer not in self._said:
                    self._said.add(peer)
                    self._report(announcement(peer))
        except CommonlensError as error:
            self._report(error.message)


def announcement(peer: Peer) -> str:
    """One line for the operator about an organisation that waits."""
    new = peer.state is PeerState.NEW
    what = "New organisation on the roll" if new else "CHANGED since this member approved it"
    return (
        f"{what}: {peer.name} ({peer.member_id}), fingerprint {peer.fingerprint}. This node does not sum with "
        f"it before you run: {approve_command([peer])}"
    )


def _state(
    entry: RollEntry, me: str, names: Mapping[str, int], approvals: Mapping[str, Approval]
) -> PeerState:
    if entry.member_id == me:
        return PeerState.SELF
    if entry.state is not MemberState.ACTIVE:
        return PeerState(entry.state.value)
    if names[alike(entry.name)] > 1:
        return PeerState.TWICE
    pinned = approvals.get(entry.member_id)
    if pinned is not None and pinned.name == entry.name:
        same_key = pinned.identity_public_key == entry.identity_public_key
        return PeerState.APPROVED if same_key else PeerState.CHANGED
    known = pinned is not None or any(_known_as(other, entry) for other in approvals.values())
    return PeerState.CHANGED if known else PeerState.NEW


def _known_as(approval: Approval, peer: Peer | RollEntry) -> bool:
    """Whether the approval is of this name, however it is written, or of this key."""
    return alike(approval.name) == alike(peer.name) or (
        approval.identity_public_key == peer.identity_public_key
    )


def _check_approvable(shown: Peer, now: Peer | None) -> None:
    if shown != now:
        raise Invalid(
            f"{shown.name} changed on the roll since it was shown. Nothing was approved. Look at "
            "commonlens-participant peers again and compare the fingerprint anew."
        )
    if shown.state in (PeerState.PENDING, PeerState.SUSPENDED, PeerState.REVOKED):
        raise Revoked(
            f"{shown.name} is {shown.state.value} on the roll. Nothing was approved. Ask the consortium's admin."
        )
    if shown.state is PeerState.TWICE:
        raise AlreadyExists(
            f"Two organisations on the roll are called {shown.name}. Nothing was approved. Ask the consortium's "
            "admin which of them it means."
        )
    if shown.state is PeerState.MISSING:
        raise NotFound(f"{shown.name} is not on the roll. Nothing was approved. Ask the consortium's admin.")
