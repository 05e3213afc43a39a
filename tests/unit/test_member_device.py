"""A device that is not there costs a member nothing: its node says so before it starts and before it is charged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from participant.training.head import HeadState
from participant.training.room import check_room
from participant.training.workbench import Workbench
from shared.domain.errors import InvalidConfig, UnsoundPlan
from shared.domain.extractor import ExtractorSpec
from shared.extractors.architectures import build
from tests.desk import Desk
from tests.plans import small_plan
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


class Full:
    """A device whose memory ends at the first layer that is given more records than `most`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.most, self.widest = most, 0
        self._linear = torch.nn.functional.linear
        monkeypatch.setattr(torch.nn.functional, "linear", self.linear)
        monkeypatch.setattr("participant.training.places._SOUND", set())  # this device was not looked at

    def linear(self, x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        self.widest = max(self.widest, len(x))
        return self._linear(x, *weights)


def test_device_without_room_for_one_record_is_charged_for_no_round(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Full(monkeypatch, most=0)
    for number in (1, 2):
        sentence = "one record's gradient. Nothing was charged and nothing was trained."
        table.refused(table.ask(number), "conflict.out-of-memory", sentence)
    assert table.member.charges() == 0
    # What else used it has ended: the next round finds room, and the one that was refused may be asked again.
    device.most = 10**6
    assert [table.ask(number).refusal_code for number in (2, 3)] == [None, None]
    assert table.member.charges() == 2


def test_device_to_which_the_extractor_does_not_fit_is_charged_for_no_round(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(module: torch.nn.Module, *to: object) -> torch.nn.Module:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    table.refused(table.ask(), "conflict.out-of-memory", "Nothing was charged")
    assert table.member.charges() == 0


def test_device_with_room_for_one_record_trains_and_validates_with_one_at_a_time(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Full(monkeypatch, most=1)
    assert table.ask(2).refusal_code is None
    assert (table.member.charges(), device.widest) == (1, 1)


def test_round_whose_device_fills_up_after_the_charge_is_charged_once_and_the_next_one_is_not(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Full(monkeypatch, most=10**6)

    def fills_up(here: str) -> None:
        if here == "2":
            device.most = 0

    monkeypatch.setattr("participant.member.crash_point", fills_up)
    table.refused(table.ask(2), "conflict.out-of-memory", "The round's update was not made")
    for number in (2, 3):
        table.refused(table.ask(number), "conflict.out-of-memory", "Nothing was charged")
    assert table.member.charges() == 1


@pytest.mark.parametrize("side", [2, 4])
def test_an_extractor_that_one_record_alone_cannot_train_is_refused_in_words(side: int) -> None:
    """Its last normalisation is over groups of one number, which torch refuses for a single record."""
    spec = ExtractorSpec("small-gn", 1, side, side, 4, options={"width": 2})
    plan = small_plan(extractor=spec)
    bench = Workbench(plan.members[0].member_id, build(spec, 1), Greys(side), HeadState.zeros(2, 4))
    with pytest.raises(UnsoundPlan, match="small-gn cannot take the gradient of one record alone .* charged"):
        check_room(plan, bench)


class Greys:
    """Records of two classes."""

    classes = ("cat", "dog")

    def __init__(self, side: int) -> None:
        self.side = side
