"""The `commonlens` command: what it prints, and its exit codes."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shared.cli import app
from shared.console import run_arguments
from shared.domain.extractor import ExtractorSpec
from shared.extractors.architectures import load
from shared.extractors.files import read_weights
from shared.extractors.preprocess import fit_image, to_input
from shared.verification import PROOFS
from tests.release_kit import Kit, make_used_kit
from tests.release_server import registry_app, serving

SPEC = ExtractorSpec("small-gn", 1, 16, 16, 8, (0.5,), (0.25,), {"width": 8})


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    monkeypatch.delenv("COMMONLENS_TOKEN", raising=False)
    monkeypatch.delenv("COMMONLENS_DEBUG", raising=False)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return make_used_kit(tmp_path_factory.mktemp("cli"), SPEC)


@pytest.fixture
def folder(kit: Kit, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kit.folder(), tmp_path / "release"))


@pytest.fixture(scope="module")
def url(kit: Kit) -> Iterator[str]:
    with serving(registry_app(kit.home, kit.clock), kit.home) as address:
        yield address


def images(folder: Path) -> list[Path]:
    paths = [folder / "grey.png", folder / "colour.jpg"]
    values = np.arange(20 * 24 * 3, dtype=np.uint32).reshape(20, 24, 3) % 251
    Image.fromarray(values[:16, :16, 0].astype(np.uint8)).save(paths[0])
    Image.fromarray(values.astype(np.uint8)).save(paths[1])
    return paths


def run(*arguments: object) -> int:
    return run_arguments(app, [str(a) for a in arguments])


def test_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("version") == 0
    assert capsys.readouterr().out.strip() == importlib.metadata.version("commonlens")


def test_verify_prints_every_proof_with_a_tick(
    kit: Kit, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", folder, "--root", kit.root) == 0
    out = capsys.readouterr().out
    assert [line[2:].startswith(name) for line, name in zip(out.splitlines(), PROOFS, strict=False)] == [
        True
    ] * 10
    assert "under the root that you gave" in out and "only for itself" not in out
    assert "at δ 1e-05" in out and "at δ 1e-06" in out and "(add or remove one record)" in out


def test_verify_without_a_root_says_that_the_folder_vouches_only_for_itself(
    kit: Kit, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", folder) == 0
    out = capsys.readouterr().out
    assert "No root was given: the folder vouches only for itself" in out and kit.root in out


@pytest.mark.parametrize("root", ["zz", "sha256:ab", "A" * 64])
def test_verify_with_a_root_that_can_be_none_was_called_wrongly_and_checks_nothing(
    folder: Path, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", folder, "--root", root) == 2
    assert "A pinned root is a public key of 64 lower-case hex digits" in capsys.readouterr().err


def test_verify_exits_3_and_names_the_proof_that_failed(
    kit: Kit, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "README.md").write_text("better than it is")
    assert run("verify", folder, "--root", kit.root) == 3
    captured = capsys.readouterr()
    assert 'Not trusted: Proof 3 of 10, "every file has the digest' in captured.err
    assert "[not-trusted.digest]" in captured.err and "Traceback" not in captured.err


def test_weights_that_are_none_exit_3_too(kit: Kit, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kit.lie(folder, "model.safetensors", lambda _: b"\x80\x04.")
    assert run("verify", folder) == 3
    assert 'Proof 5 of 10, "weights match' in capsys.readouterr().err


def test_verify_of_no_folder_is_a_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", tmp_path / "nothing") == 2
    assert "There is no folder" in capsys.readouterr().err
    assert run("verify", tmp_path) == 3
    assert "Proof 1 of 10" in capsys.readouterr().err


def test_usage_errors_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify") == 2
    assert run("nonsense") == 2
    assert run("verify", "x", "--nonsense") == 2
    assert run() == 2
    assert "Usage" in capsys.readouterr().err


def test_embedding_is_what_the_verified_network_gives(kit: Kit, folder: Path, tmp_path: Path) -> None:
    paths, out = images(tmp_path), tmp_path / "out.npy"
    assert run("embed", folder, *paths, "--out", out, "--root", kit.root) == 0
    found = np.load(out, allow_pickle=False)
    module = load(SPEC, read_weights(folder / "model.safetensors"))
    pixels = np.stack([fit_image(Image.open(path), SPEC) for path in paths])
    with torch.inference_mode():
        expected = module(torch.from_numpy(to_input(pixels, SPEC))).numpy()
    assert found.shape == (2, 8) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_embedding_goes_to_csv_and_stdout_alike(
    kit: Kit, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = images(tmp_path)
    assert run("embed", folder, *paths, "--root", kit.root) == 0
    printed = capsys.readouterr().out
    assert run("embed", folder, *paths, "--root", kit.root, "--out", tmp_path / "out.csv") == 0
    assert (tmp_path / "out.csv").read_text() == printed
    rows = list(csv.reader(io.StringIO(printed)))
    assert [row[0] for row in rows] == [str(path) for path in paths] and {len(row) for row in rows} == {9}


def test_a_folder_stands_for_its_files(
    kit: Kit, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shown" / "below").mkdir(parents=True)
    paths = images(tmp_path / "shown")
    for hidden in (tmp_path / "shown" / ".notes", tmp_path / "shown" / "below" / "other.png"):
        hidden.write_text("no image")
    assert run("embed", folder, *sorted(paths), "--root", kit.root) == 0
    one_by_one = capsys.readouterr().out
    assert run("embed", folder, tmp_path / "shown", "--root", kit.root) == 0
    assert capsys.readouterr().out == one_by_one
    (tmp_path / "empty").mkdir()
    assert run("embed", folder, tmp_path / "empty", "--root", kit.root) == 2
    assert "empty holds no file. Nothing was read." in capsys.readouterr().err
    classes = tmp_path / "classes"
    (classes / "cats").mkdir(parents=True)
    assert run("embed", folder, classes, "--root", kit.root) == 2
    assert f"only folders. Nothing was read. Name those: {classes}/*." in capsys.readouterr().err


def test_embed_computes_nothing_with_a_release_that_fails(
    kit: Kit, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "extra.py").write_text("")
    assert run("embed", folder, *images(tmp_path), "--out", tmp_path / "out.npy") == 3
    assert "Proof 3 of 10" in capsys.readouterr().err and not (tmp_path / "out.npy").exists()


def test_embed_names_every_file_that_is_no_image(
    kit: Kit, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.png").write_text("no image")
    good = images(tmp_path)[0]
    assert run("embed", folder, good, tmp_path / "text.png", tmp_path / "gone.png") == 2
    err = capsys.readouterr().err
    assert "2 of 3 images cannot be used" in err and "gone.png cannot be read: No such file" in err
    assert run("embed", folder, good, "--out", tmp_path / "out.txt") == 2
    assert "--out ends in .npy or .csv, not '.txt'" in capsys.readouterr().err


def test_pull_then_verify_then_pull_again(
    kit: Kit, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "releases"
    assert run("pull", url, "--ca-fingerprint", kit.fingerprint, "--to", to) == 0
    assert "digits-1 is now in" in capsys.readouterr().out
    assert run("verify", to / "digits-1", "--root", kit.root) == 0
    assert run("pull", url, "digits", "--to", to) == 0
    assert "was here already and still holds" in capsys.readouterr().out
    state = json.loads((to / ".commonlens" / "trust-state.json").read_text())
    assert state["pinned_root"] == kit.root


def test_pull_exit_codes_tell_untrusted_from_unreachable(
    kit: Kit, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = "sha256:" + "0" * 64
    assert run("pull", url, "--ca-fingerprint", wrong, "--to", tmp_path / "a") == 3
    assert "Step 2 of 3 (compare the fingerprint)" in capsys.readouterr().err
    assert (
        run("pull", "https://127.0.0.1:9", "--ca-fingerprint", kit.fingerprint, "--to", tmp_path / "b") == 4
    )
    assert "did not accept a connection" in capsys.readouterr().err
    assert run("pull", url, "--to", tmp_path / "c") == 3
    assert "Give --ca-fingerprint" in capsys.readouterr().err
