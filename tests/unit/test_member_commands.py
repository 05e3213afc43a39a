"""A member's own commands over real folders: what they print, which device they use, what they take away."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from coordinator.registry.build import KeepRequest, weights_only
from coordinator.registry.publish import publish
from coordinator.registry.shelf import Shelf, read_catalogue
from participant.cli import app
from participant.comparison import Task, compare, raw_numbers, raw_words
from participant.enrol import read_link
from participant.heads.fitting import fit_on_release, predict_files
from participant.heads.store import list_heads, load_head
from participant.home import Home
from participant.records.add import add_data_set
from participant.releases import open_release
from shared.console import run_arguments
from shared.domain.clock import to_text
from shared.domain.errors import InvalidConfig
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.release import Catalogue, Source, SourceKind
from shared.extractors.architectures import starting_weights
from shared.extractors.files import write_weights
from shared.release.hub_client import STATE_FILE, STATE_FOLDER
from shared.release.roles import sign_catalogue
from shared.release.store import TrustStore
from tests.joined_home import joined
from tests.release_kit import Kit, make_used_kit

SPEC = ExtractorSpec("fixed-mlp", 1, 16, 16, 8, (0.5,), (0.25,), {"hidden": 8, "grid": 2, "scales": 1})
BACKBONE = ExtractorSpec("small-gn", 3, 24, 24, 16, (0.5,), (0.25,), {"width": 8})
LARGE = replace(BACKBONE, height=48, width=48)
WORDS = ExtractorSpec("ngram-bag", 1, 1, 48, 16, kind=RecordKind.TEXT)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """digits-1, and what nobody here trained: backbone-1 of pictures, large-1 of larger ones, words-1 of texts."""
    folder = tmp_path_factory.mktemp("commands")
    kit = make_used_kit(folder, SPEC)
    for name, spec in (("backbone", BACKBONE), ("large", LARGE), ("words", WORDS)):
        tensors, layout = starting_weights(spec, seed=3)
        write_weights(folder / f"{name}.safetensors", tensors, spec, layout)
        source = Source(SourceKind.RANDOM, "Sees by chance.", "Apache-2.0", "this software")
        request = KeepRequest(name, source, folder / f"{name}.safetensors")
        publish(kit.home, request, kit.clock, export=weights_only)
    return kit


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """40 pictures of two classes, told apart by which half is bright."""
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 60, (16, 16), dtype=np.uint8)
        pixels[:, : 8 * (1 + number % 2)] += np.uint8(120)
        path = tmp_path / "pictures" / ("left" if number % 2 else "all") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "pictures"


@pytest.fixture
def home(kit: Kit, tmp_path: Path, pictures: Path) -> Home:
    """A member that joined, with one data set and one pulled release."""
    home = joined(kit, tmp_path / "member")
    add_data_set(home.root, "halves", pictures)
    shutil.copytree(kit.folder(), home.releases / "digits-1")
    return home


def run(home: Home, *arguments: object) -> int:
    return run_arguments(app, [*(str(a) for a in arguments), "--home", str(home.root)])


def test_data_add_tells_of_everything_that_it_left_out(
    home: Home, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(home.root / "data")
    for file in home.ledger.parent.glob(f"{home.ledger.name}*"):  # of a member that has spent nothing yet
        file.unlink()
    labels = tmp_path / "labels.csv"
    names = sorted(path.relative_to(pictures).as_posix() for path in pictures.rglob("*.png"))
    labels.write_text("path,label\n" + "".join(f"{name},a\n" for name in names[:30]))
    assert run(home, "data", "add", pictures, "--name", "some", "--labels", labels) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "30 records" in printed and "0 skipped" in printed
    assert "10 files not named by the CSV and not used" in printed
    assert "0 duplicates, 0 pictures or texts under more than one label" in printed


def test_a_head_is_fitted_used_listed_and_removed(
    home: Home, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(home, "head", "fit", "digits-1", "--data", "halves", "--name", "mine") == 0
    assert "mine: 2 classes" in capsys.readouterr().out
    images = sorted((pictures / "left").glob("*.png"))
    assert run(home, "head", "predict", "mine", *images) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == [str(image) for image in images]
    # Which records the head was fitted on is drawn for each data set: a single picture may be missed.
    assert sum(line[1] == "left" for line in lines) >= 0.75 * len(images)
    assert run(home, "head", "remove", "mine") == 0
    assert capsys.readouterr().out.strip() == "mine is removed"
    assert list_heads(home.root) == [] and (home.releases / "digits-1").is_dir()
    assert run(home, "head", "remove", "mine") == 2
    assert 'There is no head "mine" here. Nothing was removed.' in capsys.readouterr().err


def test_a_head_on_a_release_that_the_last_pull_saw_withdrawn_says_so(
    home: Home, pictures: Path, kit: Kit, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(home, "head", "fit", "digits-1", "--data", "halves", "--name", "mine") == 0
    image = next((pictures / "left").glob("*.png"))
    assert run(home, "head", "list") == run(home, "head", "predict", "mine", image) == 0
    seen = capsys.readouterr()
    assert "withdrawn" not in seen.out + seen.err
    shown = read_catalogue(Shelf(kit.home), kit.clock).entry("digits-1")
    assert shown is not None
    gone = replace(shown, yanked=True, reason="Wrong labels.")
    store = TrustStore.create(
        home.releases / STATE_FOLDER / STATE_FILE,
        url="https://localhost",
        ca_pem=(kit.home / "keys" / "ca.pem").read_text(),
        pinned_root=read_link(home.root).root_public_key,
        trust=Shelf(kit.home).trust_envelope(),
        clock=kit.clock,
    )
    soon = to_text(kit.clock.now() + timedelta(days=1))
    signed = sign_catalogue(Catalogue(kit.plan.consortium, 99, soon, (gone,)), kit.release_key)
    store.accept_catalogue(signed, kit.clock)
    assert run(home, "head", "list") == run(home, "head", "predict", "mine", image) == 0
    seen = capsys.readouterr()
    assert seen.out.splitlines()[0].endswith("  withdrawn: Wrong labels.")
    assert "! digits-1 was withdrawn: Wrong labels. Heads on it work as before." in " ".join(seen.err.split())


def test_heads_and_comparison_use_the_device_of_participant_toml(home: Home, pictures: Path) -> None:
    home.settings.write_text('device = "cpu"\n')
    release = open_release(home, "digits-1")
    fit_on_release(home, release, "halves", None, "mine")
    home.settings.write_text('device = "cuda:99"\n')
    absent = r"The device 'cuda:99' is asked for and torch finds none here"
    with pytest.raises(InvalidConfig, match=absent):
        fit_on_release(home, release, "halves", None, "mine")
    with pytest.raises(InvalidConfig, match=absent):
        predict_files(home, load_head(home.root, "mine"), release, [pictures / "left" / "01.png"])
    with pytest.raises(InvalidConfig, match=absent):
        compare(home, release, Task("halves", "halves"), None)


def test_comparison_measures_what_needs_no_training_on_that_device(home: Home) -> None:
    home.settings.write_text('device = "cpu"\nthreads = 1\n')
    found = compare(home, open_release(home, "digits-1"), Task("halves", "halves"), None)
    assert found.alone is None and found.records == 40
    assert found.fixed_features.accuracy > 0.9 and found.consortium.accuracy > 0.5
    assert found.public is None and found.unseen_public is None


def test_public_backbone_stands_beside_the_consortiums_and_nothing_leaves_the_folder(
    kit: Kit, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("backbone", "words"):
        shutil.copytree(Shelf(kit.home).folder(name, 1), home.releases / f"{name}-1")
    task = ("--data", "halves", "--test", "halves", "--unseen", "halves", "--unseen-test", "halves")
    assert run(home, "head", "compare", "digits-1", *task, "--public", "backbone-1") == 0
    lines = capsys.readouterr().out.splitlines()
    found = json.loads((home.root / "comparison.json").read_text())
    for called, way in (("backbone-1", "public"), ("unseen backbone-1", "unseen_public")):
        (line,) = (line for line in lines if line.startswith(f"{called}  "))
        assert float(line.split("(")[0].split()[-1]) == pytest.approx(found[way][0], abs=5e-4)
    assert found["public"] != found["consortium"] and found["public"][0] > 0.5
    assert run(home, "head", "compare", "digits-1", *task, "--public", "words-1") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "digits-1 reads images, words-1 texts" in said and "Nothing was measured" in said


def test_large_pictures_are_averaged_for_the_head_on_raw_pixels_and_it_is_said(
    kit: Kit, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(Shelf(kit.home).folder("large", 1), home.releases / "large-1")
    assert run(home, "head", "compare", "large-1", "--data", "halves", "--test", "halves") == 0
    found = json.loads((home.root / "comparison.json").read_text())
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if "raw pixels, 2×2 means  " in line)
    # Nobody trained it here, so its row is not the consortium's.
    assert any(line.startswith("large-1  ") for line in lines) and not any(
        "consortium  " in line for line in lines
    )
    assert f"{found['raw_pixels'][0]:.3f}" in line and found["raw_pixels"][0] > 0.9
    assert found["raw_numbers"] == "raw pixels, 2×2 means"


@pytest.mark.parametrize(
    ("channels", "height", "width", "side"),
    [(1, 28, 28, 1), (1, 64, 64, 1), (3, 32, 32, 1), (3, 64, 64, 2), (3, 224, 224, 7), (1, 1, 5000, 2)],
)
def test_raw_pixels_are_left_alone_where_they_are_few(
    channels: int, height: int, width: int, side: int
) -> None:
    spec = ExtractorSpec("small-gn", channels, height, width, 8)
    module, numbers = raw_numbers(spec)
    x = torch.rand(2, channels, height, width)
    made = module(x)
    assert made.shape == (2, numbers.embedding_dim) and numbers.embedding_dim <= 4096
    assert raw_words(spec) == ("raw pixels" if side == 1 else f"raw pixels, {side}×{side} means")
    if side == 1:
        assert torch.equal(made, x.flatten(1))
    else:
        torch.testing.assert_close(made[:, 0], x[:, 0, :side, :side].mean(dim=(1, 2)))


def test_a_block_that_the_edge_cuts_is_the_mean_of_what_is_left_of_it() -> None:
    x = torch.rand(1, 1, 65, 65)
    made = raw_numbers(ExtractorSpec("small-gn", 1, 65, 65, 8))[0](x)
    assert made.shape == (1, 33 * 33)
    torch.testing.assert_close(made[0, -1], x[0, 0, 64, 64])
    torch.testing.assert_close(made[0, 32], x[0, 0, :2, 64].mean())
