"""From a run to a release: what the certificate must say is gathered here, the registry builds and signs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from coordinator.members.access import Caller, require
from coordinator.registry.build import MemberSpend, PublishRequest
from coordinator.registry.publish import publish
from coordinator.runs.driver import RunDriver
from coordinator.runs.store import RunRow, RunStore
from shared.domain.clock import Clock
from shared.domain.consortium import Member, Role
from shared.domain.crash_points import crash_point
from shared.domain.errors import IllegalMove
from shared.domain.plan import Plan
from shared.domain.release import CohortRound, ConsentRecord
from shared.domain.run import RoundState, RunState
from shared.release.certificate import charged_events


def publish_routes(
    home: Path, store: RunStore, driver: RunDriver, members: Callable[[], list[Member]], clock: Clock
) -> APIRouter:
    """The one route that turns a finished run into a release."""
    router = APIRouter(prefix="/api/v1")

    @router.post("/runs/{run_id}/releases", status_code=201)
    def publish_run(who: Annotated[Caller, Depends(require(Role.ADMIN))], run_id: str) -> dict[str, Any]:
        run = store.run(run_id)
        release = publish(home, publish_request(run, store, driver, members()), clock, _after_step)
        store.note_release(str(release), run_id, who.actor)
        return {"release": str(release)}

    return router


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
    rounds = _cohort_rounds(store, run.id)
    spends = _certificate_members(plan, rounds, members)
    named = {spend.member_id for spend in spends}
    weights = driver.server_state(run, plan).released_weights
    return PublishRequest(
        plan=plan,
        run_id=run.id,
        checkpoint_digest=run.checkpoint_digest,
        weights_f32=weights.astype("<f4").tobytes(),
        starting_weights=driver.starting_folder / store.starting_weights(run.plan_digest),
        members=spends,
        rounds=rounds,
        consents=tuple(
            ConsentRecord(member_id, run.plan_digest, signature)
            for member_id, signature in sorted(store.consents(run.plan_digest).items())
            if member_id in named
        ),
    )


def _certificate_members(
    plan: Plan, rounds: tuple[CohortRound, ...], members: list[Member]
) -> tuple[MemberSpend, ...]:
    keys = {m.id: m.identity_public_key for m in members}
    return tuple(
        MemberSpend(m.member_id, m.name, keys[m.member_id], charged_events(plan, rounds, m.member_id))
        for m in plan.members
        if any(m.member_id in r.asked for r in rounds)
    )


def _cohort_rounds(store: RunStore, run_id: str) -> tuple[CohortRound, ...]:
    """Every attempt counts: whoever was asked may have been charged, also where nothing came of it."""
    return tuple(
        CohortRound(row["number"], RoundState(row["state"]), tuple(row["cohort"]), tuple(row["contributors"]))
        for row in store.rounds(run_id)
        if row["cohort"]  # where nobody could be asked, nobody was charged
    )
