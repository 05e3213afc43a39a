"""kill −9 of members and of the coordinator at every numbered step of the walk, then start again.

The steps are those of docs/architecture.md, section 3. After each kill the run goes on from its last closed round,
every member's ledger holds each round exactly once, each round was answered with one draw of noise only, and no
release is ever half visible. The runs are of mode secure: steps 0.1 and 0.2 are its keys, 7 its masks, 10.1 to
10.3 its unmasking. Steps 14 and 15, of whoever uses a release, are in test_walk.py.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from coordinator.cli import app as coordinator_app
from coordinator.registry.shelf import Shelf, read_catalogue
from coordinator.storage.checkpoints import CheckpointStore
from shared.cli import app as anybody_app
from shared.domain.clock import SystemClock
from shared.verification import verify_release
from tests.e2e.consortium import Consortium, call, consortium, wait_for
from tests.e2e.crashes import (
    ROUNDS,
    SIZES,
    charges,
    check_accounts,
    contributions,
    counted,
    crash_at,
    marker,
    propose,
)

STEPS_OF_MEMBERS = {
    "a": ("0.1", "1", "4", "8"),
    "b": ("0.2", "5", "9"),
    "c": ("2", "7", "10.2"),
    "d": ("3", "6", "10.3"),
}
STEPS_OF_COORDINATOR = ("0.1", "0.2", "10", "10.1", "10.2", "10.3", "11", "12")
SHORT_S = 6.0
"""Deadline of the round that waits in vain for the shares of one that is dead; its other steps take one second."""
STEPS_OF_PUBLISHING = ("13.1", "13.2", "13.3", "13.4", "13.5", "13.6")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """Four members; their nodes are started further down."""
    with consortium(tmp_path_factory.mktemp("crash"), SIZES, warm=True, exports=False) as made:
        yield made


@pytest.fixture(scope="module")
def plan(shapes: Consortium) -> str:
    """The digest of the plan of both runs."""
    return propose(shapes)


@pytest.fixture(scope="module")
def members_run(shapes: Consortium, plan: str) -> str:
    """The run in which every member was killed at each of its steps; all their nodes run on after it."""
    run = shapes.start_run(plan)
    for name, steps in STEPS_OF_MEMBERS.items():
        shapes.members[name].node.start(crash_at(shapes, name, steps[0]))
    # All of them die in turn, side by side; each comes back with its next step.
    left = {name: list(steps) for name, steps in STEPS_OF_MEMBERS.items()}
    while any(left.values()):
        name = wait_for("a node kills itself", lambda: dead(shapes, left))
        node = shapes.members[name].node
        node.wait_killed()
        assert marker(shapes, name, left[name].pop(0)).exists(), "it died at another step"
        node.start(crash_at(shapes, name, left[name][0]) if left[name] else None)
    shapes.wait_run(run)
    return run


@pytest.fixture(scope="module")
def coordinators_run(shapes: Consortium, plan: str, members_run: str) -> str:
    """The run in which the coordinator was killed at each of its steps, while the members' nodes ran on."""
    shapes.coordinator.end(signal.SIGKILL)  # between two runs, too
    shapes.serve(crash_at(shapes, "coordinator", STEPS_OF_COORDINATOR[0]))
    run = shapes.start_run(plan)
    for next_step in (*STEPS_OF_COORDINATOR[1:], None):
        shapes.coordinator.wait_killed()
        shapes.serve(crash_at(shapes, "coordinator", next_step) if next_step else None)
    shapes.wait_run(run)
    return run


def test_member_killed_at_every_step_neither_loses_nor_repeats_a_round(
    shapes: Consortium, plan: str, members_run: str
) -> None:
    shown = shapes.shown(members_run)
    # The round waited for the node that came back: nobody had to ask everybody again.
    assert [(r["number"], r["attempt"], r["state"]) for r in shown["rounds"]] == [
        (number, 1, "closed") for number in range(1, ROUNDS + 1)
    ]
    check_accounts(shapes, plan, members_run)


def test_killed_node_is_let_in_again_at_its_first_try(shapes: Consortium, members_run: str) -> None:
    for name, steps in STEPS_OF_MEMBERS.items():
        said = shapes.members[name].node.said()
        starts = said.split("node starts")[1:]
        assert len(starts) == len(steps) + 1
        assert all(start.split()[0] == "connected" for start in starts), said


def test_coordinator_killed_while_it_sums_goes_on_from_its_last_closed_round(
    shapes: Consortium, plan: str, coordinators_run: str
) -> None:
    states = [(r["number"], r["state"]) for r in shapes.shown(coordinators_run)["rounds"]]
    # Each kill cost one attempt of the round that was open, and no closed round was ever opened again.
    kills = len(STEPS_OF_COORDINATOR)
    assert Counter(state for _, state in states) == {"closed": ROUNDS, "abandoned": kills}
    assert [number for number, state in states if state == "closed"] == list(range(1, ROUNDS + 1))
    for number in range(1, ROUNDS + 1):
        assert [state for n, state in states if n == number][-1] == "closed"
    check_accounts(shapes, plan, coordinators_run)


def test_round_closes_without_a_member_that_died_for_good_after_it_contributed(
    shapes: Consortium, coordinators_run: str
) -> None:
    dead = shapes.members["a"]
    digest = shapes.propose(1, quorum=3, deadline_s=SHORT_S)
    dead.node.end(signal.SIGKILL)
    dead.node.start(crash_at(shapes, "a", "10.2"))  # its contribution is in the sum, its shares are asked for
    wait_for("the node is here again", lambda: "connected" in dead.node.said().rpartition("node starts")[2])
    run = shapes.start_run(digest)
    dead.node.wait_killed()  # nobody starts it again
    shown = shapes.wait_run(run)

    (only,) = shown["rounds"]
    everybody = sorted(member.id for member in shapes.members.values())
    assert (only["attempt"], only["state"], sorted(only["contributors"])) == (1, "closed", everybody)
    told = [(one["kind"], one["member_id"]) for one in shapes.events(run)]
    assert [what for what, _ in told if what.endswith(".asked")] == [
        "offer.asked", "deal.asked", "contribute.asked", "unmask.asked",
    ]  # fmt: skip
    assert sorted(member for what, member in told if what == "unmask.answered") == sorted(
        set(everybody) - {dead.id}
    )
    # The masks of the dead were lifted by the others' shares: one left in would move weights by hundreds.
    weights = CheckpointStore(shapes.home / "checkpoints").read(shown["checkpoint_digest"])["weights"]
    assert 0.0 < float(np.abs(weights).max()) < 20.0
    # It is charged, and what was summed is what it sealed.
    assert [charge.round_number for charge in charges(dead, run)] == [1]
    (seal,) = [e.seal for e in dead.ledger.entries() if e.seal is not None and e.seal.run_id == run]
    assert contributions(shapes, run)[dead.id, 1] == {seal.payload_digest}


def test_no_release_is_half_visible_wherever_publishing_was_killed(
    shapes: Consortium, plan: str, members_run: str, coordinators_run: str, tmp_path: Path
) -> None:
    shapes.pass_gate(plan)
    for member in shapes.members.values():
        if member.node.running:
            member.node.send(signal.SIGTERM)  # not needed any more
    for step in STEPS_OF_PUBLISHING[:-1]:
        publish_and_die(shapes, members_run, step)
        assert listed(shapes) == [], step
    # It was placed and not yet shown; whoever publishes next finishes it first, under the same number.
    publish_and_die(shapes, coordinators_run, STEPS_OF_PUBLISHING[-1])
    assert listed(shapes) == ["shapes-1", "shapes-2"]
    shapes.serve()
    assert shapes.admin("release", "publish", members_run).last == "shapes-1"
    assert shapes.admin("release", "publish", coordinators_run).last == "shapes-2"
    left = sorted(path.name for path in (shapes.home / "releases").iterdir() if path.name != ".lock")
    assert left == ["catalogue.json", "shapes"]
    assert sorted(path.name for path in (shapes.home / "releases" / "shapes").iterdir()) == ["1", "2"]

    for run, release in ((members_run, "shapes-1"), (coordinators_run, "shapes-2")):
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


def dead(shapes: Consortium, left: dict[str, list[str]]) -> str | None:
    """A member whose node has died and has steps to go."""
    return next((name for name in left if left[name] and not shapes.members[name].node.running), None)


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
