"""Plans, consents, runs and rounds as rows; the only file of this room that changes them.

What a person or member decided is written together with its audit line, in one transaction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from coordinator.audit import log as audit
from coordinator.runs import proposals
from coordinator.runs.events import ABANDONED, CLOSED, OPENED, Journal, RoundEvent
from coordinator.runs.round import RoundRecord
from coordinator.storage import tables as t
from coordinator.storage.database import reading, writing
from shared.domain.canonical import canonical_bytes
from shared.domain.clock import Clock, to_text
from shared.domain.errors import IllegalMove, NotFound
from shared.domain.ids import new_id
from shared.domain.plan import Plan
from shared.domain.run import RoundState, RunState, check_round_move, check_run_move
from shared.domain.strict import build, to_plain


@dataclass(frozen=True)
class RunRow:
    """A run as it stands."""

    id: str
    plan_digest: str
    state: RunState
    reason: str
    current_round: int
    """The last closed round; 0 before the first."""
    checkpoint_digest: str | None
    created_at: str


class RunStore:
    """One instance per coordinator; every method is one transaction."""

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def add_plan(self, plan: Plan, actor: str, starting_weights: str) -> None:
        """Store a proposed plan; the same plan again changes nothing. Raises IllegalMove for a withdrawn one."""
        with writing(self._engine) as db:
            known = db.execute(sa.select(t.plans.c.digest).where(t.plans.c.digest == plan.digest)).first()
            if known is not None:
                self._open_plan(db, str(plan.digest))
            else:
                db.execute(
                    t.plans.insert().values(
                        digest=str(plan.digest),
                        body=canonical_bytes(to_plain(plan)).decode("utf-8"),
                        state=proposals.PlanState.PROPOSED.value,
                        proposed_by=actor,
                        proposed_at=to_text(self._clock.now()),
                        starting_weights=starting_weights,
                        number=sa.select(sa.func.count()).select_from(t.plans).scalar_subquery(),
                    )
                )
                self._note(db, actor, "plan.propose", str(plan.digest))

    def withdraw_plan(self, digest: str, actor: str) -> None:
        """For good. Raises NotFound, and IllegalMove where it was withdrawn before or a run began from it."""
        with writing(self._engine) as db:
            self._open_plan(db, digest)
            run = db.execute(sa.select(t.runs.c.id).where(t.runs.c.plan_digest == digest)).first()
            if run is not None:
                raise IllegalMove(
                    f"Run {run.id} began from plan {digest}, and only a plan without a run can be withdrawn. Nothing "
                    "was changed. Stop the run instead."
                )
            withdrawn = t.plans.update().where(t.plans.c.digest == digest)
            db.execute(withdrawn.values(state=proposals.PlanState.WITHDRAWN.value))
            self._note(db, actor, "plan.withdraw", digest)

    def proposal(self, digest: str) -> proposals.Proposal:
        """The plan with this digest and the consents to it. Raises NotFound."""
        return proposals.one_proposal(self._engine, digest)

    def plan(self, digest: str) -> Plan:
        """The plan with this digest. Raises NotFound."""
        return _plan_of(self._plan_row(digest).body)

    def starting_weights(self, digest: str) -> str:
        """File name of the plan's starting weights. Raises NotFound."""
        return str(self._plan_row(digest).starting_weights)

    def plans(self) -> list[tuple[Plan, str]]:
        """All plans with when they were proposed, oldest first."""
        with reading(self._engine) as db:
            rows = db.execute(sa.select(t.plans).order_by(t.plans.c.proposed_at, t.plans.c.number)).all()
        return [(_plan_of(row.body), row.proposed_at) for row in rows]

    def add_consent(self, plan_digest: str, member_id: str, signature: str) -> None:
        """Store a member's signed consent; the same one again changes nothing, unless a run used it up.

        Raises as `_open_plan`.
        """
        given = t.consents.c
        now = to_text(self._clock.now())
        with writing(self._engine) as db:
            self._open_plan(db, plan_digest)
            where = (given.plan_digest == plan_digest) & (given.member_id == member_id)
            if db.execute(sa.select(given.at).where(where)).first() is None:
                whose = {"plan_digest": plan_digest, "member_id": member_id}
                db.execute(t.consents.insert().values(**whose, signature=signature, at=now))
            elif member_id in proposals.spent_consents(db, plan_digest):
                db.execute(t.consents.update().where(where).values(at=now))
            else:
                return
            self._note(db, f"member:{member_id}", "plan.consent", plan_digest)

    def consents(self, plan_digest: str) -> dict[str, str]:
        """Member id → signature."""
        with reading(self._engine) as db:
            query = sa.select(t.consents).where(t.consents.c.plan_digest == plan_digest)
            return {row.member_id: row.signature for row in db.execute(query)}

    def create_run(self, plan_digest: str, actor: str) -> RunRow:
        """A new running run of the plan. Raises IllegalMove for a withdrawn one."""
        run_id, now = new_id("run"), to_text(self._clock.now())
        with writing(self._engine) as db:
            self._open_plan(db, plan_digest)
            db.execute(
                t.runs.insert().values(
                    id=run_id,
                    plan_digest=plan_digest,
                    state=RunState.RUNNING.value,
                    created_at=now,
                    updated_at=now,
                    reason="",
                    current_round=0,
                )
            )
            self._note(db, actor, "run.start", run_id, {"plan": plan_digest})
        return self.run(run_id)

    def run(self, run_id: str) -> RunRow:
        """The run with this id. Raises NotFound."""
        with reading(self._engine) as db:
            row = db.execute(sa.select(t.runs).where(t.runs.c.id == run_id)).first()
        if row is None:
            raise NotFound(f"There is no run {run_id[:40]}. Nothing was done. List the runs.")
        return _run_of(row)

    def runs(self) -> list[RunRow]:
        """All runs, oldest first."""
        with reading(self._engine) as db:
            return [_run_of(r) for r in db.execute(sa.select(t.runs).order_by(t.runs.c.created_at))]

    def move_run(self, run_id: str, wanted: RunState, actor: str, reason: str = "") -> None:
        """Change a run's state. Raises IllegalMove, NotFound."""
        with writing(self._engine) as db:
            row = db.execute(sa.select(t.runs).where(t.runs.c.id == run_id).with_for_update()).first()
            if row is None:
                raise NotFound(f"There is no run {run_id[:40]}. Nothing was done. List the runs.")
            check_run_move(RunState(row.state), wanted)
            db.execute(
                t.runs.update()
                .where(t.runs.c.id == run_id)
                .values(state=wanted.value, reason=reason, updated_at=to_text(self._clock.now()))
            )
            self._note(db, actor, f"run.{wanted.value}", run_id, {"reason": reason[:500]})

    def open_round(self, run_id: str, record: RoundRecord) -> int:
        """Write the round down before anybody is asked; returns the attempt, counted from 1.

        Attempts of this round that a crash left open are marked abandoned: their cohorts stay on record,
        because whoever was asked may have been charged.
        """
        with writing(self._engine) as db:
            earlier = _of_round(run_id, record.number)
            self._abandon_open(db, run_id, record.number)
            last = db.execute(sa.select(sa.func.max(t.rounds.c.attempt)).where(earlier)).scalar()
            attempt = int(last or 0) + 1
            db.execute(
                t.rounds.insert().values(
                    run_id=run_id,
                    number=record.number,
                    attempt=attempt,
                    state=RoundState.OPENED.value,
                    opened_at=to_text(self._clock.now()),
                    cohort=list(record.cohort),
                    contributors=[],
                    missing=record.missing,
                    seconds={},
                )
            )
            asked = f"{len(record.cohort)} of {len(record.cohort) + len(record.missing)}"
            self._write_events(db, run_id, record.number, attempt, [self._event(OPENED, asked)])
        return attempt

    def _abandon_open(self, db: sa.Connection, run_id: str, number: int) -> None:
        still_open = _of_round(run_id, number) & t.rounds.c.state.in_(_OPEN_STATES)
        note = "the coordinator stopped before the round closed"
        for attempt in db.execute(sa.select(t.rounds.c.attempt).where(still_open)).scalars().all():
            self._write_events(db, run_id, number, attempt, [self._event(ABANDONED, note)])
        db.execute(
            t.rounds.update()
            .where(still_open)
            .values(state=RoundState.ABANDONED.value, closed_at=to_text(self._clock.now()), note=note)
        )

    def journal(self, run_id: str, number: int, attempt: int) -> Journal:
        """Where to note what happens in an attempt. What it still holds at the round's end is written with that."""

        def write(events: Sequence[RoundEvent]) -> None:
            with writing(self._engine) as db:
                self._write_events(db, run_id, number, attempt, events)

        return Journal(write, self._clock)

    def move_round(self, run_id: str, number: int, attempt: int, wanted: RoundState) -> None:
        """Change a round's state. Raises IllegalMove."""
        with writing(self._engine) as db:
            _move_round(db, run_id, number, attempt, wanted)

    def abandon_round(self, run_id: str, record: RoundRecord, attempt: int, note: str) -> None:
        """The round ended with nothing (clause 5.5); who was asked and who answered stays on record."""
        record.journal.note(ABANDONED, detail=note)
        with writing(self._engine) as db:
            _move_round(db, run_id, record.number, attempt, RoundState.ABANDONED)
            self._write_outcome(db, run_id, record, attempt, f"{note} {record.note}".strip(), None)

    def close_round(self, run_id: str, record: RoundRecord, attempt: int, checkpoint: str) -> None:
        """Round closed, contributions on record, and the run moved to its checkpoint: one transaction.

        Called only after the checkpoint file is on disk (step 12).
        """
        record.journal.note(CLOSED, detail=checkpoint)
        with writing(self._engine) as db:
            _move_round(db, run_id, record.number, attempt, RoundState.CLOSED)
            self._write_outcome(db, run_id, record, attempt, record.note, checkpoint)
            db.execute(
                t.runs.update()
                .where(t.runs.c.id == run_id)
                .values(
                    current_round=record.number,
                    checkpoint_digest=checkpoint,
                    updated_at=to_text(self._clock.now()),
                )
            )

    def give_up_round(self, run_id: str, number: int, note: str) -> None:
        """Go on after a round that ended with nothing for good: no checkpoint, and it stays charged (5.5)."""
        with writing(self._engine) as db:
            db.execute(
                t.runs.update()
                .where(t.runs.c.id == run_id)
                .values(current_round=number, updated_at=to_text(self._clock.now()))
            )
            self._note(db, "system", "round.give_up", f"{run_id}/{number}", {"reason": note[:500]})

    def rounds(self, run_id: str) -> list[dict[str, Any]]:
        """All attempts of all rounds as plain mappings, in order."""
        with reading(self._engine) as db:
            query = (
                sa.select(t.rounds)
                .where(t.rounds.c.run_id == run_id)
                .order_by(t.rounds.c.number, t.rounds.c.attempt)
            )
            return [dict(row._mapping) for row in db.execute(query)]

    def checkpoint_of(self, run_id: str, number: int) -> str | None:
        """Digest of the checkpoint that closed this round, or None."""
        with reading(self._engine) as db:
            query = sa.select(t.rounds.c.checkpoint_digest).where(
                _of_round(run_id, number) & t.rounds.c.checkpoint_digest.is_not(None)
            )
            return db.execute(query).scalar()

    def note_release(self, release: str, run_id: str, actor: str) -> None:
        """An audit line for a release; the release itself lives in the registry's signed catalogue."""
        with writing(self._engine) as db:
            self._note(db, actor, "release.publish", release, {"run": run_id})

    def note_refused_release(self, run_id: str, actor: str, code: str) -> None:
        """An audit line for a release that was begun on a page and did not come about."""
        with writing(self._engine) as db:
            self._note(db, actor, "release.refused", run_id, {"code": code})

    def _write_outcome(
        self,
        db: sa.Connection,
        run_id: str,
        record: RoundRecord,
        attempt: int,
        note: str,
        checkpoint: str | None,
    ) -> None:
        now = to_text(self._clock.now())
        counts = record.validation
        self._write_events(db, run_id, record.number, attempt, record.journal.take())
        db.execute(
            t.rounds.update()
            .where(_of_round(run_id, record.number) & (t.rounds.c.attempt == attempt))
            .values(
                closed_at=now,
                cohort=list(record.cohort),
                contributors=list(record.contributors),
                missing=record.missing,
                checkpoint_digest=checkpoint,
                bytes_up=record.bytes_up,
                bytes_down=record.bytes_down,
                seconds=record.seconds,
                counts_correct=counts.correct if counts else None,
                counts_wrong=counts.wrong if counts else None,
                counts_noise_std=counts.noise_std if counts else None,
                note=note,
            )
        )
        for contribution in record.contributions:
            db.execute(
                t.contributions.insert().values(
                    run_id=run_id,
                    round_number=record.number,
                    attempt=attempt,
                    member_id=contribution.header.member_id,
                    payload_digest=contribution.header.payload_digest,
                    signature=contribution.signature.hex(),
                    bytes=contribution.header.payload_bytes,
                    at=now,
                )
            )

    def _event(self, kind: str, detail: str) -> RoundEvent:
        return RoundEvent(kind, None, detail, to_text(self._clock.now()), 0.0)

    def _write_events(
        self, db: sa.Connection, run_id: str, number: int, attempt: int, events: Sequence[RoundEvent]
    ) -> None:
        where = {"run_id": run_id, "number": number, "attempt": attempt}
        if events:
            db.execute(t.round_events.insert(), [where | vars(event) for event in events])

    def _note(
        self, db: sa.Connection, actor: str, action: str, subject: str, detail: audit.Detail | None = None
    ) -> None:
        audit.append(db, self._clock, actor, action, subject, detail)

    @staticmethod
    def _open_plan(db: sa.Connection, digest: str) -> None:
        """Raise NotFound, or IllegalMove for a withdrawn plan; held until the transaction ends."""
        query = sa.select(t.plans.c.state).where(t.plans.c.digest == digest).with_for_update()
        state = db.execute(query).scalar()
        if state is None:
            raise proposals.no_plan(digest)
        if proposals.PlanState(state) is proposals.PlanState.WITHDRAWN:
            raise proposals.withdrawn_error(digest)

    def _plan_row(self, digest: str) -> sa.Row[Any]:
        with reading(self._engine) as db:
            row = db.execute(sa.select(t.plans).where(t.plans.c.digest == digest)).first()
        if row is None:
            raise proposals.no_plan(digest)
        return row


_OPEN_STATES: Sequence[str] = [
    RoundState.OPENED.value,
    RoundState.ASKED.value,
    RoundState.SUMMED.value,
]


def _of_round(run_id: str, number: int) -> sa.ColumnElement[bool]:
    return (t.rounds.c.run_id == run_id) & (t.rounds.c.number == number)


def _move_round(db: sa.Connection, run_id: str, number: int, attempt: int, wanted: RoundState) -> None:
    where = _of_round(run_id, number) & (t.rounds.c.attempt == attempt)
    current = db.execute(sa.select(t.rounds.c.state).where(where)).scalar_one()
    check_round_move(RoundState(current), wanted)
    db.execute(t.rounds.update().where(where).values(state=wanted.value))


def _plan_of(body: str) -> Plan:
    return build(Plan, json.loads(body), "plan")


def _run_of(row: sa.Row[Any]) -> RunRow:
    return RunRow(
        row.id,
        row.plan_digest,
        RunState(row.state),
        row.reason,
        row.current_round,
        row.checkpoint_digest,
        row.created_at,
    )
