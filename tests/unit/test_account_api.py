"""The API of a person's own account does what its page does; and the commands of its two sides."""

from __future__ import annotations

from pathlib import Path

import pyotp
import pytest

from coordinator.cli import app as coordinator_app
from coordinator.config import CONFIG_FILE, Config, config_text
from coordinator.members.routes_account import router as account_router
from participant.cli import app as participant_app
from participant.enrol import COORDINATOR_FILE, read_link
from shared.console import run_arguments
from shared.domain.consortium import Role
from shared.domain.files import write_json
from shared.domain.strict import to_plain
from tests.desk import CONSORTIUM, PASSWORD, Desk, Web, served
from tests.roll_kit import joined


@pytest.fixture
def ada(desk: Desk) -> Web:
    """Signed in over the API."""
    desk.app.include_router(account_router)
    desk.room.accounts.create("Ada", Role.ADMIN, PASSWORD, "operator")
    reply = desk.client().post("/sessions", json={"name": "Ada", "password": PASSWORD})
    return desk.client(reply.json()["token"])


def test_an_account_shows_itself_with_every_session_and_token(desk: Desk, ada: Web) -> None:
    made = ada.post("/account/tokens", json={"name": "nightly export", "lifetime_days": 7})
    assert made.status_code == 201 and desk.client(made.json()["token"]).get("/members").status_code == 200
    view = ada.get("/account").json()
    assert (view["name"], view["role"], view["second_factor"]) == ("Ada", "admin", False)
    assert [(t["use"], t["name"], t["this_one"]) for t in view["tokens"]] == [
        ("session", "A program, 127.0.0.1", True),
        ("api", "nightly export", False),
    ]
    assert ada.delete(f"/account/tokens/{view['tokens'][1]['id']}").status_code == 204
    assert desk.client(made.json()["token"]).get("/members").status_code == 401
    assert ada.delete("/account/tokens/tok_000000000000").status_code == 404


def test_other_sessions_end_over_the_api_too(desk: Desk, ada: Web) -> None:
    again = desk.client().post("/sessions", json={"name": "Ada", "password": PASSWORD}).json()["token"]
    assert ada.post("/account/sessions/end-others").status_code == 204
    assert desk.client(again).get("/account").status_code == 401 and ada.get("/account").status_code == 200


def test_a_password_changes_over_the_api_and_ends_everything(desk: Desk, ada: Web) -> None:
    body = {"current": PASSWORD, "password": "another long phrase"}
    assert ada.post("/account/password", json=body | {"current": "no"}).status_code == 401
    assert ada.post("/account/password", json=body).status_code == 204
    assert ada.get("/account").status_code == 401


def test_a_second_factor_is_set_up_and_removed_over_the_api(desk: Desk, ada: Web) -> None:
    secret = ada.post("/account/second-factor", json={"current": PASSWORD}).json()["secret"]
    code = pyotp.TOTP(secret).generate_otp(int(desk.clock.now().timestamp()) // 30)
    codes = ada.post("/account/second-factor/confirm", json={"code": code}).json()["recovery_codes"]
    assert len(codes) == 10 and ada.get("/account").json()["second_factor"]
    assert ada.post("/account/second-factor/remove", json={"code": code}).status_code == 401
    assert ada.post("/account/second-factor/remove", json={"code": codes[0]}).status_code == 204
    assert not ada.get("/account").json()["second_factor"]


def test_a_name_that_is_a_secret_is_refused_and_not_logged(desk: Desk, ada: Web) -> None:
    answer = ada.post("/account/tokens", json={"name": "clt_" + "a" * 43})
    assert answer.status_code == 422 and "is no secret" in answer.json()["detail"]


def test_an_operator_turns_a_lost_second_factor_off(desk: Desk, ada: Web) -> None:
    secret = ada.post("/account/second-factor", json={"current": PASSWORD}).json()["secret"]
    code = pyotp.TOTP(secret).generate_otp(int(desk.clock.now().timestamp()) // 30)
    ada.post("/account/second-factor/confirm", json={"code": code})
    (desk.home / CONFIG_FILE).write_text(config_text(Config(CONSORTIUM)))
    command = ["account", "forget-second-factor", "Ada", "--home", str(desk.home)]
    assert run_arguments(coordinator_app, command) == 0
    assert not desk.room.accounts.second_factors.of(desk.room.accounts.id_of("Ada")).on
    assert run_arguments(coordinator_app, command) == 2, "there is none any more"
    desk.room.accounts.sign_in("Ada", PASSWORD, 60)


def test_a_member_is_given_a_link_to_the_dashboard(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    north = joined(desk, tmp_path / "members", "North")
    with served(desk.app, desk.home) as url:
        link = read_link(north.home.root)
        write_json(north.home.root / COORDINATOR_FILE, to_plain(link) | {"url": url})
        assert run_arguments(participant_app, ["dashboard", "--home", str(north.home.root)]) == 0
    address = capsys.readouterr().out.splitlines()[-1]
    assert address.startswith("https://localhost:8443/sign-in/member?code=clc_")
    assert desk.room.links.whose(address.partition("code=")[2]).name == "North"
