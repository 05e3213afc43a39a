"""One contract for every store, on every database: SQLite always, PostgreSQL where a URL is given."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from coordinator.audit.log import append, entries, verify_chain
from coordinator.members.accounts import Account, find_account, find_account_by_id, insert_account
from coordinator.members.invitations import insert_invitation, spend_invitation
from coordinator.members.store import (
    every_member,
    find_by_identity_key,
    find_member,
    insert_member,
    lock_member,
    set_node,
    set_state,
)
from coordinator.members.tokens import TokenKind, find_token, issue_token, revoke_tokens
from coordinator.storage import tables
from coordinator.storage.database import migrate, reading, writing
from coordinator.storage.tables import metadata, rounds, runs
from shared.domain.clock import FixedClock, from_text
from shared.domain.consortium import Member, MemberState, Node, Purpose, Role
from shared.domain.errors import AlreadyExists, InvitationRejected
from shared.domain.ids import InvitationId, MemberId
from shared.domain.invitation import Invitation, hash_secret
from tests.desk import Desk, enrolment, open_desk, prepare_home

NOW = "2026-11-21T12:00:00Z"


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(from_text(NOW))


def member(number: int, name: str = "", state: MemberState = MemberState.ACTIVE) -> Member:
    return Member(
        id=MemberId(f"mem_{number:012x}"),
        name=name or f"Member {number}",
        purpose=Purpose.CONTRIBUTE,
        state=state,
        identity_public_key=f"{number:064x}",
        declared_size=10**11,
        node=Node(f"pem {number}", "cpu", "0.1.0"),
        enrolled_at=NOW,
    )


def test_migrations_and_tables_agree(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_migrations_can_be_undone(engine: sa.Engine, url: str) -> None:
    import alembic.command
    import alembic.config

    config = alembic.config.Config()
    folder = Path(tables.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.downgrade(config, "base")
    assert sa.inspect(engine).get_table_names() == ["alembic_version"]
    migrate(engine)


def test_a_member_is_read_back_as_it_was_written(engine: sa.Engine) -> None:
    with writing(engine) as connection:
        insert_member(connection, member(1))
        insert_member(connection, member(2))
    with reading(engine) as connection:
        assert find_member(connection, member(1).id) == member(1)
        assert find_by_identity_key(connection, member(2).identity_public_key) == member(2)
        assert find_member(connection, "mem_none") is None
        assert every_member(connection) == [member(1), member(2)]


def test_a_members_state_and_node_change_alone(engine: sa.Engine) -> None:
    with writing(engine) as connection:
        insert_member(connection, member(1))
        set_node(connection, member(1).id, "cuda: H100", "0.2.0")
        set_state(connection, member(1).id, MemberState.SUSPENDED)
    with writing(engine) as connection:
        found = lock_member(connection, member(1).id)
        assert found.state is MemberState.SUSPENDED and found.node.device == "cuda: H100"
        assert found.node.node_public_key_pem == "pem 1"
        assert every_member(connection, MemberState.ACTIVE) == []


@pytest.mark.parametrize(
    "second",
    [
        member(2, name="Member 1"),
        Member(**{**member(2).__dict__, "identity_public_key": member(1).identity_public_key}),
        Member(**{**member(2).__dict__, "node": member(1).node}),
    ],
    ids=["name", "identity key", "node key"],
)
def test_names_and_keys_are_unique(engine: sa.Engine, second: Member) -> None:
    with writing(engine) as connection:
        insert_member(connection, member(1))
    with pytest.raises(AlreadyExists, match="already enrolled"), writing(engine) as connection:
        insert_member(connection, second)


def test_a_revoked_members_name_is_free(engine: sa.Engine) -> None:
    with writing(engine) as connection:
        insert_member(connection, member(1, "North", MemberState.REVOKED))
        insert_member(connection, member(2, "North", MemberState.REVOKED))
        insert_member(connection, member(3, "North"))


def test_an_account_is_read_back_as_it_was_written(engine: sa.Engine) -> None:
    account = Account("acc_1", "ada", Role.AUDITOR, True, NOW)
    with writing(engine) as connection:
        insert_account(connection, account, "hash")
    with reading(engine) as connection:
        assert find_account(connection, "ada") == (account, "hash")
        assert find_account_by_id(connection, "acc_1") == account
        assert find_account(connection, "Ada") is None
    with pytest.raises(AlreadyExists), writing(engine) as connection:
        insert_account(connection, account, None)


def test_a_token_is_found_by_its_text_alone_and_stops_when_revoked(
    engine: sa.Engine, clock: FixedClock
) -> None:
    with writing(engine) as connection:
        forever, _ = issue_token(connection, clock, "mem_1", TokenKind.MEMBER, None)
        short, expires_at = issue_token(connection, clock, "acc_1", TokenKind.ACCOUNT, 60)
        assert expires_at == "2026-11-21T12:01:00Z"
    with writing(engine) as connection:
        assert find_token(connection, forever).valid(clock)  # type: ignore[union-attr]
        assert find_token(connection, hash_secret(forever)) is None
        clock.advance(60)
        assert not find_token(connection, short).valid(clock)  # type: ignore[union-attr]
        assert revoke_tokens(connection, clock, owner_id="mem_1") == 1
        assert revoke_tokens(connection, clock, owner_id="mem_1") == 0
        assert not find_token(connection, forever).valid(clock)  # type: ignore[union-attr]


def test_of_many_who_spend_one_invitation_one_gets_through(engine: sa.Engine, clock: FixedClock) -> None:
    invitation = Invitation(
        InvitationId("inv_1"), "North", Purpose.USE, hash_secret("s"), "2026-11-21T13:00:00Z", None
    )
    with writing(engine) as connection:
        insert_invitation(connection, invitation, "operator", NOW)
    through: list[Invitation] = []
    together = threading.Barrier(4)

    def spend() -> None:
        together.wait()
        try:
            with writing(engine) as connection:
                found = spend_invitation(connection, clock, "s")
            through.append(found)
        except InvitationRejected:
            pass

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(found.id, found.spent_at) for found in through] == [("inv_1", NOW)]


def test_an_audit_chain_written_by_many_at_once_holds(engine: sa.Engine, clock: FixedClock) -> None:
    def write(number: int) -> None:
        for step in range(4):
            with writing(engine) as connection:
                append(connection, clock, f"account:{number}", "test", "x", {"step": step, "ratio": 0.1})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reading(engine) as connection:
        assert verify_chain(connection).seq == 16
        assert entries(connection, limit=1)[0].detail["ratio"] == 0.1


def test_a_rounds_lists_and_numbers_are_read_back_exactly(engine: sa.Engine) -> None:
    with writing(engine) as connection:
        connection.execute(
            tables.plans.insert().values(
                digest="sha256:p",
                body="{}",
                state="active",
                proposed_by="a",
                proposed_at=NOW,
                starting_weights="w",
            )
        )
        connection.execute(
            runs.insert().values(
                id="run_1", plan_digest="sha256:p", state="running", created_at=NOW, updated_at=NOW
            )
        )
        connection.execute(
            rounds.insert().values(
                run_id="run_1",
                number=1,
                attempt=1,
                state="opened",
                opened_at=NOW,
                cohort=["mem_1", "mem_2"],
                contributors=[],
                missing={"mem_2": "did not answer"},
                seconds={"train": 0.1},
                counts_correct=1 / 3,
                bytes_up=2**40,
            )
        )
    with reading(engine) as connection:
        row = connection.execute(sa.select(rounds)).one()
        assert (row.cohort, row.missing, row.seconds) == (
            ["mem_1", "mem_2"],
            {"mem_2": "did not answer"},
            {"train": 0.1},
        )
        assert (row.counts_correct, row.counts_wrong, row.bytes_up, row.note) == (1 / 3, None, 2**40, "")


def test_the_whole_desk_works(url: str, tmp_path: Path) -> None:
    prepare_home(tmp_path / "home")
    desk: Desk = open_desk(tmp_path / "home", database_url=url)
    admin = desk.client(desk.person(Role.ADMIN))
    secret = admin.post("/invitations", json={"member_name": "North"}).json()["secret"]
    reply = desk.client().post("/enrolments", json=enrolment(secret).model_dump()).json()
    assert admin.post(f"/members/{reply['member_id']}/suspend").json()["state"] == "suspended"
    assert desk.client(reply["token"]).get("/roll").json()["code"] == "not-trusted.revoked"
    assert admin.get("/audit").json()["intact"]
    desk.room.engine.dispose()
