"""Run and Round, and the moves each may make: one table each, nothing else changes a state."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from shared.domain.moves import check_move

_OVER = "nothing: it is over"


class RunState(enum.Enum):
    """One execution of a plan."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    COMPLETED = "completed"
    FAILED = "failed"


class RoundState(enum.Enum):
    """Choose, train, sum, average once. CLOSED only after the checkpoint is on disk (step 12)."""

    OPENED = "opened"
    ASKED = "asked"
    SUMMED = "summed"
    CLOSED = "closed"
    ABANDONED = "abandoned"


RUN_MOVES: Mapping[RunState, frozenset[RunState]] = {
    RunState.RUNNING: frozenset({RunState.PAUSED, RunState.STOPPED, RunState.COMPLETED, RunState.FAILED}),
    RunState.PAUSED: frozenset({RunState.RUNNING, RunState.STOPPED}),
    RunState.FAILED: frozenset({RunState.RUNNING, RunState.STOPPED}),
    RunState.STOPPED: frozenset(),
    RunState.COMPLETED: frozenset(),
}

ROUND_MOVES: Mapping[RoundState, frozenset[RoundState]] = {
    RoundState.OPENED: frozenset({RoundState.ASKED, RoundState.ABANDONED}),
    RoundState.ASKED: frozenset({RoundState.SUMMED, RoundState.ABANDONED}),
    RoundState.SUMMED: frozenset({RoundState.CLOSED, RoundState.ABANDONED}),
    RoundState.CLOSED: frozenset(),
    RoundState.ABANDONED: frozenset(),
}


def check_run_move(current: RunState, wanted: RunState) -> None:
    """Raise IllegalMove unless the table allows it."""
    check_move("run", RUN_MOVES, current, wanted, _OVER)


def check_round_move(current: RoundState, wanted: RoundState) -> None:
    """Raise IllegalMove unless the table allows it."""
    check_move("round", ROUND_MOVES, current, wanted, _OVER)
