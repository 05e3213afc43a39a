"""The member's privacy ledger: every spend of a data set's whole life, checked before it happens (clause 7).

One round walks through it like this (architecture section 3, step 2):

 1. `charge`: the round's events are composed with everything this data set ever released. Over the
    policy's ceiling: BudgetExceeded. Otherwise one line, on disk before the call returns, and a token.
 2. `ChargeToken.spend`, once, just before the first gradient.
 3. `seal`: the reply's bytes are on disk; from now on the round can only be answered with those bytes.

After a crash between 1 and 3 nothing has left, so charging the same round again gives a new token and costs
nothing more. After 3 a new draw of noise would be a second release (clause 3.8): AlreadyReleased.
"""

from __future__ import annotations

import enum
import math
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from shared.domain.clock import Clock, SystemClock
from shared.domain.errors import (
    AlreadyReleased,
    BrokenChain,
    BudgetExceeded,
    ChargeMismatch,
    InvalidConfig,
    NotCharged,
    TokenRejected,
    UnsoundPlan,
)
from shared.domain.privacy import MAXIMUM_DELTA, Budget, Charge, GaussianEvent
from shared.domain.strict import build, to_plain
from shared.privacy.chain import OPENED, TORN, ChainedFile, Line
from shared.privacy.headroom import Headroom, Steps, events_of, steps_of

LEDGER_FORMAT = "commonlens-ledger/1"
_RoundKey = tuple[str, str, int]


class EntryKind(enum.Enum):
    """What a line of the ledger says."""

    OPENED = OPENED
    CHARGE = "charge"
    SEAL = "seal"
    TORN = TORN


@dataclass(frozen=True)
class Seal:
    """The one answer to a round: SHA-256 of the payload bytes that are on disk."""

    dataset_id: str
    run_id: str
    round_number: int
    payload_digest: str


@dataclass(frozen=True)
class LedgerEntry:
    """One line, for pages and for people; exactly one of charge and seal is set where the kind says so."""

    sequence: int
    recorded_at: str
    kind: EntryKind
    digest: str
    charge: Charge | None = None
    seal: Seal | None = None


_FROM_THE_LEDGER = object()


class ChargeToken:
    """The right to train one round once (clause 7.2). Only a ledger makes one.

    It guards against mistakes of our own code, not against code that reaches into private names.
    """

    __slots__ = ("_charge", "_lock", "_origin", "_spent")

    def __init__(self, origin: object, charge: Charge) -> None:
        if origin is not _FROM_THE_LEDGER:
            raise TokenRejected(
                "A charge token must come from Ledger.charge, and this one was made elsewhere. No token was "
                "made and no record may be touched. Charge the round first."
            )
        self._origin = origin
        self._charge = charge
        self._spent = False
        self._lock = threading.Lock()

    @property
    def charge(self) -> Charge:
        """What was paid for, so that the training step can see that it is its own round."""
        return self._charge

    @property
    def spent(self) -> bool:
        """Whether training began under it."""
        return self._spent

    def spend(self) -> tuple[GaussianEvent, ...]:
        """The events that were paid for; works once. Raises TokenRejected."""
        if getattr(self, "_origin", None) is not _FROM_THE_LEDGER:
            raise TokenRejected(
                "A charge token must come from Ledger.charge, and this one was not. No record was touched. "
                "Charge the round first."
            )
        with self._lock:
            if self._spent:
                raise TokenRejected(
                    f"The charge for round {self._charge.round_number} of run {self._charge.run_id} pays for "
                    "one training and was already spent. No record was touched. Charge the round again."
                )
            self._spent = True
        return self._charge.events

    def __reduce__(self) -> str:
        raise TokenRejected(
            "A charge token is good once and cannot be copied or stored. Nothing was copied. Charge the "
            "round where it is trained."
        )


class LedgerView:
    """A ledger to look at: takes no lock, writes nothing, and sees new entries at each call.

    Opening and every call verify the chain as far as it is new, and raise BrokenChain. No file means that
    nothing was ever spent.
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._chain = ChainedFile(path, LEDGER_FORMAT, clock or SystemClock())
        self._lock = threading.RLock()
        self._entries: list[LedgerEntry] = []
        self._charges: dict[_RoundKey, Charge] = {}
        self._seals: dict[_RoundKey, str] = {}
        self._steps: dict[str, Steps] = {}
        self._steps_alone: dict[str, Steps] = {}
        self._catch_up()

    def entries(self) -> tuple[LedgerEntry, ...]:
        """All entries, oldest first."""
        with self._lock:
            self._catch_up()
            return tuple(self._entries)

    def spent(self, dataset_id: str) -> tuple[GaussianEvent, ...]:
        """Everything this data set was ever charged (clause 7.5), equal steps counted together."""
        with self._lock:
            self._catch_up()
            return self._spent(dataset_id)

    def spent_and_alone(self, dataset_id: str) -> tuple[tuple[GaussianEvent, ...], tuple[GaussianEvent, ...]]:
        """(`spent`, the same where every other member and the coordinator deviate, clause 3.7), of one moment."""
        with self._lock:
            self._catch_up()
            return self._spent(dataset_id), self._spent(dataset_id, alone=True)

    def runs_of(self, plan_digest: str) -> frozenset[str]:
        """The runs that were charged under this plan."""
        with self._lock:
            self._catch_up()
            return frozenset(c.run_id for c in self._charges.values() if c.plan_digest == plan_digest)

    def charged_in(self, run_id: str, last_round: int) -> tuple[GaussianEvent, ...]:
        """What rounds 1 to `last_round` of a run were charged here, over all data sets."""
        with self._lock:
            self._catch_up()
            return tuple(
                event
                for charge in self._charges.values()
                if charge.run_id == run_id and charge.round_number <= last_round
                for event in charge.events
            )

    def _spent(self, dataset_id: str, alone: bool = False) -> tuple[GaussianEvent, ...]:
        return events_of((self._steps_alone if alone else self._steps).get(dataset_id, Counter()))

    def _catch_up(self) -> None:
        self._chain.refresh()
        self._absorb()

    def _absorb(self) -> None:
        for line in self._chain.lines[len(self._entries) :]:
            self._entries.append(self._read_line(line))

    def _read_line(self, line: Line) -> LedgerEntry:
        charge, seal = None, None
        try:
            kind = EntryKind(line.kind)
            if kind is EntryKind.CHARGE:
                charge = build(Charge, line.content, "charge")
            elif kind is EntryKind.SEAL:
                seal = build(Seal, line.content, "seal")
        except (InvalidConfig, ValueError) as error:
            raise BrokenChain(
                f"Entry {line.sequence} of the ledger must be one of {LEDGER_FORMAT}, and is not: {error} "
                "Nothing was charged. Use the version of Commonlens that wrote it."
            ) from error
        if charge is not None:
            self._charges[charge.dataset_id, charge.run_id, charge.round_number] = charge
            for kept, events in ((self._steps, charge.events), (self._steps_alone, charge.events_alone)):
                kept.setdefault(charge.dataset_id, Counter()).update(steps_of(events))
        if seal is not None:
            self._seals[seal.dataset_id, seal.run_id, seal.round_number] = seal.payload_digest
        return LedgerEntry(line.sequence, line.recorded_at, kind, line.digest, charge, seal)


class Ledger(LedgerView):
    """The ledger of one member at `path`; opening verifies all of it and creates it when there is none.

    Every call that writes holds an exclusive lock on the file and first reads what other processes added, so
    two nodes on one home can neither both spend the last of a budget nor answer one round differently.
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        super().__init__(path, clock)
        self._headroom: dict[str, Headroom] = {}
        self._headroom_alone: dict[str, Headroom] = {}
        with self._chain.locked():
            self._absorb()

    @classmethod
    def read(cls, path: Path) -> LedgerView:
        """The ledger at `path` to look at, without a lock; for pages and commands. Raises BrokenChain."""
        return LedgerView(path)

    def charge(self, charge: Charge, budget: Budget) -> ChargeToken:
        """Pay for one round, or raise; the entry is on disk before the token exists (clauses 7.1, 7.2).

        A round is (data set, run, round number) and pays once, however often it is tried before it is sealed.

        | state of the round | result |
        |---|---|
        | new, fits the budget | one entry, token |
        | charged before, the same plan and events | token, no entry |
        | charged before, another plan or other events | ChargeMismatch |
        | sealed | AlreadyReleased |
        | lifetime ε with this round above budget.epsilon at budget.delta | BudgetExceeded, also for a retry |
        | the same, were every other member to deviate, above budget.epsilon_alone (unless that is 0) | BudgetExceeded |
        | no event, or one outside the analysis; δ above 1e-5; a ceiling that is not finite | UnsoundPlan |
        """
        _check(charge, budget)
        key = (charge.dataset_id, charge.run_id, charge.round_number)
        with self._lock, self._chain.locked():
            self._absorb()
            if key in self._seals:
                raise AlreadyReleased(
                    f"Round {charge.round_number} of run {charge.run_id} may be answered once and has been. "
                    "Nothing was charged and no noise was drawn. Send the sealed bytes again."
                )
            known = self._charges.get(key)
            if known is not None and known != charge:
                raise ChargeMismatch(
                    f"Round {charge.round_number} of run {charge.run_id} was charged under plan "
                    f"{known.plan_digest} for {list(known.events)}, and is now asked for under "
                    f"{charge.plan_digest} for {list(charge.events)}. Nothing was charged. A changed plan "
                    "needs a run of its own."
                )
            self._require_room(charge, budget, is_new=known is None)
            if known is None:
                self._chain.append(EntryKind.CHARGE.value, to_plain(charge))
                self._absorb()
        return ChargeToken(_FROM_THE_LEDGER, charge)

    def _require_room(self, charge: Charge, budget: Budget, is_new: bool) -> None:
        spent = self._steps.get(charge.dataset_id, Counter())
        room = self._headroom.setdefault(charge.dataset_id, Headroom())
        total = room.excess(spent, steps_of(charge.events if is_new else ()), budget.delta, budget.epsilon)
        if total is not None:
            raise _exceeded(charge, budget, total)
        if budget.epsilon_alone == 0.0:
            return
        spent = self._steps_alone.get(charge.dataset_id, Counter())
        room = self._headroom_alone.setdefault(charge.dataset_id, Headroom())
        alone = room.excess(
            spent, steps_of(charge.events_alone if is_new else ()), budget.delta, budget.epsilon_alone
        )
        if alone is not None:
            raise _exceeded_alone(charge, budget, alone)

    def seal(self, dataset_id: str, run_id: str, round_number: int, payload_digest: str) -> None:
        """Fix the one answer to a charged round, once its bytes are on disk and before any is sent.

        The same digest again changes nothing. Raises AlreadyReleased for another digest, NotCharged for a
        round that nobody paid for.
        """
        key = (dataset_id, run_id, round_number)
        with self._lock, self._chain.locked():
            self._absorb()
            if key not in self._charges:
                raise NotCharged(
                    f"Round {round_number} of run {run_id} needs a charge in the ledger and has none. "
                    "Nothing was sealed and nothing may be sent. Charge the round before training."
                )
            sealed = self._seals.get(key)
            if sealed is not None and sealed != payload_digest:
                raise AlreadyReleased(
                    f"Round {round_number} of run {run_id} was sealed as {sealed}, and {payload_digest} was "
                    "offered. Nothing was changed. Send the sealed bytes, and discard the others."
                )
            if sealed is None:
                seal = Seal(dataset_id, run_id, round_number, payload_digest)
                self._chain.append(EntryKind.SEAL.value, to_plain(seal))
                self._absorb()


def _check(charge: Charge, budget: Budget) -> None:
    if not charge.events:
        raise UnsoundPlan(
            f"Round {charge.round_number} of run {charge.run_id} must cost at least one event, and names "
            "none. Nothing was charged. A round that releases nothing needs no charge."
        )
    if not (math.isfinite(budget.epsilon_alone) and budget.epsilon_alone >= 0.0):
        raise UnsoundPlan(
            f"A ceiling for ε alone must be finite, and 0 for none, and is {budget.epsilon_alone!r}. Nothing was "
            "charged. Correct the policy file."
        )
    if not (math.isfinite(budget.epsilon) and budget.epsilon > 0.0 and 0.0 < budget.delta <= MAXIMUM_DELTA):
        raise UnsoundPlan(
            f"A ceiling must be a finite ε above 0 and a δ of at most {MAXIMUM_DELTA:g}, and is ε "
            f"{budget.epsilon!r}, δ {budget.delta!r}. Nothing was charged. Correct the policy file."
        )


def _rounded_up(total: float) -> float:
    """So that a sentence about a ceiling never shows two equal numbers."""
    return math.ceil(total * 1e4) / 1e4 if math.isfinite(total) else total


def _exceeded(charge: Charge, budget: Budget, total: float) -> BudgetExceeded:
    return BudgetExceeded(
        f"Data set {charge.dataset_id}: the policy's ceiling is ε {budget.epsilon:g} at δ {budget.delta:g}; "
        f"with round {charge.round_number} of run {charge.run_id} everything it ever released would reach ε "
        f"{_rounded_up(total):.10g}. Nothing was charged and no record was touched. Raise the ceiling in the "
        "policy file, or leave the run."
    )


def _exceeded_alone(charge: Charge, budget: Budget, total: float) -> BudgetExceeded:
    return BudgetExceeded(
        f"Data set {charge.dataset_id}: the policy's ceiling where every other member deviates is ε "
        f"{budget.epsilon_alone:g} at δ {budget.delta:g}; with round {charge.round_number} of run {charge.run_id} it "
        f"would reach ε {_rounded_up(total):.10g}. Nothing was charged and no record was touched. Ask for a plan "
        "of mode local, or raise most_epsilon_alone in the policy file."
    )
