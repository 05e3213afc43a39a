"""What a scope trains, what it leaves alone, and that starting from other weights is what it says."""

import itertools

import numpy as np
import pytest
import torch

from shared.domain.errors import InvalidConfig, InvalidWeights
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.extractors.architectures import (
    TEXT,
    TRAINABLE,
    build,
    get_flat,
    load,
    set_flat,
    starting_weights,
    trainable_layout,
)
from shared.extractors.files import read_weights, write_weights
from shared.extractors.flatten import flatten, unflatten
from shared.extractors.scope_shape import SCOPES, folded

TINY = {
    "fixed-mlp": {"hidden": 16, "grid": 2},
    "small-gn": {"width": 4},
    "wrn-16-4-gn": {"widen": 1},
    "resnet18-gn": {"width": 4},
    "vit-tiny": {"width": 12, "depth": 2, "heads": 3},
    "efficientnet-lite0": {},
    "ngram-bag": {"buckets": 64, "width": 8, "hidden": 8},
    "byte-transformer": {"width": 12, "depth": 2, "heads": 3},
}
SMALLER = [scope for scope in SCOPES if scope != "all"]
X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(3))
TEXTS = torch.tensor([[[[*b"Strasse", *[0] * 5]]], [[[*b"ulica w lesi"]]]], dtype=torch.float32)


def tiny(name, scope=None, **options):
    chosen = {**TINY[name], **options}
    if scope is not None:
        chosen["scope"] = scope
    if scope == "lora":
        chosen.setdefault("lora_rank", 2)
    if name in TEXT:
        return ExtractorSpec(name, 1, 1, 12, 6, options=chosen, kind=RecordKind.TEXT)
    return ExtractorSpec(name, 3, 12, 12, 6, options=chosen)


def inputs_of(spec):
    return TEXTS if spec.kind is RecordKind.TEXT else X


def layout_of(spec):
    return starting_weights(spec, seed=0)[1]


def trained(spec):
    return {slot.name for slot in layout_of(spec).slots if slot.trainable}


def moved(spec, seed=5):
    """Tensors after every trained coordinate was moved, as training would."""
    tensors, layout = starting_weights(spec, seed=1)
    change = np.random.default_rng(seed).normal(0, 0.1, layout.trainable_coordinates).astype(np.float32)
    return unflatten(flatten(tensors, layout) + change, layout, tensors), layout


@pytest.mark.parametrize("name", TRAINABLE)
@pytest.mark.parametrize("scope", SMALLER)
def test_scope_starts_as_the_very_network_of_the_same_seed_and_trains_less_of_it(name, scope):
    whole, part = build(tiny(name), seed=1), build(tiny(name, scope), seed=1)
    x = inputs_of(tiny(name))
    torch.testing.assert_close(part(x), whole(x), rtol=1e-5, atol=1e-6)
    assert 0 < get_flat(part).size < get_flat(whole).size
    kept = {name: tensor for name, tensor in part.state_dict().items() if name in whole.state_dict()}
    torch.testing.assert_close(kept, whole.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", TRAINABLE)
@pytest.mark.parametrize("scope", SMALLER)
def test_released_weights_of_a_scope_load_from_their_file_alone(name, scope, tmp_path):
    spec = tiny(name, scope)
    tensors, layout = moved(spec)
    write_weights(tmp_path / "w", tensors, spec, layout)
    weights = read_weights(tmp_path / "w")
    module = load(weights.spec, weights)
    assert trainable_layout(module) == weights.layout == layout_of(spec)
    assert not torch.allclose(module(inputs_of(spec)), build(spec, seed=1)(inputs_of(spec)))
    still = build(tiny(name), seed=1).state_dict()
    for slot in layout.slots:
        if not slot.trainable:
            np.testing.assert_array_equal(tensors[slot.name], still[slot.name].numpy())


def test_scope_all_is_no_scope():
    assert layout_of(tiny("small-gn", "all")) == layout_of(tiny("small-gn"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fixed-mlp", {"out.weight", "out.bias"}),
        ("small-gn", {"8.weight", "8.bias", "13.weight", "13.bias"}),
        ("vit-tiny", {"blocks.1.", "norm.", "out."}),
        ("wrn-16-4-gn", {"6.", "7.", "11."}),
        ("resnet18-gn", {"10.", "13."}),
        ("efficientnet-lite0", {"blocks.15.", "head.", "out."}),
        ("ngram-bag", {"up.", "out."}),
        ("byte-transformer", {"blocks.1.", "norm.", "out."}),
    ],
)
def test_last_block_is_what_the_architecture_says_it_is(name, expected):
    names = trained(tiny(name, "last_block"))
    assert all(name.startswith(tuple(expected)) for name in names)
    assert all(any(name.startswith(prefix) for name in names) for prefix in expected)


@pytest.mark.parametrize("name", TRAINABLE)
def test_film_trains_a_scale_and_a_shift_for_each_channel_of_norms_and_nothing_else(name):
    slots = [slot for slot in layout_of(tiny(name, "film")).slots if slot.trainable]
    assert {slot.name.rpartition(".")[2] for slot in slots} == {"weight", "bias"}
    assert all(len(slot.shape) == 1 for slot in slots)
    assert len(slots) % 2 == 0


@pytest.mark.parametrize("name", TRAINABLE)
def test_lora_trains_two_thin_matrices_for_each_weight_that_they_are_smaller_than(name):
    slots = {slot.name: slot for slot in layout_of(tiny(name, "lora")).slots}
    thin = [name for name, slot in slots.items() if slot.trainable]
    assert thin and all(".lora_a.weight" in name or ".lora_b.weight" in name for name in thin)
    for name in thin:
        if name.endswith("lora_a.weight"):
            layer = name.removesuffix(".lora_a.weight")
            down, up, weight = slots[name], slots[f"{layer}.lora_b.weight"], slots[f"{layer}.weight"]
            assert down.shape[0] == up.shape[1] == 2
            assert down.coordinates + up.coordinates < weight.coordinates
            assert not weight.trainable


def test_low_rank_change_is_folded_into_the_same_bits_on_every_machine() -> None:
    """Term after term, each product exact: what no library of matrices may order otherwise."""
    drawn = np.random.default_rng(4)
    weight, down, up = (drawn.normal(size=shape).astype(np.float32) for shape in ((5, 30), (16, 30), (5, 16)))
    found = folded({"a.weight": weight, "a.lora_a.weight": down, "a.lora_b.weight": up})
    by_hand = weight.astype(float).tolist()
    for k, i, j in itertools.product(range(16), range(5), range(30)):
        by_hand[i][j] += float(up[i, k]) * float(down[k, j])
    assert list(found) == ["a.weight"]
    np.testing.assert_array_equal(found["a.weight"], np.array(by_hand, dtype=np.float32))


@pytest.mark.parametrize(
    ("weight", "down", "up"),
    [
        ((5, 30), (2, 30), None),
        ((5, 30), (2, 29), (5, 2)),
        ((5, 30), (2, 30), (4, 2)),
        ((5, 30), (2, 30), (5, 2, 2)),
        ((2, 2), (1, 10**6), (10**6, 1)),
        ((5, 30), (0, 30), (5, 0)),
        ((), (), ()),
    ],
)
def test_low_rank_change_that_fits_no_weight_is_refused(
    weight: tuple[int, ...], down: tuple[int, ...], up: tuple[int, ...] | None
) -> None:
    tensors = {"a.weight": np.ones(weight, np.float32), "a.lora_a.weight": np.ones(down, np.float32)}
    tensors |= {} if up is None else {"a.lora_b.weight": np.ones(up, np.float32)}
    with pytest.raises(
        InvalidWeights, match="Expected a weight 'a' and two matrices whose product has its shape"
    ):
        folded(tensors)


@pytest.mark.parametrize("name", ["fixed-mlp", "small-gn", "vit-tiny", "resnet18-gn", *TEXT])
def test_low_rank_change_is_the_weight_plus_the_product_of_both_matrices(name):
    spec = tiny(name, "lora")
    tensors, layout = moved(spec)
    assert layout.trainable_coordinates > 0
    module = build(tiny(name), seed=9, base=folded(tensors))
    adapted = build(spec, seed=1)
    set_flat(adapted, flatten(tensors, layout))
    torch.testing.assert_close(module(inputs_of(spec)), adapted(inputs_of(spec)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scope", [None, "last_block", "lora"])
def test_next_run_starts_where_a_release_ended_whatever_either_of_them_trains(scope):
    spec = tiny("small-gn", "lora")
    tensors, layout = moved(spec)
    adapted = build(spec, seed=1)
    set_flat(adapted, flatten(tensors, layout))
    started = build(tiny("small-gn", scope), seed=77, base=tensors)
    torch.testing.assert_close(started(X), adapted(X), rtol=1e-4, atol=1e-5)


def test_film_continues_from_film_and_nothing_else_has_a_place_for_its_scales():
    tensors, _ = moved(tiny("small-gn", "film"))
    again, _ = starting_weights(tiny("small-gn", "film"), seed=2, base=tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(again[name], tensor)
    with pytest.raises(InvalidWeights, match=r"found tensor '1\.\w+' of \[4\]\. Nothing was built"):
        starting_weights(tiny("small-gn"), seed=2, base=tensors)


def test_base_of_another_shape_is_refused_by_name():
    other, _ = starting_weights(tiny("small-gn", width=8), seed=1)
    with pytest.raises(InvalidWeights, match=r"Expected base weights that fit 'small-gn'.*found tensor '0\."):
        starting_weights(tiny("small-gn"), seed=1, base=other)


def test_tensors_that_the_base_lacks_come_from_the_seed():
    whole, _ = starting_weights(tiny("fixed-mlp"), seed=1)
    mixed, _ = starting_weights(tiny("fixed-mlp"), seed=2, base={"out.weight": whole["out.weight"]})
    np.testing.assert_array_equal(mixed["out.weight"], whole["out.weight"])
    seeded, _ = starting_weights(tiny("fixed-mlp"), seed=2)
    np.testing.assert_array_equal(mixed["hidden.weight"], seeded["hidden.weight"])


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (tiny("small-gn", "first_block"), "expected one of all, last_block, film, lora, found 'first_block'"),
        (tiny("small-gn", lora_rank=3), "lora_rank only with scope 'lora', found it with scope 'all'"),
        (tiny("small-gn", "lora", lora_rank=0), "expected a whole number from 1 to 65536, found 0"),
        (tiny("small-gn", "lora", lora_rank=500), "makes at least one weight smaller, found 500"),
        (tiny("small-gn", "lora", weight_standardisation=True), "'lora' without weight_standardisation"),
    ],
)
def test_scope_that_cannot_be_is_refused_with_the_reason(spec, text):
    with pytest.raises(InvalidConfig, match=text):
        build(spec, seed=0)


@pytest.mark.parametrize("name", ["small-gn", "wrn-16-4-gn", "resnet18-gn"])
def test_standardised_filters_have_mean_0_and_variance_1_over_fan_in(name):
    from shared.extractors.layers import StandardisedConv2d, standardised

    module = build(tiny(name, weight_standardisation=True), seed=1)
    convolutions = [layer for layer in module.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert convolutions and all(isinstance(layer, StandardisedConv2d) for layer in convolutions)
    weight = standardised(10.0 * convolutions[-1].weight.detach() + 3.0)
    assert weight.mean(dim=(1, 2, 3)).abs().max() < 1e-5
    torch.testing.assert_close(weight.square().sum(dim=(1, 2, 3)), torch.ones(len(weight)), rtol=1e-3, atol=0)
    plain = build(tiny(name), seed=1)
    assert trainable_layout(module) == trainable_layout(plain)
    assert not torch.allclose(module(X), plain(X))
