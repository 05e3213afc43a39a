"""A device that is not there costs a member nothing: its node says so before it starts and before it is charged."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.domain.errors import InvalidConfig
from tests.desk import Desk
from tests.simulator import ConsortiumSimulator
from tests.unit.test_member import Table

ABSENT = 'device = "cuda:99"\n'


@pytest.fixture
def table(desk: Desk, tmp_path: Path) -> Table:
    return Table(ConsortiumSimulator(desk, tmp_path, sizes=(12,)))


def test_node_does_not_start_for_a_device_that_is_not_here(table: Table) -> None:
    table.member.home.settings.write_text(ABSENT, encoding="utf-8")
    with pytest.raises(InvalidConfig, match="'cuda:99' is asked for and torch finds none here"):
        table.member.restart()


def test_round_is_not_charged_where_the_device_went_after_the_node_started(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        # A driver that works now and not at the next round.
        context.setattr("torch.cuda.is_available", lambda: True)
        context.setattr("torch.cuda.device_count", lambda: 100)
        table.member.home.settings.write_text(ABSENT, encoding="utf-8")
        table.member.restart()
    table.refused(table.ask(), "invalid.config", "'cuda:99' is asked for and torch finds none here")
    assert table.member.charges() == 0
