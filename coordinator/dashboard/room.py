"""The dashboard as one room of the coordinator: its routes, its static files, its errors."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.dashboard import (
    pages_account,
    pages_audit,
    pages_difference,
    pages_extractors,
    pages_library,
    pages_members,
    pages_oidc,
    pages_overview,
    pages_plan_form,
    pages_plans,
    pages_privacy,
    pages_runs,
    pages_session,
)
from coordinator.dashboard.frame import FOLDER, HEADERS, error_page
from coordinator.dashboard.gate import SignInNeeded, to_sign_in
from coordinator.dashboard.pulse import Pulse
from coordinator.dashboard.rules import require_rules

PAGES = (
    pages_session.router,
    pages_oidc.router,
    pages_overview.router,
    pages_members.router,
    pages_plan_form.router,
    pages_plans.router,
    pages_account.router,
    pages_audit.router,
    pages_difference.router,
    pages_extractors.router,
    pages_library.router,
    pages_privacy.router,
    pages_runs.router,
)
Online = Callable[[], frozenset[str]]


def add_dashboard(control: FastAPI, engine: sa.Engine, online: Online) -> None:
    """Serve the pages from `control`, whose state holds the other rooms. Raises Broken for a route without a rule."""
    for router in PAGES:
        control.router.routes.extend(router.routes)  # as app.py does it
    require_rules(route for router in PAGES for route in router.routes)
    control.mount("/static", _with_headers(StaticFiles(directory=FOLDER / "static")), name="static")
    control.add_exception_handler(SignInNeeded, to_sign_in)
    control.state.pulse = Pulse(engine)
    control.state.online = online
    control.state.error_page = error_page


def _with_headers(files: ASGIApp) -> ASGIApp:
    """Static files change with the software only, and are as strict as the pages."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers["Cache-Control"] = "no-cache"
            await send(message)

        await files(scope, receive, sending)

    return application
