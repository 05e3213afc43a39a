"""kill −9 at every numbered step of the walk (docs/architecture.md, section 3), then start again and go on.

After each kill the run goes on from its last closed round, every member's ledger holds each round exactly once,
each round was answered with one draw of noise only, and no release is ever half visible. The run is of mode
secure: steps 0.1 and 0.2 are its keys, 7 its masks, 10.1 to 10.3 its unmasking.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from coordinator.cli import app as coordinator_app
from coordinator.config import read_config
from coordinator.registry.shelf import Shelf, read_catalogue
from coordinator.storage import tables as t
from coordinator.storage.database import open_database, reading
from participant.consents import reviewed_plan
from participant.home import Home
from shared.cli import app as anybody_app
from shared.domain.clock import SystemClock
from shared.domain.privacy import Charge, GaussianEvent
from shared.verification import verify_release
from tests.e2e.consortium import Consortium, Organisation, call, command, consortium, wait_for

ROUNDS = 4
STEPS_OF_MEMBERS = {
    "a": ("0.1", "1", "4", "8"),
    "b": ("0.2", "5", "9"),
    "c": ("2", "7", "10.2"),
    "d": ("3", "6", "10.3"),
}
STEPS_OF_COORDINATOR = ("0.1", "0.2", "10", "10.1", "10.2", "11", "12")
STEPS_OF_PUBLISHING = ("13.1", "13.2", "13.3", "13.4", "13.5", "13.6")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """Four members; their nodes are started further down."""
    sizes = {"a": (60, 3), "b": (50, 2), "c": (40, 2), "d": (30, 3)}
    with consortium(tmp_path_factory.mktemp("crash"), sizes) as made:
        yield made


@pytest.fixture(scope="module")
def plan(shapes: Consortium) -> str:
    """A plan of mode secure that needs all four: a member that stays away stops it."""
    return shapes.propose(ROUNDS, quorum=4)


@pytest.fixture(scope="module")
def survived(shapes: Consortium, plan: str) -> str:
    """The run in which every member was killed at each of its steps."""
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
def survived_too(shapes: Consortium, plan: str, survived: str) -> str:
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
    shapes: Consortium, plan: str, survived: str
) -> None:
    shown = shapes.shown(survived)
    # The round waited for the node that came back: nobody had to ask everybody again.
    assert [(r["number"], r["attempt"], r["state"]) for r in shown["rounds"]] == [
        (number, 1, "closed") for number in range(1, ROUNDS + 1)
    ]
    check_accounts(shapes, plan, survived)


def test_killed_node_is_let_in_again_at_its_first_try(shapes: Consortium, survived: str) -> None:
    for name, steps in STEPS_OF_MEMBERS.items():
        said = shapes.members[name].node.said()
        starts = said.split("node starts")[1:]
        assert len(starts) == len(steps) + 1
        assert all(start.split()[0] == "connected" for start in starts), said


def test_coordinator_killed_while_it_sums_goes_on_from_its_last_closed_round(
    shapes: Consortium, plan: str, survived_too: str
) -> None:
    states = [(r["number"], r["state"]) for r in shapes.shown(survived_too)["rounds"]]
    # Each kill cost one attempt of the round that was open, and no closed round was ever opened again.
    assert Counter(state for _, state in states) == {"closed": ROUNDS, "abandoned": len(STEPS_OF_COORDINATOR)}
    assert [number for number, state in states if state == "closed"] == list(range(1, ROUNDS + 1))
    for number in range(1, ROUNDS + 1):
        assert [state for n, state in states if n == number][-1] == "closed"
    check_accounts(shapes, plan, survived_too)


def test_no_release_is_half_visible_wherever_publishing_was_killed(
    shapes: Consortium, survived: str, survived_too: str, tmp_path: Path
) -> None:
    for member in shapes.members.values():
        member.node.send(signal.SIGTERM)  # not needed any more
    for step in STEPS_OF_PUBLISHING[:-1]:
        publish_and_die(shapes, survived, step)
        assert listed(shapes) == [], step
    # It was placed and not yet shown; whoever publishes next finishes it first, under the same number.
    publish_and_die(shapes, survived_too, STEPS_OF_PUBLISHING[-1])
    assert listed(shapes) == ["shapes-1", "shapes-2"]
    shapes.serve()
    assert shapes.admin("release", "publish", survived).last == "shapes-1"
    assert shapes.admin("release", "publish", survived_too).last == "shapes-2"
    left = sorted(path.name for path in (shapes.home / "releases").iterdir() if path.name != ".lock")
    assert left == ["catalogue.json", "shapes"]
    assert sorted(path.name for path in (shapes.home / "releases" / "shapes").iterdir()) == ["1", "2"]

    for run, release in ((survived, "shapes-1"), (survived_too, "shapes-2")):
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


def test_member_killed_while_it_downloads_or_fits_starts_again(shapes: Consortium, survived: str) -> None:
    if not shapes.coordinator.running:
        shapes.serve()
    release = shapes.admin("release", "publish", survived).last
    member = shapes.members["a"]
    pull = ("head", "pull", release)
    fit = ("head", "fit", release, "--data", "own", "--name", "mine")
    for step, words in (("14", pull), ("15", fit)):
        crash = crash_at(shapes, "a", step)
        killed = command("commonlens-participant", *words, "--home", member.home, crash=crash)
        assert killed.code == -9 and marker(shapes, "a", step).exists(), killed.err
        again = member.call(*words)
        assert again.code == 0, again.err
    assert "mine  3 classes" in member.call("head", "list").out


def check_accounts(shapes: Consortium, plan_digest: str, run: str) -> None:
    """Exactly rounds × events are charged, and what the coordinator summed is what each member sealed, once."""
    summed = contributions(shapes, run)
    for member in shapes.members.values():
        plan = reviewed_plan(Home(member.home), plan_digest).plan
        charged = charges(member, run)
        assert [charge.round_number for charge in charged] == list(range(1, ROUNDS + 1))
        assert counted(e for charge in charged for e in charge.events) == counted(plan.events_of_run())
        alone = counted(e for charge in charged for e in charge.events_alone)
        assert alone == counted(plan.events_alone_of_run())
        seals = [e.seal for e in member.ledger.entries() if e.seal is not None and e.seal.run_id == run]
        assert [seal.round_number for seal in seals] == list(range(1, ROUNDS + 1))
        for seal in seals:
            # A round that was asked again was answered with the same bytes, in every attempt.
            assert summed[member.id, seal.round_number] == {seal.payload_digest}


def contributions(shapes: Consortium, run: str) -> dict[tuple[str, int], set[str]]:
    """(member, round) → digests of what the coordinator has on record over all attempts."""
    engine = open_database(read_config(shapes.home).database(shapes.home))
    with reading(engine) as database:
        rows = database.execute(t.contributions.select().where(t.contributions.c.run_id == run)).all()
    engine.dispose()
    found: dict[tuple[str, int], set[str]] = {}
    for row in rows:
        found.setdefault((row.member_id, row.round_number), set()).add(row.payload_digest)
    return found


def charges(member: Organisation, run: str) -> list[Charge]:
    """What the member's own ledger holds for a run, in order."""
    lines = [entry.charge for entry in member.ledger.entries()]
    return [charge for charge in lines if charge is not None and charge.run_id == run]


def counted(events: Iterable[GaussianEvent]) -> Counter[tuple[float, float]]:
    """Equal events added together."""
    total: Counter[tuple[float, float]] = Counter()
    for event in events:
        total[event.noise_multiplier, event.sampling_rate] += event.count
    return total


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


def dead(shapes: Consortium, left: dict[str, list[str]]) -> str | None:
    """A member whose node has died and has steps to go."""
    return next((name for name in left if left[name] and not shapes.members[name].node.running), None)


def marker(shapes: Consortium, who: str, step: str) -> Path:
    """Exists once `who` was killed at `step`."""
    return shapes.folder / f"killed-{who}-{step}"


def crash_at(shapes: Consortium, who: str, step: str) -> str:
    """The variable that kills `who` at `step`, once."""
    return f"{step}:{marker(shapes, who, step)}"
