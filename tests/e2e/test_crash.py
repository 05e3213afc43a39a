"""kill −9 at every numbered step of the walk (docs/architecture.md, section 3), then start again and go on.

After each kill the run goes on from its last closed round, every member's ledger holds each round exactly once,
each round was answered with one draw of noise only, and no release is ever half visible. Step 7 does not exist
in mode local: nothing is masked.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.registry.shelf import Shelf, read_catalogue
from shared.cli import app as anybody_app
from shared.domain.clock import SystemClock
from shared.domain.plan import Plan
from shared.domain.privacy import GaussianEvent
from shared.domain.strict import build
from shared.verification import verify_release
from tests.e2e.consortium import Consortium, Organisation, call, command, consortium, wait_for

ROUNDS = 4
STEPS_OF_MEMBERS = {"a": ("1", "4", "8"), "b": ("2", "5", "9"), "c": ("3", "6")}
STEPS_OF_COORDINATOR = ("10", "11", "12")
STEPS_OF_PUBLISHING = ("13.1", "13.2", "13.3", "13.4", "13.5", "13.6")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """Three members; their nodes are started by the tests."""
    with consortium(tmp_path_factory.mktemp("crash"), {"a": (60, 3), "b": (50, 2), "c": (40, 2)}) as made:
        yield made


@pytest.fixture(scope="module")
def plan(shapes: Consortium) -> str:
    """A plan that needs all three: a member that stays away stops it."""
    return shapes.agree(ROUNDS, quorum=3)


@pytest.fixture(scope="module")
def survived(shapes: Consortium, plan: str) -> str:
    """The run in which every member was killed at each of its steps."""
    run = shapes.start_run(plan)
    for name, steps in STEPS_OF_MEMBERS.items():
        shapes.members[name].node.start(crash_at(shapes, name, steps[0]))
    # All three die in turn, side by side; each comes back with its next step.
    left = {name: list(steps) for name, steps in STEPS_OF_MEMBERS.items()}
    while any(left.values()):
        name = wait_for("a node kills itself", lambda: dead(shapes, left))
        shapes.members[name].node.wait_killed()
        assert marker(shapes, name, left[name].pop(0)).exists(), "it died before the step that was named"
        shapes.members[name].node.start(crash_at(shapes, name, left[name][0]) if left[name] else None)
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


def test_coordinator_killed_while_it_sums_goes_on_from_its_last_closed_round(
    shapes: Consortium, plan: str, survived: str
) -> None:
    shapes.coordinator.end()
    shapes.serve(crash_at(shapes, "coordinator", STEPS_OF_COORDINATOR[0]))
    run = shapes.start_run(plan)
    for next_step in (*STEPS_OF_COORDINATOR[1:], None):
        shapes.coordinator.wait_killed()
        shapes.serve(crash_at(shapes, "coordinator", next_step) if next_step else None)
    shown = shapes.wait_run(run)
    # Each kill cost one attempt of the round that was open, and no closed round was ever opened again.
    states = [(r["number"], r["state"]) for r in shown["rounds"]]
    assert Counter(state for _, state in states) == {"closed": ROUNDS, "abandoned": len(STEPS_OF_COORDINATOR)}
    assert [number for number, state in states if state == "closed"] == list(range(1, ROUNDS + 1))
    for number in range(1, ROUNDS + 1):
        assert [state for n, state in states if n == number][-1] == "closed"
    check_accounts(shapes, plan, run)


def test_no_release_is_half_visible_wherever_publishing_was_killed(
    shapes: Consortium, plan: str, survived: str, tmp_path: Path
) -> None:
    for member in shapes.members.values():
        member.node.end()
    for step in STEPS_OF_PUBLISHING:
        shapes.coordinator.end()
        shapes.serve(crash_at(shapes, "coordinator", step))
        from coordinator.cli import app as coordinator_app

        done = call(coordinator_app, "release", "publish", survived, "--home", shapes.home)
        assert done.code == 4, f"{step}: {done.out}{done.err}"
        shapes.coordinator.wait_killed()
        listed = [entry.id for entry in read_catalogue(Shelf(shapes.home), SystemClock()).releases]
        assert listed == (["shapes-1"] if step == "13.6" else []), step
    shapes.serve()
    assert shapes.admin("release", "publish", survived).last == "shapes-1"
    left = sorted(path.name for path in (shapes.home / "releases").iterdir() if path.name != ".lock")
    assert left == ["catalogue.json", "shapes"]
    assert [path.name for path in (shapes.home / "releases" / "shapes").iterdir()] == ["1"]

    pull = (shapes.url, "shapes", "--ca-fingerprint", shapes.fingerprint, "--to", tmp_path)
    done = call(anybody_app, "pull", *pull)
    assert done.code == 0, done.err
    # The certificate recomputes, and says of each member exactly what its own ledger says.
    certificate = verify_release(tmp_path / "shapes-1", pinned_root=None).certificate
    for member in shapes.members.values():
        line = next(m for m in certificate.members if m.member_id == member.id)
        assert counted(line.events) == counted(e for c in charges(member, survived) for e in c.events)


def test_member_killed_while_it_downloads_or_fits_starts_again(shapes: Consortium, survived: str) -> None:
    if not shapes.coordinator.running:
        shapes.serve()
    shapes.admin("release", "publish", survived)
    member = shapes.members["a"]
    pull = ("head", "pull", "shapes-1", "--home", member.home)
    fit = ("head", "fit", "shapes-1", "--data", "own", "--name", "mine", "--home", member.home)
    for step, arguments in (("14", pull), ("15", fit)):
        killed = command("commonlens-participant", *arguments, crash=crash_at(shapes, "a", step))
        assert killed.code == -9 and marker(shapes, "a", step).exists(), killed.err
        again = member.call(*arguments[:-2])
        assert again.code == 0, again.err
    assert "mine  3 classes" in member.call("head", "list").out


def check_accounts(shapes: Consortium, plan_digest: str, run: str) -> None:
    """Exactly rounds × events are charged, and what the coordinator summed is what each member sealed, once."""
    path = Path(shapes.members["a"].home / "plans" / f"{plan_digest.removeprefix('sha256:')}.json")
    plan = build(Plan, json.loads(path.read_text(encoding="utf-8")), "plan")
    summed = contributions(shapes, run)
    for member in shapes.members.values():
        charged = charges(member, run)
        assert [charge.round_number for charge in charged] == list(range(1, ROUNDS + 1))
        assert counted(e for charge in charged for e in charge.events) == counted(plan.events_of_run())
        seals = [e.seal for e in member.ledger.entries() if e.seal is not None and e.seal.run_id == run]
        assert [seal.round_number for seal in seals] == list(range(1, ROUNDS + 1))
        # A round asked again was answered with the same bytes, in every attempt.
        for seal in seals:
            assert summed[member.id, seal.round_number] == {seal.payload_digest}
            sealed = member.outbox
            assert sealed is not None


def contributions(shapes: Consortium, run: str) -> dict[tuple[str, int], set[str]]:
    """(member, round) → digests of what the coordinator has on record over all attempts."""
    from coordinator.config import read_config
    from coordinator.storage import tables
    from coordinator.storage.database import open_database, reading

    engine = open_database(read_config(shapes.home).database(shapes.home))
    with reading(engine) as database:
        rows = database.execute(
            tables.contributions.select().where(tables.contributions.c.run_id == run)
        ).all()
    engine.dispose()
    found: dict[tuple[str, int], set[str]] = {}
    for row in rows:
        found.setdefault((row.member_id, row.round_number), set()).add(row.payload_digest)
    return found


def charges(member: Organisation, run: str) -> list[Any]:
    entries = member.ledger.entries()
    return [entry.charge for entry in entries if entry.charge is not None and entry.charge.run_id == run]


def counted(events: Any) -> Counter[tuple[float, float]]:
    total: Counter[tuple[float, float]] = Counter()
    event: GaussianEvent
    for event in events:
        total[event.noise_multiplier, event.sampling_rate] += event.count
    return total


def dead(shapes: Consortium, left: dict[str, list[str]]) -> str | None:
    """A member whose node has died and has steps to go."""
    return next((name for name in left if left[name] and not shapes.members[name].node.running), None)


def marker(shapes: Consortium, who: str, step: str) -> Path:
    return shapes.folder / f"killed-{who}-{step}"


def crash_at(shapes: Consortium, who: str, step: str) -> str:
    return f"{step}:{marker(shapes, who, step)}"
