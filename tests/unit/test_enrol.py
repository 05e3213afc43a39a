"""Joining: named phases over real TLS, keys made once, nothing half saved."""

from __future__ import annotations

import json
import shutil
import socket
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from participant import preflight as preflight_room
from participant.enrol import checked_secret, join, make_keys, read_link
from participant.preflight import check_clock, check_disk, check_protocol
from shared.domain.clock import FixedClock, from_text, to_text
from shared.domain.consortium import Roll
from shared.domain.errors import (
    AlreadyExists,
    ClockSkew,
    Invalid,
    InvalidMessage,
    InvitationRejected,
    NotFound,
    OutOfSpace,
    Unreachable,
    VersionMismatch,
    WrongAuthority,
)
from shared.release.roles import sign_roll
from shared.wire.rounds import PROTOCOL_VERSION
from tests.desk import Desk, served

NOON = from_text("2026-11-21T12:00:00Z")


class Place(NamedTuple):
    desk: Desk
    url: str
    home: Path

    def join(self, secret: str = "", **changed: Any) -> Any:
        arguments: dict[str, Any] = {
            "home": self.home,
            "url": self.url,
            "ca_fingerprint": self.desk.fingerprint,
            "secret": secret or self.desk.secret(),
            "declared_size": 5432,
            "clock": self.desk.clock,
        }
        return join(**(arguments | changed))


@pytest.fixture
def place(desk: Desk, tmp_path: Path) -> Iterator[Place]:
    with served(desk.app, desk.home) as url:
        yield Place(desk, url, tmp_path / "member")


def test_joining_goes_through_its_phases_and_saves_the_link(place: Place) -> None:
    phases: list[str] = []
    link = place.join(on_phase=lambda phase, found: phases.append(phase))
    assert phases == ["preflight", "discovery", "keys", "enrolled"]
    member = place.desk.room.members.get(link.member_id)
    assert (member.name, member.declared_size) == ("North", 5400)
    assert read_link(place.home) == link
    assert (link.name, link.declared_size, link.consortium) == ("North", 5400, "Testing")
    assert place.desk.client(link.token).get("/roll").status_code == 200


def test_keys_and_token_are_private_files(place: Place) -> None:
    place.join()
    for name in ("keys/identity.pem", "keys/node.pem", "coordinator.json"):
        assert stat.S_IMODE((place.home / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE((place.home / "keys").stat().st_mode) == 0o700
    assert place.home.joinpath("ca.pem").read_text() == place.desk.room.authority.ca_pem()


def test_the_token_is_not_in_the_links_text(place: Place) -> None:
    link = place.join()
    assert link.token not in repr(link)


def test_a_folder_joins_once(place: Place) -> None:
    place.join()
    with pytest.raises(AlreadyExists, match="already joined a consortium"):
        place.join()


def test_after_a_crash_between_keys_and_enrolment_the_same_keys_are_used(place: Place) -> None:
    identity, node = make_keys(place.home)
    link = place.join()
    member = place.desk.room.members.get(link.member_id)
    assert member.identity_public_key == identity.public_hex
    assert member.node.node_public_key_pem == node


def test_after_a_rejected_invitation_a_new_one_finds_the_same_keys(place: Place) -> None:
    with pytest.raises(
        InvitationRejected, match="Phase enrolled: .*Ask the consortium's admin for a new one"
    ):
        place.join("clj_" + "x" * 32)
    assert not (place.home / "coordinator.json").exists()
    before = {path.name: path.read_bytes() for path in (place.home / "keys").iterdir()}
    place.join()
    assert {path.name: path.read_bytes() for path in (place.home / "keys").iterdir()} == before


def test_after_a_lost_answer_a_new_invitation_of_the_same_name_is_enough(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from participant import enrol

    def power_cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(enrol, "write_json", power_cut)
        with pytest.raises(KeyboardInterrupt):
            place.join()
    [enrolled] = place.desk.room.members.every()
    assert place.join().member_id == enrolled.id


def test_a_damaged_key_is_named_and_never_replaced(place: Place) -> None:
    make_keys(place.home)
    (place.home / "keys/node.pem").write_text("damaged")
    with pytest.raises(Invalid, match="Phase keys: node.pem is not an unencrypted PEM key"):
        place.join()
    assert (place.home / "keys/node.pem").read_text() == "damaged"


def test_clocks_too_far_apart_end_the_preflight(place: Place) -> None:
    slow = FixedClock(place.desk.clock.now() - timedelta(seconds=400))
    with pytest.raises(ClockSkew, match=r"Phase preflight: .*-5 to \+305 s .*it is \+400 s"):
        place.join(clock=slow)
    assert not place.home.exists()


@pytest.mark.parametrize(
    ("coordinator_ahead_s", "fits"),
    [(-7.0, False), (-5.0, True), (0.0, True), (304.0, True), (306.0, False)],
)
def test_the_clock_may_differ_as_much_as_the_engine_allows(coordinator_ahead_s: float, fits: bool) -> None:
    coordinator_time = NOON + timedelta(seconds=coordinator_ahead_s)
    if fits:
        assert check_clock(coordinator_time, NOON) == coordinator_ahead_s + 0.5
    else:
        with pytest.raises(ClockSkew, match="Set the clock"):
            check_clock(coordinator_time, NOON)


def test_too_little_disk_is_said_in_both_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(OutOfSpace, match=r"at least 2.0 GB of free disk; there are 1.0 GB"):
        check_disk(tmp_path / "not" / "there" / "yet")


def test_missing_torch_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight_room.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(VersionMismatch, match="Training needs torch, which is not installed"):
        preflight_room.check_software()


def test_another_protocol_is_said_with_both_versions() -> None:
    ours, theirs = PROTOCOL_VERSION, PROTOCOL_VERSION + 1
    with pytest.raises(
        VersionMismatch, match=rf"speaks protocol {ours}, the coordinator's \(9.0\) speaks {theirs}"
    ):
        check_protocol(theirs, "9.0")


def test_nobody_at_the_address_is_unreachable(place: Place) -> None:
    with pytest.raises(Unreachable, match="^Phase preflight: The connection was refused: no program"):
        place.join(url="https://127.0.0.1:9")


def test_host_that_nobody_knows_is_not_said_to_be_slow(place: Place) -> None:
    with pytest.raises(Unreachable, match="^Phase preflight: The host name in the address was not found"):
        place.join(url="https://no-such-host.invalid")


def test_coordinator_that_takes_a_connection_and_says_nothing_is_said_to_be_slow(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight_room, "TIMEOUT_S", 0.2)
    slow = pytest.raises(Unreachable, match="^Phase preflight: The coordinator did not answer within")
    with socket.create_server(("127.0.0.1", 0)) as silent, slow:
        place.join(url=f"https://127.0.0.1:{silent.getsockname()[1]}")


def test_malformed_secret_is_refused_in_the_first_phase(place: Place) -> None:
    with pytest.raises(Invalid, match="^Phase preflight: An invitation's secret starts with clj_"):
        place.join("hunter2hunter2")


def test_steps_of_the_discovery_are_not_called_phases(place: Place) -> None:
    with pytest.raises(WrongAuthority, match=r"^Phase discovery: Step 2 of 3 \(compare the fingerprint\): "):
        place.join(ca_fingerprint="sha256:" + "0" * 64)


@pytest.mark.parametrize(
    ("body", "status", "kind", "sentence"),
    [
        ({"hello": 1}, 200, InvalidMessage, "not that of a Commonlens coordinator"),
        ([1], 200, InvalidMessage, "not that of a Commonlens coordinator"),
        ({"coordinator_time": "noon", "protocol": 1, "version": ""}, 200, InvalidMessage, "not that of"),
        ({"x": "y" * 300_000}, 200, InvalidMessage, "not that of a Commonlens coordinator"),
        ({}, 503, Unreachable, "Expected an answer with status 200, found 503"),
    ],
)
def test_another_kind_of_server_is_recognised(
    desk: Desk, tmp_path: Path, body: object, status: int, kind: type[Exception], sentence: str
) -> None:
    other = FastAPI()
    other.add_api_route("/api/v1/trust", lambda: JSONResponse(body, status))
    with served(other, desk.home) as url, pytest.raises(kind, match=sentence):
        Place(desk, url, tmp_path / "member").join()


@pytest.mark.parametrize(
    "text", ["", "clj_", "clj_short", "hunter2hunter2", "clj_" + "ü" * 20, "clj_" + "a b" * 9]
)
def test_what_cannot_be_a_secret_is_not_sent_and_not_repeated(text: str) -> None:
    with pytest.raises(Invalid, match="starts with clj_") as caught:
        checked_secret(text)
    assert len(text) < 5 or text not in caught.value.message


def test_white_space_around_a_pasted_secret_is_forgiven(place: Place) -> None:
    place.join(f"  {place.desk.secret()}\n")


def test_before_joining_the_next_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Run commonlens-participant join"):
        read_link(tmp_path)


def test_a_roll_without_the_member_is_not_believed(desk: Desk, tmp_path: Path) -> None:
    """A coordinator that answers with a roll on which the newcomer is missing: nothing is saved."""
    roll = Roll("Testing", 1, (), to_text(desk.clock.now() + timedelta(days=1)))
    envelope = sign_roll(roll, desk.room.authority.roll_key())
    reply = {
        "member_id": "mem_0",
        "token": "clt_" + "t" * 40,
        "roll": envelope,
        "name": "North",
        "consortium": "Testing",
    }
    liar = FastAPI()
    liar.add_api_route("/api/v1/trust", lambda: json.loads(desk.client().get("/trust").text))
    liar.add_api_route("/api/v1/enrolments", lambda: reply, methods=["POST"])
    place = Place(desk, "", tmp_path / "member")
    with served(liar, desk.home) as url, pytest.raises(WrongAuthority, match="does not name this member"):
        place.join(url=url)
    assert not (place.home / "coordinator.json").exists()
