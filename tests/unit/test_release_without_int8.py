"""A release without an int8 file, since every way loses too much: whatever reads a release works and says why."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from rich.console import Console

from coordinator.dashboard.difference_view import view_of
from coordinator.registry.build import Export, KeepRequest
from coordinator.registry.hub_facts import card_data
from coordinator.registry.publish import publish
from coordinator.registry.shelf import Shelf
from shared.cli import app
from shared.console import run_arguments
from shared.domain.extractor import ExtractorSpec
from shared.domain.release import ONNX_FILE, ONNX_INT8_FILE, Source, SourceKind
from shared.evaluation.difference_page import print_difference
from shared.evaluation.release_shape import read_release_difference
from shared.exports.measured import read_measured
from shared.extractors.architectures import starting_weights
from shared.extractors.files import write_weights
from shared.lens.profile_shape import QUESTIONS
from tests.export_kit import SPEC
from tests.release_kit import Kit, make_used_kit
from tests.release_server import registry_app, serving

pytestmark = pytest.mark.slow  # an export of its own

SPOILED = ExtractorSpec("wrn-16-4-gn", 3, 16, 16, 64, SPEC.mean, SPEC.std, {"widen": 1})
WHY = "over the bar of 0.5, so it was left out"


def spoiled() -> dict[str, npt.NDArray[np.float32]]:
    """Every other channel is a thousandth of the others, until the next convolution undoes it.

    fp32 does not notice. 8 bits hold either the small channels, or the weights of the large ones, and not both.
    """
    tensors = dict(starting_weights(SPOILED, seed=3)[0])
    for norm in [name for name in tensors if ".norm" in name and name.endswith(".weight")]:
        block, _, which = norm.removesuffix(".weight").rpartition(".norm")
        gain = np.where(np.arange(len(tensors[norm])) % 2, np.float32(1e-3), np.float32(1))
        for own in (norm, f"{block}.norm{which}.bias"):
            tensors[own] = tensors[own] * gain
        readers = [f"{block}.conv{which}.weight", *([f"{block}.shortcut.weight"] if which == "1" else [])]
        for reader in set(readers) & set(tensors):
            tensors[reader] = tensors[reader] / gain[:, None, None]
    return tensors


@pytest.fixture(scope="module")
def kit(export_once: Export, tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """digits-1 has all files; spoiled-1 has no int8 file."""
    folder = tmp_path_factory.mktemp("spoiled")
    kit = make_used_kit(folder, SPEC, export_once)
    weights = folder / "spoiled.safetensors"
    write_weights(weights, spoiled(), SPOILED, starting_weights(SPOILED, seed=3)[1])
    source = Source(SourceKind.RANDOM, "Random weights that 8 bits spoil.", "CC0-1.0", "seed 3")
    publish(kit.home, KeepRequest("spoiled", source, weights), kit.clock, export=export_once)
    return kit


@pytest.fixture(scope="module")
def url(kit: Kit) -> Iterator[str]:
    with serving(registry_app(kit.home, kit.clock), kit.home) as address:
        yield address


@pytest.fixture
def ask(kit: Kit, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object) -> tuple[int, str, str]:
        code = run_arguments(app, [*map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def folder_of(kit: Kit, name: str) -> Path:
    return Shelf(kit.home).folder(name, 1)


def test_it_is_published_without_the_file_and_says_why_wherever_it_speaks_of_files(kit: Kit) -> None:
    where = folder_of(kit, "spoiled")
    names = {path.name for path in where.iterdir()}
    assert ONNX_FILE in names and ONNX_INT8_FILE not in names
    measured = read_measured(where)
    assert measured.int8 is None and measured.int8_missing.endswith(WHY)
    assert {each.program for each in measured.speed} == {"torch eager", "onnx fp32"}
    card = (where / "README.md").read_text()
    assert f"There is no int8 file: {measured.int8_missing}." in card and card.count("int8") < 4
    results = card_data(card)["model-index"][0]["results"]
    assert [one["task"]["name"].rpartition(" ")[2] for one in results] == list(QUESTIONS)


def test_it_is_pulled_shown_verified_and_embeds(kit: Kit, url: str, ask, tmp_path: Path) -> None:
    pinned = ("--to", tmp_path, "--ca-fingerprint", kit.fingerprint)
    code, out, _ = ask("show", url, "spoiled", *pinned)
    assert code == 0 and WHY in " ".join(out.split())
    assert ask("pull", url, "spoiled", *pinned)[0] == 0
    pulled = tmp_path / "spoiled-1"
    assert ask("verify", pulled, "--root", kit.root)[0] == 0
    Image.fromarray(np.full((16, 16, 3), 99, np.uint8)).save(tmp_path / "a.png")
    made = tmp_path / "made.npy"
    assert ask("embed", pulled, tmp_path / "a.png", "--root", kit.root, "--out", made)[0] == 0
    assert np.load(made).shape == (1, 64)


def test_what_it_states_holds_with_nothing_of_int8_to_measure(kit: Kit, ask) -> None:
    code, out, _ = ask("reproduce", folder_of(kit, "spoiled"), "--root", kit.root)
    assert code == 0 and "✓ model-int8.onnx: none" in out and "✓ bytes of model-int8.onnx: none" in out
    (why,) = (line for line in out.splitlines() if line.startswith("· why there is none: "))
    assert why.endswith(WHY) and "top-1" not in out.replace(why, "")


@pytest.mark.parametrize("names", [("digits", "spoiled"), ("spoiled", "digits")])
def test_a_difference_says_why_one_of_both_has_no_int8_file(kit: Kit, ask, names: tuple[str, str]) -> None:
    one, other = (folder_of(kit, name) for name in names)
    code, out, _ = ask("diff", one, other, "--root", kit.root, "--json")
    found = read_release_difference(json.loads(out), "here")
    told = next(iter(found.without_int8))
    assert code == 0 and told.startswith("spoiled-1 has no model-int8.onnx: the closest,") and WHY in told
    assert view_of(found).without_int8 == found.without_int8 == (told,)
    figures = {figure.what: figure for figure in view_of(found).figures}
    assert "–" in (figures[ONNX_INT8_FILE].before, figures[ONNX_INT8_FILE].after)
    printed = io.StringIO()
    print_difference(found, Console(file=printed, width=300))
    assert told in printed.getvalue()
