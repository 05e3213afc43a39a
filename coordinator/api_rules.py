"""Who may call which route of the API: one table, read off the checks that the routes themselves carry.

A route says whom it lets in by a dependency of coordinator/members/access.py. A route that says nothing does not
start, unless it stands in one of the two short lists here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.routing import BaseRoute

from coordinator.members.access import GUARDS
from shared.domain.consortium import Role
from shared.domain.errors import Broken
from shared.wire.rounds import CONTRIBUTION_PATH, WEIGHTS_PATH

API = "/api/v1"
Route = tuple[str, str]
"""(method, path)"""
ANYBODY: frozenset[Role] = frozenset()
"""Also without a token."""
OPEN: frozenset[Route] = frozenset(
    {
        ("GET", f"{API}/health"),
        ("GET", f"{API}/trust"),
        ("POST", f"{API}/enrolments"),
        ("POST", f"{API}/sessions"),
    }
)
"""What a newcomer needs before it has a token; the two that take a secret count failures."""
BY_TICKET: frozenset[Route] = frozenset({("GET", WEIGHTS_PATH), ("PUT", CONTRIBUTION_PATH)})
"""What a one-time ticket opens, which reaches one member inside its own round's message (engine/bulk.py)."""


_KIND = re.compile(r":\w+}")


def takes_tokens(path: str) -> bool:
    """Whether a route's path is for programs with a token: our API, or the hub's (registry/hub_routes.py)."""
    return path.startswith("/api/") or "/resolve/" in path


def token_routes(routes: Iterable[BaseRoute]) -> Iterator[tuple[Route, RouteContext]]:
    """Every such route, also of included routers, once for each of its methods but HEAD, which is GET's (app.py)."""
    for found in iter_route_contexts(list(routes)):
        if isinstance(found.original_route, APIRoute) and takes_tokens(found.path or ""):
            for method in sorted((found.methods or set()) - {"HEAD"}):
                yield (method, plain_path(found.path)), found


def plain_path(path: str | None) -> str:
    """A route's path as its description writes it: what a parameter may hold is no part of its name."""
    return _KIND.sub("}", path or "")


def api_routes(routes: Iterable[BaseRoute]) -> Iterator[tuple[Route, RouteContext]]:
    """Those of them under API, which its description tells of."""
    for (method, path), found in token_routes(routes):
        if path.startswith(f"{API}/"):
            yield (method, path), found


def api_rules(routes: Iterable[BaseRoute]) -> Mapping[Route, frozenset[Role]]:
    """Who may call each route. Raises Broken for a route without a check, and for a list's line without a route."""
    rules: dict[Route, frozenset[Role]] = {}
    without: list[Route] = []
    for route, found in token_routes(routes):
        guards = [GUARDS[call] for call in _calls(found.dependant) if call in GUARDS]
        if guards:
            rules[route] = frozenset(Role).intersection(*guards)
        elif route in OPEN | BY_TICKET:
            rules[route] = ANYBODY
        else:
            without.append(route)
    unused = sorted((OPEN | BY_TICKET) - set(rules))
    if without or unused:
        raise Broken(
            f"Routes of the API that check nobody: {sorted(without)}; lines of api_rules.py without a route: {unused}. "
            "Give each route a dependency such as require(Role.ADMIN) of coordinator/members/access.py."
        )
    return rules


def _calls(dependant: Dependant | None) -> Iterator[Any]:
    """Everything that runs before a route's own function."""
    for inner in dependant.dependencies if dependant is not None else ():
        yield inner.call
        yield from _calls(inner)
