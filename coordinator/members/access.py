"""Who is asking, and may they: the one place where tokens become callers and roles are checked."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from coordinator.audit.acts import API, READING, Act, around
from coordinator.members.accounts import find_account_by_id
from coordinator.members.room import MembersRoom
from coordinator.members.store import find_member
from coordinator.members.tokens import Token, TokenKind, TokenUse, find_token
from coordinator.storage.database import reading
from shared.domain.consortium import Member, MemberState, Role
from shared.domain.errors import NotAllowed, Revoked, SignInFailed

MAXIMUM_TOKEN_CHARACTERS = 200
IPV6_NETWORK_BITS = 64
PEOPLE = (Role.ADMIN, Role.AUDITOR)
GUARDS: dict[Callable[..., Any], frozenset[Role]] = {}
"""Every dependency that checks who asks, and whom it lets through: coordinator/api_rules.py reads it route by route."""


@dataclass(frozen=True)
class Caller:
    """The person or member behind a request."""

    id: str
    name: str
    role: Role
    kind: TokenKind
    token_id: str
    use: TokenUse

    @property
    def actor(self) -> str:
        """How the audit log names the caller."""
        return f"account:{self.name}" if self.kind is TokenKind.ACCOUNT else f"member:{self.id}"


def room_of(request: Request) -> MembersRoom:
    """The services, from where the application keeps them."""
    room: MembersRoom = request.app.state.members
    return room


def caller_of(request: Request) -> Caller:
    """Whoever the Authorization header proves. Raises SignInFailed, or Revoked for a member shut out.

    The database is asked at every request, so that a suspension holds from its commit on.
    """
    text = token_sent(request)
    if not text:
        raise SignInFailed("This needs a token, and none was sent. Nothing was done. Sign in first.")
    return caller_with(room_of(request), text)


def token_sent(request: Request) -> str:
    """The token in the Authorization header as it stands there; empty where none was sent."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    return text if scheme.lower() == "bearer" else ""


def caller_with(room: MembersRoom, text: str) -> Caller:
    """Whoever this token proves, from a header or from a session's cookie. Raises as `caller_of`."""
    if len(text) > MAXIMUM_TOKEN_CHARACTERS:
        raise _not_valid()
    with reading(room.engine) as connection:
        token = find_token(connection, text)
        if token is not None and token.kind is TokenKind.MEMBER:
            member = find_member(connection, token.owner_id)
            return _member_caller(room, token, member)
        if token is not None and token.valid(room.clock):
            account = find_account_by_id(connection, token.owner_id)
            if account is not None:
                return Caller(account.id, account.name, account.role, token.kind, token.id, token.use)
    raise _not_valid()


def require(*roles: Role) -> Callable[[Request], AsyncIterator[Caller]]:
    """A dependency that lets only these roles through, and has what they change written down. Raises as `only`."""
    return written_down(only(*roles))


def only(*roles: Role) -> Callable[[Request], Caller]:
    """The same, with nothing written down: by itself for what changes nothing, however it is sent.

    Raises NotAllowed, and what `caller_of` raises.
    """
    needed = " or ".join(role.value for role in roles)

    def check(request: Request) -> Caller:
        caller = caller_of(request)
        if caller.role not in roles:
            raise NotAllowed(
                f"This needs the role {needed}; you have the role {caller.role.value}. Nothing was done. "
                "Ask an admin of the consortium."
            )
        return caller

    GUARDS[check] = frozenset(roles)
    return check


def written_down(check: Callable[[Request], Caller]) -> Callable[[Request], AsyncIterator[Caller]]:
    """The dependency `check` with an audit line before, and one after, whatever it lets through but reading."""

    async def guard(request: Request) -> AsyncIterator[Caller]:
        caller = await run_in_threadpool(check, request)
        if request.method in READING:
            yield caller
            return
        room = room_of(request)
        act = Act(API, caller.actor, caller.id, request.method, request.url.path)
        async with around(room.engine, room.clock, act):
            yield caller

    GUARDS[guard] = GUARDS[check]
    return guard


require_anyone = require(*Role)
"""A dependency that lets every signed-in person and every active member through."""


def require_member(request: Request) -> Caller:
    """A dependency that lets only a member's own node through: no person, and no browser of the member's either.

    What a node says of itself all day is not written down: the services write the lines that it is worth.
    """
    caller = caller_of(request)
    if caller.kind is not TokenKind.MEMBER or caller.use is not TokenUse.API:
        raise NotAllowed(
            "Only a member's own node may do this. Nothing was done. Do it with commonlens-participant."
        )
    return caller


_only_people = only(*PEOPLE)


def _only_person(request: Request) -> Caller:
    caller = _only_people(request)
    if caller.use is not TokenUse.SESSION:
        raise NotAllowed(
            "This needs a session that was opened by signing in, and a token for programs was sent. Nothing was done. "
            "Sign in."
        )
    return caller


GUARDS[require_member] = frozenset({Role.MEMBER})
GUARDS[_only_person] = frozenset(PEOPLE)
require_person = written_down(_only_person)
"""A dependency that lets people through who signed in; a token made for a program cannot make another one."""


_BROWSERS = (("Edg", "Edge"), ("Firefox", "Firefox"), ("Chrom", "Chrome"), ("Safari", "Safari"))
_SYSTEMS = ("Windows", "Android", "iPhone", "iPad", "Mac OS", "Linux")


def origin_of(request: Request) -> str:
    """Where a session is opened, for its owner to know it again: `Firefox on Linux, 203.0.113.5`."""
    agent = request.headers.get("user-agent", "")
    browser = next((name for mark, name in _BROWSERS if mark in agent), "A program")
    system = next((f" on {name}" for name in _SYSTEMS if name in agent), "")
    return f"{browser}{system}, {_host_of(request)}"[:200]


def address_of(request: Request) -> str:
    """The address that attempts are counted under; behind a proxy, the proxy's: no header speaks for another.

    Of IPv6 the network: whoever has one address there has 2⁶⁴ of them (RFC 6177).
    """
    host = _host_of(request)
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, IPV6_NETWORK_BITS), strict=False))


def embedded_elsewhere(request: Request) -> bool:
    """Whether a browser says that another site's page asks for this as an image, a frame or the like: by no click."""
    fetched = request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
    return fetched and request.headers.get("sec-fetch-dest", "document") != "document"


def _host_of(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _member_caller(room: MembersRoom, token: Token, member: Member | None) -> Caller:
    if member is not None and member.state is MemberState.PENDING:
        raise NotAllowed(
            "This member joined and waits for an admin's approval. Nothing was done. Its node may stay running; it "
            "is let in when an admin approves it."
        )
    if member is not None and member.state is not MemberState.ACTIVE:
        raise Revoked(
            f"This member's access is {member.state.value}. Nothing was done. Ask an admin of the consortium."
        )
    if member is None or not token.valid(room.clock):
        raise _not_valid()
    return Caller(member.id, member.name, Role.MEMBER, token.kind, token.id, token.use)


def _not_valid() -> SignInFailed:
    return SignInFailed(
        "The token is not valid or its time is over. Nothing was done. Sign in again; a token comes from the operator, "
        "by `commonlens-coordinator account token`."
    )
