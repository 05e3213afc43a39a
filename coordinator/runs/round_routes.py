"""The HTTP face of rounds: one round whole; what happened, after an id, or as a stream that goes on from one.

An auditor's or admin's token sees all of a run, a member's only what is about the round or about itself.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from coordinator.members.access import Caller, caller_of, require_anyone, room_of
from coordinator.members.open_streams import limited
from coordinator.runs.history import MOST_EVENTS, StoredEvent, attempts_of, events
from shared.domain.consortium import Role
from shared.domain.errors import CommonlensError, NotFound
from shared.domain.strict import to_plain

router = APIRouter(prefix="/api/v1/runs/{run_id}")
LEAST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0
"""Also without news the stream looks whether its token still holds."""
LARGEST_ID = 2**63 - 1
LARGEST_NUMBER = 2**31 - 1

Json = dict[str, Any]
Number = Annotated[int, Path(ge=1, le=LARGEST_NUMBER)]
Anybody = Annotated[Caller, Depends(require_anyone)]
Id = Annotated[str, Path(max_length=40)]
After = Annotated[int, Query(ge=0, le=LARGEST_ID)]
Limit = Annotated[int, Query(ge=1, le=MOST_EVENTS)]
LastSeen = Annotated[str, Header(alias="Last-Event-ID", max_length=20, pattern=r"^[0-9]{0,18}$")]


@router.get("/rounds/{number}")
def show_round(request: Request, who: Anybody, run_id: Id, number: Number) -> Json:
    """Every attempt at one round, with the digest and the signature of each contribution."""
    _require_run(request, run_id)
    found = attempts_of(room_of(request).engine, run_id, number)
    if not found:
        raise NotFound(f"This run has no round {number} so far. List the run's rounds.")
    return {"attempts": [rendered_round(who, attempt) for attempt in found]}


def rendered_round(who: Caller, row: Json) -> Json:
    """A round as stored, with the error bar of its noised counts (clause 6.2); of the members' own words and of
    their contributions, a member reads its own; of the note, which may name a member, nothing."""
    counts = {name: row.pop(f"counts_{name}") for name in ("correct", "wrong", "noise_std")}
    if who.role is Role.MEMBER:
        for name in ("missing", "contributions"):
            row = row | ({name: _own(who, row[name])} if name in row else {})
        row = row | ({"note": ""} if "note" in row else {})
    return row | {"validation": None if counts["correct"] is None else counts}


def _own(who: Caller, by_member: Json) -> Json:
    return {member_id: value for member_id, value in by_member.items() if member_id == who.id}


@router.get("/events")
def list_events(request: Request, who: Anybody, run_id: Id, after: After = 0, limit: Limit = 200) -> Json:
    """What happened in the rounds of a run after the event with the id `after`, oldest first."""
    _require_run(request, run_id)
    found = events(room_of(request).engine, run_id, after, limit)
    return {"events": [_rendered(one) for one in _seen_by(who, found)], "last": _last(found, after)}


@router.get("/events/stream")
def follow_events(
    request: Request, who: Anybody, run_id: Id, after: After = 0, last_event_id: LastSeen = ""
) -> Response:
    """The same as server-sent events, and then whatever happens; goes on after the header Last-Event-ID."""
    _require_run(request, run_id)
    start = int(last_event_id) if last_event_id else after
    told: dict[str, Any] = {"media_type": "text/event-stream", "headers": {"Cache-Control": "no-store"}}
    if request.method == "HEAD":
        return Response(**told)
    return StreamingResponse(limited(who.token_id, _stream(request, run_id, start)), **told)


async def _stream(request: Request, run_id: str, after: int) -> AsyncGenerator[str, None]:
    pulse, engine = request.app.state.pulse, room_of(request).engine
    access, checked = -1, -math.inf
    yield "retry: 1000\n\n"
    while True:
        seen = pulse.count
        try:
            if pulse.access != access or time.monotonic() - checked >= LONGEST_PAUSE_S:
                access, checked = pulse.access, time.monotonic()
                who = await run_in_threadpool(
                    caller_of, request
                )  # a token that was revoked sees nothing more
            found = await run_in_threadpool(events, engine, run_id, after)
        except CommonlensError:
            return
        after = _last(found, after)
        lines = [_line(one) for one in _seen_by(who, found)]
        yield "".join(lines) or ": nothing new\n\n"
        if len(found) < MOST_EVENTS:
            await asyncio.sleep(LEAST_PAUSE_S)
            await pulse.wait(seen, LONGEST_PAUSE_S)


def _line(one: StoredEvent) -> str:
    return f"id: {one.id}\nevent: {one.event.kind}\ndata: {json.dumps(_rendered(one))}\n\n"


def _rendered(one: StoredEvent) -> Json:
    plain = {"id": one.id, "number": one.number, "attempt": one.attempt}
    rendered: Json = plain | to_plain(one.event)
    return rendered


def _seen_by(who: Caller, found: list[StoredEvent]) -> list[StoredEvent]:
    if who.role is not Role.MEMBER:
        return found
    seen = ((one, one.event.seen_by_member(who.id)) for one in found)
    return [replace(one, event=event) for one, event in seen if event is not None]


def _last(found: list[StoredEvent], after: int) -> int:
    return found[-1].id if found else after


def _require_run(request: Request, run_id: str) -> None:
    request.app.state.runs.store.run(run_id)
