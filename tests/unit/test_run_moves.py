"""A run and a round change state only as their tables allow."""

from __future__ import annotations

import pytest

from shared.domain.errors import IllegalMove
from shared.domain.run import (
    ROUND_MOVES,
    RUN_MOVES,
    RoundState,
    RunState,
    check_round_move,
    check_run_move,
)


def test_every_state_has_a_line_in_its_table() -> None:
    assert set(RUN_MOVES) == set(RunState)
    assert set(ROUND_MOVES) == set(RoundState)


@pytest.mark.parametrize("over", [RunState.STOPPED, RunState.COMPLETED])
@pytest.mark.parametrize("wanted", list(RunState))
def test_run_that_is_over_never_moves_again(over: RunState, wanted: RunState) -> None:
    with pytest.raises(IllegalMove, match="nothing: it is over"):
        check_run_move(over, wanted)


@pytest.mark.parametrize("over", [RoundState.CLOSED, RoundState.ABANDONED])
@pytest.mark.parametrize("wanted", list(RoundState))
def test_round_that_is_over_never_moves_again(over: RoundState, wanted: RoundState) -> None:
    with pytest.raises(IllegalMove, match="nothing: it is over"):
        check_round_move(over, wanted)


def test_round_closes_only_after_it_was_summed() -> None:
    closing_from = {state for state, moves in ROUND_MOVES.items() if RoundState.CLOSED in moves}
    assert closing_from == {RoundState.SUMMED}


def test_paused_and_failed_runs_can_go_on() -> None:
    check_run_move(RunState.PAUSED, RunState.RUNNING)
    check_run_move(RunState.FAILED, RunState.RUNNING)


def test_refusal_names_both_states_and_what_is_possible() -> None:
    with pytest.raises(IllegalMove) as caught:
        check_run_move(RunState.PAUSED, RunState.COMPLETED)
    assert caught.value.message == (
        "The run is paused; from there it can become running, stopped, not completed. Nothing was changed. Choose "
        "one of those."
    )
