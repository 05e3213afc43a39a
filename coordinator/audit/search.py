"""Find lines of the audit log: by who, what, on what and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from coordinator.audit.acts import AROUND_ACTS
from coordinator.audit.log import AuditEvent, event_of
from coordinator.storage.tables import accounts, audit_events, members
from shared.domain.clock import to_text
from shared.domain.errors import InvalidMessage


@dataclass(frozen=True)
class Wanted:
    """Which lines somebody looks for. Everything that is given has to fit; times are texts of `to_text`."""

    actor: str = ""
    """A part of it, or of the name of the member that it is."""
    action: str = ""
    """How it begins: `member.` for all that happened to members."""
    subject: str = ""
    """A part of it, or of the name of the member or account that it is."""
    since: str = ""
    until: str = ""
    without_forms: bool = False
    """Leave out the lines that say that a form or a request was sent and done."""

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """As SQL. What somebody typed is never a pattern."""
        column, found = audit_events.c, []
        if self.actor:
            acted = column.actor.in_(_named(members, self.actor, "member:"))
            found.append(acted | column.actor.icontains(self.actor, autoescape=True))
        if self.action:
            found.append(column.action.istartswith(self.action, autoescape=True))
        if self.subject:
            known = [column.subject.in_(_named(table, self.subject)) for table in (members, accounts)]
            found.append(sa.or_(column.subject.icontains(self.subject, autoescape=True), *known))
        if self.since:
            found.append(column.at >= self.since)
        if self.until:
            found.append(column.at <= self.until)
        if self.without_forms:
            found.append(column.action.not_in(AROUND_ACTS))
        return found


def _named(table: sa.Table, typed: str, before: str = "") -> sa.Select[tuple[str]]:
    """The ids of those whose name has this part, each behind `before`: lines hold ids, and pages show names."""
    return sa.select(sa.literal(before) + table.c.id).where(table.c.name.icontains(typed, autoescape=True))


def find(
    connection: sa.Connection,
    wanted: Wanted,
    *,
    after: int = 0,
    before: int | None = None,
    limit: int = 100,
    newest_first: bool = False,
) -> list[AuditEvent]:
    """Lines that fit `wanted` with numbers above `after` and below `before`, at most `limit`."""
    query = sa.select(audit_events).where(audit_events.c.seq > after, *wanted.conditions()).limit(limit)
    if before is not None:
        query = query.where(audit_events.c.seq < before)
    order = audit_events.c.seq.desc() if newest_first else audit_events.c.seq
    return [event_of(row) for row in connection.execute(query.order_by(order))]


def of_member(connection: sa.Connection, member_id: str, limit: int) -> list[AuditEvent]:
    """The newest lines about a member and of what it did, newest first; without those around each request."""
    column = audit_events.c
    mine = (column.subject == member_id) | (column.actor == f"member:{member_id}")
    query = sa.select(audit_events).where(mine, column.action.not_in(AROUND_ACTS))
    return [event_of(row) for row in connection.execute(query.order_by(column.seq.desc()).limit(limit))]


def wanted(
    actor: str = "",
    action: str = "",
    subject: str = "",
    since: str = "",
    until: str = "",
    without_forms: bool = False,
) -> Wanted:
    """`Wanted` from what somebody typed. Raises InvalidMessage for a time that is none, or for unprintable text."""
    who, what, on = actor.strip(), action.strip(), subject.strip()
    if not (who + what + on).isprintable():
        raise InvalidMessage(
            "A text to look for has characters that cannot be printed. Nothing was looked for. Type it anew."
        )
    return Wanted(who, what, on, _moment("From", since), _moment("To", until, end=True), without_forms)


def _moment(name: str, text: str, end: bool = False) -> str:
    """A text of `to_text`. An end without seconds includes its whole minute, without a time its whole day."""
    if not text.strip():
        return ""
    whole = {len("2026-11-21"): timedelta(days=1), len("2026-11-21T12:00"): timedelta(minutes=1)}
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment.replace(tzinfo=moment.tzinfo or UTC)
        if end:
            moment += whole.get(len(text.strip()), timedelta(seconds=1)) - timedelta(seconds=1)
        return to_text(moment)
    except (ValueError, OverflowError) as error:
        raise InvalidMessage(
            f"{name}: expected a time such as 2026-11-21T12:00 (UTC), found {text[:40]!r}. Nothing was looked for. "
            "Correct it."
        ) from error


def recent_actions(connection: sa.Connection, lines: int = 2000) -> list[str]:
    """What happened lately, each once: suggestions for a filter."""
    newest = sa.select(audit_events.c.action).order_by(audit_events.c.seq.desc()).limit(lines).subquery()
    return sorted(connection.execute(sa.select(newest.c.action).distinct()).scalars())
