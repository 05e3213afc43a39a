"""A consortium on texts: the same rounds, ledgers and refusals as on pictures; then a head on what was trained."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coordinator.workers.probe_worker import probe
from participant.consents import review
from participant.heads.fitting import fit_on_release, predict_files
from participant.home import Home
from participant.records.add import add_data_set
from participant.redteam.run import own_pictures
from shared.domain.errors import Invalid, InvalidConfig, InvalidRecords, UnsoundPlan
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.run import RunState
from shared.embedding import embed_files, embed_given, given_in
from shared.extractors.architectures import build, starting_weights
from shared.extractors.vectors import get_flat
from shared.verification import VerifiedRelease, verify_release
from tests.desk import Desk
from tests.plans import small_plan
from tests.release_kit import make_used_kit
from tests.simulator import ConsortiumSimulator
from tests.texts import LANGUAGES, Labelled, names, split_among, write_csv

BAG = ExtractorSpec(
    "ngram-bag", 1, 1, 24, 6, options={"buckets": 64, "width": 8, "hidden": 8}, kind=RecordKind.TEXT
)
TRANSFORMER = ExtractorSpec(
    "byte-transformer", 1, 1, 24, 6, options={"width": 12, "depth": 1, "heads": 3}, kind=RecordKind.TEXT
)


@pytest.fixture(scope="module")
def dealt() -> list[Labelled]:
    """Three members with four of six languages each."""
    return split_among(names(LANGUAGES[:6], most=10), members=3, each=4)


@pytest.mark.parametrize("spec", [BAG, TRANSFORMER], ids=lambda spec: spec.architecture)
def test_members_train_an_extractor_of_texts_in_rounds_that_are_charged(
    spec: ExtractorSpec, dealt: list[Labelled], desk: Desk, tmp_path: Path
) -> None:
    sim = ConsortiumSimulator(desk, tmp_path, texts=dealt)
    plan = sim.plan(spec, rate=0.5, evaluate_every=1)
    run = sim.drive(sim.start(plan))
    assert (run.state, run.current_round) == (RunState.COMPLETED, 2)
    assert [member.charges() for member in sim.members] == [2, 2, 2]
    moved = sim.weights_of(run) - get_flat(build(spec, 1))
    assert moved.shape == (plan.trainable_coordinates,) and np.all(moved != 0.0)
    assert len({member.data_set.classes for member in sim.members}) == 3


def test_member_with_pictures_agrees_to_no_plan_for_texts(desk: Desk, tmp_path: Path) -> None:
    sim = ConsortiumSimulator(desk, tmp_path)
    plan = sim.plan(BAG)
    with pytest.raises(
        Invalid, match="'ngram-bag' reads records of kind 'text', \"own\" has .* kind 'image'"
    ):
        sim.consent(plan)
    assert not any(member.charges() for member in sim.members)


def test_augmentations_of_pictures_are_refused_for_texts(
    dealt: list[Labelled], desk: Desk, tmp_path: Path
) -> None:
    sim = ConsortiumSimulator(desk, tmp_path, texts=dealt)
    plan = sim.plan(BAG)
    shifted = replace(plan, training=replace(plan.training, augmentations=("shift2",)))
    with pytest.raises(UnsoundPlan, match="augmentations must be empty for an extractor of texts"):
        review(sim.members[0].home, shifted)


def test_plan_whose_architecture_reads_another_kind_is_not_proposed(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="'ngram-bag' reads records of kind 'text'"):
        probe(replace(BAG, kind=RecordKind.IMAGE), 1, tmp_path)


def test_red_team_shows_no_texts_as_pictures() -> None:
    def reader(spec: ExtractorSpec) -> None:
        raise AssertionError("no record may be read")

    with pytest.raises(Invalid, match="The attacks show pictures, .* kind 'text'. Nothing was attacked"):
        own_pictures(small_plan(extractor=BAG), reader, 4)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> VerifiedRelease:
    kit = make_used_kit(
        tmp_path_factory.mktemp("release"), replace(BAG, embedding_dim=64, options={"buckets": 1024})
    )
    verified = verify_release(kit.folder(), pinned_root=kit.root)
    # The kit's release went far along one straight line, for its proofs; here it matters what it embeds.
    verified.weights = replace(verified.weights, tensors=starting_weights(verified.spec, seed=3)[0])
    return verified


def test_each_line_of_a_file_is_a_text_of_its_own(release: VerifiedRelease, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffStraße\r\nrue\n".encode())
    (tmp_path / "b.txt").write_bytes("Weg\nein\u2028Text".encode())
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    given = given_in(files, release.spec)
    assert [one.name for one in given] == ["Straße", "rue", "Weg", "ein\u2028Text"]
    found = embed_given(release, given, "cpu")
    assert found.shape == (4, 64)
    np.testing.assert_allclose(embed_files(release, files[1:], "cpu"), found[2:], rtol=1e-5, atol=1e-6)


def test_texts_come_from_standard_input_where_a_dash_says_so(
    release: VerifiedRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Weg\nrue\n")))
    assert [one.name for one in given_in([Path("-")], release.spec)] == ["Weg", "rue"]


def test_lines_that_are_no_texts_are_named_by_file_and_line(release: VerifiedRelease, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"Weg\n\ncaf\xe9\n")
    with pytest.raises(InvalidRecords) as caught:
        embed_files(release, [tmp_path / "a.txt"], "cpu")
    text = caught.value.message
    assert "2 of 3 texts cannot be used" in text
    assert "a.txt, line 2, has no text" in text and "a.txt, line 3, is not UTF-8" in text
    with pytest.raises(
        InvalidRecords, match="gone.txt cannot be read: No such file or directory. Nothing was"
    ):
        embed_files(release, [tmp_path / "gone.txt"], "cpu")


def test_head_on_a_release_of_texts_says_which_language_a_name_is_in(
    release: VerifiedRelease, tmp_path: Path
) -> None:
    home = Home(tmp_path)
    table = write_csv(tmp_path / "names.csv", names(("de", "tr", "vi"), most=300))
    add_data_set(tmp_path, "names", table, text_column="text")
    head = fit_on_release(home, release, "names", None, "languages")
    # Random n-grams: nobody trained this release. A third would be a guess.
    assert head.accuracy is not None and head.accuracy.low > 0.5
    (tmp_path / "asked.txt").write_text("Nördliche Sprachen\nTiếng Việt của người Việt\n", "utf-8")
    answers = predict_files(home, head, release, [tmp_path / "asked.txt"])
    assert [(what, label) for what, label, _ in answers] == [
        ("Nördliche Sprachen", "de"),
        ("Tiếng Việt của người Việt", "vi"),
    ]
    assert all(0.34 < probability <= 1.0 for _, _, probability in answers)
