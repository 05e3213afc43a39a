"""Files say what pages say: nothing where they show a dash. And beside a plan stand all runs of its ε, not one."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.runs.round import RoundRecord, Validation
from coordinator.runs.service import RunService
from shared.domain.run import RoundState
from tests.dashboard_kit import words
from tests.full_board import CHECKPOINT, FullBoard, full_board


@pytest.fixture(scope="module")
def full(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullBoard]:
    with full_board(prepared_home, tmp_path_factory.mktemp("numbers")) as made:
        yield made


def test_csv_has_nothing_where_the_page_has_a_dash(full: FullBoard) -> None:
    """Zeros of a round that is still open would be averaged with those of the closed ones."""
    text = full.browser("Ada").get(f"/runs/{full.run}/rounds.csv").text
    _, abandoned, still_open = csv.DictReader(text.splitlines())
    unknown = [name for name, value in still_open.items() if not value]
    assert unknown == [
        *("closed_at", "contributed", "seconds_train", "seconds_protocol", "seconds_waiting"),
        *("bytes_up", "bytes_down", "accuracy", "accuracy_standard_error", "checkpoint"),
    ]
    assert (abandoned["contributed"], abandoned["bytes_up"], still_open["asked"]) == ("0", "1000", "2")


def test_accuracy_at_this_epsilon_is_a_band_where_several_runs_had_it(full: FullBoard) -> None:
    runs: RunService = full.coordinator.control.state.runs
    page = f"/plans/{full.plan}"
    assert "lie between" not in words(full.browser("Ada").get(page))
    _measured(runs, full.plan, Validation(60.0, 40.0, 5.0))
    found = words(full.browser("Ada").get(page))
    assert "at target ε 8 . The 2 runs at it lie between 56.4 % and 73.8 %, each with its ±." in found


def test_scale_of_epsilon_is_the_formula_that_stands_above_it(full: FullBoard) -> None:
    """Anybody can check it: (e^ε + δ) / (e^ε + 1) for an even bet, rounded up."""
    page = full.browser("Ada").get("/privacy").text
    found = re.findall(
        r'row" class="number private">([\d.]+)</th>(?:<td[^>]*>[^<]*</td>){1}<td[^>]*>([^<]+)</td>', page
    )
    assert [float(epsilon) for epsilon, _ in found] == [0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0]
    for epsilon, even in found[:-1]:
        right = 100 * (math.exp(float(epsilon)) + 1e-5) / (math.exp(float(epsilon)) + 1)
        assert right <= float(even.removesuffix(" %")) < right + 0.1
    assert found[-1][1] == "nearly 100 %"


def test_invitation_of_a_member_says_what_it_is_good_for(full: FullBoard) -> None:
    """Whoever joins with it under other keys is refused, an hour later and at another place."""
    admin = full.browser("Ada")
    told = "is a member already"
    assert told in words(admin.post("/invitations", name="North"))
    assert told not in words(admin.post("/invitations", name="Northern Clinic"))


def test_of_a_revoked_member_no_page_waits_for_a_consent(full: FullBoard) -> None:
    runs: RunService = full.coordinator.control.state.runs
    plan = replace(runs.plan(full.plan), rounds=5)
    runs.store.add_plan(plan, "account:Ada", "digits.safetensors")
    gone, admin = plan.members[0].member_id, full.browser("Ada")
    assert 'warn">missing' in admin.get(f"/members/{gone}").text
    full.room.members.revoke(gone, "account:Ada")
    assert 'warn">missing' not in admin.get(f"/members/{gone}").text


def test_whoever_may_not_resume_a_run_is_told_who_does(full: FullBoard) -> None:
    told = "paused: an admin resumes or stops it"
    seen = [
        told in words(one.get("/"))
        for one in (full.browser("Otto"), full.member_browser(), full.browser("Ada"))
    ]
    assert seen == [True, True, False]


def _measured(runs: RunService, digest: str, found: Validation) -> None:
    """One more run of the plan, whose first round closed with these counts."""
    run, cohort = (
        runs.store.create_run(digest, "account:Ada"),
        tuple(m.member_id for m in runs.plan(digest).members),
    )
    record = RoundRecord(1, cohort, {}, bytes_up=1, bytes_down=1, seconds={"train": 1.0})
    attempt = runs.store.open_round(run.id, record)
    for state in (RoundState.ASKED, RoundState.SUMMED):
        runs.store.move_round(run.id, 1, attempt, state)
    runs.store.close_round(run.id, replace(record, validation=found), attempt, CHECKPOINT)
