"""What the crash tests share: a consortium whose plan needs all four members, and the books afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from coordinator.config import read_config
from coordinator.storage import tables as t
from coordinator.storage.database import open_database, reading
from participant.consents import reviewed_plan
from participant.home import Home
from shared.domain.privacy import Charge, GaussianEvent
from tests.e2e.consortium import EXTRACTOR, Consortium, Organisation
from tests.workers_kit import lay_probe

ROUNDS = 4
SIZES = {"a": (60, 3), "b": (50, 2), "c": (40, 2), "d": (30, 3)}
"""Member → (records, classes)."""


def propose(shapes: Consortium) -> str:
    """A plan of mode secure that needs all four: a member that stays away stops it."""
    lay_probe(shapes.home, EXTRACTOR)
    return shapes.propose(ROUNDS, quorum=4)


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


def marker(shapes: Consortium, who: str, step: str) -> Path:
    """Exists once `who` was killed at `step`."""
    return shapes.folder / f"killed-{who}-{step}"


def crash_at(shapes: Consortium, who: str, step: str) -> str:
    """The variable that kills `who` at `step`, once."""
    return f"{step}:{marker(shapes, who, step)}"
