"""From a run to a release: what the certificate must say is gathered here, the registry builds and signs it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from coordinator.audit.masking import holds_secret
from coordinator.registry.build import Contributor, Export, PublishRequest, weights_only
from coordinator.registry.publish import publish
from coordinator.registry.shelf import Shelf, read_catalogue
from coordinator.runs import noised_counts
from coordinator.runs.driver import RunDriver
from coordinator.runs.predecessors import Predecessors
from coordinator.runs.publish_jobs import PublishJob, PublishJobs
from coordinator.runs.store import RunRow, RunStore
from coordinator.workers.kept_probes import KeptProbes
from coordinator.workers.redteam import require_gate
from shared.domain.clock import Clock
from shared.domain.consortium import Member
from shared.domain.crash_points import crash_point
from shared.domain.errors import CommonlensError, IllegalMove, Invalid
from shared.domain.plan import Plan
from shared.domain.release import (
    CERTIFICATE_FILE,
    MANIFEST_FILE,
    CatalogueEntry,
    CohortRound,
    Manifest,
)
from shared.domain.run import RoundState, RunState
from shared.release import limits
from shared.release.about import NoisedAccuracy, notes_of
from shared.release.certificate import consent_record, parse_certificate
from shared.release.envelope import read_document
from shared.release.licence import OWN_TERMS, Licence
from shared.release.manifest import parse_manifest
from shared.wire.problems import to_problem

SYSTEM, INTERRUPTED = "system", "interrupted"
log = logging.getLogger("commonlens.runs")


@dataclass(frozen=True)
class Standing:
    """What became of a run so far: its releases, and one that is being made."""

    job: PublishJob | None = None
    """The last that was begun while nobody waited for the answer."""
    releases: tuple[CatalogueEntry, ...] = ()
    released_as: tuple[str, ...] = ()
    """Those of them that were made of the weights as they are now."""
    may_publish: bool = False
    """Whether another release can be begun now: of a checkpoint that none was made of."""


class Publisher:
    """Makes a release of a finished run: while a program waits for it, or while whoever asks is told how it goes."""

    def __init__(
        self,
        home: Path,
        store: RunStore,
        driver: RunDriver,
        members: Callable[[], list[Member]],
        jobs: PublishJobs,
        clock: Clock,
        export: Export = weights_only,
        licence: Licence = OWN_TERMS,
    ) -> None:
        self._home = home
        self._store = store
        self._driver = driver
        self._members = members
        self._jobs = jobs
        self._clock = clock
        self._export = export
        self._licence = licence

    def publish(self, run_id: str, actor: str, notes: str = "") -> dict[str, Any]:
        """The release's id and what it guarantees to each member. Raises what the gate and `publish` raise.

        `notes`: what is new, one note a line, signed with the release. Raises Invalid as `told`.
        """
        request = self._request(run_id, notes)
        # Before step 13: no release while an attack gets through or a measured number exceeds its claim.
        folder = self._home / "redteam" / str(request.plan.digest).removeprefix("sha256:")[:16]
        require_gate(request.plan, request.starting_weights, folder)
        release = publish(self._home, request, self._clock, _after_step, export=self._export)
        self._store.note_release(str(release), run_id, actor)
        return {"release": str(release), "members": _guarantees(self._home, release)}

    def begin(self, run_id: str, actor: str, notes: str = "") -> PublishJob:
        """Start `publish` and return; `job` shows how far it is. Raises as it does, IllegalMove while one is made."""
        self._request(run_id, notes)
        job = self._jobs.begin(run_id, notes)
        work = (run_id, actor, notes)
        threading.Thread(target=self._finish, args=work, name="publish", daemon=True).start()
        return job

    def job(self, run_id: str) -> PublishJob | None:
        """The last job of this run, or None."""
        return self._jobs.last(run_id)

    def unpublished_notes(self, run_id: str) -> str:
        """See `PublishJobs`."""
        return self._jobs.unpublished_notes(run_id)

    def settle(self) -> None:
        """Say of every job that was under way when the coordinator stopped what it came to; once, before any begins.

        A crash leaves nothing half made (step 13), so a release is there or it is not.
        """
        for job in self._jobs.open():
            try:
                made = self._made_of_last_checkpoint(self._store.run(job.run_id))
            except CommonlensError as error:  # a damaged folder does not keep the coordinator from starting
                log.warning("release of run %s: %s", job.run_id, error.message)
                made = None
            if made is not None:
                self._store.note_release(made.id, job.run_id, SYSTEM)
                self._jobs.end(job.run_id, release=made.id)
            else:
                self._store.note_refused_release(job.run_id, SYSTEM, INTERRUPTED)
                self._jobs.end(
                    job.run_id,
                    problem=f"It was interrupted: the coordinator stopped while the release was being made, begun "
                    f"{job.since}. Nothing half made is offered to anybody. Publish again.",
                )

    def standing(self, run: RunRow) -> Standing:
        """Its releases, the last job, and whether another release can be begun now."""
        job = self._jobs.last(run.id)
        making = job is not None and not job.over
        free = run.state is not RunState.RUNNING and run.checkpoint_digest is not None and not making
        made = tuple(self._made_of(run))
        of_these = tuple(entry.id for entry, checkpoint in made if checkpoint == run.checkpoint_digest)
        return Standing(job, tuple(entry for entry, _ in made), of_these, may_publish=free and not of_these)

    def _made_of(self, run: RunRow) -> Iterator[tuple[CatalogueEntry, str]]:
        """Each release of the run, and the digest of the checkpoint that it was made of."""
        shelf, name = Shelf(self._home), self._store.plan(run.plan_digest).extractor_name
        for entry in read_catalogue(shelf, self._clock).releases:
            if entry.extractor_name == name:
                folder = shelf.folder(entry.extractor_name, entry.number)
                of_run, checkpoint = _source_of(folder, entry.manifest_digest)
                if of_run == run.id:
                    yield entry, checkpoint

    def _made_of_last_checkpoint(self, run: RunRow) -> CatalogueEntry | None:
        made = (entry for entry, checkpoint in self._made_of(run) if checkpoint == run.checkpoint_digest)
        return next(made, None)

    def _finish(self, run_id: str, actor: str, notes: str) -> None:
        try:
            release = str(self.publish(run_id, actor, notes)["release"])
        except Exception as error:
            problem = to_problem(error)
            if not isinstance(error, CommonlensError):
                log.exception("%s: publishing run %s failed", problem.incident, run_id)
            self._store.note_refused_release(run_id, actor, problem.code)
            self._jobs.end(run_id, problem=problem.detail)
        else:
            self._jobs.end(run_id, release=release)

    def _request(self, run_id: str, notes: str) -> PublishRequest:
        request = publish_request(self._store.run(run_id), self._store, self._driver, self._members())
        return replace(request, notes=told(notes), licence=self._licence)


@lru_cache(maxsize=200)
def _source_of(folder: Path, _manifest_digest: str) -> tuple[str, str]:
    """(run, checkpoint) that a release was made of; a manifest is known by its digest, so this never changes.

    Empty texts for one that no run trained.
    """
    claimed = parse_manifest(read_document(folder / MANIFEST_FILE, limits.MANIFEST_BYTES)).claimed
    return (claimed.run_id, claimed.checkpoint_digest) if isinstance(claimed, Manifest) else ("", "")


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
            "a run that has ended or is paused, after at least one round. Nothing was published. Wait for its "
            "end, or pause it."
        )
    plan = store.plan(run.plan_digest)
    rows = store.rounds(run.id)
    rounds = cohort_rounds(rows)
    contributors = _contributors(plan, rounds, members)
    named = {contributor.member_id: contributor.name for contributor in contributors}
    starting = store.starting_weights(run.plan_digest)
    probe = KeptProbes(driver.starting_folder).about(starting)
    weights = driver.server_state(run, plan).released_weights[: plan.extractor_coordinates]
    return PublishRequest(
        plan=plan,
        run_id=run.id,
        checkpoint_digest=run.checkpoint_digest,
        weights_f32=weights.astype("<f4").tobytes(),
        starting_weights=driver.starting_folder / starting,
        members=contributors,
        rounds=rounds,
        consents=tuple(
            consent_record(plan, member_id, named[member_id], signature)
            for member_id, signature in sorted(store.consents(run.plan_digest).items())
            if member_id in named
        ),
        validation=last_validation(rows),
        predecessor=Predecessors(driver.starting_folder).of(plan),
        starting_seed=None if probe is None else probe.seed,
    )


def told(notes: str) -> tuple[str, ...]:
    """Notes that may stand on a signed card. Raises Invalid for a secret among them, and as `notes_of`."""
    if holds_secret(notes):
        raise Invalid(
            "The notes hold a secret (a token, an invitation or a private key), and everybody reads them. Nothing was "
            "published. Take it out, and make a new one if anybody saw it."
        )
    return notes_of(notes)


def last_validation(rows: Iterable[Mapping[str, Any]]) -> NoisedAccuracy | None:
    """The accuracy of the last closed round with useful counts (clause 6.2), as the run's page has it."""
    last = None
    for row in rows:
        if row["state"] == RoundState.CLOSED.value and row["counts_correct"] is not None:
            counts = (row["counts_correct"], row["counts_wrong"], row["counts_noise_std"])
            found = noised_counts.accuracy(*counts)
            last = last if found is None else NoisedAccuracy(row["number"], *found)
    return last


def _contributors(
    plan: Plan, rounds: tuple[CohortRound, ...], members: list[Member]
) -> tuple[Contributor, ...]:
    enrolled = {str(m.id): m for m in members}
    asked = {member_id for r in rounds for member_id in r.asked}
    return tuple(
        Contributor(m.member_id, enrolled[m.member_id].name, enrolled[m.member_id].identity_public_key)
        for m in plan.members
        if m.member_id in asked
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
