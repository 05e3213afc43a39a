"""The audit page: lines are found, exported whole, and checked with the countersignatures."""

from __future__ import annotations

import csv
import io
import json

import pytest

from coordinator.audit.countersignatures import accept
from coordinator.audit.log import FIRST_HASH, append, read_head
from coordinator.storage.database import writing
from coordinator.storage.tables import audit_countersignatures
from shared.domain.canonical import digest_of
from shared.domain.consortium import Purpose, Role
from shared.release.signing import SigningKey
from shared.wire.audit import KIND, SignedHead
from tests.dashboard_kit import Board, board, words
from tests.desk import PASSWORD, enrolment

assert board  # the fixture


def many_lines(board: Board, count: int) -> None:
    with writing(board.room.engine) as connection:
        for number in range(count):
            append(
                connection, board.room.clock, "account:Bo", "plan.proposed", f"sha256:{number}", {"n": number}
            )


def countersigned(board: Board, name: str = "South") -> None:
    """A member joins and signs the head."""
    key, secret = (
        SigningKey.generate(),
        board.room.invitations.invite(name, Purpose.CONTRIBUTE, "operator")[1],
    )
    member = board.room.members.enrol(enrolment(secret, identity=key)).member_id
    with writing(board.room.engine) as connection:
        last = read_head(connection)
        head = SignedHead(member_id=member, seq=last.seq, hash=last.hash, at="2026-11-21T12:00:00Z")
        signature = key.sign_value(KIND, head.model_dump())
        accept(connection, board.room.clock, key.public_hex, head, signature)


def test_newest_lines_come_first_and_older_ones_by_pages(board: Board) -> None:
    many_lines(board, 230)
    browser = board.browser("Otto")
    first = browser.get("/audit")
    assert first.status_code == 200
    newest = int(words(first).split("Lines ")[1].split(" to ")[1].split()[0])
    older = browser.get(f"/audit?before={newest - 99}")
    assert f"Lines {newest - 199} to {newest - 100}" in words(older)
    newer = browser.get(f"/audit?after={newest - 100}")
    assert f"Lines {newest - 99} to {newest}" in words(newer)
    assert "Older" not in words(browser.get("/audit?before=20"))


@pytest.mark.parametrize(
    ("query", "shown", "hidden"),
    [
        ("actor=bo", "plan.proposed", "session.opened"),
        ("action=session.", "session.opened", "plan.proposed"),
        ("action=proposed", "No line fits", "plan.proposed"),
        ("subject=sha256:2", "plan.proposed", "session.opened"),
        ("actor=%25", "No line fits", "plan.proposed"),
        ("since=2999-01-01T00:00", "No line fits", "plan.proposed"),
        ("until=2999-01-01T00:00", "plan.proposed", "No line fits"),
        ("actor=Bo&action=session.", "No line fits", "plan.proposed"),
    ],
)
def test_lines_are_found_by_who_what_on_what_and_when(
    board: Board, query: str, shown: str, hidden: str
) -> None:
    many_lines(board, 3)
    answer = board.browser("Otto").get(f"/audit?{query}")
    said = words(answer).partition("Filter")[2]
    assert shown in said and hidden not in said


def test_lines_are_found_by_the_name_that_the_page_shows_for_an_id(board: Board) -> None:
    countersigned(board, "South & West")
    member = next(one for one in board.room.members.every() if one.name == "South & West")
    with writing(board.room.engine) as connection:
        append(connection, board.room.clock, f"member:{member.id}", "plan.consent", "sha256:1", {})
        append(connection, board.room.clock, "account:Bo", "member.suspended", member.id, {})
        append(connection, board.room.clock, "account:Bo", "plan.proposed", "sha256:1", {})
    otto = board.browser("Otto")
    for query, found in (("actor=h+%26+w", "plan.consent"), ("subject=south", "member.suspended")):
        lines = list(csv.DictReader(io.StringIO(otto.get(f"/audit/export.csv?{query}").text)))
        assert found in [line["action"] for line in lines], query
        assert "plan.proposed" not in [line["action"] for line in lines], query
        assert found in words(otto.get(f"/audit?{query}")).partition("Filter")[2]


def test_a_time_that_is_none_is_said_and_what_was_typed_stays(board: Board) -> None:
    answer = board.browser("Otto").get("/audit?since=yesterday&actor=Bo")
    assert answer.status_code == 422
    assert "From: expected a time such as 2026-11-21T12:00 (UTC), found 'yesterday'" in words(answer)
    assert 'value="Bo"' in answer.text


def test_exported_json_lines_recompute_to_the_head(board: Board) -> None:
    many_lines(board, 1500)
    browser = board.browser("Otto")
    answer = browser.get("/audit/export.jsonl")
    assert answer.headers["content-disposition"] == 'attachment; filename="commonlens-audit.jsonl"'
    before, count = FIRST_HASH, 0
    for text in answer.text.splitlines():
        line = json.loads(text)
        found = line.pop("hash")
        assert line["prev_hash"] == before and digest_of(line) == found
        before, count = found, count + 1
    page = browser.get("/audit")
    assert count > 1500 and f'title="{before}"' in page.text


def test_an_export_has_only_what_the_filter_lets_through(board: Board) -> None:
    many_lines(board, 3)
    answer = board.browser("Otto").get("/audit/export.csv?actor=Bo")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["subject"] for row in rows] == ["sha256:0", "sha256:1", "sha256:2"]
    assert json.loads(rows[2]["detail"]) == {"n": 2}


def test_a_cell_that_a_spreadsheet_would_run_is_text(board: Board) -> None:
    with writing(board.room.engine) as connection:
        append(connection, board.room.clock, "=cmd()", "x", "@sum", {})
    row = next(csv.DictReader(io.StringIO(board.browser("Otto").get("/audit/export.csv?actor=cmd").text)))
    assert (row["actor"], row["subject"]) == ("'=cmd()", "'@sum")


def test_verifying_says_how_many_lines_hold_or_which_one_breaks(board: Board) -> None:
    browser = board.browser("Otto")
    said = words(browser.get("/audit/verify"))
    assert "lines hold together" in said and "nobody has countersigned yet" in said
    assert "North" in said and "not yet" in said
    with writing(board.room.engine) as connection:
        connection.exec_driver_sql("UPDATE audit_events SET actor = 'nobody' WHERE seq = 2")
    said = words(browser.get("/audit/verify"))
    assert "broken" in said and "The audit log is broken at line 2" in said


def test_on_a_broken_chain_no_countersignature_counts_and_nothing_holds_in_place(board: Board) -> None:
    countersigned(board)
    browser = board.browser("Otto")
    said = words(browser.get("/audit/verify"))
    assert "every countersignature holds" in said and "lines stand under" in said and "Kept elsewhere" in said
    with writing(board.room.engine) as connection:
        connection.exec_driver_sql("UPDATE audit_events SET actor = 'nobody' WHERE seq = 2")
    page = browser.get("/audit/verify")
    said = words(page)
    assert "broken at line 2" in said and "A countersignature counts only while the chain holds" in said
    for wrong in ("every countersignature holds", "lines stand under", "Kept elsewhere"):
        assert wrong not in said
    assert "state good" not in page.text


def test_a_bad_signature_is_not_called_a_line_that_the_log_lost(board: Board) -> None:
    countersigned(board)
    with writing(board.room.engine) as connection:
        connection.execute(audit_countersignatures.update().values(signature="0" * 128))
    said = words(board.browser("Otto").get("/audit/verify"))
    assert "countersignatures of 1 of 1 members do not hold" in said and "signature does not verify" in said
    assert "does not have any more" not in said and "signed something else" not in said


def test_an_account_that_is_named_like_an_id_shows_under_its_own_name(board: Board) -> None:
    board.room.accounts.create("Mallory", Role.ADMIN, PASSWORD, "operator")
    victim = board.room.accounts.id_of("Mallory")
    with writing(board.room.engine) as connection:
        append(connection, board.room.clock, f"account:{victim}", "plan.proposed", "x")
        append(connection, board.room.clock, f"account:{board.member.member_id}", "plan.proposed", "y")
        append(connection, board.room.clock, f"member:{board.member.member_id}", "plan.consent", "z")
    page = board.browser("Otto").get("/audit?action=plan.").text
    assert victim in page and "Mallory" not in page and board.member.member_id in page
    assert page.count("North") == 1


def test_a_member_does_not_see_the_log(board: Board) -> None:
    for path in ("/audit", "/audit/verify", "/audit/export.csv", "/audit/export.jsonl"):
        assert board.browser().get(path).status_code == 303


def test_the_log_shows_what_people_wrote_as_text(board: Board) -> None:
    with writing(board.room.engine) as connection:
        append(
            connection, board.room.clock, "account:<b>x", "a.b", "<script>1</script>", {"n": "<img src=x>"}
        )
    text = board.browser("Otto").get("/audit").text
    assert "<script>1" not in text and "<img src=x>" not in text and "&lt;img src=x&gt;" in text
