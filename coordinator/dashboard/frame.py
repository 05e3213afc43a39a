"""What every page shares: the templates, the headers that keep strangers' code out, and errors that can be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.datastructures import URL
from starlette.responses import HTMLResponse, RedirectResponse, Response

from coordinator.dashboard import words
from coordinator.dashboard.exact_text import pieces
from coordinator.dashboard.rules import may, open_to_strangers
from coordinator.dashboard.sessions import PROOF_FIELD, Viewer, local_path, quiet_viewer
from coordinator.members.access import room_of
from shared.domain.errors import InvalidMessage
from shared.domain.privacy import REPORTED_DELTA
from shared.release.about import share_text
from shared.release.promise import alone_text
from shared.wire.problems import Problem

FOLDER = Path(__file__).parent
NOTICE_COOKIE = "__Host-notice"
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""Of every page. No inline script or style, no other host, no frame; `img-src` has no data: either."""
UNREADABLE = "This address or form cannot be read."
"""To people, in place of the tree's words about messages."""
NAVIGATION = (
    ("/", "Overview"),
    ("/members", "Members"),
    ("/plans", "Plans"),
    ("/runs", "Runs"),
    ("/extractors", "Extractors"),
    ("/privacy", "Privacy"),
    ("/audit", "Audit"),
)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "short": words.short,
        "epsilon": words.epsilon_words,
        "target": words.target,
        "said": words.said,
        "size": words.size,
        "duration": words.duration,
        "moment": words.moment,
        "short_digests": words.short_digests,
        "one_in": words.one_in,
        "pieces": pieces,
        "thousands": words.thousands,
        "share": share_text,
        "validation": words.validation,
    }
    environment.globals |= {"odds": words.odds, "ago": words.ago, "alone_text": alone_text}
    environment.globals["reported_delta"] = REPORTED_DELTA
    return environment


TEMPLATES = _environment()


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A whole page. `values` are what its own template shows; nothing of them is ever markup."""
    viewer: Viewer | None = getattr(request.state, "viewer", None) or quiet_viewer(request)
    own = {
        "notice": unquote(request.cookies.get(NOTICE_COOKIE, "")),
        "still": "still" in request.query_params,
        "held_still": _local(request.url.include_query_params(still="yes")),
        "let_go": _local(request.url.remove_query_params("still")),
    }
    text = TEMPLATES.get_template(template).render(_shared(request, viewer) | own | values)
    request.state.page_status = status
    answer = HTMLResponse(text, status_code=status, headers={**HEADERS, "Cache-Control": "no-store"})
    if NOTICE_COOKIE in request.cookies:
        answer.delete_cookie(NOTICE_COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    return answer


def part(request: Request, viewer: Viewer, template: str, **values: Any) -> str:
    """A part of a page as it arrives live: the same template that the whole page includes."""
    return TEMPLATES.get_template(template).render(_shared(request, viewer) | values)


def _shared(request: Request, viewer: Viewer | None) -> dict[str, Any]:
    room = room_of(request)
    public = room.config.public_releases
    allowed: Callable[[str, str], bool] = lambda method, path: (  # noqa: E731
        open_to_strangers(public, method, path) if viewer is None else may(viewer.caller.role, method, path)
    )
    return {
        "consortium": room.config.consortium,
        "viewer": viewer,
        "may": allowed,
        "proof": lambda: _proof(viewer),
        "navigation": [(path, name) for path, name in NAVIGATION if allowed("GET", path)],
        "here": request.url.path,
        "now": room.clock.now(),
    }


def _local(url: URL) -> str:
    return f"{url.path}?{url.query}" if url.query else url.path


def _proof(viewer: Viewer | None) -> Markup:
    """The field that every form of a session carries."""
    value = "" if viewer is None else viewer.proof
    return Markup('<input type="hidden" name="{}" value="{}">').format(PROOF_FIELD, value)


def then(request: Request, path: str, notice: str = "") -> RedirectResponse:
    """After a form: go to `path`, where `notice` is shown once. A reload does not send the form again."""
    answer = RedirectResponse(path, status_code=303, headers=dict(HEADERS))
    if notice:
        plain = "".join(c if c.isprintable() else " " for c in notice)[:300]
        answer.set_cookie(
            NOTICE_COOKIE,
            quote(plain),
            max_age=60,
            path="/",
            secure=True,
            httponly=True,
            samesite="lax",
        )
    return answer


def error_page(request: Request, problem: Problem) -> Response:
    """What went wrong, as a page: the tree's own words, and a way back."""
    title = UNREADABLE if problem.code == InvalidMessage.code else problem.title
    return page(request, "error.html", problem.status, problem=problem, title=title, back=_back(request))


def _back(request: Request) -> str:
    """Where the viewer came from, if that is another page of this address; else empty."""
    try:
        came = urlsplit(request.headers.get("referer", ""))
    except ValueError:
        return ""
    here = (request.url.scheme, request.url.netloc)
    elsewhere = (came.scheme, came.netloc) != here or came.path == request.url.path
    path = f"{came.path}?{came.query}" if came.query else came.path
    return "" if elsewhere or local_path(path) != path else path
