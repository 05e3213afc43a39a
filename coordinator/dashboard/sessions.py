"""Who looks at a page: a cookie with a token of the same kind as the API's, and a proof against forged forms.

The cookie is made at sign-in and never taken from a request, so a session cannot be fixed beforehand. Its prefix
`__Host-` makes browsers keep it to this very host, to TLS, and out of reach of other paths (RFC 6265bis, 4.1.3).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request
from starlette.responses import Response

from coordinator.members.access import Caller, caller_with, room_of
from coordinator.members.tokens import TokenUse
from shared.domain.clock import to_text
from shared.domain.errors import CommonlensError, NotAllowed, SignInFailed

COOKIE = "__Host-commonlens"
PROOF_FIELD = "proof"
_FROM_HERE = ("same-origin", "none")


@dataclass(frozen=True)
class Viewer:
    """Whoever holds the session of a request."""

    caller: Caller
    proof: str
    """What every form carries that its pages send (a synchroniser token, derived from the cookie's)."""


def viewer_of(request: Request) -> Viewer:
    """Raises SignInFailed without a valid session; Revoked for a member that was shut out."""
    token = request.cookies.get(COOKIE, "")
    if not token:
        raise SignInFailed("This page needs a session, and there is none. Nothing was done. Sign in first.")
    caller = caller_with(room_of(request), token)
    if caller.use is not TokenUse.SESSION:
        raise SignInFailed("A token for programs opens no page. Nothing was done. Sign in.")
    return Viewer(caller, form_proof(token))


def form_proof(token: str) -> str:
    """A text that only pages opened with `token` show; the token cannot be computed back from it."""
    return hashlib.sha256(b"commonlens:form\0" + token.encode()).hexdigest()


def check_sender(request: Request) -> None:
    """Raise NotAllowed for a form that a browser says came from another site.

    Browsers that do not send Sec-Fetch-Site send Origin with every form; what sends neither is no browser, and has
    nobody's cookies. Holds for signing in too: nobody is to be signed in as somebody else without noticing.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    here = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if site not in _FROM_HERE if site is not None else not here:
        raise NotAllowed("This form was sent from another site. Nothing was done. Open the page here.")


def check_proof(viewer: Viewer, sent: object) -> None:
    """Raise NotAllowed unless the form came from a page of this very session."""
    if not isinstance(sent, str) or not hmac.compare_digest(sent.encode(), viewer.proof.encode()):
        raise NotAllowed(
            "This form does not belong to your session. Nothing was done. Load the page again and repeat it."
        )


def open_session(response: Response, token: str, lifetime_s: float) -> None:
    """Put the session into the browser."""
    response.set_cookie(
        COOKIE, token, max_age=int(lifetime_s), path="/", secure=True, httponly=True, samesite="lax"
    )


def end_session(request: Request) -> None:
    """End the session that this browser has, if it has one: another one takes its place."""
    viewer = quiet_viewer(request)
    if viewer is not None:
        caller = viewer.caller
        room_of(request).accounts.sign_out(caller.token_id, caller.actor, caller.id)


def close_session(response: Response) -> None:
    """Take it out again."""
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")


def keep_state(request: Request, response: Response, name: str, value: dict[str, Any], for_s: float) -> None:
    """Give a state of several steps to this browser alone: sealed, for a short time, for one purpose."""
    room = room_of(request)
    until = to_text(room.clock.now() + timedelta(seconds=for_s))
    text = room.seal.close(name, {"until": until, "value": value})
    response.set_cookie(name, text, max_age=int(for_s), path="/", secure=True, httponly=True, samesite="lax")


def kept_state(request: Request, name: str) -> dict[str, Any] | None:
    """What `keep_state` gave to this browser, while its time lasts."""
    room = room_of(request)
    kept = room.seal.open(name, request.cookies.get(name, ""))
    if not isinstance(kept, dict) or kept["until"] <= to_text(room.clock.now()):
        return None
    value: dict[str, Any] = kept["value"]
    return value


def drop_state(response: Response, name: str) -> None:
    """Take it out of the browser."""
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")


def local_path(wanted: str) -> str:
    """Where to go after signing in: a path of this server, or the overview for anything else."""
    parts = urlsplit(wanted)
    plain = wanted.isprintable() and "\\" not in wanted and not wanted.startswith("//")
    return wanted if plain and wanted.startswith("/") and not (parts.scheme or parts.netloc) else "/"


def quiet_viewer(request: Request) -> Viewer | None:
    """`viewer_of`, or None where there is no session: for pages that anybody sees."""
    try:
        return viewer_of(request)
    except CommonlensError:
        return None
