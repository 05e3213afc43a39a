"""Who may open which page and do what there: one table over all routes of the dashboard, and one check.

A route that has no line here does not start. What somebody may not do is not shown to them either: templates ask
`may("POST", "/members/{member_id}/revoke")`, which reads this same table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fastapi.routing import APIRoute

from coordinator.api_rules import plain_path
from shared.domain.consortium import Role
from shared.domain.errors import Broken

ANYBODY: frozenset[Role] = frozenset()
"""Also without a session: only signing in, and what the sign-in page is made of."""
ADMINS = frozenset({Role.ADMIN})
OVERSEERS = frozenset({Role.ADMIN, Role.AUDITOR})
EVERYBODY = frozenset(Role)
PEOPLE = OVERSEERS
"""Who signs in with a password: a member's operator comes by a link that its own node asked for."""

RULES: Mapping[tuple[str, str], frozenset[Role]] = {
    ("GET", "/sign-in"): ANYBODY,
    ("POST", "/sign-in"): ANYBODY,
    ("GET", "/sign-in/code"): ANYBODY,
    ("POST", "/sign-in/code"): ANYBODY,
    ("GET", "/sign-in/oidc"): ANYBODY,
    ("GET", "/sign-in/oidc/return"): ANYBODY,
    ("GET", "/sign-in/member"): ANYBODY,
    ("POST", "/sign-in/member"): ANYBODY,
    ("POST", "/sign-out"): EVERYBODY,
    ("GET", "/account"): PEOPLE,
    ("POST", "/account/sessions/{token_id}/end"): PEOPLE,
    ("POST", "/account/sessions/end-others"): PEOPLE,
    ("POST", "/account/tokens"): PEOPLE,
    ("POST", "/account/tokens/{token_id}/revoke"): PEOPLE,
    ("POST", "/account/password"): PEOPLE,
    ("POST", "/account/second-factor"): PEOPLE,
    ("POST", "/account/second-factor/confirm"): PEOPLE,
    ("POST", "/account/second-factor/remove"): PEOPLE,
    ("GET", "/audit"): OVERSEERS,
    ("GET", "/audit/verify"): OVERSEERS,
    ("GET", "/audit/export.csv"): OVERSEERS,
    ("GET", "/audit/export.jsonl"): OVERSEERS,
    ("GET", "/audit/countersignatures.jsonl"): OVERSEERS,
    ("GET", "/"): EVERYBODY,
    ("GET", "/live"): EVERYBODY,
    ("GET", "/members"): EVERYBODY,
    ("GET", "/members/live"): EVERYBODY,
    ("GET", "/members/{member_id}"): EVERYBODY,
    ("POST", "/members/{member_id}/approve"): ADMINS,
    ("POST", "/members/{member_id}/suspend"): ADMINS,
    ("POST", "/members/{member_id}/resume"): ADMINS,
    ("POST", "/members/{member_id}/revoke"): ADMINS,
    ("GET", "/invitations"): ADMINS,
    ("POST", "/invitations"): ADMINS,
    ("POST", "/invitations/{invitation_id}/withdraw"): ADMINS,
    ("GET", "/plans"): EVERYBODY,
    ("GET", "/plans/live"): EVERYBODY,
    ("GET", "/plans/new"): ADMINS,
    ("POST", "/plans/check"): ADMINS,
    ("POST", "/plans"): ADMINS,
    ("GET", "/plans/compare"): EVERYBODY,
    ("GET", "/plans/{digest}"): EVERYBODY,
    ("GET", "/plans/{digest}/live"): EVERYBODY,
    ("POST", "/plans/{digest}/runs"): ADMINS,
    ("POST", "/plans/{digest}/withdraw"): ADMINS,
    ("GET", "/runs"): EVERYBODY,
    ("GET", "/runs/live"): EVERYBODY,
    ("GET", "/runs/{run_id}"): EVERYBODY,
    ("GET", "/runs/{run_id}/live"): EVERYBODY,
    ("GET", "/runs/{run_id}/rounds.csv"): EVERYBODY,
    ("GET", "/runs/{run_id}/epsilon.csv"): EVERYBODY,
    ("GET", "/runs/{run_id}/rounds/{number}"): EVERYBODY,
    ("POST", "/runs/{run_id}/pause"): ADMINS,
    ("POST", "/runs/{run_id}/resume"): ADMINS,
    ("POST", "/runs/{run_id}/stop"): ADMINS,
    ("GET", "/runs/{run_id}/publish"): ADMINS,
    ("POST", "/runs/{run_id}/releases"): ADMINS,
    ("GET", "/extractors"): EVERYBODY,
    ("GET", "/extractors/diff"): EVERYBODY,
    ("POST", "/extractors/diff"): EVERYBODY,
    ("GET", "/extractors/{name}"): EVERYBODY,
    ("GET", "/extractors/{name}/{number}"): EVERYBODY,
    ("GET", "/extractors/{name}/{number}/files/{file}"): EVERYBODY,
    ("GET", "/extractors/{name}/{number}/lens"): EVERYBODY,
    ("POST", "/channels/{name}"): ADMINS,
    ("POST", "/library/{name}"): ADMINS,
    ("POST", "/extractors/{name}/{number}/check"): EVERYBODY,
    ("POST", "/extractors/{name}/{number}/yank"): ADMINS,
    ("GET", "/privacy"): EVERYBODY,
    ("GET", "/privacy/{name}/{number}"): EVERYBODY,
    ("GET", "/privacy/{name}/{number}/pictures/{picture}"): EVERYBODY,
}

PUBLIC_READS: frozenset[tuple[str, str]] = frozenset(
    ("GET", path)
    for path in (
        "/extractors",
        "/extractors/diff",
        "/extractors/{name}",
        "/extractors/{name}/{number}",
        "/extractors/{name}/{number}/files/{file}",
        "/extractors/{name}/{number}/lens",
    )
)
"""Also for strangers, who have no session, where `public_releases` is set: they show what the releases' own files say,
and leave out what is the coordinator's."""

CALCULATES: frozenset[tuple[str, str]] = frozenset(
    {("POST", "/plans/check"), ("POST", "/extractors/{name}/{number}/check"), ("POST", "/extractors/diff")}
)
"""Forms that change nothing: a dial that is turned would fill the audit log."""


def roles_of(method: str, path: str) -> frozenset[Role]:
    """Who may send `method` to the route `path`. Raises KeyError for a route without a rule."""
    return RULES["GET" if method == "HEAD" else method, plain_path(path)]


def may(role: Role, method: str, path: str) -> bool:
    """Whether `role` may; for templates, which leave out what it may not. False where there is no such route."""
    return role in RULES.get((method, path), ANYBODY)


def open_to_strangers(public_releases: bool, method: str, path: str) -> bool:
    """Whether somebody without a session may read the route `path`."""
    return public_releases and ("GET" if method == "HEAD" else method, plain_path(path)) in PUBLIC_READS


def require_rules(routes: Iterable[object]) -> None:
    """Raise Broken unless every route has a rule and every rule a route."""
    found = {
        (method, plain_path(route.path))
        for route in routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    without, unused = sorted(found - set(RULES)), sorted(set(RULES) - found)
    if without or unused:
        raise Broken(f"Routes without a rule: {without}; rules without a route: {unused}.")
