"""Organisations on the roll: what waits, what is approved, what an operator sees and types."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.members.renewal import renew_trust
from participant.approvals import alike, forget, read_approvals
from participant.cli import app
from participant.cli_peers import require_settled, show_unsettled
from participant.enrol import join
from participant.home import Home
from participant.peers import (
    Peer,
    PeerState,
    RollWatch,
    approve,
    approve_command,
    approved_identities,
    every_peer,
    find_peer,
    require_peers,
    waiting,
)
from participant.roll import accept_roll, read_roll, refresh_roll
from shared.domain.clock import to_text
from shared.domain.errors import (
    BadSignature,
    CommonlensError,
    Expired,
    Invalid,
    InvalidConfig,
    NotFound,
    PeersWaiting,
    Unreachable,
)
from shared.domain.files import read_json, write_json
from shared.domain.privacy import Mode
from shared.release.envelope import Envelope
from shared.release.fingerprint import fingerprint
from shared.release.roles import sign_roll
from shared.release.signing import SigningKey
from tests.desk import Desk, enrolment, open_desk, served
from tests.roll_kit import Joined, LyingRoll, RollOfDesk, joined, roll_of, secure_plan


@pytest.fixture
def north(desk: Desk, tmp_path: Path) -> Joined:
    return joined(desk, tmp_path, "North")


def enrol(desk: Desk, name: str) -> str:
    """Another organisation, of which only its line on the roll matters here."""
    return desk.room.members.enrol(enrolment(desk.secret(name), SigningKey.generate())).member_id


def look(desk: Desk, member: Joined) -> dict[str, PeerState]:
    refresh_roll(member.home, RollOfDesk(desk), desk.clock)
    return {peer.name: peer.state for peer in every_peer(member.home, desk.clock)}


def test_whoever_is_on_the_roll_waits_until_the_operator_approves(desk: Desk, north: Joined) -> None:
    south = enrol(desk, "South")
    assert look(desk, north) == {"North": PeerState.SELF, "South": PeerState.NEW}
    plan = secure_plan((north.member_id, "North"), (south, "South"))
    assert approved_identities(north.home, plan, desk.clock) == {north.member_id: north.identity.public_hex}
    approve(north.home, waiting(north.home, desk.clock), desk.clock)
    assert look(desk, north)["South"] is PeerState.APPROVED
    assert set(approved_identities(north.home, plan, desk.clock)) == {north.member_id, south}
    require_peers(north.home, plan, desk.clock)


def test_who_joins_after_an_approval_waits_too(desk: Desk, north: Joined) -> None:
    enrol(desk, "South")
    look(desk, north)
    approve(north.home, waiting(north.home, desk.clock), desk.clock)
    enrol(desk, "West")
    assert look(desk, north) == {
        "North": PeerState.SELF,
        "South": PeerState.APPROVED,
        "West": PeerState.NEW,
    }


def test_only_members_of_the_plan_are_given_to_a_round(desk: Desk, north: Joined) -> None:
    south, _ = enrol(desk, "South"), enrol(desk, "West")
    look(desk, north)
    approve(north.home, waiting(north.home, desk.clock), desk.clock)
    plan = secure_plan((north.member_id, "North"), (south, "South"))
    assert set(approved_identities(north.home, plan, desk.clock)) == {north.member_id, south}


def test_an_approval_holds_name_key_and_moment_and_is_private(desk: Desk, north: Joined) -> None:
    south = enrol(desk, "South")
    look(desk, north)
    approve(north.home, waiting(north.home, desk.clock), desk.clock)
    key = next(e for e in roll_of(desk).entries if e.member_id == south).identity_public_key
    assert read_json(north.home.peers)["peers"] == {
        south: {"name": "South", "identity_public_key": key, "approved_at": to_text(desk.clock.now())}
    }
    assert stat.S_IMODE(north.home.peers.stat().st_mode) == 0o600


def test_who_comes_back_under_the_same_name_waits_and_takes_the_old_ones_place(
    desk: Desk, north: Joined
) -> None:
    """A revoked organisation needs a new invitation and new keys; its approval was of the old key."""
    south = enrol(desk, "South")
    look(desk, north)
    approve(north.home, waiting(north.home, desk.clock), desk.clock)
    desk.room.members.revoke(south, "operator")
    again = enrol(desk, "South")
    look(desk, north)
    states = {peer.member_id: peer.state for peer in every_peer(north.home, desk.clock)}
    assert (states[south], states[again]) == (PeerState.REVOKED, PeerState.CHANGED)
    peer = find_peer(every_peer(north.home, desk.clock), "South")
    assert peer.member_id == again
    approve(north.home, [peer], desk.clock)
    assert set(read_approvals(north.home)) == {again}


def test_forgetting_makes_an_organisation_wait_again(desk: Desk, north: Joined) -> None:
    enrol(desk, "South")
    look(desk, north)
    approve(north.home, waiting(north.home, desk.clock), desk.clock)
    assert forget(north.home, "south").name == "South"
    assert look(desk, north)["South"] is PeerState.NEW
    with pytest.raises(NotFound, match="No organisation 'South' is approved here"):
        forget(north.home, "South")


def test_approving_is_all_or_none(desk: Desk, north: Joined) -> None:
    enrol(desk, "South")
    west = enrol(desk, "West")
    look(desk, north)
    shown = waiting(north.home, desk.clock)
    desk.room.members.suspend(west, "operator")
    look(desk, north)
    with pytest.raises(Invalid, match="West changed on the roll since it was shown"):
        approve(north.home, shown, desk.clock)
    assert read_approvals(north.home) == {}


def test_a_plan_with_somebody_who_is_on_no_roll_is_refused(desk: Desk, north: Joined) -> None:
    look(desk, north)
    plan = secure_plan((north.member_id, "North"), ("mem_0123456789ab", "Ghost"))
    with pytest.raises(PeersWaiting, match=r"mem_0123456789ab \(mem_0123456789ab, not on the roll\)"):
        require_peers(north.home, plan, desk.clock)


def test_before_any_roll_was_seen_the_next_step_is_named(desk: Desk, north: Joined) -> None:
    with pytest.raises(NotFound, match="Run commonlens-participant peers"):
        every_peer(north.home, desk.clock)


def test_files_of_another_format_are_not_read(desk: Desk, north: Joined) -> None:
    look(desk, north)
    write_json(north.home.peers, {"format": "commonlens-peers/9", "peers": {}})
    with pytest.raises(Invalid, match="expected the format 'commonlens-peers/1', found 'commonlens-peers/9'"):
        every_peer(north.home, desk.clock)
    write_json(north.home.peers, {"peers": {}, "everybody": True})
    with pytest.raises(InvalidConfig, match="unknown key 'everybody'"):
        every_peer(north.home, desk.clock)
    write_json(north.home.roll, read_json(north.home.roll) | {"format": "commonlens-seen-roll/9"})
    with pytest.raises(Invalid, match="expected the format 'commonlens-seen-roll/1'"):
        read_roll(north.home, desk.clock)


def test_a_fingerprint_is_eight_groups_of_five_digits_of_the_key_alone() -> None:
    keys = [SigningKey.generate().public_hex for _ in range(200)]
    shown = [fingerprint(key) for key in keys]
    assert all(len(text) == 47 and [len(g) for g in text.split()] == [5] * 8 for text in shown)
    assert all(group.isdigit() for text in shown for group in text.split())
    assert len(set(shown)) == 200 and [fingerprint(key) for key in keys] == shown
    # Pinned: two versions of this software must read out the same digits.
    assert fingerprint("00" * 32) == "78660 86919 77897 36158 86006 47431 84770 25450"


def test_names_that_look_the_same_are_alike() -> None:
    assert alike(" South  Clinic") == alike("south clinic") == alike("SOUTHCLINIC")
    assert alike("South") != alike("Sooth")


@pytest.mark.parametrize("name", ["O'Brien & Sons", "South", "two  spaces", "--all", "-x", "(a)"])
def test_the_command_in_a_message_survives_the_shell(name: str) -> None:
    peer = Peer("mem_0123456789ab", name, "00" * 32, PeerState.NEW)
    words = shlex.split(approve_command([peer]))
    assert words[:3] == ["commonlens-participant", "peers", "approve"]
    assert words[3:] == ["mem_0123456789ab" if name.startswith("-") else name]


def test_a_node_reports_each_new_organisation_once(desk: Desk, north: Joined) -> None:
    lines: list[str] = []
    watch = RollWatch(north.home, RollOfDesk(desk), lines.append)
    watch.look()
    assert lines == []
    enrol(desk, "South")
    watch.look()
    watch.look()
    [line] = lines
    [south] = waiting(north.home)
    assert line.startswith(f"New organisation on the roll: South ({south.member_id}), fingerprint ")
    assert south.fingerprint in line and line.endswith("peers approve South")
    approve(north.home, [south])
    watch.look()
    assert len(lines) == 1
    key = SigningKey.generate().public_hex
    lie = LyingRoll(desk, lambda entries: tuple(_with_key(e, key, south.member_id) for e in entries))
    RollWatch(north.home, lie, lines.append).look()
    assert lines[1].startswith("CHANGED since this member approved it: South")


def _with_key(entry, key: str, member_id: str):  # type: ignore[no-untyped-def]
    return replace(entry, identity_public_key=key) if entry.member_id == member_id else entry


def test_a_node_outlives_a_roll_that_is_refused_and_one_that_does_not_come(desk: Desk, north: Joined) -> None:
    class Silent(RollOfDesk):
        def roll(self) -> Envelope:
            raise Unreachable("It did not answer. Nothing was done. Try again.")

    lines: list[str] = []
    RollWatch(north.home, LyingRoll(desk, key=SigningKey.generate()), lines.append).look()
    RollWatch(north.home, Silent(desk), lines.append).look()
    assert [line.split(".")[0] for line in lines] == [
        "The roll document needs 1 signature(s) by the roll key; 0 verify",
        "It did not answer",
    ]
    assert not north.home.roll.exists()


def test_a_replaced_roll_key_is_followed_and_starts_a_new_count(desk: Desk, north: Joined) -> None:
    """Whoever stole the old key signed version 10^9; with the root's help the consortium goes on from its own."""
    look(desk, north)
    stolen = desk.room.authority.roll_key()
    refresh_roll(north.home, LyingRoll(desk, newer=10**9), desk.clock)
    renew_trust(desk.home, [desk.home / "keys" / "root.pem"], desk.clock, new_roll_key=True)
    restarted = open_desk(desk.home)
    assert read_roll(north.home, desk.clock).version > 10**9
    assert refresh_roll(north.home, RollOfDesk(restarted), desk.clock).version < 10
    with pytest.raises(BadSignature, match="by the roll key; 0 verify"):
        refresh_roll(north.home, LyingRoll(restarted, key=stolen), desk.clock)


def test_the_coordinator_signs_its_roll_anew_once_its_key_was_replaced(desk: Desk) -> None:
    before = desk.room.roll.current()
    assert desk.room.roll.current() == before
    renew_trust(desk.home, [desk.home / "keys" / "root.pem"], desk.clock, new_roll_key=True)
    restarted = open_desk(desk.home)
    after = restarted.room.roll.current()
    assert roll_of(restarted).version == before["signed"]["version"] + 1
    assert after["signatures"][0]["key"] == restarted.room.authority.roll_key().public_hex
    assert restarted.room.roll.current() == after


def test_an_expired_trust_document_vouches_for_no_roll(desk: Desk, north: Joined) -> None:
    look(desk, north)
    trust = desk.room.authority.trust_envelope()
    desk.clock.advance(366 * 86400)
    with pytest.raises(Expired, match="The trust document"):
        read_roll(north.home, desk.clock)
    late = replace(roll_of(desk), version=99, expires_at=to_text(desk.clock.now() + timedelta(days=1)))
    with pytest.raises(Expired, match="The trust document"):
        accept_roll(north.home, trust, sign_roll(late, desk.room.authority.roll_key()), desk.clock)


Command = Callable[..., str]


@pytest.fixture
def over_tls(desk: Desk, tmp_path: Path) -> Iterator[tuple[Desk, Home, Command]]:
    """A member that joined over real TLS, and its command line: (arguments, input) → what was printed."""
    home = tmp_path / "member"

    def command(*arguments: str, typed: str = "", code: int = 0) -> str:
        result = CliRunner().invoke(app, ["peers", *arguments, "--home", str(home)], input=typed)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.output

    with served(desk.app, desk.home) as url:
        join(home, url, desk.fingerprint, desk.secret("North"), 100, clock=desk.clock)
        yield desk, Home(home), command


def test_an_operator_sees_compares_approves_and_forgets(over_tls: tuple[Desk, Home, Command]) -> None:
    desk, home, command = over_tls
    assert command("approve", "--all") == "No organisation waits for approval.\n"
    south, west = enrol(desk, "South"), enrol(desk, "West & Co")
    table = command().splitlines()
    peers = {peer.member_id: peer for peer in every_peer(home)}
    assert [line.split("  ")[0] for line in table[:3]] == ["North", "South", "West & Co"]
    for line, state in zip(table, ("this member", "new", "new"), strict=False):
        assert line.endswith(f"  {state}")
    assert peers[south].fingerprint in table[1] and south in table[1]
    assert table[3].endswith("commonlens-participant peers approve South 'West & Co'")
    assert command("list") == command()

    assert "Aborted" in command("approve", "South", typed="n\n", code=1)
    assert len(waiting(home)) == 2
    shown = command("approve", "South", typed="y\n")
    assert peers[south].fingerprint in shown and shown.endswith("Approved: South.\n")
    assert peers[west].fingerprint in command("approve", "--all", "--yes")
    assert waiting(home) == ()
    assert command("forget", west) == "West & Co is not approved any more.\n"
    assert [peer.member_id for peer in waiting(home)] == [west]


def test_usage_mistakes_are_named(over_tls: tuple[Desk, Home, Command]) -> None:
    _, home, command = over_tls
    assert "Name the organisations, or give --all." in command("approve", code=2)
    assert "Name the organisations, or give --all." in command("approve", "South", "--all", code=2)
    with pytest.raises(NotFound, match="There is no organisation 'Nobody' on the roll"):
        command("approve", "Nobody", "--yes")
    misplaced = CliRunner().invoke(app, ["peers", "--home", str(home), "forget", "South"])
    assert misplaced.exit_code == 2 and "Put --home after the command" in misplaced.output


def test_consent_to_a_secure_plan_meets_who_waits_before_the_run(
    over_tls: tuple[Desk, Home, Command], capsys: pytest.CaptureFixture[str]
) -> None:
    desk, home, _ = over_tls
    south = enrol(desk, "South")
    mine = next(member.id for member in desk.room.members.every() if member.name == "North")
    plan = secure_plan((mine, "North"), (south, "South"), ("mem_0123456789ab", "Gh\x1bost"))
    show_unsettled(home, plan)
    shown = capsys.readouterr().out
    assert "South" in shown and "no key is known" in shown and "\x1b" not in shown
    with pytest.raises(PeersWaiting, match="Nothing was signed"):
        require_settled(home, plan)
    local = replace(plan, privacy=replace(plan.privacy, mode=Mode.LOCAL), secure=None)
    show_unsettled(home, local)
    require_settled(home, local)
    assert capsys.readouterr().out == ""
    approve(home, waiting(home))
    require_settled(home, replace(plan, members=plan.members[:2]))


def test_without_an_answer_the_kept_roll_is_shown_and_said_to_be_old(desk: Desk, tmp_path: Path) -> None:
    home = tmp_path / "member"
    with served(desk.app, desk.home) as url:
        join(home, url, desk.fingerprint, desk.secret("North"), 100, clock=desk.clock)
        arguments = ["peers", "list", "--home", str(home)]
        assert CliRunner().invoke(app, arguments).exit_code == 0
    later = CliRunner().invoke(app, arguments)
    assert later.exit_code == 0 and "This is the roll as it was last seen." in later.output
    Home(home).roll.unlink()
    with pytest.raises(CommonlensError, match="did not answer"):
        raise CliRunner().invoke(app, arguments).exception  # type: ignore[misc]
