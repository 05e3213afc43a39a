"""How pages read: one form for a number, headings that say each thing once, and a member's overview that is its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.dashboard.card_text import blocks
from coordinator.dashboard.frame import TEMPLATES
from coordinator.dashboard.plan_lines import Line, pairs
from coordinator.dashboard.words import duration, one_in, said, size, target
from coordinator.runs.publishing import Publisher
from coordinator.storage import tables as t
from coordinator.storage.database import writing
from shared.domain.consortium import Purpose
from shared.domain.errors import Invalid
from tests.dashboard_kit import Browser, words
from tests.full_board import FullBoard, full_board, more_of_life

PAGES = (
    *("/", "/plans", "/plans/{digest}", "/runs", "/runs/{run_id}", "/runs/{run_id}/rounds/1"),
    *("/members", "/members/{member_id}", "/audit", "/audit/verify", "/account"),
    *("/extractors", "/extractors/{extractor}/{number}", "/privacy/{extractor}/{number}"),
)


@pytest.fixture(scope="module")
def full(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullBoard]:
    with full_board(prepared_home, tmp_path_factory.mktemp("readings")) as made:
        more_of_life(made)
        yield made


def south(board: FullBoard) -> Browser:
    """The operator of a member of the plan."""
    member = next(one for one in board.room.members.every() if one.name == "South")
    browser = Browser(board.coordinator.asgi)
    code, _ = board.room.links.make(member.id)
    assert browser.request("POST", "/sign-in/member", data={"code": code}).status_code == 303
    return browser


def test_a_member_is_told_that_it_sees_its_own_row_and_how_many_the_plan_has(full: FullBoard) -> None:
    said_to_south = words(south(full).get("/"))
    assert "Your organisation South" in said_to_south and "you are one of 2 members." in said_to_south
    assert "Here you see your own row." in said_to_south and "offline" not in said_to_south
    assert "You see your own row only" in words(south(full).get("/members"))
    said_to_north = words(full.member_browser().get("/"))
    assert "No plan that is open names you." in said_to_north and "West" not in said_to_south + said_to_north
    for name in ("Ada", "Otto"):
        page = words(full.browser(name).get("/"))
        assert "own row" not in page and "Your organisation" not in page and "3 offline" in page


def test_nothing_waits_is_said_of_the_member_to_a_member(full: FullBoard) -> None:
    text = TEMPLATES.get_template("overview/waiting.html")
    assert "Nothing waits for you." in text.render(waiting=[], alone=True)
    assert "Nothing waits for anybody." in text.render(waiting=[], alone=False)


def test_overview_says_when_an_invitation_ends(full: FullBoard) -> None:
    full.room.invitations.invite("Clinic F", Purpose.CONTRIBUTE, "operator", 604_800.0)
    page = words(full.browser("Ada").get("/"))
    assert re.search(r"Clinic F invitation not used yet, ends \d+ \w+(, \d\d:\d\d| \d{4}) UTC", page)


def test_a_chosen_target_reads_the_same_everywhere(full: FullBoard) -> None:
    assert (target(8.0), target(0.5), target(12.25)) == ("8", "0.5", "12.25")
    for path in PAGES:
        text = words(full.browser("Ada").get(path.format(**full.values())))
        assert "8.000" not in text, path


def test_audit_values_are_said_as_people_say_them(full: FullBoard) -> None:
    assert [said(value) for value in (True, False, None, "", 0, "x")] == ["yes", "no", "–", "–", "0", "x"]
    assert said("paused by account:Ada") == "paused by Ada" and said("account:Ada") == "account:Ada"
    assert '<bdi title="paused by account:Ada">paused by Ada</bdi>' in full.browser("Otto").get("/audit").text
    log = re.sub("<[^>]*>", "", full.browser("Otto").get("/audit").text)
    assert re.search(r"[0-9a-f]{64}|\d{4}-\d\d-\d\dT", log) is None
    page = words(full.browser("Otto").get("/audit"))
    assert "needs approval no" in page and "False" not in page and "needs_approval" not in page


def test_every_heading_of_a_table_says_what_it_heads(full: FullBoard) -> None:
    for path in PAGES:
        text = full.browser("Ada").get(path.format(**full.values())).text
        assert [tag for tag in re.findall(r"<th\b[^>]*>", text) if "scope=" not in tag] == [], path


def test_page_of_one_extractor_names_it_once_and_reads_every_epsilon_as_odds(full: FullBoard) -> None:
    page = full.browser("Otto").get("/extractors?name=digits")
    headings = re.findall(r"<(h\d)[^>]*>([^<]*)<", page.text)
    assert headings == [("h1", "digits"), ("h2", "Changelog")]
    assert "an even bet on whether one record was in the data is right at most 58.7 % of the time." in words(
        page
    )
    assert '<h2 id="digits">digits</h2>' in full.browser("Otto").get("/extractors").text


def test_a_completed_run_that_nobody_published_is_a_link_for_whoever_may(
    full: FullBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = full.coordinator.control.state.runs
    run = next(one.id for one in runs.store.runs() if one.id != full.run)
    link = f'href="/runs/{run}/publish"'
    for path in ("/extractors", "/extractors?name=digits"):
        assert link in full.browser("Ada").get(path).text
        for browser in (full.browser("Otto"), full.member_browser()):
            assert "publish" not in browser.get(path).text.replace("published", "")
    assert full.browser("Ada").get(f"/runs/{run}/publish").status_code == 200

    def damaged(*_: object) -> None:
        raise Invalid("A release of it cannot be read.")

    with monkeypatch.context() as patched:
        patched.setattr(Publisher, "standing", damaged)
        page = full.browser("Ada").get("/extractors")
        assert page.status_code == 200 and link not in page.text
    with writing(full.coordinator.engine) as connection:
        connection.execute(t.runs.update().where(t.runs.c.id == run).values(checkpoint_digest=None))
    assert link not in full.browser("Ada").get("/extractors").text


def test_table_of_a_card_has_its_headings_beside_its_cells_on_a_phone() -> None:
    """In mode secure it has five columns, too many for a phone: there each cell stands under its column's name."""
    card = tuple(blocks("| member | ε at `δ` | ε_alone |\n|---|---|---|\n| <b>North | 0.9 | 2.5 | more |\n"))
    text = TEMPLATES.get_template("extractors/card.html").render(card=card)
    assert '<table class="stacked">' in text and "<b>" not in text
    assert re.findall(r'data-label="([^"]*)"', text) == ["member", "ε at δ", "ε_alone", ""]


def test_a_clause_is_named_only_after_what_it_says(full: FullBoard) -> None:
    page = words(full.browser("Ada").get(f"/plans/{full.plan}"))
    assert (
        "as a standard deviation in units of C/B, the clip norm over the expected batch (clause 3.6 of"
        in page
    )


def test_a_delta_is_a_chance_in_words_and_never_a_smaller_one() -> None:
    assert [one_in(delta) for delta in (1e-5, 1e-6, 2e-6, 1.0)] == [
        *("1 in 100,000", "1 in 1,000,000", "1 in 500,000", "1 in 1")
    ]
    assert one_in(3e-6) == "1 in 333,333" and 1 / 333_333 >= 3e-6
    assert one_in(0.0) == "0"


def test_whole_minutes_are_said_without_seconds() -> None:
    assert [duration(seconds) for seconds in (119.0, 120.0, 130.0, 7199.0, 7200.0)] == [
        *("119 s", "2 min", "2 min 10 s", "119 min 59 s", "2 h 00 min")
    ]


def test_compared_plans_say_sizes_in_the_words_of_a_plans_own_page(full: FullBoard) -> None:
    runs = full.coordinator.control.state.runs
    other = replace(runs.plan(full.plan), rounds=5)
    runs.store.add_plan(other, "account:Ada", "digits.safetensors")
    bytes_per_round = runs.cost(full.plan).bytes_per_round
    page = full.browser("Ada").get(f"/plans/compare?a={full.plan}&b={other.digest}")
    own = words(full.browser("Ada").get(f"/plans/{full.plan}"))
    assert f"{size(bytes_per_round)} of weights down and updates up" in own
    assert page.text.count(f'<span title="{bytes_per_round:,} bytes">{size(bytes_per_round)}</span>') == 2
    assert "C/B" not in words(page) and "at δ 1 in 100,000" in words(page)


def test_difference_that_rounding_hides_is_said_in_full() -> None:
    lines = [Line("cost.bytes", "Sent", "2.0 MB", exact) for exact in ("1,975,296 bytes", "1,975,300 bytes")]
    (pair,) = pairs(lines[:1], lines[1:])
    assert pair.differs and pair.alike
    (same,) = pairs(lines[:1], lines[:1])
    assert not same.differs and not same.alike


def test_proofs_read_as_other_pages_do_and_are_there_word_for_word(full: FullBoard) -> None:
    page = full.browser("Otto").get("/extractors/{extractor}/{number}".format(**full.values()))
    read, _, exact = page.text.partition('<h2 id="proofs">')[2].partition('<details id="proofs-exact">')
    read = re.sub("<[^>]*>", "", read)
    assert re.search(r"[0-9a-f]{64}|\d bytes|\d{4}-\d\d-\d\dT|1e-05", read) is None
    assert f'<code title="{full.plan}">{full.plan[7:15]}</code>' in page.text and full.plan[7:15] in read
    assert f"plan digest: {full.plan}" in exact and re.search(r"5 files, \d+ bytes", exact)
