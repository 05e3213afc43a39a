import numpy as np
import pytest
import torch
import torch.nn.functional as F

from shared.domain.errors import InvalidConfig, InvalidWeights, MixesRecords
from shared.domain.extractor import ExtractorSpec
from shared.extractors.architectures import (
    ARCHITECTURES,
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

TINY = {
    "fixed-mlp": {"hidden": 8, "grid": 2},
    "small-gn": {"width": 4},
    "wrn-16-4-gn": {"widen": 1},
    "resnet18-gn": {"width": 4},
    "vit-tiny": {"width": 12, "depth": 1, "heads": 3},
    "efficientnet-lite0": {},
}


def tiny(name, channels=3, embedding_dim=5, **options):
    return ExtractorSpec(
        name, channels, 12, 12, embedding_dim, (0.5,), (0.25,), {**TINY.get(name, {}), **options}
    )


def test_every_architecture_is_tested_here():
    assert set(TINY) == set(ARCHITECTURES)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("channels", [1, 3])
def test_picture_becomes_an_embedding_of_the_promised_size(name, channels):
    module = build(tiny(name, channels), seed=1)
    out = module(torch.randn(3, channels, 12, 12))
    assert out.shape == (3, 5)
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()
    assert out.std(dim=0).min() > 1e-4
    assert not module.training


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_output_of_a_record_does_not_depend_on_its_batch(name):
    module = build(tiny(name), seed=1).double().train()
    x = torch.randn(4, 3, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(module(x)[:1], module(x[:1]), rtol=1e-9, atol=1e-9)
    check_layers(module)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_starting_weights_are_a_function_of_the_seed_alone(name):
    torch.manual_seed(1)
    first = get_flat(build(tiny(name), seed=7))
    torch.manual_seed(2)
    np.testing.assert_array_equal(first, get_flat(build(tiny(name), seed=7)))
    assert not np.array_equal(first, get_flat(build(tiny(name), seed=8)))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_stranger_rebuilds_the_extractor_from_its_file_alone(name, tmp_path):
    spec = tiny(name)
    tensors, layout = starting_weights(spec, seed=3)
    write_weights(tmp_path / "w.safetensors", tensors, spec, layout)
    weights = read_weights(tmp_path / "w.safetensors")
    x = torch.randn(2, 3, 12, 12)
    rebuilt = load(weights.spec, weights)
    torch.testing.assert_close(rebuilt(x), build(spec, seed=3)(x))
    assert trainable_layout(rebuilt) == layout


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_flat_vector_of_module_and_of_its_tensors_have_one_order(name):
    spec = tiny(name)
    tensors, layout = starting_weights(spec, seed=3)
    module = build(spec, seed=4)
    set_flat(module, flatten(tensors, layout))
    np.testing.assert_array_equal(get_flat(module), flatten(tensors, layout))
    torch.testing.assert_close(module.state_dict(), build(spec, seed=3).state_dict())


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
