"""Random walks of Run and Round: only the table's moves happen, and every walk ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.errors import IllegalMove
from shared.domain.run import (
    ROUND_MOVES,
    RUN_MOVES,
    RoundState,
    RunState,
    check_round_move,
    check_run_move,
)


def _walk(start: Any, wishes: list[Any], check: Any) -> list[Any]:
    walked = [start]
    for wanted in wishes:
        try:
            check(walked[-1], wanted)
        except IllegalMove:
            continue
        walked.append(wanted)
    return walked


def _legal(walked: list[Any], moves: Mapping[Any, frozenset[Any]]) -> bool:
    return all(after in moves[before] for before, after in zip(walked, walked[1:], strict=False))


@given(st.lists(st.sampled_from(list(RunState)), max_size=40))
@settings(deadline=None)
def test_walk_of_a_run_takes_legal_steps_and_never_leaves_its_end(wishes: list[RunState]) -> None:
    walked = _walk(RunState.RUNNING, wishes, check_run_move)
    assert _legal(walked, RUN_MOVES)
    over = [i for i, state in enumerate(walked) if state in (RunState.STOPPED, RunState.COMPLETED)]
    assert over in ([], [len(walked) - 1])


@given(st.lists(st.sampled_from(list(RoundState)), max_size=40))
@settings(deadline=None)
def test_walk_of_a_round_passes_every_step_in_order(wishes: list[RoundState]) -> None:
    walked = _walk(RoundState.OPENED, wishes, check_round_move)
    assert _legal(walked, ROUND_MOVES)
    order = [RoundState.OPENED, RoundState.ASKED, RoundState.SUMMED, RoundState.CLOSED]
    if walked[-1] is RoundState.CLOSED:
        assert walked == order
    else:
        on_the_way = [state for state in walked if state is not RoundState.ABANDONED]
        assert on_the_way == order[: len(on_the_way)]


@given(st.sampled_from(list(RunState)))
def test_every_run_can_still_end(start: RunState) -> None:
    reached, found = {start}, {start}
    while found:
        found = {after for state in found for after in RUN_MOVES[state]} - reached
        reached |= found
    assert reached & {RunState.STOPPED, RunState.COMPLETED}
