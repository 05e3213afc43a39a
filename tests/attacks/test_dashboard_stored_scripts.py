"""Stored XSS: names, notes, reasons and browsers' names full of markup reach every page of every role as text alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi.routing import iter_route_contexts

from coordinator.audit.log import append
from coordinator.dashboard.rules import ANYBODY, RULES
from coordinator.runs.round import RoundRecord
from coordinator.runs.service import RunService
from coordinator.storage import tables as t
from coordinator.storage.database import writing
from shared.domain.clock import SystemClock
from shared.domain.consortium import Purpose, Role
from shared.domain.errors import Invalid
from shared.domain.release import release_id
from shared.domain.run import RoundState, RunState
from tests.desk import enrolment
from tests.full_board import FullBoard, full_board, session_of, with_values
from tests.knock import Answer, form, knock, session
from tests.markup import OVERRIDE, Page, event_parts, parsed

MARK = "xssprobe"
EVIL = (
    f"={MARK}\"'><script>{MARK}()</script><img src=x onerror={MARK}()></textarea></title><{MARK}>"
    f"<a href=javascript:{MARK}()>{{{{7*7}}}}{{% raw %}}`${{{MARK}}}${OVERRIDE}gpj.exe"
)
"""Out of an attribute, out of a text area and a title, into a script, into a template, and turned around."""
NOT_FREE_TEXT = (
    "id",
    "digest",
    "state",
    "kind",
    "role",
    "purpose",
    "use",
    "sha256",
    "hash",
    "signature",
    "seq",
)
SYSTEM = {"plans", "audit_events", "meta", "account_identities", "alembic_version"}
"""Written below by the services, or read by programs only."""
PEOPLE_SEE = [Role.ADMIN, Role.AUDITOR, Role.MEMBER, None]


@pytest.fixture(scope="module")
def evil(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullBoard]:
    """A coordinator where every text that a person or a member can write says EVIL."""
    # Notes are no column: they stand in the signed files of a release, which refuse what turns a line around.
    notes = (EVIL.replace(OVERRIDE, ""),)
    with full_board(prepared_home, tmp_path_factory.mktemp("scripts"), notes=notes) as board:
        poison(board)
        yield board


def poison(board: FullBoard) -> None:
    """Below all checks of the domain, which refuse most of this (see the end of this file): the pages hold alone."""
    runs: RunService = board.coordinator.control.state.runs
    plan = runs.plan(board.plan)
    bad = replace(
        plan,
        extractor_name=EVIL,
        consortium=EVIL,
        members=tuple(replace(m, name=EVIL) for m in plan.members),
        rounds=7,
        purpose=EVIL,
    )
    runs.store.add_plan(bad, EVIL, "digits.safetensors")
    for member in plan.members[:1]:
        runs.store.add_consent(str(bad.digest), member.member_id, "00" * 64)
    run = runs.store.create_run(str(bad.digest), EVIL)
    ids = tuple(m.member_id for m in plan.members)
    record = RoundRecord(1, ids, {ids[0]: EVIL, ids[1]: EVIL}, note=EVIL)
    attempt = runs.store.open_round(run.id, record)
    runs.store.move_round(run.id, 1, attempt, RoundState.ASKED)
    runs.store.abandon_round(run.id, record, attempt, EVIL)
    runs.store.move_run(run.id, RunState.FAILED, EVIL, EVIL)
    board.room.accounts.sign_in("Ada", "a long enough phrase", 600.0, origin=EVIL)
    with writing(board.coordinator.engine) as connection:
        for table in t.metadata.sorted_tables:
            for column in table.columns:
                if table.name not in SYSTEM and free_text(column):
                    connection.execute(table.update().values({column.name: _numbered(table, column)}))
        append(connection, SystemClock(), EVIL, "member.noted", EVIL, {MARK: EVIL, "reason": EVIL})


def free_text(column: sa.Column[object]) -> bool:
    """Whether people or members choose it: also of tables and columns that come later."""
    name = column.name
    structural = name.endswith(
        ("_id", "_at", "_key", "_digest", "_hash", "_sha256", "_pem", "_weights", "_secret")
    )
    return (
        isinstance(column.type, sa.String)
        and not structural
        and not column.primary_key
        and not column.foreign_keys
        and name not in (*NOT_FREE_TEXT, "at", "password_hash", "checkpoint_digest")
    )


def _numbered(table: sa.Table, column: sa.Column[object]) -> sa.ColumnElement[str]:
    """EVIL, different in every row, as names are unique; short enough for the column where it has a length."""
    key = next(iter(table.primary_key.columns))
    return sa.func.substr(sa.cast(key, sa.Text), -8, 8) + sa.literal(EVIL)


def look(board: FullBoard, path: str, token: str, parts: int = 1) -> Answer:
    return knock(board.coordinator.asgi, "GET", path, session(token), parts=parts)


def faults_of(answer: Answer) -> list[str]:
    """What is wrong in a page, in the parts of a live one, or in a file."""
    kind = answer.header("content-type").partition(";")[0]
    if kind == "text/html" or kind == "image/svg+xml":
        pages = [answer.text]
    elif kind == "text/event-stream":
        pages = list(event_parts(answer.text))
    else:
        return _file_faults(answer, kind)
    found = [str(fault) for html in pages for fault in parsed(html, MARK).faults]
    return found + ["a template ran"] * sum("49{% raw %}" in html or "49{%" in html for html in pages)


def _file_faults(answer: Answer, kind: str) -> list[str]:
    """A file that a browser could take for a page, or a table whose cell begins a spreadsheet's formula."""
    found = (
        [] if answer.header("x-content-type-options") == "nosniff" or not answer.body else ["may be sniffed"]
    )
    if kind == "text/csv":
        cells = [cell.strip('"') for line in answer.text.splitlines() for cell in line.split(",")]
        found += [f"a formula: {cell[:60]}" for cell in cells if cell.startswith(("=", "@", "\t", "\r"))]
    return found


def everything_seen(board: FullBoard, role: Role | None) -> Iterator[tuple[str, Answer]]:
    runs: RunService = board.coordinator.control.state.runs
    token = session_of(board, role)
    other = {"digest": str(runs.store.plans()[-1][0].digest), "run_id": runs.store.runs()[-1].id}
    for method, path in sorted(RULES):
        roles = RULES[method, path]
        if method == "GET" and (roles == ANYBODY or role in roles):
            for values in (board.values(), board.values() | other):
                where = with_values(path, values)
                yield where, look(board, where, token)
            yield where, look(board, f"{where}?{_hostile_query(board, path)}", token)


def _hostile_query(board: FullBoard, path: str) -> str:
    """Every parameter that the page knows, and some that it does not, with EVIL in each."""
    from urllib.parse import urlencode

    names = {"next", "notice", "q", "after"}
    for found in iter_route_contexts(board.coordinator.control.routes):
        if found.path == path and found.methods == {"GET"}:
            names |= {parameter.name for parameter in found.dependant.query_params}
    return urlencode({name: EVIL for name in sorted(names)})


@pytest.mark.parametrize("role", PEOPLE_SEE, ids=lambda role: role.value if role else "nobody")
def test_no_element_or_attribute_of_any_page_comes_from_data(evil: FullBoard, role: Role | None) -> None:
    seen, faults = 0, []
    for where, answer in everything_seen(evil, role):
        seen += MARK in answer.text
        if answer.status >= 500:
            faults.append(f"{where.partition('?')[0]}: {answer.status}")
        faults += [f"{where.partition('?')[0]}: {fault}" for fault in faults_of(answer)]
    assert sorted(set(faults)) == []
    assert seen or role is None, "no page shows what the attacker wrote: the test looks at nothing"


def test_attack_shows_where_texts_are_not_escaped(evil: FullBoard) -> None:
    """The parser finds what this file looks for, when a page does print data as it is."""
    naked = parsed(f'<main><p title="{EVIL}">{EVIL}</p></main>', MARK)
    found = {fault.what for fault in naked.faults}
    assert {"an element made of data", "a script that is not ours", "an attribute made of data"} <= found
    assert {"an address that is not ours", "a text that can turn what follows it around"} <= found


def test_what_was_typed_into_a_form_comes_back_as_text(evil: FullBoard) -> None:
    faults, sent = [], 0
    for where, page in _pages_with_forms(evil):
        for fields in page.forms:
            action = fields.get("", "")
            if not action or action.startswith("/sign-out"):
                continue
            token = session_of(evil, Role.ADMIN)
            typed = {name: value or EVIL for name, value in fields.items() if name not in ("", "proof")}
            for values in (typed, {name: EVIL for name in typed}):
                answer = knock(evil.coordinator.asgi, "POST", action, *form(token, values))
                if answer.status >= 500:
                    faults.append(f"{where}, {action}: {answer.status}")
                faults += [f"{action}: {fault}" for fault in faults_of(answer)]
                sent += 1
    assert sorted(set(faults)) == []
    assert sent > 0 or not any(method == "POST" for method, _ in RULES)


def _pages_with_forms(board: FullBoard) -> Iterator[tuple[str, Page]]:
    token = session_of(board, Role.ADMIN)
    for method, path in sorted(RULES):
        if method == "GET" and Role.ADMIN in RULES[method, path]:
            answer = look(board, with_values(path, board.values()), token)
            if answer.header("content-type").startswith("text/html"):
                yield path, parsed(answer.text, MARK)


def test_purpose_of_a_plan_is_on_its_page_as_text(evil: FullBoard) -> None:
    runs: RunService = evil.coordinator.control.state.runs
    answer = look(evil, f"/plans/{runs.store.plans()[-1][0].digest}", session_of(evil, Role.ADMIN))
    assert f"For: <bdi>={MARK}" in answer.text and faults_of(answer) == []


def test_errors_say_nothing_that_the_sender_chose(evil: FullBoard) -> None:
    from urllib.parse import quote

    for path in (f"/{quote(EVIL)}", f"/members/{quote(EVIL, safe='')}", f"/static/{quote(EVIL)}"):
        answer = look(evil, path, session_of(evil, Role.ADMIN))
        assert answer.status in (404, 422)
        assert faults_of(answer) == []


@pytest.mark.parametrize(
    "name", [EVIL, "<b>North</b>", f"North{OVERRIDE}", "{{7*7}}", "North\u0000", "", "a" * 101]
)
def test_the_domain_refuses_such_names_of_organisations_already(evil: FullBoard, name: str) -> None:
    import json

    token = session_of(evil, Role.ADMIN)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    body = json.dumps({"member_name": name}).encode()
    assert knock(evil.coordinator.asgi, "POST", "/api/v1/invitations", headers, body).status == 422


def test_a_member_can_call_its_device_what_it_likes_within_ascii(evil: FullBoard) -> None:
    """Markup included: here the pages are the only protection. A right-to-left override is refused."""
    secret = evil.room.invitations.invite("Device", Purpose.CONTRIBUTE, "operator")[1]
    plain = EVIL[:90]
    assert plain.isascii() and "<script>" in plain
    request = enrolment(secret)
    assert type(request).model_validate(request.model_dump() | {"device": plain}).device == plain
    with pytest.raises(ValueError, match="device"):
        type(request).model_validate(request.model_dump() | {"device": f"cpu{OVERRIDE}"})


def test_notes_of_a_release_are_on_its_pages_and_in_its_card_as_text(evil: FullBoard) -> None:
    token = session_of(evil, Role.ADMIN)
    for path in ("/extractors/digits/1", "/extractors?name=digits"):
        answer = look(evil, path, token)
        assert f"&lt;script&gt;{MARK}()&lt;/script&gt;" in answer.text and faults_of(answer) == []
    card = (evil.home / "releases" / "digits" / "1" / "README.md").read_text("utf-8")
    assert f"\\<script\\>{MARK}" in card and "<script" not in card.replace("\\<", "")


@pytest.mark.parametrize("name", ["<b>", "../../etc", f"digits{OVERRIDE}", "Digits", ""])
def test_the_domain_refuses_such_names_of_extractors_already(name: str) -> None:
    with pytest.raises(Invalid, match="lower-case letters"):
        release_id(name, 1)
