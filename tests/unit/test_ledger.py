"""The ledger's contract, one test a clause: pays once, never above the ceiling, on disk before it answers."""

from __future__ import annotations

import contextlib
import copy
import errno
import fcntl
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.domain.clock import FixedClock
from shared.domain.errors import (
    AlreadyReleased,
    BudgetExceeded,
    ChargeMismatch,
    NotCharged,
    OutOfSpace,
    TokenRejected,
    UnsoundPlan,
)
from shared.domain.privacy import Budget, Charge, GaussianEvent, Unit
from shared.domain.strict import to_plain
from shared.privacy.accountant import epsilon, guarantee
from shared.privacy.ledger import EntryKind, Ledger, Seal

BUDGET = Budget(3.0, 1e-5)
STEP = GaussianEvent(10.0, 1.0, 1)
EVALUATION = GaussianEvent(20.0, 1.0, 1)


def a_charge(
    round_number: int = 1,
    dataset_id: str = "dat_a",
    run_id: str = "run_1",
    events: tuple[GaussianEvent, ...] = (STEP,),
    plan_digest: str = "sha256:plan",
) -> Charge:
    return Charge(dataset_id, plan_digest, run_id, round_number, events)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def test_a_new_ledger_is_a_private_file_that_says_its_format(path: Path) -> None:
    entries = Ledger(path).entries()
    assert [entry.kind for entry in entries] == [EntryKind.OPENED]
    assert b'"format":"commonlens-ledger/1"' in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0


def test_a_charge_is_on_disk_when_the_token_exists(path: Path) -> None:
    clock = FixedClock(datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC))
    ledger = Ledger(path, clock)
    ledger.charge(a_charge(events=(STEP, EVALUATION)), BUDGET)
    last = Ledger.read(path).entries()[-1]
    assert last.kind is EntryKind.CHARGE
    assert last.charge == a_charge(events=(STEP, EVALUATION))
    assert last.recorded_at == "2026-11-21T12:00:00Z"
    assert Ledger(path).spent("dat_a") == (STEP, EVALUATION)


@pytest.mark.skipif(hasattr(fcntl, "F_FULLFSYNC"), reason="macOS has a call of its own in place of fsync")
def test_a_line_outlives_a_power_cut_before_anything_rests_on_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, fsync = Ledger(path), os.fsync
    safe_bytes: list[int] = []

    def listen(descriptor: int) -> None:
        fsync(descriptor)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            safe_bytes.append(path.stat().st_size)

    monkeypatch.setattr(os, "fsync", listen)
    before = path.stat().st_size
    ledger.charge(a_charge(), BUDGET)
    assert safe_bytes[-1:] == [path.stat().st_size]
    assert path.stat().st_size > before
    ledger.seal("dat_a", "run_1", 1, "sha256:bytes")
    assert safe_bytes[-1:] == [path.stat().st_size]


def test_a_token_gives_its_events_once(path: Path) -> None:
    token = Ledger(path).charge(a_charge(), BUDGET)
    assert token.charge == a_charge()
    assert token.spend() == (STEP,)
    with pytest.raises(
        TokenRejected, match="round 1 of run run_1 pays for one training and was already spent"
    ):
        token.spend()


def test_a_token_spent_by_many_threads_at_once_works_for_one(path: Path) -> None:
    token = Ledger(path).charge(a_charge(), BUDGET)
    won: list[object] = []

    def try_it() -> None:
        with contextlib.suppress(TokenRejected):
            won.append(token.spend())

    threads = [threading.Thread(target=try_it) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_a_token_cannot_be_copied(path: Path) -> None:
    token = Ledger(path).charge(a_charge(), BUDGET)
    for attempt in (copy.copy, copy.deepcopy):
        with pytest.raises(TokenRejected, match="cannot be copied or stored"):
            attempt(token)


def test_ledger_refuses_a_charge_over_the_ceiling_and_says_both_numbers(path: Path) -> None:
    ledger = Ledger(path)
    budget = Budget(1.0, 1e-5)
    paid = 0
    with pytest.raises(BudgetExceeded) as caught:
        for round_number in range(1, 100):
            ledger.charge(a_charge(round_number), budget)
            paid = round_number
    over = epsilon((GaussianEvent(10.0, 1.0, paid + 1),), 1e-5)
    assert paid > 1
    assert epsilon(ledger.spent("dat_a"), 1e-5) <= 1.0 < over
    assert "Data set dat_a: the policy's ceiling is ε 1 at δ 1e-05" in caught.value.message
    assert f"would reach ε {over:.2f}"[:-1] in caught.value.message
    assert "Nothing was charged and no record was touched." in caught.value.message
    assert len(ledger.entries()) == paid + 1


def test_a_refused_charge_leaves_room_for_a_smaller_one(path: Path) -> None:
    ledger = Ledger(path)
    with pytest.raises(BudgetExceeded):
        ledger.charge(a_charge(events=(GaussianEvent(1.0, 1.0, 5),)), BUDGET)
    assert ledger.charge(a_charge(), BUDGET).spend() == (STEP,)


def test_the_same_round_pays_once_even_after_a_crash(path: Path) -> None:
    Ledger(path).charge(a_charge(), BUDGET).spend()
    again = Ledger(path)
    assert again.charge(a_charge(), BUDGET).spend() == (STEP,)
    assert again.spent("dat_a") == (STEP,)
    assert len(again.entries()) == 2


def test_a_retry_needs_no_room_beyond_what_it_already_paid(path: Path) -> None:
    ledger = Ledger(path)
    exact = Budget(epsilon((STEP,), 1e-5), 1e-5)
    ledger.charge(a_charge(), exact)
    ledger.charge(a_charge(), exact)
    with pytest.raises(BudgetExceeded):
        ledger.charge(a_charge(2), exact)


def test_a_retry_is_refused_when_the_owner_lowered_the_ceiling_since(path: Path) -> None:
    ledger = Ledger(path)
    ledger.charge(a_charge(), BUDGET)
    with pytest.raises(BudgetExceeded, match="ceiling is ε 0.1 at"):
        ledger.charge(a_charge(), Budget(0.1, 1e-5))


def test_a_charged_round_cannot_be_charged_for_something_else(path: Path) -> None:
    ledger = Ledger(path)
    ledger.charge(a_charge(), BUDGET)
    for other in (a_charge(events=(EVALUATION,)), a_charge(plan_digest="sha256:other")):
        with pytest.raises(ChargeMismatch, match="Round 1 of run run_1 was charged under plan sha256:plan"):
            ledger.charge(other, BUDGET)
    assert ledger.spent("dat_a") == (STEP,)


def test_charges_add_up_over_runs_and_per_data_set(path: Path) -> None:
    ledger = Ledger(path)
    for charge in (a_charge(1), a_charge(2), a_charge(1, run_id="run_2"), a_charge(1, dataset_id="dat_b")):
        ledger.charge(charge, BUDGET)
    assert ledger.spent("dat_a") == (GaussianEvent(10.0, 1.0, 3),)
    assert ledger.spent("dat_b") == (STEP,)
    assert ledger.spent("dat_c") == ()


def test_what_a_run_was_charged_up_to_a_round_is_neither_of_later_ones_nor_of_other_runs(path: Path) -> None:
    """A release is made from a checkpoint, and its certificate ends there though the run went on."""
    ledger = Ledger(path)
    for number in (1, 2, 3):
        ledger.charge(a_charge(number, events=(GaussianEvent(10.0 * number, 1.0, 1),)), BUDGET)
    ledger.charge(a_charge(1, run_id="run_2"), BUDGET)
    assert [event.noise_multiplier for event in ledger.charged_in("run_1", 2)] == [10.0, 20.0]
    assert ledger.charged_in("run_3", 2) == ()


def test_a_full_data_set_does_not_block_another(path: Path) -> None:
    ledger = Ledger(path)
    exact = Budget(epsilon((STEP,), 1e-5), 1e-5)
    ledger.charge(a_charge(), exact)
    with pytest.raises(BudgetExceeded):
        ledger.charge(a_charge(2), exact)
    assert ledger.charge(a_charge(dataset_id="dat_b"), exact).spend() == (STEP,)


def test_spent_guarantee_is_the_cost_of_the_whole_life_at_any_delta(path: Path) -> None:
    ledger = Ledger(path)
    for round_number in range(1, 6):
        ledger.charge(a_charge(round_number, events=(GaussianEvent(2.0, 0.1, 2),)), BUDGET)
    said = guarantee(ledger.spent("dat_a"), 1e-6, Unit.RECORD)
    assert said.epsilon == epsilon((GaussianEvent(2.0, 0.1, 10),), 1e-6)
    assert (said.delta, said.unit) == (1e-6, Unit.RECORD)
    assert guarantee(ledger.spent("dat_c"), 1e-6, Unit.RECORD).epsilon == 0.0


def test_a_sealed_round_is_never_charged_again(path: Path) -> None:
    ledger = Ledger(path)
    ledger.charge(a_charge(), BUDGET)
    ledger.seal("dat_a", "run_1", 1, "sha256:bytes")
    with pytest.raises(
        AlreadyReleased, match="may be answered once and has been.*Send the sealed bytes again"
    ):
        Ledger(path).charge(a_charge(), BUDGET)


def test_a_seal_is_found_again_and_the_same_seal_twice_is_one(path: Path) -> None:
    ledger = Ledger(path)
    ledger.charge(a_charge(), BUDGET)
    assert [entry.seal for entry in ledger.entries()] == [None, None]
    ledger.seal("dat_a", "run_1", 1, "sha256:bytes")
    ledger.seal("dat_a", "run_1", 1, "sha256:bytes")
    the_one = Seal("dat_a", "run_1", 1, "sha256:bytes")
    assert [entry.seal for entry in Ledger.read(path).entries()] == [None, None, the_one]
    assert len(ledger.entries()) == 3


def test_a_round_has_one_answer(path: Path) -> None:
    ledger = Ledger(path)
    ledger.charge(a_charge(), BUDGET)
    ledger.seal("dat_a", "run_1", 1, "sha256:bytes")
    with pytest.raises(AlreadyReleased, match="was sealed as sha256:bytes, and sha256:others was offered"):
        ledger.seal("dat_a", "run_1", 1, "sha256:others")


def test_what_nobody_paid_for_cannot_be_sealed(path: Path) -> None:
    with pytest.raises(NotCharged, match="Round 1 of run run_1 needs a charge in the ledger and has none"):
        Ledger(path).seal("dat_a", "run_1", 1, "sha256:bytes")


@pytest.mark.parametrize(
    "budget",
    [
        Budget(float("nan"), 1e-5),
        Budget(float("inf"), 1e-5),
        Budget(0.0, 1e-5),
        Budget(-1.0, 1e-5),
        Budget(3.0, 1e-4),
        Budget(3.0, 0.0),
        Budget(3.0, float("nan")),
    ],
)
def test_a_ceiling_that_limits_nothing_is_refused(path: Path, budget: Budget) -> None:
    with pytest.raises(UnsoundPlan, match="A ceiling must be a finite ε above 0 and a δ of at most 1e-05"):
        Ledger(path).charge(a_charge(), budget)


def test_a_charge_for_nothing_buys_no_token(path: Path) -> None:
    with pytest.raises(UnsoundPlan, match="must cost at least one event, and names none"):
        Ledger(path).charge(a_charge(events=()), BUDGET)


def test_an_unsound_event_is_refused_and_not_written(path: Path) -> None:
    ledger = Ledger(path)
    with pytest.raises(UnsoundPlan, match="An event needs a noise multiplier"):
        ledger.charge(a_charge(events=(GaussianEvent(0.0, 0.1, 1),)), BUDGET)
    assert len(ledger.entries()) == 1


def test_reading_writes_nothing_and_a_missing_file_was_never_spent(path: Path) -> None:
    view = Ledger.read(path)
    assert view.entries() == ()
    assert view.spent("dat_a") == ()
    assert not path.exists()


def test_a_view_sees_what_was_charged_after_it_was_opened_and_while_the_lock_is_held(path: Path) -> None:
    ledger = Ledger(path)
    view = Ledger.read(path)
    ledger.charge(a_charge(), BUDGET)
    with ledger._chain.locked():
        assert view.spent("dat_a") == (STEP,)


def test_two_ledgers_of_one_file_see_each_others_charges(path: Path) -> None:
    one, other = Ledger(path), Ledger(path)
    one.charge(a_charge(1), BUDGET)
    other.charge(a_charge(2), BUDGET)
    one.charge(a_charge(2), BUDGET)
    assert one.spent("dat_a") == other.spent("dat_a") == (GaussianEvent(10.0, 1.0, 2),)


def test_a_ledger_of_many_lines_reopens_with_the_same_sum(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the disk is not what is tested here
    ledger = Ledger(path)
    with ledger._chain.locked():
        for round_number in range(1, 901):
            charge = a_charge(round_number, dataset_id=f"dat_{round_number % 3}")
            ledger._chain.append(EntryKind.CHARGE.value, to_plain(charge))
    for reader in (ledger, Ledger(path), Ledger.read(path)):
        assert [reader.spent(f"dat_{i}") for i in range(3)] == 3 * [(GaussianEvent(10.0, 1.0, 300),)]


def test_a_full_disk_charges_nothing_and_leaves_a_whole_ledger(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(path)
    ledger.charge(a_charge(1), BUDGET)
    write = os.write

    def half_then_full(descriptor: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: len(data) // 2])

    with monkeypatch.context() as full:
        full.setattr(os, "write", half_then_full)
        with pytest.raises(OutOfSpace, match="The entry was not written and nothing was charged"):
            ledger.charge(a_charge(2), BUDGET)
    assert Ledger(path).spent("dat_a") == (STEP,)
    ledger.charge(a_charge(2), BUDGET)
    assert Ledger(path).spent("dat_a") == (GaussianEvent(10.0, 1.0, 2),)
