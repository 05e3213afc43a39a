"""Answers of the probe worker are kept: no process is started twice for one question, not even after a restart."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from coordinator.workers.kept_probes import KeptProbes
from coordinator.workers.probe import Probe
from shared.domain.errors import InvalidConfig
from shared.extractors.architectures import starting_weights
from shared.extractors.files import write_weights
from tests.plans import SPEC


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("starting")
    KeptProbes(made).probe(SPEC, 1, None)
    return made


def asked_without_a_worker(folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int = 1) -> Probe:
    monkeypatch.setattr(sys, "executable", "/nothing/here")
    return KeptProbes(folder).probe(SPEC, seed, None)


def test_second_answer_needs_no_worker_and_survives_a_restart(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = asked_without_a_worker(folder, monkeypatch)
    assert (folder / found.file_name).is_file() and found.seconds_per_record > 0.0
    assert KeptProbes(folder).about(found.file_name) == found and found.seed == 1
    assert KeptProbes(folder).about("other.safetensors") is None


def test_weights_can_be_drawn_again_from_the_seed_that_is_kept(folder: Path, tmp_path: Path) -> None:
    (known,) = (KeptProbes(folder).about(path.name) for path in folder.glob("*.safetensors"))
    assert known is not None and known.seed is not None
    tensors, layout = starting_weights(SPEC, seed=known.seed)
    assert write_weights(tmp_path / "again", tensors, SPEC, layout) == known.starting_weights


def test_another_seed_is_another_question(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        asked_without_a_worker(folder, monkeypatch, seed=2)


def test_answer_about_weights_that_changed_or_went_is_asked_for_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / asked_without_a_worker(folder, monkeypatch).file_name
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:-1] + b"\x40")
        with pytest.raises(FileNotFoundError):
            asked_without_a_worker(folder, monkeypatch)
        path.unlink()
        with pytest.raises(FileNotFoundError):
            asked_without_a_worker(folder, monkeypatch)
    finally:
        path.write_bytes(whole)


def test_answer_that_cannot_be_read_is_no_answer(tmp_path: Path) -> None:
    (tmp_path / "a.probe.json").write_text('{"starting_weights"')
    assert KeptProbes(tmp_path).about("x") is None


def test_refusal_is_not_kept(tmp_path: Path) -> None:
    kept = KeptProbes(tmp_path)
    with pytest.raises(InvalidConfig):
        kept.probe(SPEC.__class__("no-such", 1, 8, 8, 4), 1, None)
    assert list(tmp_path.glob("*.probe.json")) == []
