"""A person's own account: sessions, tokens for programs, the password, the second factor.

What is shown once is drawn in the answer to its form: it stands in no address, no cookie and no later page.
"""

from __future__ import annotations

from typing import Annotated, Any

import segno
from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import Response

from coordinator.dashboard.frame import page, then
from coordinator.dashboard.gate import Seeing, gate
from coordinator.dashboard.sessions import Viewer, close_session, open_session
from coordinator.members.access import address_of, origin_of, room_of
from coordinator.members.accounts import Account
from coordinator.members.own_tokens import WITHOUT_PASSWORD_DAYS
from coordinator.members.totp import NewFactor
from shared.domain.errors import (
    AlreadyExists,
    CommonlensError,
    Invalid,
    InvalidMessage,
    NotFound,
    Refused,
    SignInFailed,
)

router = APIRouter(dependencies=[Depends(gate)])
Text = Annotated[str, Form(max_length=200)]
TOKEN_DAYS = (1, 7, 30, 90, 365)
_WRONG = (SignInFailed, Invalid, Refused, AlreadyExists)
"""What a person can put right in the form."""


@router.get("/account")
def account(request: Request, viewer: Seeing) -> Response:
    """Everything of one's own."""
    return _page(request, viewer)


@router.post("/account/sessions/end-others")
def end_other_sessions(request: Request, viewer: Seeing) -> Response:
    """End every session but this one."""
    caller = viewer.caller
    ended = room_of(request).own_tokens.end_others(caller.id, caller.actor, caller.token_id)
    return then(request, "/account", f"{ended} other session{'' if ended == 1 else 's'} ended.")


@router.post("/account/sessions/{token_id}/end")
def end_session(request: Request, viewer: Seeing, token_id: str) -> Response:
    """End one session; ending this one signs out."""
    _end(request, viewer, token_id)
    if token_id != viewer.caller.token_id:
        return then(request, "/account", "The session was ended.")
    answer = then(request, "/sign-in")
    close_session(answer)
    return answer


@router.post("/account/tokens")
def make_token(
    request: Request,
    viewer: Seeing,
    name: Text = "",
    days: Annotated[int, Form()] = WITHOUT_PASSWORD_DAYS,
    current: Text = "",
) -> Response:
    """A token for a program, shown in this answer and never again; a long one takes the password."""
    room, caller = room_of(request), viewer.caller

    def check_password() -> None:
        room.check_own_password(caller.id, caller.name, current, address_of(request))

    check = check_password if current else None
    try:
        token, _ = room.own_tokens.make(caller.id, caller.actor, name, days, check, caller.token_id)
    except _WRONG as error:
        return _page(request, viewer, error, "tokens", token_name=name, days=days)
    return _page(request, viewer, new_token=token, token_name=name)


@router.post("/account/tokens/{token_id}/revoke")
def revoke_token(request: Request, viewer: Seeing, token_id: str) -> Response:
    """A token stops at once."""
    _end(request, viewer, token_id)
    return then(request, "/account", "The token was revoked.")


@router.post("/account/password")
def change_password(
    request: Request, viewer: Seeing, current: Text = "", password: Text = "", again: Text = ""
) -> Response:
    """Another password; every session and token ends, and this browser gets a new session."""
    room, caller = room_of(request), viewer.caller
    try:
        if password != again:
            raise InvalidMessage(
                "The new password was typed in two different ways. Nothing was changed. Type it twice the same."
            )
        with room.sign_in_attempts.attempt(
            address_of(request), "password", f"name:{caller.name}", subject=caller.id
        ):
            changed = room.accounts.change_password(caller.id, current, password, caller.actor)
    except _WRONG as error:
        return _page(request, viewer, error, "password")
    lifetime_s = room.config.limits.session_lifetime_s
    token, _ = room.accounts.open_session(changed, lifetime_s, "change of password", origin_of(request))
    answer = then(request, "/account", "The password was changed. All other sessions and all tokens ended.")
    open_session(answer, token, lifetime_s)
    return answer


@router.post("/account/second-factor")
def set_up_second_factor(request: Request, viewer: Seeing, current: Text = "") -> Response:
    """A new secret for an authenticator app; it is asked for only after its first code was confirmed."""
    room, caller = room_of(request), viewer.caller
    try:
        room.check_own_password(caller.id, caller.name, current, address_of(request))
        factor = room.accounts.second_factors.begin(caller.id, caller.name, room.config.consortium)
    except _WRONG as error:
        return _page(request, viewer, error, "factor")
    return _page(request, viewer, new_factor=factor)


@router.post("/account/second-factor/confirm")
def confirm_second_factor(request: Request, viewer: Seeing, code: Text = "") -> Response:
    """Turn it on by the app's first code; the recovery codes are shown in this answer and never again."""
    room, caller = room_of(request), viewer.caller
    factors = room.accounts.second_factors
    try:
        with room.sign_in_attempts.attempt(
            address_of(request), "code", f"code:{caller.id}", subject=caller.id
        ):
            codes = factors.confirm(caller.id, code, caller.actor)
    except (*_WRONG, NotFound) as error:
        return _page(request, viewer, error, "factor")
    return _page(request, viewer, recovery_codes=codes)


@router.post("/account/second-factor/remove")
def remove_second_factor(request: Request, viewer: Seeing, code: Text = "") -> Response:
    """Turn it off, with a code of it."""
    room, caller = room_of(request), viewer.caller
    factors = room.accounts.second_factors
    try:
        with room.sign_in_attempts.attempt(
            address_of(request), "code", f"code:{caller.id}", subject=caller.id
        ):
            factors.check(caller.id, code)
        factors.remove(caller.id, caller.actor)
    except _WRONG as error:
        return _page(request, viewer, error, "factor")
    return then(request, "/account", "The second factor is off. Your password alone signs you in.")


def qr_path(text: str) -> tuple[int, str]:
    """(side in modules, SVG path of the dark ones): the modules alone come from the library, never markup."""
    matrix = segno.make(text, error="m").matrix
    runs = (f"M{x + 4} {y + 4}h1v1h-1z" for y, row in enumerate(matrix) for x, dark in enumerate(row) if dark)
    return len(matrix) + 8, "".join(runs)


def _end(request: Request, viewer: Viewer, token_id: str) -> None:
    caller = viewer.caller
    room_of(request).own_tokens.end(caller.id, caller.actor, token_id)


def _page(
    request: Request,
    viewer: Viewer,
    error: CommonlensError | None = None,
    wrong: str = "",
    *,
    new_factor: NewFactor | None = None,
    **shown_once: Any,
) -> Response:
    room, caller = room_of(request), viewer.caller
    own, account = room.own_tokens.of(caller.id), _account(request, viewer)
    facts: dict[str, Any] = {"new_token": "", "token_name": "", "recovery_codes": []}
    facts["days"] = WITHOUT_PASSWORD_DAYS
    if new_factor is not None:
        facts["qr"] = qr_path(new_factor.uri)
    return page(
        request,
        "account/account.html",
        status=200 if error is None else 422,
        problem="" if error is None else error.message,
        wrong=wrong,
        account=account,
        sessions=own.sessions,
        tokens=own.api,
        factor=room.accounts.second_factors.of(caller.id),
        factor_waits=room.accounts.second_factors.waits(caller.id),
        new_factor=new_factor,
        token_days=[d for d in TOKEN_DAYS if account.has_password or d <= WITHOUT_PASSWORD_DAYS],
        without_password_days=WITHOUT_PASSWORD_DAYS,
        **facts | shown_once,
    )


def _account(request: Request, viewer: Viewer) -> Account:
    try:
        return room_of(request).accounts.find(viewer.caller.id)
    except NotFound as error:
        raise SignInFailed("This account is gone. Nothing was done. Sign in with another.") from error
