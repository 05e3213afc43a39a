"""Who can learn what, the certificate in words, and the red team's report with its pictures."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.dashboard.pages_privacy import measured, reading
from coordinator.registry.audiences import Bound, audiences
from coordinator.registry.gate_report import REPORT_FORMAT, GateReport, gate_folder
from participant.redteam import report as red_team
from shared.domain.plan import Plan, SharedHead
from tests.dashboard_kit import Board, open_board, words
from tests.release_kit import Kit, make_kit, make_secure_kit

MARKUP = '<img src="x" onerror="alert(1)">'
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40
NO_PICTURES = (
    "report.md",
    "redteam.json",
    "plan.json",
    "passed.json",
    "other.png",
    "%2e%2e",
    "..%2fplan.json",
)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    kit = make_secure_kit(tmp_path_factory.mktemp("kit"))
    kit.renamed[kit.plan.members[0].member_id] = MARKUP
    kit.publish()
    local = replace(kit, plan=replace(make_kit(kit.home.parent / "local").plan, extractor_name="textures"))
    local.plan = replace(local.plan, starting_weights=kit.plan.starting_weights)
    local.identities = dict(list(kit.identities.items())[:3])
    local.publish()
    return kit


@pytest.fixture
def board(kit: Kit, tmp_path: Path) -> Iterator[Board]:
    made = open_board(kit.home, tmp_path / "board")
    yield made
    made.coordinator.carrier.stop()
    made.coordinator.engine.dispose()


def report_of(kit: Kit, **changes: Any) -> red_team.RedteamReport:
    """A report as the red team writes it."""
    attacks = (
        red_team.AttackRow("imprint", "nothing", "46 of 64 records", 46.0, None),
        red_team.AttackRow("imprint", "the plan", f"0 of 64 records {MARKUP}", 0.0, True),
        red_team.AttackRow("crafted weights", "no clip", "without bound", math.inf, None),
    )
    audit = (red_team.AuditRow("noise on each tensor", "test", 0.8, 0.81, 0.79, 0.83, False, "The std."),)
    pictures = (
        red_team.PictureFile("imprint.png", "What was read out."),
        red_team.PictureFile("../secret.png", "Never shown."),
    )
    made = red_team.RedteamReport(
        str(kit.plan.digest), "secure", "default", 0.896, 2.5, 1e-5, attacks, audit, pictures, ("Synthetic.",)
    )
    return replace(made, **changes)


def write_report(board: Board, kit: Kit, **changes: Any) -> Path:
    folder = gate_folder(board.home, str(kit.plan.digest))
    red_team.write_report(report_of(kit, **changes), folder)
    (folder / "imprint.png").write_bytes(PNG)
    return folder


def bounds(plan: Plan) -> dict[str, Bound]:
    return {audience.key: audience.bound for audience in audiences(plan)}


def test_without_a_release_the_page_still_says_what_epsilon_means(
    prepared_home: Path, tmp_path: Path
) -> None:
    said = words(open_board(prepared_home, tmp_path / "empty").browser("Otto").get("/privacy"))
    assert "Nothing was released yet" in said and "commonlens-coordinator plan check FILE" in said
    assert "an even bet is right at most" in said
    assert re.search(r"to replace one is two such changes, twice the ε with 1 \+ e ?ε times the δ", said)


def test_epsilon_alone_bounds_exactly_those_who_may_keep_their_noise_back(kit: Kit) -> None:
    secure = bounds(kit.plan)
    assert [key for key, bound in secure.items() if bound is Bound.ALONE] == ["everybody"]
    assert secure["colluders"] is secure["member"] is secure["download"] is Bound.CONSORTIUM
    # Where the plan counts on no colluder, a single curious member is already one more than it counts on.
    none = bounds(replace(kit.plan, colluders=0))
    assert "colluders" not in none and none["member"] is none["everybody"] is Bound.ALONE
    assert none["coordinator"] is none["download"] is Bound.CONSORTIUM


def test_mode_local_has_one_bound_against_everybody(tmp_path: Path) -> None:
    found = bounds(make_kit(tmp_path).plan)
    assert set(found.values()) == {Bound.CONSORTIUM, Bound.OWN, Bound.NOTHING}
    assert found["everybody"] is found["coordinator"] is Bound.CONSORTIUM


def test_what_is_seen_follows_from_the_plan(kit: Kit) -> None:
    def seen(plan: Plan) -> str:
        return " ".join(text for audience in audiences(plan) for text in audience.sees)

    assert f"over at least {kit.plan.quorum} members" in seen(kit.plan)
    assert "Every 2 rounds two noised counts" in seen(kit.plan)
    assert "noised counts" not in seen(replace(kit.plan, evaluate_every=0))
    assert "names of the labels" not in seen(kit.plan)
    assert "names of the labels" in seen(replace(kit.plan, shared_head=SharedHead(("a", "b"), 4)))
    # Five members and one colluder: a share has 1/4 of the variance, half of the standard deviation.
    assert "about 50 % of the whole" in seen(kit.plan)


def test_index_has_both_modes_side_by_side(board: Board) -> None:
    page = board.browser("Otto").get("/privacy")
    rows = {
        release: next(r for r in re.findall(r"<tr>.*?</tr>", page.text, re.DOTALL) if f">{release}<" in r)
        for release in ("digits-1", "textures-1")
    }
    assert "secure, t = 1" in rows["digits-1"] and rows["digits-1"].count("ε alone") == 1
    assert "local" in rows["textures-1"] and "ε alone" not in rows["textures-1"]


@pytest.mark.parametrize(
    ("epsilon", "even", "grown"), [(1.0, "73.2 %", "2.7 %"), (8.0, "nearly 100 %", "96.8 %")]
)
def test_readings_are_computed_and_rounded_up(epsilon: float, even: str, grown: str) -> None:
    found = reading("ε", epsilon, 1e-5)
    assert (found.even, found.suspicion) == (even, grown)


def test_release_page_shows_every_number_recomputed_beside_the_claim(board: Board, kit: Kit) -> None:
    said = words(board.browser("Otto").get("/privacy/digits/1"))
    certificate = json.loads((board.home / "releases/digits/1/certificate.json").read_text(encoding="utf-8"))
    for member in certificate["members"]:
        charged = len({r["number"] for r in certificate["rounds"] if member["member_id"] in r["asked"]})
        came = sum(member["member_id"] in r["contributed"] for r in certificate["rounds"])
        asked = sum(member["member_id"] in r["asked"] for r in certificate["rounds"])
        shown = [math.ceil(g["epsilon"] * 1000 - 1e-6) / 1000 for g in member["guarantees"]]
        pair = " ".join(f"{number:.3f}" for number in shown)
        assert f"{charged} {came} of {asked} 1 in 100,000 1 in 1,000,000 {pair} {pair}" in said
    assert "Unit one record Relation add or remove one Accountant pld (dp-accounting 0.6.0)" in said
    assert "4 of 4 planned rounds were closed, 1 abandoned" in said
    assert "an even bet on it is right at most" in said and "a suspicion of 1 % grows at most to" in said
    assert "up to t = 1 other member colluding with it" in said and "What is not promised" in said
    assert said.count("✓ signed") == 5


def test_names_in_the_certificate_stay_text(board: Board) -> None:
    page = board.browser("Otto").get("/privacy/digits/1")
    assert '<img src="x"' not in page.text and MARKUP in words(page)


def test_release_that_does_not_verify_shows_claims_and_says_so(board: Board) -> None:
    path = board.home / "releases/digits/1/README.md"
    path.write_bytes(path.read_bytes() + b" ")
    said = words(board.browser("Otto").get("/privacy/digits/1"))
    assert "A proof does not hold" in said and "only what its files claim" in said
    assert "What each member spent" not in said and "Who can learn what" in said


def test_without_a_report_the_page_says_so(board: Board) -> None:
    assert "There is no red team report on this release's plan here." in words(
        board.browser("Otto").get("/privacy/digits/1")
    )


def test_report_is_shown_with_its_numbers_and_only_its_own_pictures(board: Board, kit: Kit) -> None:
    folder = write_report(board, kit)
    (folder / "passed.json").write_text(json.dumps({"plan_digest": str(kit.plan.digest), "version": "9.9"}))
    otto = board.browser("Otto")
    page = otto.get("/privacy/digits/1")
    said = words(page)
    assert "Nothing exceeded its claim" in said and "under version 9.9" in said
    assert "noise on each tensor The std. test 0.8 0.81 0.79 to 0.83 within" in said
    assert "3 attempts: 1 met a protection that held, 0 got through one; 2 met none" in said
    assert '<img src="x"' not in page.text
    assert re.findall(r'<img src="([^"]+)"', page.text) == ["/privacy/digits/1/pictures/imprint.png"]
    picture = otto.get("/privacy/digits/1/pictures/imprint.png")
    assert (picture.content, picture.headers["content-type"]) == (PNG, "image/png")
    assert picture.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in picture.headers["content-security-policy"]


def test_findings_are_named_where_something_exceeds_its_claim(board: Board, kit: Kit) -> None:
    through = red_team.AttackRow("imprint", "the plan", "46 of 64", 46.0, False)
    write_report(board, kit, attacks=(through,))
    said = words(board.browser("Otto").get("/privacy/digits/1"))
    assert "Something exceeds its claim" in said and "got through" in said
    assert "imprint, the plan: 46 of 64" in said


@pytest.mark.parametrize("name", NO_PICTURES)
def test_no_other_file_than_the_two_pictures_is_served(board: Board, kit: Kit, name: str) -> None:
    folder = write_report(board, kit)
    (folder / "other.png").write_bytes(PNG)
    (folder / "plan.json").write_text("{}")
    assert board.browser("Ada").get(f"/privacy/digits/1/pictures/{name}").status_code == 404


def test_picture_that_is_a_link_no_png_or_of_nobody_is_not_served(board: Board, kit: Kit) -> None:
    picture = write_report(board, kit) / "imprint.png"
    path = "/privacy/digits/1/pictures/imprint.png"
    assert board.browser().get(path).status_code == 303
    picture.write_bytes(b"<svg onload='x'>")
    assert board.browser("Ada").get(path).status_code == 404
    picture.unlink()
    picture.symlink_to(board.home / "keys" / "root.pem")
    assert board.browser("Ada").get(path).status_code == 404
    assert board.browser("Ada").get("/privacy/digits/1/pictures/inversion.png").status_code == 404


@pytest.mark.parametrize(
    "path", ["/privacy/digits/2", "/privacy/digits/x", "/privacy/..%2f/1", "/privacy?name=x"]
)
def test_addresses_that_name_no_release_lead_nowhere(board: Board, path: str) -> None:
    assert board.browser("Ada").get(path).status_code == 404


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": "commonlens-redteam/2"}', "x" * 1024 * 1025])
def test_report_that_cannot_be_one_is_not_shown_and_breaks_nothing(board: Board, kit: Kit, text: str) -> None:
    (write_report(board, kit) / "redteam.json").write_text(text)
    page = board.browser("Otto").get("/privacy/digits/1")
    assert page.status_code == 200 and "The report on this plan cannot be shown." in words(page)
    assert str(board.home) not in page.text


def test_report_on_another_plan_is_not_taken_for_this_one(board: Board, kit: Kit) -> None:
    write_report(board, kit, plan_digest="sha256:" + "0" * 64)
    assert "There is no red team report" in words(board.browser("Otto").get("/privacy/digits/1"))


def test_pages_and_api_read_what_the_red_team_writes(kit: Kit, tmp_path: Path) -> None:
    red_team.write_report(report_of(kit), tmp_path)
    written = json.loads((tmp_path / red_team.JSON_FILE).read_text(encoding="utf-8"))
    assert set(written) == set(GateReport.__dataclass_fields__)
    assert red_team.REPORT_FORMAT == REPORT_FORMAT
    assert (measured(None), measured(0.123456)) == ("without bound", "0.1235")


def test_api_gives_the_report_and_its_pictures(board: Board, kit: Kit) -> None:
    write_report(board, kit)
    token = board.room.accounts.issue_token("Otto", 600, "operator")
    headers = {"authorization": f"Bearer {token}"}
    browser = board.browser()
    told = browser.get("/api/v1/releases/digits/1/redteam", headers=headers)
    assert told.json()["attacks"][2]["number"] is None
    picture = browser.get("/api/v1/releases/digits/1/redteam/imprint.png", headers=headers)
    assert picture.content == PNG
    assert browser.get("/api/v1/releases/textures/1/redteam", headers=headers).status_code == 404
    assert browser.get("/api/v1/releases/digits/1/redteam").status_code == 401
