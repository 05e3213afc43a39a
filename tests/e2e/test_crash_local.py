"""kill −9 at every numbered step of a round of mode local, of members and of the coordinator.

test_crash.py does it in mode secure. Two members train together here, fewer than that takes. Steps 0.1, 0.2, 7
and 10.1 to 10.3 are of masks and do not exist here; 13 to 15 are the same in both modes and stand there.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from participant.consents import reviewed_plan
from participant.home import Home
from shared.domain.privacy import Mode
from tests.e2e.consortium import EXTRACTOR, Consortium, consortium, wait_for
from tests.e2e.crashes import ROUNDS, charges, contributions, counted, crash_at, marker
from tests.workers_kit import lay_probe

STEPS_OF_MEMBERS = {"a": ("1", "3", "5", "8"), "b": ("2", "4", "6", "9")}
STEPS_OF_COORDINATOR = ("10", "11", "12")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """Two members; their nodes are started further down."""
    sizes = {"a": (40, 2), "b": (30, 3)}
    with consortium(tmp_path_factory.mktemp("local"), sizes, warm=True, exports=False) as made:
        yield made


def check_accounts(pair: Consortium, plan_digest: str, run: str) -> None:
    """Each member paid for each round once, and whatever was averaged of it is the one draw that it sealed."""
    averaged = contributions(pair, run)
    for member in pair.members.values():
        plan = reviewed_plan(Home(member.home), plan_digest).plan
        assert plan.privacy.mode is Mode.LOCAL
        charged = charges(member, run)
        assert [charge.round_number for charge in charged] == list(range(1, ROUNDS + 1))
        assert counted(e for charge in charged for e in charge.events) == counted(plan.events_of_run())
        seals = [e.seal for e in member.ledger.entries() if e.seal is not None and e.seal.run_id == run]
        assert [seal.round_number for seal in seals] == list(range(1, ROUNDS + 1))
        for seal in seals:
            assert averaged[member.id, seal.round_number] == {seal.payload_digest}


@pytest.mark.slow
def test_run_of_mode_local_survives_a_kill_at_every_step(pair: Consortium) -> None:
    lay_probe(pair.home, EXTRACTOR)
    plan = pair.propose(ROUNDS, quorum=2)
    run = pair.start_run(plan)
    left = {name: list(steps) for name, steps in STEPS_OF_MEMBERS.items()}
    for name, steps in left.items():
        pair.members[name].node.start(crash_at(pair, name, steps[0]))

    def dead() -> str | None:
        return next((name for name in left if left[name] and not pair.members[name].node.running), None)

    while any(left.values()):
        name = wait_for("a node kills itself", dead)
        node = pair.members[name].node
        node.wait_killed()
        assert marker(pair, name, left[name].pop(0)).exists(), "it died at another step"
        node.start(crash_at(pair, name, left[name][0]) if left[name] else None)
    shown = pair.wait_run(run)
    assert [(r["number"], r["attempt"], r["state"]) for r in shown["rounds"]] == [
        (number, 1, "closed") for number in range(1, ROUNDS + 1)
    ]
    check_accounts(pair, plan, run)

    # The same plan again, while the coordinator dies.
    pair.coordinator.end(signal.SIGKILL)
    pair.serve(crash_at(pair, "coordinator", STEPS_OF_COORDINATOR[0]))
    run = pair.start_run(plan)
    for next_step in (*STEPS_OF_COORDINATOR[1:], None):
        pair.coordinator.wait_killed()
        pair.serve(crash_at(pair, "coordinator", next_step) if next_step else None)
    rounds = pair.wait_run(run)["rounds"]
    assert Counter(r["state"] for r in rounds) == {"closed": ROUNDS, "abandoned": len(STEPS_OF_COORDINATOR)}
    assert [r["number"] for r in rounds if r["state"] == "closed"] == list(range(1, ROUNDS + 1))
    check_accounts(pair, plan, run)
