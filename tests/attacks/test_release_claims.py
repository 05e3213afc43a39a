"""What a publisher can sign into a release's own files against whoever measures it again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.registry.build import Export, KeepRequest
from coordinator.registry.publish import publish
from coordinator.registry.shelf import Shelf
from shared.cli import app
from shared.console import run_arguments
from shared.domain.clock import SystemClock
from shared.domain.release import MEASURED_FILE, ONNX_FILE, PREPROCESSOR_FILE, Source, SourceKind
from shared.extractors.architectures import starting_weights
from shared.extractors.files import write_weights
from tests.export_kit import SPEC
from tests.release_kit import Kit, make_used_kit


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
