"""Laws of the ledger under any order of calls, crashes and accidents to its file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.errors import AlreadyReleased, BrokenChain, BudgetExceeded, NotCharged
from shared.domain.privacy import Budget, Charge, GaussianEvent
from shared.privacy.accountant import epsilon
from shared.privacy.ledger import Ledger, Seal

BUDGET = Budget(1.0, 1e-5)
STEP = GaussianEvent(10.0, 1.0, 1)

rounds = st.tuples(
    st.sampled_from(["dat_a", "dat_b"]), st.sampled_from(["run_1", "run_2"]), st.integers(1, 5)
)
actions = st.tuples(st.sampled_from(["charge", "seal", "reopen"]), rounds)


def a_charge(key: tuple[str, str, int]) -> Charge:
    dataset_id, run_id, round_number = key
    return Charge(dataset_id, "sha256:plan", run_id, round_number, (STEP,))


def charged(path: Path, count: int) -> list[bytes]:
    """A ledger of `count` charges on disk; its lines."""
    ledger = Ledger(path)
    for round_number in range(1, count + 1):
        ledger.charge(a_charge(("dat_a", "run_1", round_number)), Budget(100.0, 1e-5))
    return path.read_bytes().splitlines(keepends=True)


@settings(max_examples=30, deadline=None)
@given(st.lists(actions, max_size=25))
def test_any_walk_pays_each_round_once_and_never_passes_the_ceiling(
    walk: list[tuple[str, tuple[str, str, int]]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        ledger = Ledger(path)
        paid: set[tuple[str, str, int]] = set()
        sealed: set[tuple[str, str, int]] = set()
        for action, key in walk:
            try:
                if action == "charge":
                    ledger.charge(a_charge(key), BUDGET).spend()
                    assert key not in sealed
                    paid.add(key)
                elif action == "seal":
                    ledger.seal(*key, "sha256:" + "-".join(map(str, key)))
                    assert key in paid
                    sealed.add(key)
                else:
                    ledger = Ledger(path)
            except BudgetExceeded:
                cost = GaussianEvent(10.0, 1.0, 1 + sum(other[0] == key[0] for other in paid))
                assert epsilon((cost,), 1e-5) > BUDGET.epsilon
            except NotCharged:
                assert key not in paid
            except AlreadyReleased:
                assert action == "charge"
                assert key in sealed
        for dataset_id in ("dat_a", "dat_b"):
            count = sum(key[0] == dataset_id for key in paid)
            assert Ledger.read(path).spent(dataset_id) == (
                (GaussianEvent(10.0, 1.0, count),) if count else ()
            )
            assert epsilon(ledger.spent(dataset_id), 1e-5) <= BUDGET.epsilon
        found = [entry.seal for entry in Ledger.read(path).entries() if entry.seal is not None]
        assert len(found) == len(sealed)
        assert set(found) == {Seal(*key, "sha256:" + "-".join(map(str, key))) for key in sealed}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_single_changed_byte_is_seen(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        charged(path, 3)
        content = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        for opening in (Ledger, Ledger.read):
            try:
                opening(path)
            except BrokenChain:
                continue
            raise AssertionError(f"byte {place} was changed unseen")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_cut_from_the_end_is_seen(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        charged(path, 3)
        content = path.read_bytes()
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        try:
            Ledger(path)
        except BrokenChain:
            return
        raise AssertionError("a cut was not seen")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_crash_in_the_middle_of_any_append_loses_only_that_append(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        head = path.with_name("ledger.jsonl.head")
        charged(path, 2)
        whole, old_head = path.read_bytes(), head.read_bytes()
        Ledger(path).charge(a_charge(("dat_a", "run_1", 3)), Budget(100.0, 1e-5))
        next_line = path.read_bytes()[len(whole) :]
        # The head is written after the line, so a crash leaves the old one beside any part of the line.
        arrived = data.draw(st.integers(0, len(next_line)))
        path.write_bytes(whole + next_line[:arrived])
        head.write_bytes(old_head)
        steps = 3 if arrived == len(next_line) else 2
        assert Ledger.read(path).spent("dat_a") == (GaussianEvent(10.0, 1.0, steps),)
        reopened = Ledger(path)
        assert reopened.spent("dat_a") == (GaussianEvent(10.0, 1.0, steps),)
        reopened.charge(a_charge(("dat_a", "run_1", 3)), Budget(100.0, 1e-5))
        assert Ledger(path).spent("dat_a") == (GaussianEvent(10.0, 1.0, 3),)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(4)))
def test_lines_in_any_other_order_are_seen(order: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        lines = charged(path, 3)
        path.write_bytes(b"".join(lines[i] for i in order))
        try:
            Ledger(path)
        except BrokenChain:
            assert order != [0, 1, 2, 3]
        else:
            assert order == [0, 1, 2, 3]


@settings(max_examples=10, deadline=None)
@given(
    st.lists(
        st.builds(
            GaussianEvent,
            st.sampled_from([2.0, 4.0, 20.0]),
            st.sampled_from([0.01, 0.1, 1.0]),
            st.integers(1, 20),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_what_the_ledger_says_was_spent_costs_what_was_charged(events: list[GaussianEvent]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.jsonl")
        for number, event in enumerate(events, 1):
            ledger.charge(Charge("dat_a", "sha256:plan", "run_1", number, (event,)), Budget(1e4, 1e-5))
        spent = ledger.spent("dat_a")
        assert epsilon(spent, 1e-6) == pytest.approx(epsilon(events, 1e-6), rel=1e-9)
        assert len({(event.noise_multiplier, event.sampling_rate) for event in spent}) == len(spent)
