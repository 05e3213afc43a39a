"""Signing in, by a password and a second factor or by a link of a member's node, and signing out."""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from coordinator.dashboard.frame import page, then
from coordinator.dashboard.gate import Seeing, gate
from coordinator.dashboard.sessions import (
    close_session,
    drop_state,
    end_session,
    keep_state,
    kept_state,
    local_path,
    open_session,
    quiet_viewer,
)
from coordinator.members.access import address_of, embedded_elsewhere, origin_of, room_of
from coordinator.members.accounts import Account
from coordinator.members.member_links import CODE_PREFIX
from shared.domain.errors import CommonlensError, NotAllowed, NotFound, SignInFailed, TooManyAttempts
from shared.wire.problems import to_problem

router = APIRouter(dependencies=[Depends(gate)])
Text = Annotated[str, Form(max_length=200)]
HALF_WAY = "__Host-half-way"
"""A right password of an account that also has a second factor: no session yet."""
HALF_WAY_S = 300.0
_CODE = re.compile(CODE_PREFIX + r"[\w-]{32}")


@router.get("/sign-in")
def sign_in_page(request: Request, next: str = "/") -> Response:
    """A name and a password."""
    return sign_in_form(request, next)


@router.post("/sign-in")
def sign_in(request: Request, name: Text = "", password: Text = "", next: Text = "/") -> Response:
    """Look at the password; attempts are counted by address and by name."""
    room = room_of(request)
    attempts, subject = room.sign_in_attempts, room.accounts.id_of(name)
    try:
        with attempts.attempt(address_of(request), "password", f"name:{name}", subject=subject):
            account = room.accounts.check_password(name, password)
    except (SignInFailed, TooManyAttempts) as error:
        return sign_in_form(request, next, error, name)
    if not room.accounts.second_factors.of(account.id).on:
        return signed_in(request, account, "password", next)
    answer = RedirectResponse("/sign-in/code", status_code=303)
    state = {"account": account.id, "stamp": account.stamp, "next": local_path(next)}
    keep_state(request, answer, HALF_WAY, state, HALF_WAY_S)
    return answer


@router.get("/sign-in/code")
def code_page(request: Request) -> Response:
    """The second step, for a browser that did the first."""
    if _half_way(request)[1] is None:
        return RedirectResponse("/sign-in", status_code=303)
    return page(request, "account/sign_in_code.html", problem="")


@router.post("/sign-in/code")
def sign_in_with_code(request: Request, code: Text = "") -> Response:
    """Look at the code; it opens once. Attempts are counted by address and by account."""
    room, (state, account) = room_of(request), _half_way(request)
    if account is None:
        error = SignInFailed("Your time for the code is over. You were not signed in. Begin again.")
        return sign_in_form(request, "/", error)
    try:
        with room.sign_in_attempts.attempt(
            address_of(request), "code", f"code:{account.id}", subject=account.id
        ):
            by = room.accounts.second_factors.check(account.id, code)
    except (SignInFailed, TooManyAttempts) as error:
        status = to_problem(error).status
        return page(request, "account/sign_in_code.html", status=status, problem=error.message)
    answer = signed_in(request, account, f"password and {by}", state["next"])
    drop_state(answer, HALF_WAY)
    return answer


@router.get("/sign-in/member")
def member_page(request: Request, code: Annotated[str, Query(max_length=100)] = "") -> Response:
    """Whom a node's link signs in: said before anything happens, so that nobody is signed in unawares."""
    return _member_form(request, code)


@router.post("/sign-in/member")
def sign_in_member(request: Request, code: Text = "") -> Response:
    """Spend the link."""
    room = room_of(request)
    lifetime_s = room.config.limits.session_lifetime_s
    try:
        with room.sign_in_attempts.attempt(address_of(request), "link"):
            _, token = room.links.spend(code, lifetime_s, origin_of(request))
    except (SignInFailed, TooManyAttempts) as error:
        return _member_problem(request, error)
    answer = then(request, "/")
    end_session(request)
    open_session(answer, token, lifetime_s)
    return answer


@router.post("/sign-out")
def sign_out(request: Request, viewer: Seeing) -> Response:
    """Sign out, here and in the browser."""
    caller = viewer.caller
    room_of(request).accounts.sign_out(caller.token_id, caller.actor, caller.id)
    answer = then(request, "/sign-in")
    close_session(answer)
    return answer


def sign_in_form(
    request: Request, next: str, error: CommonlensError | None = None, name: str = ""
) -> Response:
    """The sign-in page, with what went wrong."""
    status = 200 if error is None else to_problem(error).status
    problem = "" if error is None else error.message
    elsewhere = room_of(request).oidc
    return page(
        request,
        "sign_in.html",
        status=status,
        next=local_path(next),
        problem=problem,
        name=name,
        elsewhere=elsewhere.label if elsewhere else "",
    )


def signed_in(request: Request, account: Account, by: str, next: str) -> Response:
    """Open a session of its own, in place of one that the browser may have had, and go on."""
    room = room_of(request)
    lifetime_s = room.config.limits.session_lifetime_s
    try:
        token, _ = room.accounts.open_session(account, lifetime_s, by, origin_of(request))
    except SignInFailed as error:
        return sign_in_form(request, next, error)
    answer = then(request, local_path(next))
    end_session(request)
    open_session(answer, token, lifetime_s)
    return answer


def _half_way(request: Request) -> tuple[dict[str, Any], Account | None]:
    """(what the first step kept, whose it was); nobody's when its time is over or the password changed since."""
    state = kept_state(request, HALF_WAY) or {}
    try:
        account = room_of(request).accounts.find(state.get("account", ""))
    except NotFound:
        return state, None
    return state, account if account.stamp == state["stamp"] else None


def _member_form(request: Request, code: str) -> Response:
    room = room_of(request)
    # Any page can make a browser come here: such visits must not use up what signing in by a password has.
    attempt = room.sign_in_attempts.attempt(address_of(request), "link", apart=True)
    try:
        if embedded_elsewhere(request):
            raise NotAllowed(
                "The link was opened inside another site's page. You were not signed in. Open it alone."
            )
        with attempt if _CODE.fullmatch(code) else nullcontext():
            member = room.links.whose(code)
    except (SignInFailed, TooManyAttempts, NotAllowed) as error:
        return _member_problem(request, error)
    before = quiet_viewer(request)
    return page(
        request,
        "account/sign_in_member.html",
        problem="",
        member=member,
        code=code,
        before=before.caller.name if before and before.caller.id != member.id else "",
    )


def _member_problem(request: Request, error: CommonlensError) -> Response:
    status = to_problem(error).status
    return page(request, "account/sign_in_member.html", status=status, problem=error.message, member=None)
