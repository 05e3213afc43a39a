"""A release is made behind the red team's gate: a finding stops it, and both ways of asking say so."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator.registry.shelf import Shelf, read_catalogue
from coordinator.runs import publishing
from coordinator.runs.publish_jobs import PublishJob, PublishJobs
from coordinator.runs.publishing import Publisher
from coordinator.workers.redteam import Gate, require_gate
from shared.domain.errors import ExceedsClaim
from shared.domain.plan import Plan
from tests.desk import Desk
from tests.simulator import ConsortiumSimulator

FINDING = "ε of the plan: claimed 8, found 12"


@dataclass
class GatedRun:
    """A completed run, the publisher over it, and what the red team says of its plan."""

    sim: ConsortiumSimulator
    publisher: Publisher
    run_id: str
    plan: Plan
    findings: tuple[str, ...] = ()

    def ask(self, plan: Plan, weights: Path, folder: Path) -> Gate:
        """Stands for the red team's process: its verdict alone, everything around it is the real code."""
        assert plan.digest == self.plan.digest and weights.is_file()
        folder.mkdir(parents=True, exist_ok=True)
        return Gate(not self.findings, self.findings, folder / "redteam.json")

    def visible(self) -> list[str]:
        """What anybody can see."""
        return [
            str(entry.id) for entry in read_catalogue(Shelf(self.sim.desk.home), self.sim.desk.clock).releases
        ]

    def ended(self) -> PublishJob:
        """A job that was begun just now, once it is over."""
        pause = threading.Event()
        for _ in range(6000):
            job = self.publisher.job(self.run_id)
            if job is not None and job.over and not self._alive():
                return job
            pause.wait(0.01)
        raise AssertionError("the job did not end")

    @staticmethod
    def _alive() -> bool:
        # The audit line is the thread's last act, after the job's words.
        return any(thread.name == "publish" for thread in threading.enumerate())


@pytest.fixture
def gated(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GatedRun:
    sim = ConsortiumSimulator(desk, tmp_path, sizes=(6,) * 3)
    plan = sim.plan(rounds=1)
    run = sim.drive(sim.start(plan))
    publisher = Publisher(
        desk.home,
        sim.store,
        sim.driver,
        sim.every_member,
        PublishJobs(desk.room.engine, desk.clock),
        desk.clock,
    )
    made = GatedRun(sim, publisher, run.id, plan)

    def at_once(plan: Plan, weights: Path, folder: Path) -> Gate:
        return require_gate(plan, weights, folder, gate=made.ask)

    monkeypatch.setattr(publishing, "require_gate", at_once)
    return made


def test_finding_of_the_red_team_stops_a_release_before_anything_is_made(gated: GatedRun) -> None:
    gated.findings = (FINDING,)
    with pytest.raises(ExceedsClaim, match=f"has 1: {FINDING}.*Nothing was published"):
        gated.publisher.publish(gated.run_id, "operator")
    assert gated.visible() == []
    assert "release.publish" not in gated.sim.desk.audit_actions()
    # Neither a record of intent nor a folder half made: the gate comes before step 13.1.
    releases = Shelf(gated.sim.desk.home).releases
    assert not releases.exists() or list(releases.iterdir()) == []


def test_finding_ends_a_job_with_its_words_and_an_audit_line(gated: GatedRun) -> None:
    gated.findings = (FINDING,)
    gated.publisher.begin(gated.run_id, "operator")
    job = gated.ended()
    assert FINDING in job.problem and job.release == ""
    assert gated.sim.desk.audit_actions()[-1] == "release.refused"
    assert gated.visible() == []


def test_run_without_findings_is_published(gated: GatedRun) -> None:
    """The two above fail for the finding, and not because this run could not be published at all."""
    assert gated.publisher.publish(gated.run_id, "operator")["release"] == "tiny-1"
    assert gated.visible() == ["tiny-1"]
    assert gated.sim.desk.audit_actions()[-1] == "release.publish"
