"""HTTP for a person's own account, under /api/v1/account: what the account page shows and does."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request

from coordinator.members.access import PEOPLE, Caller, address_of, require, require_person, room_of
from coordinator.members.room import MembersRoom
from coordinator.members.tokens import Token
from shared.wire.account import (
    AccountView,
    CodeRequest,
    NewTokenReply,
    NewTokenRequest,
    PasswordRequest,
    RecoveryCodesReply,
    SecondFactorReply,
    SecondFactorRequest,
    TokenView,
)

router = APIRouter(prefix="/api/v1/account")
Room = Annotated[MembersRoom, Depends(room_of)]
Person = Annotated[Caller, Depends(require(*PEOPLE))]
SignedIn = Annotated[Caller, Depends(require_person)]
"""What a stolen token for programs must not do: make itself last."""


@router.get("")
def account(caller: Person, room: Room) -> AccountView:
    """Who one is, and every session and token that holds."""
    own, factor = room.own_tokens.of(caller.id), room.accounts.second_factors.of(caller.id)
    return AccountView(
        id=caller.id,
        name=caller.name,
        role=caller.role.value,
        second_factor=factor.on,
        recovery_codes_left=factor.recovery_codes_left,
        tokens=[_view(token, caller) for token in (*own.sessions, *own.api)],
    )


@router.post("/tokens", status_code=201)
def make_token(body: NewTokenRequest, caller: SignedIn, request: Request, room: Room) -> NewTokenReply:
    """A token for a program, shown this once; for more than 30 days the account's password is asked for."""

    def check_password() -> None:
        room.check_own_password(caller.id, caller.name, body.current, address_of(request))

    check = check_password if body.current else None
    token, expires_at = room.own_tokens.make(
        caller.id, caller.actor, body.name, body.lifetime_days, check, caller.token_id
    )
    return NewTokenReply(token=token, expires_at=expires_at)


@router.delete("/tokens/{token_id}", status_code=204)
def end_token(token_id: Annotated[str, Path(max_length=40)], caller: Person, room: Room) -> None:
    """End one session or token of one's own."""
    room.own_tokens.end(caller.id, caller.actor, token_id)


@router.post("/sessions/end-others", status_code=204)
def end_others(caller: SignedIn, room: Room) -> None:
    """End every session but the one that asks."""
    room.own_tokens.end_others(caller.id, caller.actor, caller.token_id)


@router.post("/password", status_code=204)
def change_password(body: PasswordRequest, caller: SignedIn, request: Request, room: Room) -> None:
    """Another password; every session and token of the account ends, the one that asks too."""
    with _password(room, request, caller):
        room.accounts.change_password(caller.id, body.current, body.password, caller.actor)


@router.post("/second-factor", status_code=201)
def set_up(body: SecondFactorRequest, caller: SignedIn, request: Request, room: Room) -> SecondFactorReply:
    """A new secret; it is asked for after its first code was confirmed."""
    room.check_own_password(caller.id, caller.name, body.current, address_of(request))
    factor = room.accounts.second_factors.begin(caller.id, caller.name, room.config.consortium)
    return SecondFactorReply(secret=factor.secret, uri=factor.uri)


@router.post("/second-factor/confirm")
def confirm(body: CodeRequest, caller: SignedIn, request: Request, room: Room) -> RecoveryCodesReply:
    """Turn it on by the first code; the recovery codes are shown this once."""
    with _code(room, request, caller):
        codes = room.accounts.second_factors.confirm(caller.id, body.code, caller.actor)
    return RecoveryCodesReply(recovery_codes=codes)


@router.post("/second-factor/remove", status_code=204)
def remove(body: CodeRequest, caller: SignedIn, request: Request, room: Room) -> None:
    """Turn it off, with a code of it."""
    with _code(room, request, caller):
        room.accounts.second_factors.check(caller.id, body.code)
    room.accounts.second_factors.remove(caller.id, caller.actor)


def _password(room: MembersRoom, request: Request, caller: Caller) -> AbstractContextManager[None]:
    return room.sign_in_attempts.attempt(
        address_of(request), "password", f"name:{caller.name}", subject=caller.id
    )


def _code(room: MembersRoom, request: Request, caller: Caller) -> AbstractContextManager[None]:
    return room.sign_in_attempts.attempt(address_of(request), "code", f"code:{caller.id}", subject=caller.id)


def _view(token: Token, caller: Caller) -> TokenView:
    return TokenView(
        id=token.id,
        use=token.use.value,
        name=token.name,
        created_at=token.created_at,
        expires_at=token.expires_at,
        this_one=token.id == caller.token_id,
    )
