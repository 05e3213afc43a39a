"""timm, as it is, makes a consortium's `efficientnet-lite0` from the hub alone, and it is the same network."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from coordinator.registry.build import Export, KeepRequest
from coordinator.registry.publish import publish
from coordinator.registry.shelf import Shelf
from coordinator.workers.export_worker import sizes_bytes, write_configuration
from shared.domain.canonical import digest_of
from shared.domain.errors import InvalidWeights
from shared.domain.extractor import ExtractorSpec
from shared.domain.release import CONFIG_FILE, PREPROCESSOR_FILE, WEIGHTS_FILE, Source, SourceKind
from shared.evaluation.configuration_claims import configuration_claims
from shared.exports.configuration import config
from shared.exports.head_schema import HEAD_SCHEMA_FILE
from shared.exports.timm_file import TIMM_FILE, timm_file, timm_name, timm_reads
from shared.extractors.architectures import load, starting_weights
from shared.extractors.files import read_weights, write_weights
from shared.verification import verify_extractor
from tests.hub_client_kit import api, hub, kit, run, serving, stranger
from tests.hub_kit import SPACE
from tests.release_kit import Kit

__all__ = ["hub", "kit", "stranger"]
SPEC = ExtractorSpec("efficientnet-lite0", 3, 64, 64, 1280, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
NAMES_OF_TIMM = "sha256:d47c2201fd05cf758686f27ff14a4e0e7cf5092cd8b46d5c78c6358f07bb28b6"
"""Name → shape of every tensor of `tf_efficientnet_lite0` in timm 1.0.31, without counters of batches."""
MAKES = """
import sys, numpy, timm, torch
model = timm.create_model(f"hf-hub:{sys.argv[1]}", pretrained=True, num_classes=0).eval()
told = timm.data.resolve_model_data_config(model)
with torch.no_grad():
    numpy.save("theirs.npy", model(torch.from_numpy(numpy.load("given.npy"))).numpy())
print(*(list(told[key]) for key in ("input_size", "mean", "std")), told["interpolation"], told["crop_pct"])
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Statistics of norms as if something had been learned: with those of the start, many mistakes would not show."""
    tensors, layout = starting_weights(SPEC, seed=1)
    generator = np.random.default_rng(5)
    for name, tensor in tensors.items():
        drawn = generator.normal(size=tensor.shape).astype(np.float32)
        tensors[name] = np.abs(drawn) + 0.5 if name.endswith("variance") else tensor + 0.05 * drawn
    path = tmp_path_factory.mktemp("lite0") / WEIGHTS_FILE
    write_weights(path, tensors, SPEC, layout)
    return path


def test_the_size_of_what_timm_loads_is_told_with_the_others(weights: Path) -> None:
    write_configuration(weights.parent, read_weights(weights))
    told = sizes_bytes(weights.parent)
    assert told[TIMM_FILE] == (weights.parent / TIMM_FILE).stat().st_size
    assert list(told) == [WEIGHTS_FILE, TIMM_FILE]


def test_tensors_get_the_names_and_shapes_that_timm_has(weights: Path) -> None:
    found = {timm_name(name): list(tensor.shape) for name, tensor in read_weights(weights).tensors.items()}
    assert len(found) == 245 and digest_of(found) == NAMES_OF_TIMM
    assert found["blocks.0.0.conv_pw.weight"] == [16, 32, 1, 1]
    assert found["blocks.5.3.conv_pwl.weight"] == [192, 1152, 1, 1]


@pytest.mark.parametrize(
    "name", ["other.weight", "stem.conv.other", "blocks.99.expand.conv.weight", "blocks.1.expand.mean"]
)
def test_a_file_with_other_tensors_is_refused_in_words(weights: Path, name: str) -> None:
    """A stranger signs what it likes, and whoever measures its release again makes this file."""
    honest = read_weights(weights)
    with pytest.raises(InvalidWeights, match="Expected the tensors of 'efficientnet-lite0', found others"):
        timm_file(replace(honest, tensors={**honest.tensors, name: np.zeros(2, np.float32)}))


def test_low_rank_changes_are_a_part_of_the_weights_that_timm_reads(tmp_path: Path) -> None:
    spec = replace(SPEC, options={"scope": "lora"})
    tensors, layout = starting_weights(spec, seed=1)
    name = "blocks.1.expand.conv"
    tensors[f"{name}.lora_b.weight"] += 0.5
    write_weights(tmp_path / WEIGHTS_FILE, tensors, spec, layout)
    write_configuration(tmp_path, read_weights(tmp_path / WEIGHTS_FILE))
    found = load_file(tmp_path / TIMM_FILE)
    assert digest_of({each: list(tensor.shape) for each, tensor in found.items()}) == NAMES_OF_TIMM
    change = 0.5 * tensors[f"{name}.lora_a.weight"].sum(axis=0)
    expected = tensors[f"{name}.weight"] + change
    np.testing.assert_allclose(found[timm_name(f"{name}.weight")], expected, atol=1e-6)
    assert np.abs(change).max() > 0.01


@pytest.mark.parametrize(
    "spec",
    [
        ExtractorSpec("efficientnet-lite0", 3, 64, 64, 64, (0.5,), (0.25,)),
        ExtractorSpec("efficientnet-lite0", 1, 64, 64, 1280, (0.5,), (0.25,)),
        ExtractorSpec("resnet18-gn", 3, 64, 64, 1280, (0.5,), (0.25,)),
    ],
)
def test_what_timm_has_not_is_not_told_to_be_its_own(spec: ExtractorSpec) -> None:
    assert not timm_reads(spec)
    assert config(spec)["architecture"] == spec.architecture and "pretrained_cfg" not in config(spec)


def exported(folder: Path, _release: str) -> Mapping[str, str]:
    write_configuration(folder, read_weights(folder / WEIGHTS_FILE))
    return {}


def other_tensors(folder: Path, release: str) -> Mapping[str, str]:
    """What a publisher signs who gives users of timm another network."""
    exported(folder, release)
    tensors = load_file(folder / TIMM_FILE)
    tensors["bn2.weight"] = 2.0 * tensors["bn2.weight"]
    save_file(tensors, folder / TIMM_FILE, metadata={"format": "pt"})
    return {}


def another_type(folder: Path, release: str) -> Mapping[str, str]:
    """The same numbers, as twice as many bytes."""
    exported(folder, release)
    tensors = load_file(folder / TIMM_FILE)
    tensors["bn2.weight"] = tensors["bn2.weight"].astype(np.float64)
    save_file(tensors, folder / TIMM_FILE, metadata={"format": "pt"})
    return {}


def numbers_that_numpy_has_not(folder: Path, release: str) -> Mapping[str, str]:
    """safetensors of brain floats, which Python without torch cannot read."""
    exported(folder, release)
    header = json.dumps({"bn2.weight": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (folder / TIMM_FILE).write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    return {}


def shelf(kit: Kit, weights: Path, folder: Path, export: Export = exported) -> Kit:
    """A coordinator's home with such an extractor on its shelf."""
    own = kit.copy(folder / "coordinator")
    source = Source(SourceKind.RANDOM, "For a test.", "Apache-2.0", "a seed")
    publish(own.home, KeepRequest("pictures", source, weights), own.clock, export=export)
    return own


@pytest.fixture
def pictures(kit: Kit, weights: Path, tmp_path: Path) -> Kit:
    return shelf(kit, weights, tmp_path)


def test_a_release_holds_the_file_and_the_hub_still_knows_it_by_our_name(pictures: Kit) -> None:
    folder = Shelf(pictures.home).folder("pictures", 1)
    release = verify_extractor(folder, pinned_root=pictures.root, clock=pictures.clock)
    assert TIMM_FILE in release.manifest.files
    told = json.loads((folder / CONFIG_FILE).read_text())
    assert told["architecture"] == "tf_efficientnet_lite0"
    assert told["pretrained_cfg"]["hf_hub_filename"] == TIMM_FILE
    with serving(pictures) as served:
        tags = api(served).model_info(f"{SPACE}/pictures").tags
    assert "efficientnet-lite0" in tags and told["architecture"] not in tags


@pytest.mark.parametrize(
    ("export", "odd"),
    [
        (exported, []),
        (other_tensors, [(TIMM_FILE, "otherwise: bn2.weight")]),
        (another_type, [(TIMM_FILE, "otherwise: bn2.weight")]),
        (numbers_that_numpy_has_not, [(TIMM_FILE, "otherwise: not readable")]),
    ],
)
def test_a_signed_file_for_timm_with_other_tensors_does_not_hold(
    kit: Kit, weights: Path, tmp_path: Path, export: Export, odd: list[tuple[str, str]]
) -> None:
    own = shelf(kit, weights, tmp_path, export)
    folder = Shelf(own.home).folder("pictures", 1)
    release = verify_extractor(folder, pinned_root=own.root, clock=own.clock)
    claims = list(configuration_claims(release, folder))
    assert {claim.what for claim in claims} == {TIMM_FILE, CONFIG_FILE, PREPROCESSOR_FILE, HEAD_SCHEMA_FILE}
    assert [(claim.what, claim.claimed) for claim in claims if not claim.holds] == odd


def test_timm_makes_the_network_from_the_hub_and_gives_the_same_numbers(
    pictures: Kit, weights: Path, tmp_path: Path
) -> None:
    pytest.importorskip(
        "timm",
        reason="timm does not import here: it needs torchvision, which does not stand beside the CPU torch of every "
        "machine, and is no dependency of ours; install both to run this",
    )
    given = np.random.default_rng(3).normal(size=(2, 3, 64, 64)).astype(np.float32)
    np.save(tmp_path / "given.npy", given)
    with serving(pictures) as served:
        done = run(served, tmp_path, sys.executable, "-c", MAKES, f"{SPACE}/pictures")
        assert done.returncode == 0, done.stderr[-2000:]
        assert [a.path for a in served.asked if a.path.endswith(WEIGHTS_FILE)] == []
    assert done.stdout.strip() == "[3, 64, 64] [0.5, 0.4, 0.3] [0.25, 0.2, 0.3] bilinear 1.0"
    module = load(SPEC, read_weights(weights)).eval()
    with torch.inference_mode():
        ours = module(torch.from_numpy(given)).numpy()
    theirs = np.load(tmp_path / "theirs.npy")
    assert ours.std() > 0.01
    np.testing.assert_allclose(theirs, ours, atol=1e-4 * float(np.abs(ours).max()))
