"""Extractors that were not trained here stand in the same catalogue, under the same signatures, and claim no ε."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coordinator.registry.build import KeepRequest, weights_only
from coordinator.registry.hub_facts import card_data
from coordinator.registry.publish import publish
from coordinator.registry.shelf import Shelf, read_catalogue
from shared.cli import app
from shared.console import run_arguments
from shared.domain.errors import DigestMismatch, Invalid, InvalidWeights, NotTrusted
from shared.domain.extractor import ExtractorSpec
from shared.domain.release import KeptManifest, Source, SourceKind
from shared.extractors.files import write_weights
from shared.release.manifest import parse_manifest, sign_manifest
from shared.release.openssf import sign_folder
from shared.verification import KEPT_PROOFS, VerifiedRelease, verify_extractor, verify_release
from shared.wire.enrolment import software_version
from tests.release_kit import Kit, make_kit

SPEC = ExtractorSpec("small-gn", 1, 8, 8, 4, (0.5,), (0.25,), {"width": 8})
SOURCE = Source(SourceKind.RANDOM, "Random weights, to compare *others* with.", "CC0-1.0", "seed 3")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    from shared.extractors.architectures import starting_weights

    folder = tmp_path_factory.mktemp("kept")
    kit = make_kit(folder)
    tensors, layout = starting_weights(SPEC, seed=3)
    write_weights(folder / "random.safetensors", tensors, SPEC, layout)
    keep(kit, folder / "random.safetensors")
    kit.publish()
    return kit


@pytest.fixture
def kit(published: Kit, tmp_path: Path) -> Kit:
    return published.copy(tmp_path / "home")


def keep(kit: Kit, weights: Path) -> str:
    return publish(kit.home, KeepRequest("random-small", SOURCE, weights), kit.clock, export=weights_only)


def folder_of(kit: Kit) -> Path:
    return Shelf(kit.home).folder("random-small", 1)


def test_it_verifies_by_proofs_of_its_own_and_gives_the_weights(kit: Kit) -> None:
    verified = verify_extractor(folder_of(kit), pinned_root=kit.root, clock=kit.clock)
    assert not isinstance(verified, VerifiedRelease)
    assert tuple(proof.name for proof in verified.proofs) == KEPT_PROOFS
    assert verified.spec == SPEC and isinstance(verified.manifest, KeptManifest)
    assert verified.manifest.source == SOURCE


def test_the_same_weights_again_are_the_same_release(published: Kit, kit: Kit) -> None:
    assert keep(kit, folder_of(published) / "model.safetensors") == "random-small-1"
    ids = [entry.id for entry in read_catalogue(Shelf(kit.home), kit.clock).releases]
    assert ids == ["random-small-1", "digits-1"]


def test_it_has_no_certificate_and_who_asks_for_one_is_told_so(kit: Kit) -> None:
    with pytest.raises(Invalid, match="was not trained here: it saw no member's records"):
        verify_release(folder_of(kit), pinned_root=kit.root, clock=kit.clock)


def test_the_commands_say_that_there_is_no_epsilon_and_embed_with_it(
    kit: Kit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(folder_of(kit))
    assert run_arguments(app, ["verify", folder, "--root", kit.root, "--allow-expired"]) == 0
    assert "Not trained here: it saw no member's records, so there is no ε." in capsys.readouterr().out
    assert run_arguments(app, ["verify", folder, "--root", kit.root, "--allow-expired", "--explain"]) == 2
    assert "nobody's ε to explain" in capsys.readouterr().err
    Image.fromarray(np.full((8, 8), 99, np.uint8)).save(tmp_path / "a.png")
    command = ["embed", folder, str(tmp_path / "a.png"), "--root", kit.root, "--allow-expired"]
    assert run_arguments(app, [*command, "--out", str(tmp_path / "out.npy")]) == 0
    assert np.load(tmp_path / "out.npy").shape == (1, 4)


def test_a_changed_file_fails_the_same_proof_as_in_a_trained_release(kit: Kit) -> None:
    (folder_of(kit) / "README.md").write_text("better than it is")
    with pytest.raises(DigestMismatch, match="Proof 3 of 5"):
        verify_extractor(folder_of(kit), pinned_root=kit.root, clock=kit.clock)


@pytest.mark.parametrize(
    ("file", "program"),
    [("modules.json", "sentence-transformers"), ("timm.safetensors", "timm"), ("x.json", "")],
)
def test_a_card_is_found_by_the_programs_that_load_the_release(kit: Kit, file: str, program: str) -> None:
    def export(folder: Path, _release: str) -> dict[str, str]:
        (folder / file).write_bytes(b"{}")
        return {}

    request = KeepRequest("loaded", SOURCE, folder_of(kit) / "model.safetensors")
    publish(kit.home, request, kit.clock, export=export)
    tags = card_data((Shelf(kit.home).folder("loaded", 1) / "README.md").read_text("utf-8"))["tags"]
    assert [tag for tag in tags if tag in ("sentence-transformers", "timm")] == ([program] if program else [])


@pytest.mark.parametrize("text", ["", "[]", '{"signed": 3}', '{"signed": {"format": "commonlens-kept/1"}}'])
def test_a_manifest_that_cannot_be_read_fails_the_second_proof(kit: Kit, text: str) -> None:
    (folder_of(kit) / "manifest.json").write_text(text)
    with pytest.raises(NotTrusted, match=f"Proof 2 of {5 if 'kept' in text else 10}"):
        verify_extractor(folder_of(kit), pinned_root=kit.root, clock=kit.clock)


def test_weights_of_another_layout_fail_by_name(kit: Kit) -> None:
    folder = folder_of(kit)
    signed = json.loads((folder / "manifest.json").read_text())["signed"]
    signed["layout"][0]["shape"] = [1, 1, 1, 1]
    claimed = parse_manifest({"signed": signed, "signatures": []}).claimed
    (folder / "manifest.json").write_text(json.dumps(sign_manifest(claimed, kit.release_key)))
    sign_folder(folder, kit.home / "keys" / "openssf.pem")
    with pytest.raises(InvalidWeights, match="Proof 4 of 5, \"weights match the manifest's layout"):
        verify_extractor(folder, pinned_root=kit.root, clock=kit.clock)


def test_card_escapes_what_people_wrote_and_names_licence_and_origin(kit: Kit) -> None:
    card = (folder_of(kit) / "README.md").read_text()
    assert card.startswith('---\nlicense: "cc0-1.0"\nlibrary_name: "commonlens"\n')
    assert r"compare \*others\* with" in card and "seed 3" in card
    assert "there\n  is no ε to state" in card
    assert "## Known limits" in card and "It learned nothing." in card and "twenty" in card
    assert f"`commonlens {software_version()}`" in card and "`commonlens reproduce . --root KEY`" in card
