"""The audit log: every change, who made it, and whether all of it is still as it was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response, StreamingResponse

from coordinator.audit.export import countersignature_lines, csv_lines, json_lines
from coordinator.audit.log import AuditEvent, read_head
from coordinator.audit.roll_keys import roll_key_of
from coordinator.audit.search import Wanted, find, recent_actions, wanted
from coordinator.audit.verification import verify_all
from coordinator.dashboard.frame import HEADERS, page
from coordinator.dashboard.gate import Seeing, gate
from coordinator.dashboard.rules import may
from coordinator.members.access import room_of
from coordinator.members.room import MembersRoom
from coordinator.storage.database import reading
from shared.domain.clock import to_text
from shared.domain.consortium import MemberState, Role
from shared.domain.errors import InvalidMessage

router = APIRouter(dependencies=[Depends(gate)])
LINES = 100
_PAGES_OF = (("mem_", "/members/{member_id}"), ("run_", "/runs/{run_id}"), ("sha256:", "/plans/{digest}"))


@dataclass(frozen=True)
class Looking:
    """The filter as it was typed: kept in the fields, in the links to other pages, and in the exports."""

    actor: Annotated[str, Query(max_length=120)] = ""
    action: Annotated[str, Query(max_length=60)] = ""
    subject: Annotated[str, Query(max_length=120)] = ""
    since: Annotated[str, Query(max_length=40)] = ""
    until: Annotated[str, Query(max_length=40)] = ""
    without_forms: bool = False

    def wanted(self) -> Wanted:
        """What to look for. Raises InvalidMessage."""
        return wanted(self.actor, self.action, self.subject, self.since, self.until, self.without_forms)

    def query(self, **more: int) -> str:
        """As the end of an address; empty where nothing is looked for."""
        given = {name: value for name, value in vars(self).items() if value} | more
        return f"?{urlencode(given)}" if given else ""


Filter = Annotated[Looking, Depends()]
Line = Annotated[int | None, Query(ge=0, le=2**53)]


@router.get("/audit")
def audit(
    request: Request, viewer: Seeing, looking: Filter, before: Line = None, after: Line = None
) -> Response:
    """A page of lines, newest first; `before` and `after` are line numbers."""
    room = room_of(request)
    problem, wanted_ = "", None
    try:
        wanted_ = looking.wanted()
    except InvalidMessage as error:
        problem = error.message
    with reading(room.engine) as connection:
        head, actions = read_head(connection), recent_actions(connection)
        events, newer, older = [], False, False
        if wanted_ is not None and after is not None:  # towards newer lines, from the line `after` on
            found = find(connection, wanted_, after=after, limit=LINES + 1)
            events, newer, older = found[:LINES][::-1], len(found) > LINES, True
        elif wanted_ is not None:
            found = find(connection, wanted_, before=before, limit=LINES + 1, newest_first=True)
            events, newer, older = found[:LINES], before is not None, len(found) > LINES
    return page(
        request,
        "audit/audit.html",
        status=422 if problem else 200,
        problem=problem,
        head=head,
        actions=actions,
        lines=_shown(room, events, viewer.caller.role),
        newer=newer and bool(events),
        older=older and bool(events),
        looking=looking,
    )


@router.get("/audit/verify")
def verify(request: Request) -> Response:
    """Recompute the chain and check the countersignatures: reads everything and changes nothing."""
    room = room_of(request)
    moment = to_text(room.clock.now())
    with reading(room.engine) as connection:
        found = verify_all(connection, roll_key_of(room))
    signed = {member.member_id for member in found.members}
    unsigned = [m for m in room.members.every() if m.state is MemberState.ACTIVE and m.id not in signed]
    unsigned.sort(key=lambda member: member.name.casefold())
    return page(request, "audit/verify.html", found=found, unsigned=unsigned, moment_of_check=moment)


@router.get("/audit/export.csv")
def export_csv(request: Request, looking: Filter) -> Response:
    """The lines that fit, for a spreadsheet."""
    found = csv_lines(room_of(request).engine, looking.wanted())
    return StreamingResponse(found, media_type="text/csv; charset=utf-8", headers=_file("audit.csv"))


@router.get("/audit/export.jsonl")
def export_json(request: Request, looking: Filter) -> Response:
    """The lines that fit, with everything that their hashes cover."""
    found = json_lines(room_of(request).engine, looking.wanted())
    return StreamingResponse(found, media_type="application/jsonl", headers=_file("audit.jsonl"))


@router.get("/audit/countersignatures.jsonl")
def export_countersignatures(request: Request) -> Response:
    """What members signed, to be kept where nobody can change it together with the log."""
    room = room_of(request)
    found = countersignature_lines(room.engine, roll_key_of(room))
    return StreamingResponse(found, media_type="application/jsonl", headers=_file("countersignatures.jsonl"))


def _file(name: str) -> dict[str, str]:
    return {
        **HEADERS,
        "Cache-Control": "no-store",
        "Content-Disposition": f'attachment; filename="commonlens-{name}"',
    }


def _shown(room: MembersRoom, events: list[AuditEvent], role: Role) -> list[dict[str, Any]]:
    """Lines with the names that their ids have today, and the pages of what they are about.

    Of actors, only members are named by an id; an account is named by its name, which may look like an id of another.
    """
    members = {m.id: m.name for m in room.members.every()}
    names = {a.id: a.name for a in room.accounts.every()} | members

    def shown(event: AuditEvent) -> dict[str, Any]:
        kind, _, who = event.actor.partition(":")
        subject = event.subject
        route = next((path for prefix, path in _PAGES_OF if subject.startswith(prefix)), "")
        link = f"{route.partition('{')[0]}{subject}" if may(role, "GET", route) else ""
        return {
            "event": event,
            "who": (members.get(who, who) if kind == "member" else who) or kind,
            "kind": kind if who else "",
            "subject": names.get(subject, ""),
            "link": link,
        }

    return [shown(event) for event in events]
