"""Signing in elsewhere: to the provider and back."""

from __future__ import annotations

from contextlib import nullcontext

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from coordinator.dashboard.frame import HEADERS
from coordinator.dashboard.gate import gate
from coordinator.dashboard.pages_session import sign_in_form, signed_in
from coordinator.dashboard.sessions import drop_state, keep_state, kept_state, local_path
from coordinator.members.access import address_of, embedded_elsewhere, room_of
from coordinator.members.oidc import RETURN_PATH, OidcSignIn
from shared.domain.errors import (
    InvalidConfig,
    NotAllowed,
    NotFound,
    SignInFailed,
    TooManyAttempts,
    Unreachable,
)

router = APIRouter(dependencies=[Depends(gate)])
BEGUN = "__Host-oidc"
BEGUN_S = 600.0
_SAID = (SignInFailed, NotAllowed, TooManyAttempts, Unreachable, InvalidConfig)


@router.get("/sign-in/oidc")
def to_provider(request: Request, next: str = "/") -> Response:
    """A plain link leads here, so no form of ours is ever sent to another host."""
    try:
        if embedded_elsewhere(request):
            raise NotAllowed(
                "This was asked for inside another site's page. You were not sent to the provider. Begin here."
            )
        with room_of(request).sign_in_attempts.attempt(address_of(request), "begin", apart=True):
            url, kept = _oidc(request).begin()
    except _SAID as error:
        return sign_in_form(request, next, error)
    answer = RedirectResponse(url, status_code=303, headers={**HEADERS, "Cache-Control": "no-store"})
    keep_state(request, answer, BEGUN, {"kept": kept, "next": local_path(next)}, BEGUN_S)
    return answer


@router.get(RETURN_PATH)
def from_provider(request: Request) -> Response:
    """Back again: what this browser began can be finished once, and only here."""
    oidc, state = _oidc(request), kept_state(request, BEGUN)
    room, next_ = room_of(request), state["next"] if state else "/"
    # Without a beginning nothing is asked of anybody, and any page can make a browser come here so.
    counted = (
        room.sign_in_attempts.attempt(address_of(request), "provider", apart=True) if state else nullcontext()
    )
    try:
        with counted:
            account = oidc.finish(state["kept"] if state else None, request.query_params)
        answer = signed_in(request, account, f"provider {oidc.label}", next_)
    except _SAID as error:
        answer = sign_in_form(request, next_, error)
    drop_state(answer, BEGUN)
    return answer


def _oidc(request: Request) -> OidcSignIn:
    oidc = room_of(request).oidc
    if oidc is None:
        raise NotFound("Nobody is signed in elsewhere here. Sign in with a name and a password.")
    return oidc
