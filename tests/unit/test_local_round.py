"""What a round computes at a member: its steps, its noise, its counts, and the head that stays here."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from participant.records.add import add_data_set
from participant.training.alone import train_alone
from participant.training.head import HeadState, build_head, load_head, save_head
from participant.training.local_round import local_round
from participant.training.runtime import RuntimeOptions
from participant.training.workbench import Workbench
from shared.domain.plan import SharedHead
from shared.extractors.architectures import build
from shared.extractors.preprocess import to_input
from shared.extractors.vectors import get_flat, set_flat
from shared.privacy.mechanism import NoiseSource
from tests.plans import SPEC
from tests.round_kit import (
    HELD_OUT,
    SIZE,
    MemoryRecords,
    RepeatableNoise,
    make_bench,
    make_plan,
    make_request,
    paying,
    start_of,
    vector_of,
)


@pytest.fixture
def pay(tmp_path):
    return paying(tmp_path / "ledger.jsonl")


def test_update_is_the_joint_clipped_sum_with_noise_over_the_expected_batch(pay):
    plan = make_plan(rate=1.0)
    bench = make_bench(plan)
    start = start_of(bench)
    update, head = local_round(make_request(plan), plan, pay(plan), start, bench)

    noise = RepeatableNoise()
    noise.uniform(SIZE - HELD_OUT)  # the coins of the draw: at rate 1 everything is drawn
    records, by_hand, zero_head = MemoryRecords(), build(SPEC, 1), build_head(bench.head)
    x = torch.from_numpy(to_input(records.images[records.training_indices], SPEC))
    y = torch.from_numpy(records.labels[records.training_indices])
    parameters = [p for _, p in sorted(by_hand.named_parameters())] + [zero_head.bias, zero_head.weight]
    total = np.zeros(sum(p.numel() for p in parameters))
    for record, label in zip(x, y, strict=True):
        loss = torch.nn.functional.cross_entropy(zero_head(by_hand(record[None])), label[None])
        gradient = np.concatenate([g.numpy().ravel() for g in torch.autograd.grad(loss, parameters)])
        total += gradient * min(1.0, 0.7 / np.linalg.norm(gradient))
    extractor_noised = noise.noised(total[: len(start)], 0.7) / (1.0 * SIZE)
    head_noised = noise.noised(total[len(start) :], 0.7) / (1.0 * SIZE)

    np.testing.assert_allclose(vector_of(update), -0.5 * extractor_noised, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(head.bias, -0.25 * head_noised[:3], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(head.weight.ravel(), -0.25 * head_noised[3:], rtol=1e-3, atol=1e-6)


def test_update_names_its_round_and_holds_extractor_coordinates_only(pay):
    plan = make_plan()
    bench = make_bench(plan)
    update, head = local_round(make_request(plan), plan, pay(plan), start_of(bench), bench)
    assert (update.run_id, update.round_number, update.plan_digest) == ("run_1", 1, plan.digest)
    assert update.vector_f32.format == "f"
    assert len(vector_of(update)) == sum(p.numel() for p in bench.extractor.parameters())
    assert head.weight.any()
    assert not bench.head.weight.any()


def test_empty_draw_is_a_round_of_noise_alone_with_the_plans_std(pay):
    plan = make_plan(rate=1e-9, sigma=2.0)
    spec = replace(SPEC, options={"hidden": 200, "grid": 2})
    plan = replace(plan, extractor=spec)
    bench = make_bench(plan)
    update, _ = local_round(make_request(plan), plan, pay(plan), start_of(bench), bench)
    assert bench.records.loaded == [0]
    noise_std = 0.5 * 2.0 * 0.7 / (1e-9 * SIZE)
    found = vector_of(update).std() / noise_std
    assert 0.95 < found < 1.05
    assert len(vector_of(update)) > 5000


def test_every_local_step_draws_and_noises_anew(pay):
    plan = make_plan(steps=4, evaluate_every=0)
    bench = make_bench(plan)
    local_round(make_request(plan), plan, pay(plan), start_of(bench), bench)
    assert len(bench.records.loaded) == 4
    assert len(set(bench.records.loaded)) > 1


def test_validation_counts_come_only_when_due_and_carry_the_plans_noise(pay):
    plan = make_plan(rounds=400)
    bench = make_bench(plan)
    first, _ = local_round(make_request(plan, 1), plan, pay(plan, 1), start_of(bench), bench)
    assert first.counts is None
    start = get_flat(build(SPEC, 1))
    second, _ = local_round(make_request(plan, 2), plan, pay(plan, 2), start, bench)
    assert second.counts is not None
    assert second.counts.correct != round(second.counts.correct)


def test_validation_noise_has_the_std_of_the_plan():
    from participant.training.validation import exact_counts, noised_counts

    plan, records = make_plan(), MemoryRecords()
    extractor = build(SPEC, 1)
    head = build_head(HeadState(np.zeros((3, 4), np.float32), np.array([0, 0, 9], np.float32)))
    right = int((records.labels[records.held_out_indices] == 2).sum())
    noise, cpu = NoiseSource(), torch.device("cpu")
    exact = exact_counts(extractor, head, plan, records, cpu)
    assert exact.tolist() == [right, HELD_OUT - right]
    counts = [noised_counts(exact, plan, noise) for _ in range(400)]
    errors = np.array([[c.correct - right, c.wrong - (HELD_OUT - right)] for c in counts])
    # 800 draws: the std is within 15 % at six standard errors; ⅔ and 1½ of it would be refused.
    assert 0.85 * 3.0 < errors.std() < 1.15 * 3.0
    assert abs(errors.mean()) < 6 * 3.0 / 800**0.5


def test_validation_uses_the_weights_received_and_the_head_before_training(pay):
    plan = make_plan(evaluate_every=1)
    plan = replace(plan, privacy=replace(plan.privacy, evaluation_noise_multiplier=0.01))
    bench = make_bench(plan)
    bench.head = HeadState(np.zeros((3, 4), np.float32), np.array([0, 9, 0], np.float32))
    update, _ = local_round(make_request(plan), plan, pay(plan), start_of(bench), bench)
    right = int((bench.records.labels[bench.records.held_out_indices] == 1).sum())
    assert round(update.counts.correct) == right
    assert round(update.counts.wrong) == HELD_OUT - right


def test_micro_batch_and_threads_change_speed_and_nothing_else(pay):
    plan = make_plan(augmentations=("shift2", "flip"))
    updates = []
    for micro_batch in (1, 7, 64):
        bench = make_bench(plan, micro_batch=micro_batch, threads=1)
        updates.append(local_round(make_request(plan), plan, pay(plan), start_of(bench), bench)[0])
    for other in updates[1:]:
        np.testing.assert_allclose(vector_of(other), vector_of(updates[0]), rtol=1e-4, atol=1e-6)


def test_large_batches_stream_and_sum_to_the_same(pay, monkeypatch):
    from participant.training import step

    plan = make_plan(rate=1.0, evaluate_every=0)
    whole = local_round(make_request(plan), plan, pay(plan), get_flat(build(SPEC, 1)), make_bench(plan))[0]
    monkeypatch.setattr(step, "LOADED_AT_ONCE", 10)
    bench = make_bench(plan, micro_batch=5)
    streamed = local_round(make_request(plan), plan, pay(plan), start_of(bench), bench)[0]
    # Whole portions: of 5 records that fit, 4 are taken at once.
    assert bench.records.loaded == [8, 8, 8]
    np.testing.assert_allclose(vector_of(streamed), vector_of(whole), rtol=1e-4, atol=1e-6)


def test_alone_takes_the_very_steps_that_rounds_with_one_member_take(pay):
    plan = make_plan(rounds=3, steps=2, evaluate_every=0)
    bench = make_bench(plan)
    weights = start_of(bench)
    for number in (1, 2, 3):
        update, bench.head = local_round(make_request(plan, number), plan, pay(plan, number), weights, bench)
        weights = weights + vector_of(update)
    alone_bench, told = make_bench(plan), []
    start = start_of(alone_bench)
    alone = train_alone(plan, start, alone_bench, lambda done, total: told.append((done, total)))
    np.testing.assert_allclose(alone, weights, rtol=1e-4, atol=1e-6)
    assert told == [(step, 6) for step in range(1, 7)]
    assert not alone_bench.head.weight.any()
    set_flat(alone_bench.extractor, start)


def test_head_is_kept_readable_by_its_owner_only(tmp_path):
    state = HeadState(np.arange(12, dtype=np.float32).reshape(3, 4), np.ones(3, np.float32))
    save_head(tmp_path / "head.safetensors", state)
    found = load_head(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(found.weight, state.weight)
    np.testing.assert_array_equal(found.bias, state.bias)
    assert (tmp_path / "head.safetensors").stat().st_mode & 0o777 == 0o600


def test_round_runs_on_a_real_data_set_and_its_own_draws(pay, tmp_path):
    generator = np.random.Generator(np.random.PCG64(8))
    for number in range(20):
        folder = tmp_path / "photos" / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (9, 9), dtype=np.uint8)).save(folder / f"{number}.png")
    data_set = add_data_set(tmp_path / "home", "pets", tmp_path / "photos")
    plan = make_plan(rate=0.5, evaluate_every=1)
    head = HeadState.zeros(len(data_set.classes), 4)
    bench = Workbench(
        "mem_1", build(SPEC, 1), data_set.reader(SPEC), head, runtime=RuntimeOptions(device="cpu")
    )
    update, head = local_round(make_request(plan), plan, pay(plan), start_of(bench), bench)
    assert np.isfinite(vector_of(update)).all()
    assert update.counts is not None
    assert head.weight.shape == (2, 4)


def test_schedule_scales_the_steps_of_a_late_round_and_nothing_else(pay):
    """Same draw, same noise: with a cosine the update of round 3 of 3 is a quarter of the constant one."""
    updates, heads = [], []
    for schedule in ("constant", "cosine"):
        plan = make_plan(evaluate_every=0, schedule=schedule)
        bench = make_bench(plan)
        request = make_request(plan, 3)
        paid = pay(plan, 3, run_id=f"run_{schedule}")
        request = replace(request, run_id=f"run_{schedule}")
        update, head = local_round(request, plan, paid, start_of(bench), bench)
        updates.append(vector_of(update))
        heads.append(head.weight)
    np.testing.assert_allclose(updates[1], 0.25 * updates[0], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(heads[1], 0.25 * heads[0], rtol=1e-4, atol=1e-7)


def shared_plan(**changes):
    """With a shared head over the records' classes and one more."""
    plan = make_plan(rate=1.0, **changes)
    head = SharedHead(("emu", "owl", "dog", "cat"), 4)
    extractor = len(get_flat(build(plan.extractor, 1)))
    return replace(plan, shared_head=head, trainable_coordinates=extractor + head.coordinates)


def whole_start(plan, bias=(0.0,) * 4):
    """float32 [d]: the starting weights and a head of zeros but for its bias."""
    head = np.zeros(plan.trainable_coordinates - plan.extractor_coordinates, np.float32)
    head[:4] = bias
    return np.concatenate([get_flat(build(plan.extractor, 1)), head])


def test_two_local_steps_move_both_parts_as_two_rounds_of_one_step_do(pay):
    one, two = (shared_plan(rounds=2, steps=steps, evaluate_every=0) for steps in (1, 2))
    weights, bench = whole_start(one), make_bench(one)
    for number in (1, 2):
        request = make_request(one, number)
        weights = weights + vector_of(local_round(request, one, pay(one, number), weights, bench)[0])
    whole, _ = local_round(
        replace(make_request(two), run_id="run_2"),
        two,
        pay(two, run_id="run_2"),
        whole_start(two),
        make_bench(two),
    )
    np.testing.assert_allclose(whole_start(two) + vector_of(whole), weights, rtol=1e-4, atol=1e-6)
    assert np.abs(vector_of(whole)[-20:]).min() > 0.0


def test_validation_counts_are_of_the_shared_head_received_and_by_the_plans_names(pay):
    plan = shared_plan(evaluate_every=1)
    plan = replace(plan, privacy=replace(plan.privacy, evaluation_noise_multiplier=0.01))
    bench, start = make_bench(plan), whole_start(plan, (0.0, 9.0, 0.0, 0.0))
    update, _ = local_round(make_request(plan), plan, pay(plan), start, bench)
    records = bench.records
    labels = records.labels[records.held_out_indices]
    owls = sum(records.classes[label] == "owl" for label in labels)
    assert 0 < owls < len(labels)
    assert (round(update.counts.correct), round(update.counts.wrong)) == (owls, len(labels) - owls)
