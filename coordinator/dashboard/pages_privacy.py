"""Privacy: for every release who can learn what, its certificate explained, and what the red team found."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from coordinator.dashboard.frame import HEADERS, page
from coordinator.dashboard.gate import Seeing, gate
from coordinator.dashboard.release_facts import Line, groups, line_of
from coordinator.registry.audiences import Audience, audiences
from coordinator.registry.claims import Claimed
from coordinator.registry.gate_report import PICTURES, GateReport, passed_under, read_picture, read_report
from coordinator.registry.release_routes import PATIENCE_S, releases_of
from coordinator.registry.service import ReleaseService
from shared.domain.errors import CommonlensError, NotFound
from shared.domain.privacy import MAXIMUM_DELTA, Mode
from shared.domain.release import CatalogueEntry
from shared.explanation import (
    SUSPICION,
    Explanation,
    belief_at_most,
    factor_text,
)
from shared.release.promise import believed, not_promised, percent_text, promise, right_at_most

router = APIRouter(dependencies=[Depends(gate)])
SCALE = (0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0)
"""The ε that the page reads as odds, whatever was released."""
MATRIX = {
    "coordinator": "Coordinator",
    "colluders": "with up to t others",
    "everybody": "with all others",
    "member": "Another member",
    "download": "Who downloads",
}
"""Audiences with a column of their own where all releases stand side by side, and its heading."""


@dataclass(frozen=True)
class Reading:
    """One ε in words: what it lets odds, an even bet and a suspicion become."""

    name: str
    epsilon: float
    factor: str
    even: str
    suspicion: str


@router.get("/privacy")
def index(request: Request, viewer: Seeing, name: str = "") -> Response:
    """All releases: who can learn what, and what ε means."""
    found = groups(releases_of(request), name)
    lines = [line for group in found for line in group.lines]
    shown = [(line, _cells(line.trained)) for line in lines if line.trained]
    offered = [line for line, _ in shown if not line.entry.yanked]
    newest = max(offered, key=lambda line: _made(line), default=None)
    return page(
        request,
        "privacy/index.html",
        shown=shown,
        columns=tuple(MATRIX.values()),
        damaged=[line for line in lines if not line.claimed],
        more=[group for group in found if group.total > len(group.lines)],
        newest=newest,
        audiences=audiences(newest.trained.plan) if newest and newest.trained else (),
        claimed=newest.trained if newest else None,
        scale=[reading("", epsilon, MAXIMUM_DELTA) for epsilon in SCALE],
        scale_delta=MAXIMUM_DELTA,
        suspicion=SUSPICION,
    )


@router.get("/privacy/{name}/{number}")
def release(request: Request, viewer: Seeing, name: str, number: str) -> Response:
    """One release: the promise, the certificate recomputed, the red team."""
    service = releases_of(request)
    entry = service.find(name, number)
    line, checked = line_of(service, entry), service.check_within(entry, PATIENCE_S)
    facts: dict[str, Any] = {"line": line, "entry": entry, "claimed": line.trained, "checked": checked}
    if line.kept is not None:
        raise NotFound(
            f"{entry.id} was not trained here: no member's records had a part in it, so nobody can learn of one."
        )
    if line.trained is not None:
        plan = line.trained.plan
        facts |= {
            "audiences": audiences(plan),
            "promise": promise(plan),
            "not_promised": not_promised(plan),
            "believed": believed(plan, pinned=True),
            "secure": plan.privacy.mode is Mode.SECURE,
            "readings": readings(checked.facts) if checked and checked.facts else (),
            "suspicion": SUSPICION,
            "you": viewer.caller.id,
        } | _report(service, entry, line.trained)
    return page(request, "privacy/release.html", **facts)


@router.get("/privacy/{name}/{number}/pictures/{picture}")
def picture(request: Request, viewer: Seeing, name: str, number: str, picture: str) -> Response:
    """A picture of the red team's report, and no other file."""
    service = releases_of(request)
    claimed = service.claimed(service.find(name, number))
    data = read_picture(service.home, claimed.manifest.plan_digest, picture)
    return Response(data, media_type="image/png", headers={**HEADERS, "Cache-Control": "private, no-cache"})


def readings(facts: Explanation) -> tuple[Reading, ...]:
    """Of whoever spent most: ε, and in mode secure ε alone."""
    highest = max(facts.members, key=lambda member: member.spent[0].epsilon)
    spent = highest.spent[0]
    both = [("ε", spent.epsilon)] + ([("ε alone", spent.alone)] if facts.mode is Mode.SECURE else [])
    return tuple(reading(name, epsilon, spent.delta) for name, epsilon in both)


def reading(name: str, epsilon: float, delta: float) -> Reading:
    """One ε in words."""
    return Reading(
        name,
        epsilon,
        factor_text(epsilon),
        percent_text(right_at_most(epsilon, delta)),
        percent_text(belief_at_most(epsilon, SUSPICION)),
    )


def measured(value: float | None) -> str:
    """A number of the report."""
    return "without bound" if value is None else f"{value:.4g}"


def _cells(claimed: Claimed) -> tuple[Audience | None, ...]:
    """The audiences of one release in the columns of MATRIX; None where the plan counts on no colluders."""
    by_key = {audience.key: audience for audience in audiences(claimed.plan)}
    if claimed.plan.privacy.mode is Mode.LOCAL:
        by_key["colluders"] = by_key["everybody"]  # any number of others, so also a few
    return tuple(by_key.get(key) for key in MATRIX)


def _made(line: Line) -> str:
    return line.trained.manifest.created_at if line.trained else ""


def _report(service: ReleaseService, entry: CatalogueEntry, claimed: Claimed) -> dict[str, Any]:
    digest = claimed.manifest.plan_digest
    report: GateReport | None = None
    problem = ""
    try:
        report = read_report(service.home, digest)
    except NotFound:
        pass
    except CommonlensError as error:
        problem = error.message
    return {
        "report": report,
        "report_problem": problem,
        "passed_under": passed_under(service.home, digest),
        "measured": measured,
        "attacks": [(name, list(rows)) for name, rows in groupby(report.attacks, key=lambda row: row.name)]
        if report
        else [],
        "pictures": [p for p in report.pictures if p.file in PICTURES] if report else [],
    }
