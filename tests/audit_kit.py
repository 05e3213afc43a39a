"""A member that countersigns a desk's audit log over its API, and somebody who rewrites the log."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from coordinator.audit.log import FIRST_HASH, HEAD_KEY
from coordinator.storage.database import writing
from coordinator.storage.tables import audit_events, meta
from participant.audit_heads import countersign
from participant.enrol import read_link
from shared.domain.canonical import canonical_bytes, digest_of
from shared.wire.audit import AuditHead, CountersignatureRequest
from shared.wire.problems import raise_for_problem
from tests.desk import Desk, Web
from tests.roll_kit import Joined


@dataclass
class HeadOfDesk:
    """What a member's node asks the coordinator about its log."""

    web: Web
    lie: Callable[[AuditHead], AuditHead] = lambda head: head

    def audit_head(self, earlier: int) -> AuditHead:
        answer = self.web.get("/audit/head", params={"earlier": earlier})
        raise_for_problem(answer)
        return self.lie(AuditHead.model_validate(answer.json()))

    def send_countersignature(self, request: CountersignatureRequest) -> None:
        raise_for_problem(self.web.post("/audit/countersignatures", json=request.model_dump()))


def source_of(
    desk: Desk, member: Joined, lie: Callable[[AuditHead], AuditHead] = lambda head: head
) -> HeadOfDesk:
    """The desk's API with the member's own token."""
    return HeadOfDesk(desk.client(read_link(member.home.root).token), lie)


def sign_head(desk: Desk, member: Joined) -> None:
    """Once, as the member's node does it."""
    countersign(member.home, source_of(desk, member), desk.clock)


def rewrite(engine: sa.Engine, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """Change or take out lines and make every number, hash and the head right again, as somebody could who can
    write to the whole database."""
    with writing(engine) as connection:
        rows = [dict(row._mapping) for row in connection.execute(sa.select(audit_events).order_by("seq"))]
        connection.execute(audit_events.delete())
        seq, before = 0, FIRST_HASH
        for row in rows:
            kept = change(row)
            if kept is None:
                continue
            seq += 1
            fields = {name: value for name, value in kept.items() if name != "hash"}
            fields |= {"seq": seq, "prev_hash": before, "detail": json.loads(kept["detail"])}
            before = digest_of(fields)
            connection.execute(
                audit_events.insert().values(
                    kept | {"seq": seq, "prev_hash": fields["prev_hash"], "hash": before}
                )
            )
        head = canonical_bytes({"seq": seq, "hash": before}).decode()
        connection.execute(meta.update().where(meta.c.key == HEAD_KEY).values(value=head))
