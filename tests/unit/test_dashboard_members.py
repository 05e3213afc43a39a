"""The members' pages: who is shown to whom, invitations shown once, what an admin may do and how it is confirmed."""

from __future__ import annotations

import html
import json
import re
import ssl
from collections.abc import Iterator

import httpx
import pytest

from coordinator.app import build_coordinator
from coordinator.audit.log import entries
from coordinator.config import Config
from coordinator.dashboard.members_search import Looking
from coordinator.dashboard.sessions import COOKIE
from coordinator.storage.database import reading, writing
from coordinator.storage.tables import members
from shared.domain.clock import SystemClock, to_text
from shared.domain.consortium import BudgetLeft, MemberState, Purpose
from shared.domain.errors import InvitationRejected
from shared.release.fingerprint import fingerprint
from tests.dashboard_kit import Board, Browser, board, words
from tests.desk import CONSORTIUM, enrolment, served

assert board  # the fixture
FORMS = ("approve", "suspend", "resume", "revoke")


def join(board: Board, name: str, purpose: Purpose = Purpose.CONTRIBUTE, needs_approval: bool = False) -> str:
    """The id of a new member."""
    secret = board.room.invitations.invite(name, purpose, "operator", None, needs_approval)[1]
    size = 0 if purpose is Purpose.USE else 5000
    return board.room.members.enrol(enrolment(secret, size=size)).member_id


def as_member(board: Board, member_id: str) -> Browser:
    """A session of this member's operator."""
    made = Browser(board.coordinator.asgi)
    code, _ = board.room.links.make(member_id)
    made.cookies.set(COOKIE, board.room.links.spend(code, 600.0)[1])
    return made


def actions(board: Board, count: int) -> list[str]:
    """The newest audit lines, oldest first."""
    with reading(board.room.engine) as connection:
        return [event.action for event in entries(connection)][-count:]


def state(board: Board, member_id: str) -> MemberState:
    return board.room.members.get(member_id).state


def test_nobody_yet_says_how_to_invite_by_button_and_by_command(board: Board) -> None:
    with writing(board.room.engine) as connection:
        for table in ("member_status", "members"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    page = board.browser("Ada").get("/members")
    assert "Nobody has joined yet." in words(page) and "commonlens-coordinator invite NAME" in words(page)
    assert 'href="/invitations"' in page.text
    assert 'href="/invitations"' not in board.browser("Otto").get("/members").text


def test_spent_budget_names_a_step_that_whoever_looks_can_take(board: Board) -> None:
    step = "plan with at most ε 0.4, or without it"
    board.room.status.report(board.member.member_id, "0.2.0", BudgetLeft(0.05, 0.4, 1e-5))
    assert f'<a href="/plans/new">{step}</a>' in board.browser("Ada").get("/members").text
    otto = board.browser("Otto").get("/members")
    assert step in words(otto) and "/plans/new" not in otto.text
    assert "raise your ceiling, or skip further plans" in words(board.member_browser().get("/members"))
    board.room.status.report(board.member.member_id, "0.2.0", BudgetLeft(0.0, 0.0, 1e-5))
    assert ">plan without it</a>" in board.browser("Ada").get("/members").text


def test_table_says_who_is_there_and_what_comes_next(board: Board) -> None:
    west, south = join(board, "West", needs_approval=True), join(board, "South", Purpose.USE)
    board.room.members.suspend(join(board, "East"), "operator")
    board.room.status.report(board.member.member_id, "0.2.0", BudgetLeft(0.05, 0.4, 1e-5))
    board.room.status.seen([south], "2026-01-02T09:12:00Z")
    said = words(board.browser("Otto").get("/members"))
    assert "0 online 2 offline 1 pending 1 suspended" in re.sub(r"\s+", " ", said)
    assert "West contributes pending never seen not declared approve" in said
    assert (
        "North contributes active never seen 5 % ε 0.4 5 % plan with at most ε 0.4, or without it cpu: 2 cores"
        in said
    )
    assert "as declared by the member" in said and "in up to 59.9 % of cases" in said
    assert "South uses releases active offline since 2 Jan" in said
    assert "East contributes suspended never seen not declared resume or revoke" in said
    assert said.index("West") < said.index("North") < said.index("East"), "who needs attention stands first"
    assert f"/members/{west}" in board.browser("Otto").get("/members").text


def rows(page: httpx.Response) -> list[str]:
    """The names in the table."""
    return re.findall(r'<th scope="row"><a href="/members/mem_\w+" dir="auto">([^<]+)</a>', page.text)


def test_two_hundred_members_come_by_pages_that_name_each_once(board: Board) -> None:
    for number in range(200):
        join(board, f"Hospital {number:03d}")
    browser, path, seen = board.browser("Otto"), "/members", list[str]()
    while path:
        page = browser.get(path)
        assert len(page.content) < 300_000 and "201 members" not in words(page)
        seen += rows(page)
        found = re.search(r'href="([^"]+)" rel="next"', page.text)
        path = html.unescape(found[1]) if found else ""
    assert len(seen) == len(set(seen)) == 201
    last = browser.get("/members?page=9000")
    assert rows(last) == seen[200:] and "201 to 201 of 201" in words(last)
    assert html.unescape(re.findall(r'href="([^"]+)" rel="prev"', last.text)[0]) == "/members?page=2"
    assert "0 online 201 offline" in re.sub(r"\s+", " ", words(last)), "counts are everybody's"


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("name=HOSP", ["Hospital A", "Hospital B"]),
        ("name=hospital++b", ["Hospital B"]),
        ("name=%C3%A9toile", ["Clinique \N{LATIN SMALL LETTER E WITH ACUTE}toile"]),
        ("name=e%CC%81toile", ["Clinique \N{LATIN SMALL LETTER E WITH ACUTE}toile"]),
        ("name=.*", []),
        ("name=%25", []),
        ("state=suspended", ["Hospital B"]),
        ("name=hospital&state=active", ["Hospital A"]),
        ("state=nonsense", []),
    ],
)
def test_members_are_found_by_a_part_of_their_name_and_by_state(
    board: Board, query: str, names: list[str]
) -> None:
    join(board, "Hospital A")
    board.room.members.suspend(join(board, "Hospital B"), "operator")
    join(board, "Clinique \N{LATIN SMALL LETTER E WITH ACUTE}toile")
    page = board.browser("Otto").get(f"/members?{query}")
    assert page.status_code == 200 and rows(page) == names
    if names:
        assert f"1 to {len(names)} of {len(names)} that fit, of 4 members" in words(page)
    else:
        assert "No member fits." in words(page) and "Show all 4" in words(page)


def test_what_was_looked_for_stays_in_the_fields_and_is_never_markup(board: Board) -> None:
    join(board, "Hospital A")
    page = board.browser("Otto").get("/members?name=%22%3E%3Cscript%3E1%3C/script%3E&state=active")
    assert "<script>1" not in page.text and 'value="&#34;&gt;&lt;script&gt;1' in page.text
    assert "<option selected>active</option>" in page.text
    assert 'href="/members"' in page.text and "data-live" not in page.text


def test_live_pages_are_bounded_by_states_and_pages_and_not_by_what_was_typed(board: Board) -> None:
    everyone = Looking(name="x", state="active", page=9000).without_text(250)
    assert everyone == Looking(state="active", page=3)
    assert Looking(name="y", state="nonsense", page=9000).without_text(250) == Looking(page=3)
    page = board.browser("Otto").get("/members?state=active")
    assert 'data-live="/members/live?state=active"' in page.text


def test_member_that_looks_finds_nobody_but_itself(board: Board) -> None:
    join(board, "South")
    north = as_member(board, board.member.member_id)
    for query in ("?name=south", "?state=active", "?page=2"):
        said = words(north.get(f"/members{query}"))
        assert "South" not in said and "2 members" not in said
    assert "Find" not in words(north.get("/members"))


def test_member_sees_its_own_row_only_and_no_invitation(board: Board) -> None:
    south = join(board, "South")
    board.room.invitations.invite("Clinic F", Purpose.CONTRIBUTE, "operator")
    north = as_member(board, board.member.member_id)
    said = words(north.get("/members"))
    assert "North" in said and "South" not in said and "Clinic F" not in said and "invitation" not in said
    assert north.get(f"/members/{board.member.member_id}").status_code == 200
    for other in (south, "mem_nothing"):
        refused = north.get(f"/members/{other}")
        assert refused.status_code == 404 and "South" not in refused.text


def test_auditor_sees_everything_and_finds_no_form(board: Board) -> None:
    invitation, _ = board.room.invitations.invite("Clinic F", Purpose.CONTRIBUTE, "account:Ada")
    member_id, auditor = board.member.member_id, board.browser("Otto")
    pages = auditor.get("/members").text + auditor.get(f"/members/{member_id}").text
    assert "Clinic F" in pages and "/withdraw" not in pages and "Revoke" not in pages
    assert not re.search(rf'action="/members/{member_id}', pages)
    for path in (
        *(f"/members/{member_id}/{act}" for act in FORMS),
        "/invitations",
        f"/invitations/{invitation.id}/withdraw",
    ):
        assert auditor.post(path, name="North").status_code == 403
    assert auditor.get("/invitations").status_code == 403
    assert state(board, member_id) is MemberState.ACTIVE and len(board.room.invitations.open()) == 1


def test_invitation_page_shows_line_and_secret_once_and_the_secret_lets_in(board: Board) -> None:
    browser = board.browser("Ada")
    made = browser.post("/invitations", name="  St  Anna ", purpose="use", lifetime="86400")
    assert made.status_code == 201 and made.headers["cache-control"] == "no-store"
    shown = dict(re.findall(r'<pre id="join-(line|secret)">([^<]*)</pre>', made.text))
    line, secret = html.unescape(shown["line"]), shown["secret"]
    assert line.startswith("commonlens-participant join https://") and line.endswith(" --declared-size 0")
    assert board.room.authority.fingerprint() in line and secret not in line
    assert secret not in browser.get("/members").text + browser.get("/invitations").text
    with reading(board.room.engine) as connection:
        assert secret not in str(entries(connection))
    assert actions(board, 3) == ["form.sent", "invitation.created", "form.done"]
    entered = board.room.members.enrol(enrolment(secret, size=0))
    assert entered.name == "St Anna"
    assert "St Anna uses releases active" in words(browser.get("/members"))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"name": "St <Anna>"}, "A name has 1 to 100 letters"),
        ({"name": ""}, "A name has 1 to 100 letters"),
        ({"name": "N" * 101}, "A name has 1 to 100 letters"),
        ({"name": "North\u202e"}, "A name has 1 to 100 letters"),
        ({"name": "South", "purpose": "rule"}, "joins to contribute or to use releases"),
        ({"name": "South", "lifetime": "1e9"}, "good for up to 30 days"),
        ({"name": "South", "lifetime": "nan"}, "good for up to 30 days"),
        ({"name": "South", "lifetime": "soon"}, "good for up to 30 days"),
    ],
)
def test_wrong_invitation_keeps_what_was_typed_and_invites_nobody(
    board: Board, typed: dict[str, str], said: str
) -> None:
    refused = board.browser("Ada").post("/invitations", **typed)
    assert refused.status_code == 422 and said in words(refused) and "Nobody was invited." in words(refused)
    assert f'value="{html.escape(typed["name"])}"' in refused.text
    assert board.room.invitations.open() == []


def test_organisation_named_like_a_token_is_told_why_and_nobody_is_invited(board: Board) -> None:
    refused = board.browser("Ada").post("/invitations", name=f"clt_{'a' * 20}")
    assert refused.status_code == 422 and "Leave it out of the name or the note" in words(refused)
    assert board.room.invitations.open() == []


def test_open_invitation_is_listed_and_withdrawn(board: Board) -> None:
    browser = board.browser("Ada")
    invitation, secret = board.room.invitations.invite("Clinic F", Purpose.CONTRIBUTE, "account:Ada", 3600)
    listed = browser.get("/members")
    assert (
        "Clinic F" in words(listed) and f'formaction="/invitations/{invitation.id}/withdraw"' in listed.text
    )
    assert browser.post(f"/invitations/{invitation.id}/withdraw").headers["location"] == "/members"
    assert "The invitation was withdrawn." in words(browser.get("/members"))
    assert "No invitation is open." in words(browser.get("/members"))
    with pytest.raises(InvitationRejected):
        board.room.members.enrol(enrolment(secret))
    assert browser.post(f"/invitations/{invitation.id}/withdraw").status_code == 409


def test_member_page_holds_its_fingerprint_history_and_what_its_state_allows(board: Board) -> None:
    member_id, browser = board.member.member_id, board.browser("Ada")
    path = f"/members/{member_id}"
    said = words(browser.get(path))
    assert fingerprint(board.room.members.get(member_id).identity_public_key) in said
    assert "about 5,000 records" in said and "joined itself" in said and "No plan names it." in said
    for act, wanted, absent in (("suspend", "resume", "suspend"), ("resume", "suspend", "resume")):
        assert browser.post(f"{path}/{act}").headers["location"] == path
        page = browser.get(path)
        assert f'action="{path}/{wanted}"' in page.text and f'action="{path}/{absent}"' not in page.text
    assert actions(board, 3) == ["form.sent", "member.resumed", "form.done"]
    assert "suspended Ada was active" in words(browser.get(path))
    assert browser.post(f"{path}/resume").status_code == 409


@pytest.mark.parametrize("typed", ["", "north", "North!", "North\u200b", "mem_0"])
def test_revoking_needs_the_very_name_typed(board: Board, typed: str) -> None:
    path = f"/members/{board.member.member_id}"
    refused = board.browser("Ada").post(f"{path}/revoke", name=typed)
    assert refused.status_code == 422 and "type the member's name exactly: North" in words(refused)
    assert state(board, board.member.member_id) is MemberState.ACTIVE


def test_revoked_member_is_out_for_ever_and_its_page_has_no_form_left(board: Board) -> None:
    path, browser = f"/members/{board.member.member_id}", board.browser("Ada")
    assert browser.post(f"{path}/revoke", name=" North ").headers["location"] == path
    page = browser.get(path)
    assert "The member was revoked." in words(page) and f'action="{path}' not in page.text
    assert state(board, board.member.member_id) is MemberState.REVOKED


def test_name_is_compared_however_a_keyboard_composes_it(board: Board) -> None:
    member_id = join(board, "Universit\u00e9 Nord")
    typed = "Universite\u0301  Nord"
    assert board.browser("Ada").post(f"/members/{member_id}/revoke", name=typed).status_code == 303


def test_pending_member_is_approved_on_its_page(board: Board) -> None:
    member_id, browser = join(board, "West", needs_approval=True), board.browser("Ada")
    page = browser.get(f"/members/{member_id}")
    assert "needs an admin's approval" in words(page) and "/suspend" not in page.text
    assert browser.post(f"/members/{member_id}/approve").status_code == 303
    assert state(board, member_id) is MemberState.ACTIVE
    assert actions(board, 3) == ["form.sent", "member.approved", "form.done"]


def test_names_are_never_markup_on_any_page(board: Board) -> None:
    name, path = "<b>North</b>", f"/members/{board.member.member_id}"
    with writing(board.room.engine) as connection:
        connection.execute(members.update().values(name=name, device=name, software_version=name))
    board.room.invitations.invite(name, Purpose.CONTRIBUTE, f"account:{name}")
    browser = board.browser("Ada")
    for page in (browser.get("/members"), browser.get(path), browser.post(f"{path}/revoke", name=name + "!")):
        assert name in words(page) and name not in page.text


@pytest.fixture
def live(board: Board) -> Iterator[tuple[Board, httpx.Client]]:
    """The board behind a real server, and Ada's browser at it."""
    token = board.browser("Ada").cookies[COOKIE]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        served(board.coordinator.asgi, board.home) as address,
        httpx.Client(base_url=address, verify=context, cookies={COOKIE: token}, timeout=20.0) as client,
    ):
        yield board, client


def test_organisation_that_joins_appears_without_a_reload(live: tuple[Board, httpx.Client]) -> None:
    board, client = live
    with client.stream("GET", "/members/live") as events:
        parts = (json.loads(line[6:]) for line in events.iter_lines() if line.startswith("data: "))
        first = next(parts)
        assert set(first) == {"members-table", "members-invitations"} and "St Anna" not in str(first)
        secret = board.room.invitations.invite("St Anna", Purpose.CONTRIBUTE, "operator")[1]
        invited = next(parts)
        assert "St Anna" in invited["members-invitations"] and "members-table" not in invited
        board.room.members.enrol(enrolment(secret))
        changed = next(part for part in parts if "members-table" in part)
        assert "St Anna" in changed["members-table"]
        assert 'name="proof"' not in str(first) + str(invited), (
            "drawn once for all admins: no session's proof"
        )


def test_last_seen_and_declared_budget_survive_a_restart_of_the_coordinator(board: Board) -> None:
    board.room.status.seen([board.member.member_id], to_text(board.room.clock.now()))
    board.room.status.report(board.member.member_id, "0.1.0", BudgetLeft(0.62, 4.96, 1e-5))
    again = build_coordinator(board.home, Config(CONSORTIUM), SystemClock())
    browser = Browser(again.asgi)
    assert browser.sign_in("Otto").status_code == 303
    said = words(browser.get(f"/members/{board.member.member_id}"))
    assert "offline" in said and re.search(r" s ago|just now", said) and "62 % ε 4.96" in said
    again.carrier.stop()
    again.engine.dispose()
