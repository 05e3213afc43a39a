"""kill −9 of the coordinator at every numbered step of the walk (docs/architecture.md, section 3), then start again.

After each kill the run goes on from its last closed round, every member's ledger holds each round exactly once,
each round was answered with one draw of noise only, and no release is ever half visible. The run is of mode
secure: steps 0.1 and 0.2 are its keys, 10.1 and 10.2 its unmasking. The members' kills are in
test_crash_of_members.py.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.cli import app as coordinator_app
from coordinator.registry.shelf import Shelf, read_catalogue
from shared.cli import app as anybody_app
from shared.domain.clock import SystemClock
from shared.verification import verify_release
from tests.e2e.consortium import Consortium, call, consortium
from tests.e2e.crashes import ROUNDS, SIZES, charges, check_accounts, counted, crash_at, propose

STEPS = ("0.1", "0.2", "10", "10.1", "10.2", "11", "12")
STEPS_OF_PUBLISHING = ("13.1", "13.2", "13.3", "13.4", "13.5", "13.6")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """Four members whose nodes run."""
    with consortium(tmp_path_factory.mktemp("crash"), SIZES) as made:
        for member in made.members.values():
            member.node.start()
        yield made


@pytest.fixture(scope="module")
def plan(shapes: Consortium) -> str:
    """The digest of the plan of all runs."""
    return propose(shapes)


@pytest.fixture(scope="module")
def calm(shapes: Consortium, plan: str) -> str:
    """A run in which nobody was killed."""
    run = shapes.start_run(plan)
    shapes.wait_run(run)
    return run


@pytest.fixture(scope="module")
def survived(shapes: Consortium, plan: str, calm: str) -> str:
    """The run in which the coordinator was killed at each of its steps, while the members' nodes ran on."""
    shapes.coordinator.end(signal.SIGKILL)  # between two runs, too
    shapes.serve(crash_at(shapes, "coordinator", STEPS[0]))
    run = shapes.start_run(plan)
    for next_step in (*STEPS[1:], None):
        shapes.coordinator.wait_killed()
        shapes.serve(crash_at(shapes, "coordinator", next_step) if next_step else None)
    shapes.wait_run(run)
    return run


def test_coordinator_killed_while_it_sums_goes_on_from_its_last_closed_round(
    shapes: Consortium, plan: str, survived: str
) -> None:
    states = [(r["number"], r["state"]) for r in shapes.shown(survived)["rounds"]]
    # Each kill cost one attempt of the round that was open, and no closed round was ever opened again.
    assert Counter(state for _, state in states) == {"closed": ROUNDS, "abandoned": len(STEPS)}
    assert [number for number, state in states if state == "closed"] == list(range(1, ROUNDS + 1))
    for number in range(1, ROUNDS + 1):
        assert [state for n, state in states if n == number][-1] == "closed"
    check_accounts(shapes, plan, survived)


def test_no_release_is_half_visible_wherever_publishing_was_killed(
    shapes: Consortium, calm: str, survived: str, tmp_path: Path
) -> None:
    for member in shapes.members.values():
        member.node.send(signal.SIGTERM)  # not needed any more
    for step in STEPS_OF_PUBLISHING[:-1]:
        publish_and_die(shapes, calm, step)
        assert listed(shapes) == [], step
    # It was placed and not yet shown; whoever publishes next finishes it first, under the same number.
    publish_and_die(shapes, survived, STEPS_OF_PUBLISHING[-1])
    assert listed(shapes) == ["shapes-1", "shapes-2"]
    shapes.serve()
    assert shapes.admin("release", "publish", calm).last == "shapes-1"
    assert shapes.admin("release", "publish", survived).last == "shapes-2"
    left = sorted(path.name for path in (shapes.home / "releases").iterdir() if path.name != ".lock")
    assert left == ["catalogue.json", "shapes"]
    assert sorted(path.name for path in (shapes.home / "releases" / "shapes").iterdir()) == ["1", "2"]

    for run, release in ((calm, "shapes-1"), (survived, "shapes-2")):
        pull = (shapes.url, release, "--ca-fingerprint", shapes.fingerprint, "--to", tmp_path)
        done = call(anybody_app, "pull", *pull)
        assert done.code == 0, done.err
        # The certificate recomputes, and says of each member exactly what its own ledger says.
        certificate = verify_release(tmp_path / release, pinned_root=None).certificate
        for member in shapes.members.values():
            line = next(m for m in certificate.members if m.member_id == member.id)
            spent = charges(member, run)
            assert counted(line.events) == counted(e for c in spent for e in c.events)
            assert counted(line.events_alone or ()) == counted(e for c in spent for e in c.events_alone)


def publish_and_die(shapes: Consortium, run: str, step: str) -> None:
    """Start the coordinator so that it dies at `step` of publishing, and publish."""
    shapes.coordinator.end()
    shapes.serve(crash_at(shapes, "coordinator", step))
    done = call(coordinator_app, "release", "publish", run, "--home", shapes.home)
    assert done.code == 4, f"{step}: {done.out}{done.err}"
    shapes.coordinator.wait_killed()


def listed(shapes: Consortium) -> list[str]:
    """What anybody can see."""
    return [str(entry.id) for entry in read_catalogue(Shelf(shapes.home), SystemClock()).releases]
