"""What a member refuses before it trains: charges, requests, weights, heads and devices that are not right."""

import struct

import numpy as np
import pytest

from participant.training.head import HeadState, load_head
from participant.training.local_round import local_round
from shared.domain.errors import (
    ChargeMismatch,
    ConsentMissing,
    InvalidConfig,
    InvalidWeights,
    MixesRecords,
    TokenRejected,
)
from shared.domain.extractor import ExtractorSpec
from shared.domain.privacy import Budget, Charge
from shared.extractors.device import choose_device
from shared.privacy.ledger import Ledger
from tests.round_kit import make_bench, make_plan, make_request, paying, start_of


@pytest.fixture
def pay(tmp_path):
    return paying(tmp_path / "ledger.jsonl")


def test_no_step_runs_without_an_unspent_token(pay):
    plan = make_plan()
    bench = make_bench(plan)
    token = pay(plan)
    start = start_of(bench)
    local_round(make_request(plan), plan, token, start, bench)
    bench.records.loaded.clear()
    with pytest.raises(TokenRejected, match="was already spent"):
        local_round(make_request(plan), plan, token, start, bench)
    assert bench.records.loaded == []


@pytest.mark.parametrize(
    ("paid_round", "run_id"),
    [(2, "run_1"), (3, "run_1"), (1, "run_2")],
)
def test_charge_for_another_round_or_run_is_refused_and_stays_unspent(pay, paid_round, run_id):
    plan = make_plan()
    bench = make_bench(plan)
    token = pay(plan, paid_round, run_id)
    with pytest.raises(ChargeMismatch, match=f"the charge is for round {paid_round} of run {run_id}"):
        local_round(make_request(plan, 1), plan, token, start_of(bench), bench)
    assert bench.records.loaded == []
    assert token.spend()


def test_charge_for_fewer_events_than_the_round_makes_is_refused(pay, tmp_path):
    plan = make_plan()
    due = plan.events_of_round(2)
    charge = Charge("dat_1", plan.digest, "run_1", 2, due[:1])
    token = Ledger(tmp_path / "other.jsonl").charge(charge, Budget(1e6, 1e-5))
    bench = make_bench(plan)
    with pytest.raises(ChargeMismatch, match="Round 2 of run run_1 costs"):
        local_round(make_request(plan, 2), plan, token, start_of(bench), bench)


def test_request_for_another_plan_is_refused(pay):
    plan, other = make_plan(), make_plan(rounds=4)
    bench = make_bench(plan)
    with pytest.raises(ConsentMissing, match="is asked under plan sha256:.*, this node trains for sha256:"):
        local_round(make_request(other), plan, pay(plan), start_of(bench), bench)


def test_member_that_the_plan_does_not_name_does_not_train(pay):
    plan = make_plan()
    bench = make_bench(plan)
    bench.member_id = "mem_9"
    with pytest.raises(ConsentMissing, match="Member mem_9 is not a contributor"):
        local_round(make_request(plan), plan, pay(plan), start_of(bench), bench)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_before_the_token_is_spent(pay, value):
    plan = make_plan()
    bench, token = make_bench(plan), pay(plan)
    start = start_of(bench)
    start[3] = value
    with pytest.raises(InvalidWeights, match="NaN or infinite"):
        local_round(make_request(plan), plan, token, start, bench)
    assert token.spend()


def test_training_head_of_another_size_is_refused(pay):
    plan = make_plan()
    bench = make_bench(plan)
    bench.head = HeadState.zeros(2, 4)
    with pytest.raises(InvalidWeights, match=r"Expected a training head of \[3, 4\], found \[2, 4\]"):
        local_round(make_request(plan), plan, pay(plan), start_of(bench), bench)


def test_extractor_with_batchnorm_is_refused_before_the_token_is_spent(pay):
    plan = make_plan(extractor=ExtractorSpec("small-gn", 1, 8, 8, 4, options={"width": 4, "norm": "batch"}))
    bench, token = make_bench(plan), pay(plan)
    with pytest.raises(MixesRecords, match="Layer 1 is BatchNorm2d"):
        local_round(make_request(plan), plan, token, start_of(bench), bench)
    assert token.spend()


@pytest.mark.parametrize("data", [b"", b"\x80\x04N.", struct.pack("<Q", 2**60), b"x" * 100])
def test_head_file_that_is_something_else_is_refused(tmp_path, data):
    (tmp_path / "head").write_bytes(data)
    with pytest.raises(InvalidWeights, match="Expected a training head in head, and it cannot be read"):
        load_head(tmp_path / "head")


def test_device_that_is_unknown_or_not_here_is_refused():
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(InvalidConfig, match="Expected a device among auto, cpu, cuda, mps; found 'tpu'"):
        choose_device("tpu")
    with pytest.raises(InvalidConfig, match="'cuda:99' is asked for and torch finds none here"):
        choose_device("cuda:99")
