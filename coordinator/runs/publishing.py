"""From a run to a release: what the certificate must say is gathered here, the registry builds and signs it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi import Path as InPath

from coordinator.members.access import Caller, require
from coordinator.registry.build import Contributor, PublishRequest
from coordinator.registry.publish import publish
from coordinator.registry.shelf import Shelf
from coordinator.runs.driver import RunDriver
from coordinator.runs.store import RunRow, RunStore
from coordinator.workers.redteam import require_gate
from shared.domain.clock import Clock, to_text
from shared.domain.consortium import Member, Role
from shared.domain.crash_points import crash_point
from shared.domain.errors import CommonlensError, IllegalMove
from shared.domain.plan import Plan
from shared.domain.release import CERTIFICATE_FILE, CohortRound, ConsentRecord
from shared.domain.run import RoundState, RunState
from shared.release import limits
from shared.release.certificate import parse_certificate
from shared.release.envelope import read_document
from shared.wire.problems import to_problem

log = logging.getLogger("commonlens.runs")


@dataclass(frozen=True)
class PublishJob:
    """A release that is being made while nobody waits for the answer, or how that ended."""

    since: str
    release: str = ""
    """Its id, once it is there."""
    problem: str = ""
    """Why there is none."""

    @property
    def over(self) -> bool:
        """Whether it has ended, well or not."""
        return bool(self.release or self.problem)


class Publisher:
    """Makes a release of a finished run: while a program waits for it, or while a page shows that it is made."""

    def __init__(
        self,
        home: Path,
        store: RunStore,
        driver: RunDriver,
        members: Callable[[], list[Member]],
        clock: Clock,
    ) -> None:
        self._home = home
        self._store = store
        self._driver = driver
        self._members = members
        self._clock = clock
        self._jobs: dict[str, PublishJob] = {}
        self._guard = threading.Lock()

    def publish(self, run_id: str, actor: str) -> dict[str, Any]:
        """The release's id and what it guarantees to each member. Raises what the gate and `publish` raise."""
        request = self._request(run_id)
        # Before step 13: no release while an attack gets through or a measured number exceeds its claim.
        folder = self._home / "redteam" / str(request.plan.digest).removeprefix("sha256:")[:16]
        require_gate(request.plan, request.starting_weights, folder)
        release = publish(self._home, request, self._clock, _after_step)
        self._store.note_release(str(release), run_id, actor)
        return {"release": str(release), "members": _guarantees(self._home, release)}

    def begin(self, run_id: str, actor: str) -> None:
        """Start `publish` and return; `job` shows how far it is. Raises IllegalMove as it does, or while one is made.

        A job that a crash ended leaves nothing half made (step 13): it is begun again by whoever still wants it.
        """
        self._request(run_id)
        with self._guard:
            going = self._jobs.get(run_id)
            if going is not None and not going.over:
                raise IllegalMove(
                    f"A release of this run is being made since {going.since}. No second one was begun. Wait for it."
                )
            self._jobs[run_id] = PublishJob(to_text(self._clock.now()))
        threading.Thread(target=self._finish, args=(run_id, actor), name="publish", daemon=True).start()

    def job(self, run_id: str) -> PublishJob | None:
        """The last job of this run since the coordinator started, or None."""
        return self._jobs.get(run_id)

    def _finish(self, run_id: str, actor: str) -> None:
        job = self._jobs[run_id]
        try:
            self._jobs[run_id] = replace(job, release=self.publish(run_id, actor)["release"])
        except Exception as error:
            problem = to_problem(error)
            if not isinstance(error, CommonlensError):
                log.exception("%s: publishing run %s failed", problem.incident, run_id)
            self._jobs[run_id] = replace(job, problem=problem.detail)
            self._store.note_refused_release(run_id, actor, problem.code)

    def _request(self, run_id: str) -> PublishRequest:
        return publish_request(self._store.run(run_id), self._store, self._driver, self._members())


def publish_routes(publisher: Publisher) -> APIRouter:
    """The one route that turns a finished run into a release."""
    router = APIRouter(prefix="/api/v1")

    @router.post("/runs/{run_id}/releases", status_code=201)
    def publish_run(
        who: Annotated[Caller, Depends(require(Role.ADMIN))], run_id: Annotated[str, InPath(max_length=40)]
    ) -> dict[str, Any]:
        """Make a signed release of a run that has ended or is paused."""
        return publisher.publish(run_id, who.actor)

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
