"""kill −9 of members at every numbered step of the walk (docs/architecture.md, section 3), then start again.

After each kill the run goes on, every member's ledger holds each round exactly once, and each round was answered
with one draw of noise only. The run is of mode secure: steps 0.1 and 0.2 are its keys, 7 its masks, 10.2 and
10.3 its unmasking. The coordinator's kills are in test_crash_of_coordinator.py; steps 14 and 15
need a release and are in test_walk.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.consortium import Consortium, consortium, wait_for
from tests.e2e.crashes import ROUNDS, SIZES, check_accounts, crash_at, marker, propose

STEPS = {
    "a": ("0.1", "1", "4", "8"),
    "b": ("0.2", "5", "9"),
    "c": ("2", "7", "10.2"),
    "d": ("3", "6", "10.3"),
}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """Four members; their nodes are started further down."""
    with consortium(tmp_path_factory.mktemp("crash"), SIZES) as made:
        yield made


@pytest.fixture(scope="module")
def plan(shapes: Consortium) -> str:
    """The digest of the plan that everybody is killed under."""
    return propose(shapes)


@pytest.fixture(scope="module")
def survived(shapes: Consortium, plan: str) -> str:
    """The run in which every member was killed at each of its steps."""
    run = shapes.start_run(plan)
    for name, steps in STEPS.items():
        shapes.members[name].node.start(crash_at(shapes, name, steps[0]))
    # All of them die in turn, side by side; each comes back with its next step.
    left = {name: list(steps) for name, steps in STEPS.items()}
    while any(left.values()):
        name = wait_for("a node kills itself", lambda: dead(shapes, left))
        node = shapes.members[name].node
        node.wait_killed()
        assert marker(shapes, name, left[name].pop(0)).exists(), "it died at another step"
        node.start(crash_at(shapes, name, left[name][0]) if left[name] else None)
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
    for name, steps in STEPS.items():
        said = shapes.members[name].node.said()
        starts = said.split("node starts")[1:]
        assert len(starts) == len(steps) + 1
        assert all(start.split()[0] == "connected" for start in starts), said


def dead(shapes: Consortium, left: dict[str, list[str]]) -> str | None:
    """A member whose node has died and has steps to go."""
    return next((name for name in left if left[name] and not shapes.members[name].node.running), None)
