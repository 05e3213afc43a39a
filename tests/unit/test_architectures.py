from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from shared.domain.errors import InvalidConfig, InvalidWeights, MixesRecords
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.extractors.architectures import (
    ARCHITECTURES,
    CLASSICAL,
    SENTENCES,
    TEXT,
    TRAINABLE,
    build,
    check_layers,
    get_flat,
    head_inputs,
    load,
    set_flat,
    starting_weights,
    trainable_layout,
)
from shared.extractors.files import read_weights, write_weights
from shared.extractors.fixed_features import gabor_pairs
from shared.extractors.flatten import flatten

DRAWN = {**TRAINABLE, **CLASSICAL}
"""Those that can be built without a file; test_bert.py has the other."""
TINY = {
    "fixed-mlp": {"hidden": 8, "grid": 2},
    "small-gn": {"width": 4},
    "wrn-16-4-gn": {"widen": 1},
    "resnet18-gn": {"width": 4},
    "vit-tiny": {"width": 12, "depth": 1, "heads": 3},
    "efficientnet-lite0": {},
    "ngram-bag": {"buckets": 512, "width": 8, "hidden": 8},
    "byte-transformer": {"width": 12, "depth": 1, "heads": 3},
    "colours": {"levels": 2},
    "hog": {"cell": 4},
    "lbp": {"grid": 2},
    "edge-layout": {"grid": 2},
}


def tiny(name, channels=3, embedding_dim=None, **options):
    """The smallest of its kind; the embedding of a classical extractor has the length that it has."""
    if name in TEXT:
        return ExtractorSpec(name, 1, 1, 24, 5, options={**TINY[name], **options}, kind=RecordKind.TEXT)
    spec = ExtractorSpec(name, channels, 12, 12, 5, (0.5,), (0.25,), {**TINY.get(name, {}), **options})
    if embedding_dim is None:
        embedding_dim = CLASSICAL[name](spec).features if name in CLASSICAL else 5
    return replace(spec, embedding_dim=embedding_dim)


def inputs(spec, count, dtype=torch.float32):
    """Random pictures, or texts of any bytes and of lengths from one to all that fit."""
    generator = torch.Generator().manual_seed(5)
    shape = (count, spec.channels, spec.height, spec.width)
    if spec.kind is RecordKind.IMAGE:
        return torch.randn(shape, generator=generator, dtype=dtype)
    lengths = torch.linspace(1, spec.width, count).long()[:, None, None, None]
    drawn = torch.randint(1, 256, shape, generator=generator)
    return torch.where(torch.arange(spec.width) < lengths, drawn, 0).to(dtype)


def test_every_architecture_is_tested_here():
    assert set(TINY) == set(DRAWN) == set(ARCHITECTURES) - set(SENTENCES)


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("channels", [1, 3])
def test_record_becomes_an_embedding_of_the_promised_size(name, channels):
    spec = tiny(name, channels)
    module = build(spec, seed=1)
    out = module(inputs(spec, 3))
    assert out.shape == (3, spec.embedding_dim)
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()
    # A histogram may have bins that stay empty in three pictures, but not many.
    assert out.std(dim=0).quantile(0.25 if name in CLASSICAL else 0.0) > 1e-4
    assert not module.training


@pytest.mark.parametrize("name", DRAWN)
def test_output_of_a_record_does_not_depend_on_its_batch(name):
    module = build(tiny(name), seed=1).double().train()
    x = inputs(tiny(name), 4, torch.float64)
    torch.testing.assert_close(module(x)[:1], module(x[:1]), rtol=1e-9, atol=1e-9)
    check_layers(module)


@pytest.mark.parametrize("name", TRAINABLE)
def test_starting_weights_are_a_function_of_the_seed_alone(name):
    torch.manual_seed(1)
    first = get_flat(build(tiny(name), seed=7))
    torch.manual_seed(2)
    np.testing.assert_array_equal(first, get_flat(build(tiny(name), seed=7)))
    assert not np.array_equal(first, get_flat(build(tiny(name), seed=8)))


@pytest.mark.parametrize("name", DRAWN)
def test_stranger_rebuilds_the_extractor_from_its_file_alone(name, tmp_path):
    spec = tiny(name)
    tensors, layout = starting_weights(spec, seed=3)
    write_weights(tmp_path / "w.safetensors", tensors, spec, layout)
    weights = read_weights(tmp_path / "w.safetensors")
    x = inputs(spec, 2)
    rebuilt = load(weights.spec, weights)
    torch.testing.assert_close(rebuilt(x), build(spec, seed=3)(x))
    assert trainable_layout(rebuilt) == layout


@pytest.mark.parametrize("name", DRAWN)
def test_flat_vector_of_module_and_of_its_tensors_have_one_order(name):
    spec = tiny(name)
    tensors, layout = starting_weights(spec, seed=3)
    module = build(spec, seed=4)
    set_flat(module, flatten(tensors, layout))
    np.testing.assert_array_equal(get_flat(module), flatten(tensors, layout))
    torch.testing.assert_close(module.state_dict(), build(spec, seed=3).state_dict())


@pytest.mark.parametrize("name", CLASSICAL)
def test_classical_extractors_have_tensors_and_nothing_to_train(name):
    tensors, layout = starting_weights(tiny(name), seed=3)
    assert layout.trainable_coordinates == 0 and layout.slots
    again, _ = starting_weights(tiny(name), seed=4)
    np.testing.assert_equal(tensors, again)


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("scope", ["last_block", "film", "lora"])
def test_scope_of_an_extractor_without_training_is_refused(name, scope):
    with pytest.raises(
        InvalidConfig, match=f"{name}' has nothing to train: expected no scope, found '{scope}'"
    ):
        build(tiny(name, embedding_dim=7, scope=scope), seed=0)


def test_set_flat_refuses_another_length():
    with pytest.raises(ValueError, match="expected 2225 coordinates"):
        set_flat(torch.nn.Linear(88, 25), np.zeros(7, np.float32))


def test_filters_are_saved_and_never_trained():
    layout = trainable_layout(build(tiny("fixed-mlp"), seed=0))
    assert {slot.name for slot in layout.slots if not slot.trainable} == {"fixed.filters"}
    positions = trainable_layout(build(tiny("vit-tiny"), seed=0))
    assert {slot.name for slot in positions.slots if not slot.trainable} == {"positions"}


@pytest.mark.parametrize("name", ["wrn-16-4-gn", "resnet18-gn", "small-gn"])
def test_convnets_keep_no_statistics_of_records(name):
    assert all(slot.trainable for slot in trainable_layout(build(tiny(name), seed=0)).slots)


def test_plain_brightness_has_no_energy_in_the_filters():
    filters = gabor_pairs(2, 8, 7)
    assert filters.shape == (32, 1, 7, 7)
    np.testing.assert_allclose(filters.sum(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(filters.reshape(32, -1), axis=1), 1, rtol=1e-5)


def test_second_order_is_the_energies_of_the_finer_scales_energies():
    spec = tiny("fixed-mlp", channels=1, orientations=3, scales=3, grid=2, order=2)
    module, first = build(spec, seed=0).fixed, build(tiny("fixed-mlp", 1, orientations=3, scales=3), 0).fixed
    x = torch.randn(2, 1, 12, 12)
    features = module(x)
    assert features.shape == (2, module.features) == (2, 4 * (9 + 9 + 18))
    torch.testing.assert_close(features[:, :36], first(x))

    def energies(maps, filters):
        answers = F.conv2d(F.pad(maps, (3, 3, 3, 3), mode="replicate"), filters)
        return torch.sqrt(answers[:, 0::2].square() + answers[:, 1::2].square() + 1e-6)

    maps = energies(x, module.filters)
    second = torch.cat([energies(maps[:, k : k + 1], module.filters[12:18]) for k in range(6)], dim=1)
    expected = F.adaptive_avg_pool2d(second, 2).flatten(1)
    torch.testing.assert_close(features[:, 72:], F.layer_norm(expected, expected.shape[1:]))


def test_concatenated_embedding_ends_with_the_fixed_features():
    spec = tiny("fixed-mlp", channels=1, embedding_dim=5 + 64, concatenate=True)
    module = build(spec, seed=0)
    x = torch.randn(2, 1, 12, 12)
    torch.testing.assert_close(module(x)[:, 5:], module.fixed(x))
    assert head_inputs(module, spec) == 5
    plain = tiny("fixed-mlp", channels=1, embedding_dim=7)
    assert head_inputs(build(plain, seed=0), plain) == 7
    with pytest.raises(InvalidConfig, match="above its 64 fixed features; found 64"):
        build(tiny("fixed-mlp", channels=1, embedding_dim=64, concatenate=True), seed=0)


@pytest.mark.parametrize(
    ("name", "layer"), [("small-gn", r"1 is BatchNorm2d"), ("resnet18-gn", r"1 is BatchNorm2d")]
)
def test_batchnorm_is_refused_by_name(name, layer):
    spec = tiny(name, norm="batch")
    text = (
        f"Layer {layer}: each record's output depends on the others in its batch, so one record's influence "
        r'cannot be bounded. Use GroupNorm \(architecture "resnet18-gn"\).'
    )
    with pytest.raises(MixesRecords, match=text):
        check_layers(build(spec, seed=0))
    with pytest.raises(MixesRecords, match=text):
        starting_weights(spec, seed=0)


def test_instance_norm_with_running_statistics_is_refused():
    with pytest.raises(MixesRecords, match="Layer 0 is InstanceNorm2d"):
        check_layers(torch.nn.Sequential(torch.nn.InstanceNorm2d(3, track_running_stats=True)))
    check_layers(torch.nn.Sequential(torch.nn.InstanceNorm2d(3)))


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (tiny("alexnet"), "Expected an architecture among fixed-mlp, .* found 'alexnet'"),
        (tiny("small-gn", depth=3), "knows the options width, norm, weight_standardisation; found 'depth'"),
        (tiny("small-gn", width="wide"), "option 'width': expected a value like 32, found 'wide'"),
        (tiny("small-gn", width=0), "expected a whole number from 1 to 65536, found 0"),
        (tiny("small-gn", width=True), "expected a value like 32, found True"),
        (tiny("small-gn", norm="layer"), "expected one of group, batch, found 'layer'"),
        (tiny("small-gn", channels=2), "Expected 1 or 3 channels"),
        (tiny("small-gn", embedding_dim=10**9), "an embedding of 1 to 65536"),
        (tiny("vit-tiny", patch=5), "a patch that divides height and width"),
        (tiny("fixed-mlp", kernel=4), "an odd kernel of at most 31"),
        (
            replace(tiny("small-gn"), kind=RecordKind.TEXT),
            "'small-gn' reads records of kind 'image', .* 'text'",
        ),
        (
            replace(tiny("ngram-bag"), kind=RecordKind.IMAGE),
            "'ngram-bag' reads records of kind 'text', .* 'image'",
        ),
        (replace(tiny("ngram-bag"), height=2), "A text has 1 channel, height 1 .* found 1 and 2x24"),
        (replace(tiny("byte-transformer"), channels=3), "A text has 1 channel, height 1 .* found 3 and 1x24"),
        (replace(tiny("ngram-bag"), width=5000), "sides of 1 to 4096"),
        (tiny("ngram-bag", buckets=65536, width=17), "at most 1048576 numbers .* found 65536 x 17 and 4"),
        (tiny("ngram-bag", longest=9), "n-grams of at most 8 bytes; found 512 x 8 and 9"),
        (replace(tiny("byte-transformer"), width=513), "texts of at most 512 bytes.* found 513 bytes"),
        (tiny("byte-transformer", heads=5), "a width that heads and 4 divide.* width 12, heads 5"),
        (
            tiny("hog", embedding_dim=100),
            "'hog' gives 144 numbers .* 12x12 .* of 100.*Set embedding_dim to 144",
        ),
        (
            tiny("hog", 3, 5, cell=8),
            r"blocks of 2 cells expects pictures of at least 16x16 pixels; found 12x12",
        ),
        (tiny("hog", 3, 5, cell=1), "option 'cell': expected a whole number from 2 to 512, found 1"),
        (tiny("hog", 3, 5, block=9), "option 'block': expected a whole number from 1 to 8, found 9"),
        (
            tiny("hog", 3, 5, orientations=37),
            "'orientations': expected a whole number from 1 to 36, found 37",
        ),
        (tiny("hog", 3, 5, channel="red"), "knows the options orientations, cell, block; found 'channel'"),
        (tiny("lbp", 3, 5, grid=13), "as many pixels a side as its grid has cells, 13; found 12x12"),
        (tiny("lbp", 3, 5, grid=65), "option 'grid': expected a whole number from 1 to 64, found 65"),
        (tiny("edge-layout", 3, 5, grid=13), "as many pixels a side as its grid has cells, 13; found 12x12"),
        (tiny("edge-layout", 3, 5, orientations=37), "expected a whole number from 1 to 36, found 37"),
        (tiny("colours", 3, 5, levels=7), "option 'levels': expected a whole number from 2 to 6, found 7"),
        (
            tiny("colours", 3, 5, softness=4),
            "option 'softness': expected a whole number from 5 to 50, found 4",
        ),
        (replace(tiny("lbp"), std=(0.0,)), r"every std above 0; found \[0.5\] and \[0.0\]"),
        (replace(tiny("lbp"), mean=(0.1, 0.2)), r"expects 1 or 3 numbers as mean and as std.*\[0.1, 0.2\]"),
        (
            replace(tiny("hog", 3, 5, cell=2), height=200, width=200),
            "at most 65536 numbers a picture; these give 352836",
        ),
        (tiny("fixed-mlp", order=3), "found order 3, 2 scales"),
        (tiny("fixed-mlp", order=2, scales=1), "found order 2, 1 scales"),
        (tiny("fixed-mlp", order=2, scales=9, orientations=99, grid=12), "at most 65536 fixed features"),
    ],
)
def test_spec_that_cannot_be_built_is_refused_with_the_reason(spec, text):
    with pytest.raises(InvalidConfig, match=text):
        build(spec, seed=0)


def test_weights_of_another_spec_are_not_loaded(tmp_path):
    spec = tiny("small-gn")
    tensors, layout = starting_weights(spec, seed=3)
    write_weights(tmp_path / "w", tensors, spec, layout)
    with pytest.raises(InvalidWeights, match="Expected weights of 'fixed-mlp' with the plan's options"):
        load(tiny("fixed-mlp"), read_weights(tmp_path / "w"))


def test_file_whose_spec_does_not_fit_its_tensors_is_not_loaded(tmp_path):
    tensors, layout = starting_weights(tiny("small-gn"), seed=3)
    huge = tiny("small-gn", width=60_000)
    write_weights(tmp_path / "w", tensors, huge, layout)
    weights = read_weights(tmp_path / "w")
    with pytest.raises(
        InvalidWeights, match="Expected the tensors of 'small-gn' with the file's own options"
    ):
        load(weights.spec, weights)
