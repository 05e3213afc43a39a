"""What a publisher can sign into a release's own files against whoever measures it again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from coordinator.registry.build import Export, KeepRequest
from coordinator.registry.publish import publish
from coordinator.registry.shelf import Shelf
from coordinator.workers.export_worker import write_configuration
from shared.cli import app
from shared.console import run_arguments
from shared.domain.clock import SystemClock
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.release import (
    MEASURED_FILE,
    ONNX_FILE,
    PREPROCESSOR_FILE,
    WEIGHTS_FILE,
    Source,
    SourceKind,
)
from shared.exports.transformers_file import TRANSFORMERS_FILE
from shared.extractors.architectures import starting_weights
from shared.extractors.files import read_weights, write_weights
from tests.export_kit import SPEC
from tests.release_kit import Kit, make_used_kit

DENSE = "2_Dense/model.safetensors"
WORDS = ExtractorSpec(
    "byte-transformer", 1, 1, 24, 6, options={"width": 12, "depth": 1, "heads": 3}, kind=RecordKind.TEXT
)


@pytest.fixture(scope="module")
def kit(export_once: Export, tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """digits-1 has the files that other tests' digits-1 has: exporting takes ten seconds."""
    return make_used_kit(tmp_path_factory.mktemp("claims"), SPEC, export_once)


def asked(kit: Kit, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = run_arguments(app, [*map(str, words), "--root", kit.root])
    captured = capsys.readouterr()
    return code, captured.out, " ".join(captured.err.split())


def test_a_file_that_is_not_ours_is_named_and_not_judged(
    kit: Kit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verification proves that it was signed, and says nothing of what is in it."""
    own = kit.copy(tmp_path / "home")
    where = own.folder(1)
    shutil.copyfile(where / MEASURED_FILE, where / "extra.json")
    entry = json.loads((where / "manifest.json").read_text())["signed"]["files"][MEASURED_FILE]
    own.sign(where, lambda signed: signed["files"].update({"extra.json": entry}))
    code, out, _ = asked(own, capsys, "reproduce", where)
    told = [line for line in out.splitlines() if "no file that this software makes" in line]
    assert code == 0 and told == [
        "· extra.json: no file that this software makes, and nothing here looked into it"
    ]
    assert "no file that this software makes" not in asked(kit, capsys, "reproduce", kit.folder(1))[1]


def test_a_setting_that_stands_there_twice_is_not_read_as_the_last_of_them(
    kit: Kit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = kit.copy(tmp_path / "home")
    where = own.folder(1)
    honest = (where / PREPROCESSOR_FILE).read_text()
    (where / PREPROCESSOR_FILE).write_text(honest.replace("{", '{"image_mean":[9.0],', 1))
    own.sign(where)
    code, out, _ = asked(own, capsys, "reproduce", where)
    assert code == 3 and f"✗ {PREPROCESSOR_FILE}: claimed otherwise: not readable" in out


def doubled(folder: Path) -> None:
    """Every number of a table that users of transformers get, by two."""
    tensors = load_file(folder / TRANSFORMERS_FILE)
    tensors["encoder.layer.0.output.dense.weight"] *= 2
    save_file(tensors, folder / TRANSFORMERS_FILE, metadata={"format": "pt"})


def one_number(folder: Path) -> None:
    """The last bit of one number of the layer behind the network."""
    tensors = load_file(folder / DENSE)
    tensors["linear.bias"][3] = np.nextafter(tensors["linear.bias"][3], np.float32(1))
    save_file(tensors, folder / DENSE, metadata={"format": "pt"})


def other_words(folder: Path) -> None:
    """A tokenizer that reads one letter as another."""
    told = json.loads((folder / "tokenizer.json").read_text())
    told["model"]["vocab"] |= {"a": 98, "b": 97}
    (folder / "tokenizer.json").write_text(json.dumps(told))


def another_program(folder: Path) -> None:
    """A module that sentence-transformers would import by its name."""
    told = json.loads((folder / "modules.json").read_text())
    told[2]["type"] = "somebody.elses.Module"
    (folder / "modules.json").write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("lie", "file", "odd"),
    [
        (lambda folder: None, "", ""),
        (doubled, "transformers.safetensors", "encoder.layer.0.output.dense.weight"),
        (one_number, "2_Dense/model.safetensors", "linear.bias"),
        (other_words, "tokenizer.json", "model"),
        (another_program, "modules.json", "all of it"),
    ],
)
def test_users_of_transformers_are_not_given_another_network_than_the_weights_file(
    kit: Kit,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    lie: Callable[[Path], None],
    file: str,
    odd: str,
) -> None:
    """The measurements beside it are another extractor's: only what is made of the weights file is looked at here."""
    own = kit.copy(tmp_path / "home")
    tensors, layout = starting_weights(WORDS, seed=3)
    write_weights(tmp_path / "words.safetensors", tensors, WORDS, layout)

    def export(folder: Path, _: str) -> dict[str, str]:
        write_configuration(folder, read_weights(folder / WEIGHTS_FILE))
        lie(folder)
        shutil.copyfile(kit.folder(1) / MEASURED_FILE, folder / MEASURED_FILE)
        return {}

    source = Source(SourceKind.RANDOM, "Sees by chance.", "Apache-2.0", "this software")
    publish(own.home, KeepRequest("words", source, tmp_path / "words.safetensors"), own.clock, export=export)
    _, out, _ = asked(own, capsys, "reproduce", Shelf(own.home).folder("words", 1))
    for name in (TRANSFORMERS_FILE, DENSE, "tokenizer.json", "modules.json", "config.json"):
        said = (
            f"✗ {name}: claimed otherwise: {odd}, found" if name == file else f"✓ {name}: as the weights file"
        )
        assert said in out


@pytest.mark.parametrize(
    ("records", "said"),
    [
        (0, "expected the energy of 1 to"),
        (2**60, "expected the energy of 1 to"),
        (10**400, "a whole number of at most 64 bits"),
    ],
    ids=["none", "2^60", "10^400"],
)
def test_energy_of_no_record_or_of_too_many_is_no_number(
    kit: Kit, tmp_path: Path, capsys: pytest.CaptureFixture[str], records: int, said: str
) -> None:
    own = kit.copy(tmp_path / "home")

    def lie(stated: Any) -> Any:
        stated["energy"]["records"] = records
        return stated

    own.lie(own.folder(1), MEASURED_FILE, lie)
    code, _, err = asked(own, capsys, "reproduce", own.folder(1))
    assert code == 2 and said in err


@pytest.mark.parametrize("side", [-1, 0, 4097, 20_000, 10**9])
def test_a_size_that_would_fill_the_memory_is_refused_before_anything_is_allocated(
    kit: Kit, tmp_path: Path, capsys: pytest.CaptureFixture[str], side: int
) -> None:
    own = kit.copy(tmp_path / "home")
    tensors, layout = starting_weights(SPEC, seed=3)
    weights = tmp_path / "large.safetensors"
    write_weights(weights, tensors, replace(SPEC, height=side, width=side), layout)
    onnx = kit.folder(1) / ONNX_FILE

    def export(folder: Path, _: str) -> dict[str, str]:
        shutil.copyfile(onnx, folder / ONNX_FILE)
        return {}

    source = Source(SourceKind.RANDOM, "Sees by chance.", "Apache-2.0", "this software")
    publish(own.home, KeepRequest("large", source, weights), SystemClock(), export=export)
    where = Shelf(own.home).folder("large", 1)
    code, out, err = asked(own, capsys, "diff", where, where)
    assert code == 3 and not out
    assert (
        "model.onnx of large-1: Expected 1 or 3 channels, sides of 1 to 4096 pixels and an embedding" in err
    )
