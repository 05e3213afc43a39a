"""One coordinator: the rooms composed into one ASGI application on one TLS port.

/api/v1/…     the control plane: enrolment, members, plans, runs, releases, bulk transfer
/             the pages: what people see and do in a browser
/api/models…, /NAME/EXTRACTOR/resolve/…   the releases as a read-only model hub, for the tools of others
/v1/fleet/…   Flower's Fleet API with node authentication; nothing else of Flower exists here
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from coordinator.api_rules import api_rules
from coordinator.audit.routes import router as audit_router
from coordinator.config import Config
from coordinator.dashboard.room import add_dashboard
from coordinator.engine.bulk import BulkTransfers, bulk_routes
from coordinator.engine.carrier import FlowerCarrier
from coordinator.engine.fleet_app import FLEET_PREFIX, build_fleet_app
from coordinator.members.room import open_members
from coordinator.members.routes import router as members_router
from coordinator.members.routes_account import router as account_router
from coordinator.members.status import PresenceWatch
from coordinator.openapi import router as openapi_router
from coordinator.problems import install_error_handlers, problem_response
from coordinator.registry.behaviour import Comparisons
from coordinator.registry.behaviour_routes import router as behaviour_router
from coordinator.registry.channels import router as channels_router
from coordinator.registry.hub_routes import router as hub_router
from coordinator.registry.hub_shelf import HubShelf
from coordinator.registry.library import NICENESS, StandardLibrary, standard_library
from coordinator.registry.library_routes import router as library_router
from coordinator.registry.release_routes import router as releases_router
from coordinator.registry.routes import router as registry_router
from coordinator.registry.service import ReleaseService
from coordinator.runs.driver import RunDriver
from coordinator.runs.progress_routes import router as progress_router
from coordinator.runs.publish_jobs import PublishJobs
from coordinator.runs.publish_routes import router as publish_router
from coordinator.runs.publishing import Publisher
from coordinator.runs.round_routes import router as rounds_router
from coordinator.runs.routes import router as runs_router
from coordinator.runs.service import RunService
from coordinator.runs.store import RunStore
from coordinator.storage.checkpoints import CheckpointStore
from coordinator.storage.database import migrate, open_database
from coordinator.workers.export import export_of
from coordinator.workers.process import end_workers
from shared.domain.clock import Clock, SystemClock
from shared.domain.consortium import Member
from shared.domain.errors import InvalidMessage
from shared.wire.rounds import CONTRIBUTION_PATH, WEIGHTS_PATH

SPENT_BY_GET = frozenset({WEIGHTS_PATH, "/sign-in/oidc", "/sign-in/oidc/return"})
"""What GET uses up: a ticket, and a sign-in under way."""


@dataclass
class Coordinator:
    """What a coordinator process is made of."""

    asgi: ASGIApp
    control: FastAPI
    driver: RunDriver
    carrier: FlowerCarrier
    engine: sa.Engine


def build_coordinator(home: Path, config: Config, clock: Clock | None = None) -> Coordinator:
    """Compose all rooms over `home`. Raises DefaultPassword, NotFound (no keys), VersionMismatch.

    Nothing runs yet: the run driver starts with the application's lifespan.
    """
    clock = clock or SystemClock()
    engine = open_database(config.database(home))
    migrate(engine)
    fleet, link_state, nodes = build_fleet_app()
    members = open_members(home, config, engine, clock, nodes)
    members.accounts.refuse_default_passwords()
    members.members.register_all()
    bulk = BulkTransfers(home / "staging")
    carrier = FlowerCarrier(link_state, nodes, bulk)
    store = RunStore(engine, clock)
    checkpoints = CheckpointStore(home / "checkpoints")
    every_member: Callable[[], list[Member]] = members.members.every
    driver = RunDriver(store, checkpoints, carrier, every_member, home / "starting", home / "scratch")
    presence = PresenceWatch(members.status, clock, carrier.online)
    jobs, export = PublishJobs(engine, clock), export_of(config)
    publisher = Publisher(home, store, driver, every_member, jobs, clock, export, config.licence)
    control = FastAPI(
        title="Commonlens coordinator",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # such a redirect names the host that the sender wrote into its request
        lifespan=_lifespan(driver, presence, carrier, publisher),
    )
    control.state.home = home
    control.state.config = config
    control.state.members = members
    control.state.engine = nodes
    control.state.driver = driver
    control.state.runs = RunService(config.consortium, store, every_member, home / "starting")
    control.state.releases = ReleaseService(home, engine, clock)
    control.state.downloads = control.state.releases.downloads
    control.state.comparisons = Comparisons(home, clock)
    control.state.library = standard_library(control.state.releases, export_of(config, NICENESS))
    control.state.hub = HubShelf(control.state.releases)
    control.state.publisher = publisher
    _add_routes(control, bulk)
    add_dashboard(control, engine, carrier.online)
    control.router.routes.extend(hub_router.routes)  # after the pages, none of whose addresses it takes
    api_rules(control.routes)  # raises for a route that checks nobody
    _answer_head(control)
    # Fleet bodies too: Flower reads a whole body before it looks at who signed it.
    limited = limit_body(split_by_path(control, fleet), config.limits.max_body_bytes)
    return Coordinator(limited, control, driver, carrier, engine)


def _lifespan(
    driver: RunDriver, presence: PresenceWatch, carrier: FlowerCarrier, publisher: Publisher
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        publisher.settle()
        driver.start()
        presence.start()
        yield
        library: StandardLibrary = app.state.library
        library.stop()
        end_workers()
        library.join(5.0)
        presence.stop()
        driver.stop()
        driver.join(timeout=10.0)
        carrier.stop()

    return lifespan


def _add_routes(control: FastAPI, bulk: BulkTransfers) -> None:
    """The JSON API and the members' transfers, each from its room; their services are in `control.state`."""
    install_error_handlers(control)
    for router in (
        members_router,
        account_router,
        audit_router,
        rounds_router,
        runs_router,
        registry_router,
        releases_router,
        behaviour_router,
        channels_router,
        library_router,
        progress_router,
        publish_router,
        bulk_routes(bulk),
        openapi_router,
    ):
        # As they are: include_router would build every route a second time, half of what a start costs.
        control.router.routes.extend(router.routes)


def _answer_head(control: FastAPI) -> None:
    """HEAD wherever there is GET, with the same checks (RFC 9110, section 9.3.2); the server leaves the body out."""
    for route in list(control.router.routes):
        if isinstance(route, APIRoute) and "GET" in route.methods and route.path not in SPENT_BY_GET:
            head = copy.copy(route)  # the routers' own objects are shared by all coordinators of a process
            head.methods = {"HEAD"}
            control.router.routes.append(head)


def split_by_path(control: ASGIApp, fleet: ASGIApp) -> ASGIApp:
    """Fleet paths to Flower, everything else (also lifespan events) to the control plane."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        to_fleet = scope["type"] == "http" and scope["path"].startswith(FLEET_PREFIX)
        await (fleet if to_fleet else control)(scope, receive, send)

    return application


def limit_body(application: ASGIApp, maximum_bytes: int) -> ASGIApp:
    """Refuse larger bodies before reading them, except on the bulk path, which has exact sizes of its own."""

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == CONTRIBUTION_PATH:
            await application(scope, receive, send)
            return
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
        announced = int(lengths[0]) if lengths and lengths[0].isdigit() else 0
        if chunked or announced > maximum_bytes:
            error = InvalidMessage(
                f"A request body may have {maximum_bytes} bytes, with its length announced; this one has "
                f"{announced if not chunked else 'no announced length'}. Nothing was read. Send less."
            )
            await problem_response(error)(scope, receive, send)
            return
        await application(scope, receive, send)

    return limited
