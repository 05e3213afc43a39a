"""The thread that drives runs, round after round; after any crash it goes on from the last closed one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from coordinator.runs.averaging import ServerState
from coordinator.runs.carrier import Carrier
from coordinator.runs.cohort import choose_cohort
from coordinator.runs.events import SUMMED
from coordinator.runs.round import RoundRecord, run_round
from coordinator.runs.round_keys import RoundKeyStore
from coordinator.runs.secure_round import run_secure_round
from coordinator.runs.store import RunRow, RunStore
from coordinator.storage.checkpoints import CheckpointStore
from shared.domain.consortium import Member, MemberState
from shared.domain.crash_points import crash_point
from shared.domain.errors import CommonlensError, QuorumMissed, RunStopped, UnmaskFailed
from shared.domain.plan import Plan
from shared.domain.privacy import Mode
from shared.domain.run import RoundState, RunState
from shared.extractors.files import read_weights
from shared.extractors.flatten import flatten

ATTEMPTS = 3
"""How often a round without a quorum is asked again before the run waits for an admin. Members answer a
repeated round with the same bytes (clause 3.8), so another attempt costs nobody any privacy."""
EMPTY_ROUNDS = 3
"""Secure rounds in a row that may end with nothing and be left behind, before the run waits for an admin."""
LOOK_AGAIN_S = 0.2
GRACE_S = 10.0
"""How long a round that has its quorum waits for a member that was there in the round before."""
KEPT_CHECKPOINTS = 3
ACTOR = "system"

log = logging.getLogger("commonlens.runs")


class RunDriver(threading.Thread):
    """One per coordinator. Runs are driven one at a time, oldest first."""

    def __init__(
        self,
        store: RunStore,
        checkpoints: CheckpointStore,
        carrier: Carrier,
        members: Callable[[], list[Member]],
        starting_folder: Path,
        scratch: Path,
    ) -> None:
        super().__init__(name="run-driver", daemon=True)
        self._store = store
        self._checkpoints = checkpoints
        self._carrier = carrier
        self._members = members
        self.starting_folder = starting_folder
        self._scratch = scratch
        self._round_keys = RoundKeyStore(scratch / "rounds")
        self._ended = threading.Event()
        self._given_up: set[str] = set()
        """Members whose nodes were offline when the last round was opened."""
        self._empty_rounds = 0
        """Secure rounds in a row that ended with nothing."""
        self.driving: str | None = None
        """The run whose rounds are driven now; the others wait."""

    def stop(self) -> None:
        """Leave the run where it is; the next start goes on from its last closed round."""
        self._ended.set()

    def run(self) -> None:
        """Drive until stopped. An error ends the run it belongs to, not this thread."""
        while not self._ended.is_set():
            waiting = [run for run in self._store.runs() if run.state is RunState.RUNNING]
            if not waiting:
                self._ended.wait(LOOK_AGAIN_S)
                continue
            self.driving = waiting[0].id
            self.drive(waiting[0])
            self.driving = None

    def drive(self, run: RunRow) -> None:
        """All remaining rounds of one run, until it is complete, paused, stopped, or failed."""
        try:
            plan = self._store.plan(run.plan_digest)
            state = self.server_state(run, plan)
            for number in range(run.current_round + 1, plan.rounds + 1):
                state = self._round_with_retries(run.id, plan, number, state)
            self._store.move_run(run.id, RunState.COMPLETED, ACTOR)
            self._round_keys.forget_run(run.id)
        except RunStopped:
            return
        except CommonlensError as error:
            self._fail(run.id, error.message)
        except Exception:
            log.exception("run %s failed", run.id)
            self._fail(run.id, "An internal error; the coordinator's log has the details.")

    def server_state(self, run: RunRow, plan: Plan) -> ServerState:
        """Where the run stands: its last checkpoint, or the plan's starting weights and a shared head of zeros."""
        if run.checkpoint_digest is not None:
            return ServerState.from_tensors(self._checkpoints.read(run.checkpoint_digest))
        path = self.starting_folder / self._store.starting_weights(run.plan_digest)
        start = read_weights(path)
        head = np.zeros(plan.trainable_coordinates - plan.extractor_coordinates, dtype=np.float32)
        return ServerState(np.concatenate([flatten(start.tensors, start.layout), head]))

    def _round_with_retries(self, run_id: str, plan: Plan, number: int, state: ServerState) -> ServerState:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                moved = self._one_round(run_id, plan, number, state)
                self._empty_rounds = 0
                return moved
            except (QuorumMissed, UnmaskFailed) as error:
                if attempt == ATTEMPTS:
                    self._give_up(run_id, number, error)
        return state

    def _give_up(self, run_id: str, number: int, error: CommonlensError) -> None:
        """Leave a secure round that was contributed to behind; raise `error` where it can still be made good.

        Its cohort is fixed, so a member that is gone for good would stop the run for ever. Nothing came of the
        round; it stays charged (clause 5.5).
        """
        keys = self._round_keys.read(run_id, number)
        if keys is None or keys.cohort is None or self._empty_rounds >= EMPTY_ROUNDS:
            raise error
        self._empty_rounds += 1
        log.warning("run %s: round %d ended with nothing and is left behind: %s", run_id, number, error)
        self._store.give_up_round(run_id, number, error.message)
        self._round_keys.forget(run_id, number)

    def _one_round(self, run_id: str, plan: Plan, number: int, state: ServerState) -> ServerState:
        record = self._gather(run_id, plan, number)
        attempt = self._store.open_round(run_id, record)
        record.journal = self._store.journal(run_id, number, attempt)
        try:
            self._store.move_round(run_id, number, attempt, RoundState.ASKED)
            moved = self._run_round(run_id, plan, record, state)
            crash_point("11")
            record.journal.note(SUMMED)
            self._store.move_round(run_id, number, attempt, RoundState.SUMMED)
            checkpoint = self._checkpoints.write(moved.tensors())
            crash_point("12")
            self._store.close_round(run_id, record, attempt, checkpoint)
            self._forget_checkpoint(run_id, number - KEPT_CHECKPOINTS)
            self._round_keys.forget(run_id, number)
        except CommonlensError as error:
            self._store.abandon_round(run_id, record, attempt, error.message)
            raise
        return moved

    def _run_round(self, run_id: str, plan: Plan, record: RoundRecord, state: ServerState) -> ServerState:
        identity_keys = {m.id: m.identity_public_key for m in self._members()}

        def keep_going() -> None:
            self._keep_going(run_id)

        if plan.privacy.mode is Mode.LOCAL:
            return run_round(
                run_id, plan, record, state, identity_keys, self._carrier, self._scratch, keep_going
            )
        return run_secure_round(
            run_id,
            plan,
            record,
            state,
            identity_keys,
            self._carrier,
            self._scratch,
            keep_going,
            self._round_keys,
        )

    def _forget_checkpoint(self, run_id: str, number: int) -> None:
        """Delete the checkpoint of an older round: a run is only ever resumed from its last one."""
        digest = self._store.checkpoint_of(run_id, number)
        if digest is not None:
            self._checkpoints.forget(digest)

    def _gather(self, run_id: str, plan: Plan, number: int) -> RoundRecord:
        """Wait for members that are expected but offline: briefly when a quorum is there, else longer.

        A member that was waited for in vain is not waited for again until it has been back.
        """
        started = time.monotonic()
        while True:
            self._keep_going(run_id)
            states: dict[str, MemberState] = {m.id: m.state for m in self._members()}
            consented = self._store.consents(str(plan.digest))
            cohort, missing = choose_cohort(plan, states, consented, self._carrier.online())
            offline = {member for member, why in missing.items() if why == "offline"}
            enough = len(cohort) >= plan.quorum
            patience_s = min(GRACE_S, plan.deadline_s) if enough else plan.deadline_s
            late = time.monotonic() - started > patience_s
            if late or (enough and offline <= self._given_up):
                self._given_up = offline
                return RoundRecord(number, cohort, missing)
            self._ended.wait(LOOK_AGAIN_S)

    def _keep_going(self, run_id: str) -> None:
        if self._ended.is_set() or self._store.run(run_id).state is not RunState.RUNNING:
            raise RunStopped("The run was paused or stopped. The open round was abandoned.")

    def _fail(self, run_id: str, reason: str) -> None:
        if self._store.run(run_id).state is RunState.RUNNING:
            self._store.move_run(run_id, RunState.FAILED, ACTOR, reason)
