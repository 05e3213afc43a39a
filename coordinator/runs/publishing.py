"""From a run to a release: what the certificate must say is gathered here, the registry builds and signs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from coordinator.members.access import Caller, require
from coordinator.registry.build import Contributor, PublishRequest
from coordinator.registry.publish import publish
from coordinator.registry.shelf import Shelf
from coordinator.runs.driver import RunDriver
from coordinator.runs.store import RunRow, RunStore
from coordinator.workers.redteam import require_gate
from shared.domain.clock import Clock
from shared.domain.consortium import Member, Role
from shared.domain.crash_points import crash_point
from shared.domain.errors import IllegalMove
from shared.domain.plan import Plan
from shared.domain.release import CERTIFICATE_FILE, CohortRound, ConsentRecord
from shared.domain.run import RoundState, RunState
from shared.release import limits
from shared.release.certificate import parse_certificate
from shared.release.envelope import read_document


def publish_routes(
    home: Path, store: RunStore, driver: RunDriver, members: Callable[[], list[Member]], clock: Clock
) -> APIRouter:
    """The one route that turns a finished run into a release."""
    router = APIRouter(prefix="/api/v1")

    @router.post("/runs/{run_id}/releases", status_code=201)
    def publish_run(who: Annotated[Caller, Depends(require(Role.ADMIN))], run_id: str) -> dict[str, Any]:
        run = store.run(run_id)
        request = publish_request(run, store, driver, members())
        # Before step 13: no release while an attack gets through or a measured number exceeds its claim.
        folder = home / "redteam" / str(request.plan.digest).removeprefix("sha256:")[:16]
        require_gate(request.plan, request.starting_weights, folder)
        release = publish(home, request, clock, _after_step)
        store.note_release(str(release), run_id, who.actor)
        return {"release": str(release), "members": _guarantees(home, release)}

    return router


def _guarantees(home: Path, release: str) -> list[dict[str, Any]]:
    """Both numbers of clause 3.7 for every member at the plan's δ, as the certificate has them."""
    name, _, number = release.rpartition("-")
    path = Shelf(home).folder(name, int(number)) / CERTIFICATE_FILE
    certificate = parse_certificate(read_document(path, limits.CERTIFICATE_BYTES))
    return [
        {
            "name": member.name,
            "epsilon": member.guarantees[0].epsilon,
            "epsilon_alone": (member.guarantees_alone or member.guarantees)[0].epsilon,
            "delta": member.guarantees[0].delta,
        }
        for member in certificate.members
    ]


def _after_step(step: str) -> None:
    crash_point(step.split()[0])


def publish_request(run: RunRow, store: RunStore, driver: RunDriver, members: list[Member]) -> PublishRequest:
    """Everything the registry needs. Raises IllegalMove while the run is still going or before any round."""
    if run.state is RunState.RUNNING or run.checkpoint_digest is None:
        raise IllegalMove(
            f"The run is {run.state.value} and has closed {run.current_round} rounds; a release is made from "
            "a run that has ended or is paused, after at least one round. Nothing was published."
        )
    plan = store.plan(run.plan_digest)
    rounds = cohort_rounds(store.rounds(run.id))
    contributors = _contributors(plan, rounds, members)
    named = {contributor.member_id for contributor in contributors}
    weights = driver.server_state(run, plan).released_weights[: plan.extractor_coordinates]
    return PublishRequest(
        plan=plan,
        run_id=run.id,
        checkpoint_digest=run.checkpoint_digest,
        weights_f32=weights.astype("<f4").tobytes(),
        starting_weights=driver.starting_folder / store.starting_weights(run.plan_digest),
        members=contributors,
        rounds=rounds,
        consents=tuple(
            ConsentRecord(member_id, run.plan_digest, signature)
            for member_id, signature in sorted(store.consents(run.plan_digest).items())
            if member_id in named
        ),
    )


def _contributors(
    plan: Plan, rounds: tuple[CohortRound, ...], members: list[Member]
) -> tuple[Contributor, ...]:
    keys = {m.id: m.identity_public_key for m in members}
    asked = {member_id for r in rounds for member_id in r.asked}
    return tuple(
        Contributor(m.member_id, m.name, keys[m.member_id]) for m in plan.members if m.member_id in asked
    )


def cohort_rounds(rows: Iterable[Mapping[str, Any]]) -> tuple[CohortRound, ...]:
    """Stored attempts of rounds as a certificate lists them.

    Every attempt counts: whoever was asked may have been charged, also where nothing came of it.
    """
    return tuple(
        CohortRound(row["number"], RoundState(row["state"]), tuple(row["cohort"]), tuple(row["contributors"]))
        for row in rows
        if row["cohort"]  # where nobody could be asked, nobody was charged
    )
