"""The engine's clipped sums against the definition: one record at a time, plain autograd, one joint norm."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from participant.training.dp_sgd import make_engine
from shared.domain.errors import MixesRecords, UnsoundPlan
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.extractors.architectures import TEXT, TRAINABLE, build
from shared.extractors.preprocess import to_input
from shared.extractors.vectors import trainable_parameters

TINY = {
    "fixed-mlp": {"hidden": 8, "grid": 2},
    "small-gn": {"width": 4},
    "wrn-16-4-gn": {"widen": 1},
    "resnet18-gn": {"width": 4},
    "vit-tiny": {"width": 12, "depth": 2, "heads": 3},
    "efficientnet-lite0": {},
    # So small a table that many n-grams meet in one slot.
    "ngram-bag": {"buckets": 64, "width": 8, "hidden": 8},
    "byte-transformer": {"width": 12, "depth": 2, "heads": 3},
}
CPU = torch.device("cpu")
CLASSES = 3
LARGEST = ("efficientnet-lite0",)
MOST = [pytest.param(name, marks=pytest.mark.slow) if name in LARGEST else name for name in TRAINABLE]
"""The largest runs in one test of the default run, and in all of them with `make test-all`."""


def models(name, dtype, **options):
    sides = (1, 1, 20) if name in TEXT else (3, 12, 12)
    kind = RecordKind.TEXT if name in TEXT else RecordKind.IMAGE
    extractor = build(ExtractorSpec(name, *sides, 6, options={**TINY[name], **options}, kind=kind), seed=5)
    torch.manual_seed(0)
    return extractor.to(dtype), torch.nn.Linear(6, CLASSES).to(dtype)


def batch(size, dtype, name=""):
    generator = torch.Generator().manual_seed(11)
    if name in TEXT:
        x = torch.randint(1, 256, (size, 1, 1, 20), generator=generator)
        # From one byte to all that fit, and with a byte that every text has.
        lengths = torch.linspace(1, 20, max(size, 1)).long()[:size, None, None, None]
        x = torch.where(torch.arange(20) < lengths, x, 0)
        x[..., 0] = 65
        return x.to(dtype), torch.randint(0, CLASSES, (size,), generator=generator)
    x = torch.randn(size, 3, 12, 12, generator=generator, dtype=torch.float64)
    # Records of very different size, so that some gradients are clipped and some are not.
    x *= torch.logspace(-1, 1, max(size, 1), dtype=torch.float64)[:size, None, None, None]
    return x.to(dtype), torch.randint(0, CLASSES, (size,), generator=generator)


def gradients_one_by_one(extractor, head, x, y):
    """float64 [B, d + h]: each record's whole gradient from a backward pass of its own."""
    parameters = trainable_parameters(extractor) + trainable_parameters(head)
    rows = []
    for record, label in zip(x, y, strict=True):
        loss = F.cross_entropy(head(extractor(record[None])), label[None])
        parts = torch.autograd.grad(loss, parameters)
        rows.append(torch.cat([part.reshape(-1).double() for part in parts]))
    return torch.stack(rows).numpy()


def clipped_and_summed(gradients, clip_norm_l2):
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    return (gradients * np.minimum(1.0, clip_norm_l2 / norms)).sum(axis=0)


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [(name, torch.float64, 1e-9) for name in TRAINABLE]
    + [
        pytest.param(name, torch.float32, 2e-6, marks=[pytest.mark.slow] if name in LARGEST else [])
        for name in TRAINABLE
    ],
)
def test_hooks_give_the_sum_of_one_record_at_a_time(name, dtype, tolerance):
    extractor, head = models(name, dtype)
    x, y = batch(7, dtype, name)
    gradients = gradients_one_by_one(extractor, head, x, y)
    norms = np.linalg.norm(gradients, axis=1)
    clip = float(np.median(norms))
    expected = clipped_and_summed(gradients, clip)
    parts = make_engine(extractor, head, 3, CPU).clipped_sum(x, y, clip)
    found = np.concatenate(parts)
    assert norms.min() < clip < norms.max()
    assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)


def test_head_sees_as_many_numbers_of_the_embedding_as_it_has_inputs():
    spec = ExtractorSpec(
        "fixed-mlp", 3, 12, 12, 4 + 4 * (2 * 8 + 3), options={"grid": 2, "concatenate": True}
    )
    extractor = build(spec, seed=5).double()
    x, y = batch(7, torch.float64)
    for inputs in (4, 10, spec.embedding_dim):
        torch.manual_seed(0)
        head = torch.nn.Linear(inputs, CLASSES).double()
        front = torch.nn.Linear(spec.embedding_dim, CLASSES).double()
        with torch.no_grad():
            front.weight.zero_()[:, :inputs].copy_(head.weight)
            front.bias.copy_(head.bias)
        extractor_sum, head_sum = make_engine(extractor, head, 3, CPU).clipped_sum(x, y, 1e9)
        expected = gradients_one_by_one(extractor, front, x, y).sum(axis=0)
        cut = len(extractor_sum)
        seen = expected[cut + CLASSES :].reshape(CLASSES, -1)[:, :inputs]
        np.testing.assert_allclose(extractor_sum, expected[:cut], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(head_sum, [*expected[cut : cut + CLASSES], *seen.ravel()], rtol=1e-9)


@pytest.mark.parametrize("name", [name for name in MOST if name not in [*TEXT]])
@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_are_right_however_the_pictures_lie_in_memory(name, channels):
    spec = ExtractorSpec(name, channels, 12, 12, 6, options=TINY[name])
    extractor = build(spec, seed=5).double()
    torch.manual_seed(0)
    head = torch.nn.Linear(6, CLASSES).double()
    images_u8 = np.random.default_rng(1).integers(0, 256, (3, 12, 12, channels), dtype=np.uint8)
    # As training gets them: one channel of them lies in channels_last order as well as in the usual one.
    x, y = torch.from_numpy(to_input(images_u8, spec)).double(), torch.tensor([0, 1, 2])
    assert x.is_contiguous(memory_format=torch.channels_last) == (channels == 1)
    expected = gradients_one_by_one(extractor, head, x, y).sum(axis=0)
    engine = make_engine(extractor, head, 8, CPU)
    for pictures in (
        x,
        x.to(memory_format=torch.channels_last),
        x.clone(memory_format=torch.contiguous_format),
    ):
        found = np.concatenate(engine.clipped_sum(pictures, y, 1e6))
        assert np.linalg.norm(found - expected) <= 1e-9 * np.linalg.norm(expected)


SCOPED = [{"scope": "last_block"}, {"scope": "film"}, {"scope": "lora", "lora_rank": 2}]
STANDARDISED = [{"weight_standardisation": True}, {"weight_standardisation": True, "scope": "film"}]


def away_from_the_start(extractor):
    """Move every trained weight: at the start of lora half of the gradient is zero, which hides mistakes."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in trainable_parameters(extractor):
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, options) for name in TRAINABLE for options in SCOPED]
    + [(name, options) for name in ("small-gn", "wrn-16-4-gn", "resnet18-gn") for options in STANDARDISED],
)
def test_every_scope_and_standardised_filter_has_exact_gradients(name, options):
    extractor, head = models(name, torch.float64, **options)
    away_from_the_start(extractor)
    x, y = batch(4, torch.float64, name)
    gradients = gradients_one_by_one(extractor, head, x, y)
    clip = float(np.median(np.linalg.norm(gradients, axis=1)))
    expected = clipped_and_summed(gradients, clip)
    extractor_part, head_part = make_engine(extractor, head, 3, CPU).clipped_sum(x, y, clip)
    found = np.concatenate([extractor_part, head_part])
    assert extractor_part.any()
    assert np.linalg.norm(found - expected) <= 1e-9 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", ["fixed-mlp", "small-gn", "vit-tiny", *TEXT])
@pytest.mark.parametrize("micro_batch", [1, 5, 100])
def test_copies_of_a_record_are_averaged_one_at_a_time_before_its_clip(name, micro_batch):
    extractor, head = models(name, torch.float64)
    records, copies = 5, 3
    x, y = batch(records * copies, torch.float64, name)
    y = y[:records]
    gradients = gradients_one_by_one(extractor, head, x, y.repeat_interleave(copies))
    averaged = gradients.reshape(records, copies, -1).mean(axis=1)
    clip = float(np.median(np.linalg.norm(averaged, axis=1)))
    expected = clipped_and_summed(averaged, clip)
    parts = make_engine(extractor, head, micro_batch, CPU).clipped_sum(x, y, clip, copies)
    found = np.concatenate(parts)
    assert np.linalg.norm(found - expected) <= 1e-9 * np.linalg.norm(expected)
    clipped_first = clipped_and_summed(gradients, clip) / copies
    assert np.linalg.norm(found - clipped_first) > 1e-2 * np.linalg.norm(expected)


def test_record_with_many_copies_moves_the_sum_by_no_more_than_one_without():
    extractor, head = models("small-gn", torch.float64)
    x, y = batch(8, torch.float64)
    x *= 10.0
    engine, clip = make_engine(extractor, head, 16, CPU), 0.01
    one_record = np.concatenate(engine.clipped_sum(x, y[:1], clip, copies=8))
    assert np.linalg.norm(one_record) <= clip * (1 + 1e-9)
    # The mistake that this guards against: copies counted as records of their own.
    as_records = np.concatenate(engine.clipped_sum(x, y[:1].expand(8), clip))
    assert np.linalg.norm(as_records) > 2 * clip


def test_record_with_one_broken_copy_adds_nothing():
    extractor, head = models("small-gn", torch.float32)
    x, y = batch(6, torch.float32)
    engine = make_engine(extractor, head, 8, CPU)
    sound = np.concatenate(engine.clipped_sum(x[3:], y[:1], 0.5, copies=3))
    x[1] = float("nan")
    found = np.concatenate(engine.clipped_sum(x, y[[1, 0]], 0.5, copies=3))
    np.testing.assert_allclose(found, sound, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("pictures", "copies"), [(5, 2), (4, 1), (4, 0)])
def test_copies_that_do_not_fit_the_labels_are_refused(pictures, copies):
    extractor, head = models("fixed-mlp", torch.float32)
    x, _ = batch(pictures, torch.float32)
    with pytest.raises(ValueError, match=f"expected {copies} copies of 2 records, found {pictures} pictures"):
        make_engine(extractor, head, 4, CPU).clipped_sum(x, torch.tensor([0, 1]), 1.0, copies)


def test_clip_is_joint_over_extractor_and_head():
    extractor, head = models("fixed-mlp", torch.float64)
    x, y = batch(1, torch.float64)
    gradient = gradients_one_by_one(extractor, head, x, y)[0]
    clip = 0.5 * np.linalg.norm(gradient)
    extractor_part, head_part = make_engine(extractor, head, 4, CPU).clipped_sum(x, y, clip)
    assert np.linalg.norm(extractor_part) < clip
    assert np.linalg.norm(head_part) < clip
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([extractor_part, head_part])), clip, rtol=1e-12)


@pytest.mark.parametrize("name", MOST)
def test_empty_batch_gives_zeros_of_full_length(name):
    extractor, head = models(name, torch.float32)
    x, y = batch(0, torch.float32, name)
    extractor_part, head_part = make_engine(extractor, head, 4, CPU).clipped_sum(x, y, 1.0)
    assert extractor_part.shape == (sum(p.numel() for p in trainable_parameters(extractor)),)
    assert head_part.shape == (6 * CLASSES + CLASSES,)
    assert not extractor_part.any()
    assert not head_part.any()


@pytest.mark.parametrize("micro_batch", [1, 2, 5, 9, 100])
def test_micro_batch_size_does_not_matter(micro_batch):
    extractor, head = models("small-gn", torch.float64)
    x, y = batch(9, torch.float64)
    expected = np.concatenate(make_engine(extractor, head, 9, CPU).clipped_sum(x, y, 0.5))
    found = np.concatenate(make_engine(extractor, head, micro_batch, CPU).clipped_sum(x, y, 0.5))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_sum_is_not_a_mean_and_records_only_add():
    extractor, head = models("fixed-mlp", torch.float64)
    x, y = batch(4, torch.float64)
    engine = make_engine(extractor, head, 4, CPU)
    once = np.concatenate(engine.clipped_sum(x, y, 0.5))
    twice = np.concatenate(engine.clipped_sum(torch.cat([x, x]), torch.cat([y, y]), 0.5))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-9)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
def test_record_whose_gradient_is_not_finite_adds_nothing(value):
    extractor, head = models("small-gn", torch.float32)
    x, y = batch(4, torch.float32)
    sound = np.concatenate(make_engine(extractor, head, 8, CPU).clipped_sum(x[1:], y[1:], 0.5))
    x[0] = value
    found = np.concatenate(make_engine(extractor, head, 8, CPU).clipped_sum(x, y, 0.5))
    assert np.isfinite(found).all()
    assert np.linalg.norm(found - sound) <= 0.5 * (1 + 1e-5)


def test_engine_leaves_modules_as_it_found_them():
    extractor, head = models("small-gn", torch.float32)
    before = {name: tensor.clone() for name, tensor in extractor.state_dict().items()}
    x, y = batch(4, torch.float32)
    for _ in range(2):
        make_engine(extractor, head, 2, CPU).clipped_sum(x, y, 0.5)
    torch.testing.assert_close(dict(extractor.state_dict()), before)
    assert not extractor.training
    for parameter in [*extractor.parameters(), *head.parameters()]:
        assert parameter.grad is None
        assert not hasattr(parameter, "grad_sample")


def test_engine_refuses_layers_that_mix_records():
    extractor, head = models("small-gn", torch.float32, norm="batch")
    with pytest.raises(MixesRecords, match="Layer 1 is BatchNorm2d"):
        make_engine(extractor, head, 4, CPU)


@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan")])
def test_engine_refuses_a_clip_norm_that_clips_nothing(clip):
    extractor, head = models("fixed-mlp", torch.float32)
    with pytest.raises(UnsoundPlan, match="clip norm must be above 0"):
        make_engine(extractor, head, 4, CPU).clipped_sum(*batch(2, torch.float32), clip)
