"""The one check before every page and every form: session, role, origin, proof; and the audit lines around a form."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import quote

from fastapi import Depends, Request
from python_multipart.exceptions import FormParserError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.responses import RedirectResponse, Response

from coordinator.audit.acts import FORM, READING, Act, around
from coordinator.dashboard.frame import HEADERS
from coordinator.dashboard.rules import ANYBODY, CALCULATES, open_to_strangers, roles_of
from coordinator.dashboard.sessions import PROOF_FIELD, Viewer, check_proof, check_sender, viewer_of
from coordinator.members.access import room_of
from shared.domain.errors import InvalidMessage, NotAllowed, SignInFailed


class SignInNeeded(Exception):  # noqa: N818 - it is no error, it is a way to the sign-in page
    """A page was asked for without a session."""


async def gate(request: Request) -> AsyncIterator[None]:
    """Let through who may; every form that changes something leaves an audit line before it does, and one after.

    Raises SignInNeeded for a page without a session, SignInFailed for a form without one, NotAllowed.
    """
    path: str = request.scope["route"].path
    roles = roles_of(request.method, path)
    if request.method not in READING:
        check_sender(request)
    if roles == ANYBODY:
        yield
        return
    try:
        viewer = request.state.viewer = await run_in_threadpool(_viewer, request)
    except SignInNeeded:
        if not open_to_strangers(room_of(request).config.public_releases, request.method, path):
            raise
        request.state.viewer = None
        yield
        return
    if viewer.caller.role not in roles:
        raise NotAllowed(
            f"This needs the role {' or '.join(sorted(role.value for role in roles))}; you have the role "
            f"{viewer.caller.role.value}. Nothing was done. Ask an admin of the consortium."
        )
    if request.method in READING:
        yield
        return
    check_proof(viewer, (await _form(request)).get(PROOF_FIELD))
    if (request.method, path) in CALCULATES:
        yield
        return
    room, caller = room_of(request), viewer.caller
    act = Act(FORM, caller.actor, caller.id, request.method, request.url.path)
    async with around(room.engine, room.clock, act, lambda: _shown(request)):
        yield


async def _form(request: Request) -> FormData:
    try:
        return await request.form()
    except FormParserError as error:
        raise InvalidMessage("The form cannot be read. Nothing was done. Load the page again.") from error


def _viewer(request: Request) -> Viewer:
    try:
        return viewer_of(request)
    except SignInFailed as error:
        if request.method in READING:
            raise SignInNeeded from error
        raise


def _shown(request: Request) -> int:
    """400 or more where the page that has the form was shown again, with what is wrong."""
    status: int = getattr(request.state, "page_status", 200)
    return status


async def to_sign_in(request: Request, _error: Exception) -> Response:
    """Where a page without a session leads: to sign in, and from there back to the page."""
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/sign-in?next={quote(wanted)}", status_code=303, headers=dict(HEADERS))


def current_viewer(request: Request) -> Viewer:
    """The viewer that `gate` let through."""
    viewer: Viewer = request.state.viewer
    return viewer


def viewer_or_stranger(request: Request) -> Viewer | None:
    """The same on a page of PUBLIC_READS; None for a stranger."""
    viewer: Viewer | None = request.state.viewer
    return viewer


Seeing = Annotated[Viewer, Depends(current_viewer)]
Passing = Annotated[Viewer | None, Depends(viewer_or_stranger)]
