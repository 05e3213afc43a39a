"""The catalogue and a release's page: what stands there, what gets it, and withdrawing."""

from __future__ import annotations

import html
import json
import math
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import httpx
import pytest
from typer.testing import CliRunner

from coordinator.audit.log import entries
from coordinator.dashboard.card_text import blocks
from coordinator.registry.downloads import DownloadCounts
from coordinator.registry.service import Checked
from coordinator.storage.database import reading
from shared import cli
from shared.domain.plan import PlanMember
from shared.domain.release import CatalogueEntry
from tests.dashboard_kit import Board, Browser, open_board, words
from tests.desk import served
from tests.release_kit import NAMES, Kit, make_secure_kit

MARKUP = '<script>alert("x")</script>'
BIDI = "مستشفى القدس"
TRICKS = (
    "/extractors/digits/0",
    "/extractors/digits/01",
    "/extractors/digits/3",
    "/extractors/digits/-1",
    "/extractors/digits/1.0",
    "/extractors/digits/%31%30%30%30%30%30%30%30",
    "/extractors/digits/%E0%A7%A7",
    "/extractors/Digits/1",
    "/extractors/..%2fdigits/1",
    "/extractors/%2e%2e/1",
    "/extractors/digits/1/files/..%2f..%2f..%2fkeys%2froot.pem",
    "/extractors/digits/1/files/%2e%2e",
    "/extractors/digits/1/files/passed.json",
    "/extractors/digits/1/files/.lock",
    "/extractors?name=..",
)


def named(kit: Kit, *names: str) -> None:
    """Give the first members of the plan other names."""
    kit.renamed |= {m.member_id: name for m, name in zip(kit.plan.members, names, strict=False)}


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Two releases, the second of another plan; its members' names are markup and right to left."""
    kit = make_secure_kit(tmp_path_factory.mktemp("kit"))
    kit.publish("one")
    named(kit, MARKUP, BIDI)
    privacy = replace(kit.plan.privacy, noise_multiplier=1.75)
    last = PlanMember(kit.plan.members[-1].member_id, 900)
    kit.renamed[last.member_id] = "Outpost"
    kit.plan = replace(kit.plan, privacy=privacy, members=(*kit.plan.members[:-1], last))
    kit.publish("two")
    return kit


@pytest.fixture
def board(kit: Kit, tmp_path: Path) -> Iterator[Board]:
    made = open_board(kit.home, tmp_path / "board")
    yield made
    made.coordinator.carrier.stop()
    made.coordinator.engine.dispose()


def row(page: httpx.Response, release: str) -> str:
    """The table row of one release."""
    rows: list[str] = re.findall(r"<tr>.*?</tr>", page.text, re.DOTALL)
    return next(r for r in rows if f">{release}</a>" in r)


def highest(board: Board, number: int) -> tuple[float, float]:
    """ε and ε alone of whoever spent most, as the certificate has them at the plan's δ."""
    path = board.home / "releases" / "digits" / str(number) / "certificate.json"
    members = json.loads(path.read_text(encoding="utf-8"))["members"]
    both = ("guarantees", "guarantees_alone")
    most, alone = (max(member[key][0]["epsilon"] for member in members) for key in both)
    return most, alone


def api(board: Board, name: str, method: str, path: str, **arguments: object) -> httpx.Response:
    """A request to the JSON API with a person's own token."""
    token = board.room.accounts.issue_token(name, 600, "operator")
    headers = {"authorization": f"Bearer {token}"}
    return Browser(board.coordinator.asgi).request(method, f"/api/v1{path}", headers=headers, **arguments)


def test_without_a_release_the_catalogue_says_how_one_is_made(prepared_home: Path, tmp_path: Path) -> None:
    made = open_board(prepared_home, tmp_path / "empty")
    page = made.browser("Ada").get("/extractors")
    assert "Nothing was released yet." in words(page)
    assert "commonlens-coordinator release publish RUN" in words(page) and 'href="/runs"' in page.text
    assert "release publish" not in words(made.browser("Otto").get("/extractors"))


def test_catalogue_lists_the_newest_first_with_both_numbers_and_the_odds(board: Board) -> None:
    page = board.browser("Otto").get("/extractors")
    said = words(page)
    assert said.index("digits-2") < said.index("digits-1")
    assert "latest" in row(page, "digits-2") and "older" in row(page, "digits-1")
    assert "small-gn, secure" in said and "4 numbers, 10 trained" in said
    for epsilon in highest(board, 2):
        right = (math.exp(epsilon) + 1e-5) / (math.exp(epsilon) + 1)
        shown = f'{math.ceil(epsilon * 1000) / 1000:.3f}</span><br><span class="small soft">'
        assert f"{shown}{math.ceil(right * 1000) / 10:.1f} %<" in row(page, "digits-2")


def test_older_releases_of_a_long_list_are_a_link_away(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.dashboard.release_facts.MOST_SHOWN", 1)
    otto = board.browser("Otto")
    for path in ("/extractors", "/privacy"):
        page = otto.get(path)
        assert "digits-2" in page.text and ">digits-1<" not in page.text
        assert f'<a href="{path}?name=digits">All 2 releases of digits</a>' in page.text
        assert ">digits-1<" in otto.get(f"{path}?name=digits").text


def test_slow_verification_keeps_no_page_waiting(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.dashboard.pages_extractors.PATIENCE_S", 0.0)
    monkeypatch.setattr("coordinator.dashboard.pages_privacy.PATIENCE_S", 0.0)
    otto = board.browser("Otto")
    for path in ("/extractors/digits/2", "/privacy/digits/2"):
        card = board.home / "releases" / "digits" / "2" / "README.md"
        card.touch()
        page = otto.get(path)
        assert "being checked now" in words(page).lower() and 'http-equiv="refresh"' in page.text
    board.coordinator.control.state.releases.check(
        board.coordinator.control.state.releases.find("digits", "2")
    )
    assert "All 10 proofs hold" in words(otto.get("/privacy/digits/2"))


def test_release_page_shows_every_proof_that_was_checked_here(board: Board) -> None:
    said = words(board.browser("Otto").get("/extractors/digits/2"))
    assert "All 10 hold" in said
    assert "ε recomputed from the events is not above what is claimed" in said
    assert "5 members signed this plan's digest" in said


def test_proofs_are_checked_once_for_all_views_until_somebody_asks_again(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.registry.service.LEAST_PAUSE_S", 0.0)
    service = board.coordinator.control.state.releases
    entry = service.find("digits", "2")
    first = service.check(entry)
    assert service.check(entry) is first
    otto = board.browser("Otto")
    assert "checked" in words(otto.get("/extractors/digits/2"))
    assert otto.post("/extractors/digits/2/check").headers["location"] == "/extractors/digits/2#proofs"
    assert service.check(entry) is not first


def test_asking_again_and_again_checks_once_a_minute(board: Board) -> None:
    service, otto = board.coordinator.control.state.releases, board.browser("Otto")
    first = service.check(service.find("digits", "2"))
    for _ in range(3):
        otto.post("/extractors/digits/2/check")
    assert service.check(service.find("digits", "2")) is first
    assert "All proofs hold. They are checked at most once a minute" in words(
        otto.get("/extractors/digits/2")
    )
    card = board.home / "releases" / "digits" / "2" / "README.md"
    card.touch()
    otto.post("/extractors/digits/2/check")
    assert service.check(service.find("digits", "2")) is not first, "other files are looked at at once"


def test_asking_again_keeps_no_thread_while_a_large_release_is_checked(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.dashboard.pages_extractors.PATIENCE_S", 0.0)
    monkeypatch.setattr("coordinator.registry.service.LEAST_PAUSE_S", 0.0)
    service, otto, go_on = board.coordinator.control.state.releases, board.browser("Otto"), threading.Event()
    verified = service._verified
    service.check(service.find("digits", "2"))

    def slow(entry: CatalogueEntry) -> Checked:
        assert go_on.wait(5)
        return cast(Checked, verified(entry))

    monkeypatch.setattr(service, "_verified", slow)
    assert otto.post("/extractors/digits/2/check").status_code == 303
    assert "The check goes on" in words(otto.get("/extractors/digits/2"))
    (board.home / "releases" / "digits" / "2" / "README.md").touch()
    refused = board.browser("Ada").post("/extractors/digits/2/yank", typed="no")
    assert refused.status_code == 422 and "Nothing was withdrawn" in words(refused), (
        "nor does a form with a slip"
    )
    go_on.set()


def test_changed_file_is_noticed_although_the_release_was_verified_before(board: Board) -> None:
    otto = board.browser("Otto")
    assert "All 10 hold" in words(otto.get("/extractors/digits/1"))
    card = board.home / "releases" / "digits" / "1" / "README.md"
    card.write_text(card.read_text(encoding="utf-8").replace("digits", "DIGITS"), encoding="utf-8")
    page = otto.get("/extractors/digits/1")
    assert "A proof does not hold" in words(page) and "README.md should be sha256:" in words(page)
    assert str(board.home) not in page.text


def test_release_whose_certificate_was_swapped_shows_no_numbers(board: Board) -> None:
    folder = board.home / "releases" / "digits"
    (folder / "1" / "certificate.json").write_bytes((folder / "2" / "certificate.json").read_bytes())
    otto = board.browser("Otto")
    assert "damaged" in row(otto.get("/extractors"), "digits-1")
    assert "certificate.json of digits-1 should be" in words(otto.get("/extractors/digits/1"))
    (folder / "2" / "manifest.json").unlink()
    page = otto.get("/extractors/digits/2")
    assert page.status_code == 200 and "Files of digits-2 are missing here." in words(page)
    assert str(board.home) not in page.text


def test_page_says_what_changed_against_the_release_before(board: Board) -> None:
    said = words(board.browser("Otto").get("/extractors/digits/2"))
    assert "Against digits-1" in said
    before, now = (math.ceil(highest(board, number)[0] * 1000) / 1000 for number in (1, 2))
    for changed in (
        f"highest ε {before:.3f} {now:.3f}",
        "privacy.noise_multiplier 1.5 1.75",
        f"member Outpost {NAMES[4]}, declared size 500 Outpost, declared size 900",
        f"{NAMES[0]}, declared size 500 {MARKUP}, declared size 500",
    ):
        assert changed in said, changed
    assert "It is the first release of this name." in words(board.browser("Otto").get("/extractors/digits/1"))


def test_names_from_certificates_and_cards_stay_text(board: Board) -> None:
    for path in ("/extractors", "/extractors/digits/2", "/privacy", "/privacy/digits/2"):
        page = board.browser("Otto").get(path)
        assert page.status_code == 200 and "<script>alert" not in page.text, path
    assert MARKUP in words(board.browser("Otto").get("/extractors/digits/2"))


@pytest.mark.parametrize("path", TRICKS)
def test_addresses_that_name_no_release_lead_nowhere(board: Board, path: str) -> None:
    assert board.browser("Ada").get(path).status_code == 404


def test_member_sees_releases_and_cannot_withdraw_them(board: Board) -> None:
    member = board.browser()
    code, _ = board.room.links.make(board.member.member_id)
    assert member.request("POST", "/sign-in/member", data={"code": code}).status_code == 303
    assert member.get("/extractors").status_code == 200
    page = member.get("/extractors/digits/2")
    assert page.status_code == 200 and "Withdraw" not in words(page)
    assert member.post("/extractors/digits/2/yank", typed="digits-2", reason="x").status_code == 403
    assert "Withdraw" not in words(board.browser("Otto").get("/extractors/digits/2"))


def test_withdrawing_needs_the_typed_id_and_a_reason(board: Board) -> None:
    ada = board.browser("Ada")
    for typed, reason in (
        ("digits-1", "wrong data"),
        ("", "wrong data"),
        ("digits-2", " "),
        ("digits-2", "a" * 301),
    ):
        refused = ada.post("/extractors/digits/2/yank", typed=typed, reason=reason)
        assert refused.status_code == 422, (typed, reason)
        assert "Nothing was withdrawn" in words(refused)
    secret = ada.post("/extractors/digits/2/yank", typed="digits-2", reason="token clt_" + "a" * 30)
    assert secret.status_code == 422
    assert "latest" in row(ada.get("/extractors"), "digits-2")


def test_withdrawn_release_stays_listed_with_its_reason_and_is_not_offered(board: Board) -> None:
    ada, why = board.browser("Ada"), f"Normalised wrongly, see {MARKUP}"
    done = ada.post("/extractors/digits/2/yank", typed="digits-2", reason=why)
    assert done.headers["location"] == "/extractors/digits/2"
    page = board.browser("Otto").get("/extractors/digits/2")
    assert why in words(page) and "<script>alert" not in page.text
    assert "commonlens pull" not in words(page).replace("commonlens pull brings", "")
    listed = ada.get("/extractors")
    assert "withdrawn" in row(listed, "digits-2") and "latest" in row(listed, "digits-1")
    again = ada.post("/extractors/digits/2/yank", typed="digits-2", reason=why)
    assert again.status_code == 409 and "withdrawn already" in words(again)
    with reading(board.room.engine) as connection:
        lines = [line for line in entries(connection, limit=1000) if line.action == "release.yank"]
    assert [(line.actor, line.subject, line.detail) for line in lines] == [
        ("account:Ada", "digits-2", {"reason": why})
    ]


def test_api_withdraws_too_and_only_for_admins(board: Board) -> None:
    assert api(board, "Otto", "POST", "/releases/digits/1/yank", json={"reason": "old"}).status_code == 403
    assert api(board, "Ada", "POST", "/releases/digits/1/yank", json={"reason": ""}).status_code == 422
    done = api(board, "Ada", "POST", "/releases/digits/1/yank", json={"reason": "old"})
    assert done.json() == {"release": "digits-1", "yanked": True}
    shown = api(board, "Otto", "GET", "/releases/digits/1").json()
    assert shown["yanked"] and shown["withdrawal"]["reason"] == "old"
    signed = api(board, "Otto", "GET", "/releases").json()["signed"]["releases"]
    assert {e["id"]: e.get("reason", "") for e in signed if e["yanked"]}["digits-1"] == "old"
    assert api(board, "Ada", "POST", "/releases/digits/9/yank", json={"reason": "x"}).status_code == 404


def test_api_says_what_was_proven(board: Board) -> None:
    shown = api(board, "Otto", "GET", "/releases/digits/2").json()
    assert shown["checked"]["problem"] == "" and len(shown["checked"]["facts"]["proofs"]) == 10
    assert json.dumps(shown, allow_nan=False)


def test_only_fetched_manifests_and_weights_are_counted_and_nothing_of_who(board: Board) -> None:
    ada = board.browser("Ada")
    for name in ("model.safetensors", "manifest.json", "model.safetensors", "README.md"):
        got = api(board, "Otto", "GET", f"/releases/digits/2/files/{name}")
        assert got.status_code == 200
    later = {"range": "bytes=10-20", "authorization": ""}
    assert ada.get("/extractors/digits/2/files/model.safetensors", headers=later).status_code == 206
    kept = ada.get("/extractors/digits/2/files/model.safetensors")
    assert kept.headers["content-disposition"] == 'attachment; filename="digits-2-model.safetensors"'
    assert kept.headers["x-content-type-options"] == "nosniff"
    assert "3 of the weights, 1 of the manifest" in words(ada.get("/extractors/digits/2"))
    told = api(board, "Otto", "GET", "/releases/downloads").json()
    assert told == {"downloads": {"digits-2": {"weights": 3, "manifest": 1}}}
    with reading(board.room.engine) as connection:
        stored = connection.exec_driver_sql("SELECT * FROM release_downloads").all()
    assert sorted(map(tuple, stored)) == [
        ("digits-2", "manifest.json", 1),
        ("digits-2", "model.safetensors", 3),
    ]


def test_counting_that_fails_spoils_no_download(board: Board) -> None:
    with board.room.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE release_downloads")
    DownloadCounts(board.room.engine).count("digits-2", "manifest.json")
    assert api(board, "Otto", "GET", "/releases/digits/2/files/manifest.json").status_code == 200


def test_lines_to_copy_are_what_the_commands_take(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = board.browser("Otto").get("/extractors/digits/2")
    found = dict(re.findall(r'<pre id="line-(\w+)"[^>]*>(.*?)</pre>', page.text, re.DOTALL))
    assert set(found) == {"pull", "verify", "embed", "member", "hf", "openssf", "python", "curl", "join"}
    monkeypatch.chdir(tmp_path)
    token = board.room.accounts.issue_token("Otto", 600, "operator")
    with served(board.coordinator.asgi, board.home) as address:
        pull = shlex.split(found["pull"].splitlines()[-1].replace("https://localhost:8443", address))
        done = CliRunner().invoke(cli.app, pull[1:], env={"COMMONLENS_TOKEN": token})
    assert done.exit_code == 0, done.output
    verified = CliRunner().invoke(cli.app, shlex.split(found["verify"])[1:])
    assert verified.exit_code == 0 and "The root is the one that you gave." in verified.output
    lines = f'export PATH="{Path(sys.executable).parent}:$PATH"\n{html.unescape(found["openssf"])}'
    shown = subprocess.run(["bash", "-ec", lines], capture_output=True, text=True, check=False)
    assert "Verification succeeded" in shown.stdout, shown.stderr
    assert "hf download test-consortium/digits --revision v2 --local-dir digits-2" in found["hf"]
    assert "sha256sum -c" in found["curl"] and "--cacert ca.pem" in found["curl"]


def test_card_is_drawn_from_its_own_few_forms(kit: Kit) -> None:
    found = blocks((kit.folder(2) / "README.md").read_text(encoding="utf-8"))
    assert [block.kind for block in found].count("table") == 1
    table = next(block for block in found if block.kind == "table")
    assert "".join(span.text for span in table.rows[1][0]) == MARKUP
    assert [block.kind for block in blocks("# a\nb\n\n- c\n  d\n- e\n\n    f\n| g |\n| --- |\n")] == [
        "heading",
        "paragraph",
        "list",
        "code",
        "table",
    ]
    assert blocks("") == ()


def test_an_extractors_name_alone_leads_to_its_line(board: Board) -> None:
    browser = board.browser("Otto")
    answer = browser.get("/extractors/digits")
    assert (answer.status_code, answer.headers["location"]) == (303, "/extractors?name=digits")
    assert ">digits-2</a>" in browser.get(answer.headers["location"]).text
    assert browser.get("/extractors/letters").status_code == 404
