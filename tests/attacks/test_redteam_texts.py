"""Who of a list wrote a text is plain from its gradient, and no plainer than accounted for from what leaves the node.

On the plan's own extractor of texts. Each broken member is the real one with one thing wrong in it.
"""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from participant.redteam.guessing import (
    NAME,
    Guesses,
    Named,
    guessing_rows,
    most_named,
    name_victims,
    phone_book,
)
from participant.redteam.report import RedteamReport
from participant.redteam.run import run_redteam
from participant.training import local_round as local_round_room
from participant.training import step as step_room
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.plan import SharedHead
from shared.domain.privacy import Mode
from shared.extractors.architectures import build
from shared.extractors.vectors import get_flat
from tests.redteam_kit import SHALLOW, NoNoise, no_base, redteam_plan, with_noise, without_clip

pytestmark = pytest.mark.usefixtures("same_noise")
BAG = ExtractorSpec(
    "ngram-bag", 1, 1, 16, 6, options={"buckets": 64, "width": 8, "hidden": 8}, kind=RecordKind.TEXT
)
TRANSFORMER = ExtractorSpec(
    "byte-transformer", 1, 1, 16, 6, options={"width": 8, "depth": 1, "heads": 2}, kind=RecordKind.TEXT
)
EACH = pytest.mark.parametrize("spec", [BAG, TRANSFORMER], ids=lambda spec: spec.architecture)
MODES = pytest.mark.parametrize("mode", list(Mode), ids=lambda mode: mode.value)
BEHIND_NOISE = {
    Mode.LOCAL: ["clip and noise"],
    Mode.SECURE: ["noise share, unmasked", "under masks", "secure sum"],
}


def text_plan(spec, mode, **changes):
    coordinates = len(get_flat(build(spec, 0)))
    return redteam_plan(
        mode,
        extractor=spec,
        trainable_coordinates=coordinates,
        target_epsilon=8.0,
        noise_multiplier=1.01,
        **changes,
    )


def rows_of(folder, spec, mode, *member):
    return {
        row.tried: row for row in guessing_rows(text_plan(spec, mode), None, folder, SHALLOW.guesses, *member)
    }


@EACH
@MODES
def test_text_is_named_from_its_gradient_and_no_more_often_than_accounted_for_from_what_leaves(
    tmp_path, spec, mode
):
    rows = rows_of(tmp_path, spec, mode)
    assert list(rows) == ["nothing", "clip only", *BEHIND_NOISE[mode]]
    for stage in ("nothing", "clip only"):
        assert (rows[stage].number, rows[stage].protected) == (16, None)
        assert rows[stage].gains == "named 16 of 16 out of 64 texts"
    for stage in BEHIND_NOISE[mode]:
        assert rows[stage].protected is True
        assert "is accounted for" in rows[stage].gains


def report_of(plan, rows):
    return RedteamReport(
        plan.digest, plan.privacy.mode.value, "d", 8.0, 8.0, 1e-5, tuple(rows.values()), (), (), ()
    )


@EACH
def test_member_that_forgets_the_noise_is_a_finding_and_refuses_the_release(tmp_path, spec):
    rows = rows_of(tmp_path, spec, Mode.LOCAL, with_noise(NoNoise()))
    report = report_of(text_plan(spec, Mode.LOCAL), rows)
    assert report.refused
    assert [finding.split(": ")[0] for finding in report.findings] == [f"{NAME}, clip and noise"]
    assert "named 16 of 16 out of 64 texts" in report.findings[0]


def test_member_that_forgets_its_share_of_the_noise_is_a_finding(tmp_path, monkeypatch):
    monkeypatch.setattr(step_room, "own_blocks", no_base)
    rows = rows_of(tmp_path, BAG, Mode.SECURE)
    assert rows["noise share, unmasked"].protected is False
    # The other members' shares are in the sum, and there is nothing to see under a mask.
    assert rows["under masks"].protected
    assert rows["secure sum"].protected


@MODES
def test_member_that_forgets_the_clip_is_a_finding(tmp_path, mode, monkeypatch):
    monkeypatch.setattr(local_round_room, "clipped_sum", without_clip)
    # Far below the gradients of this extractor as it is drawn, as a crafted one's would be above any clip norm.
    plan = text_plan(BAG, mode, clip_norm_l2=0.05)
    rows = {row.tried: row for row in guessing_rows(plan, None, tmp_path, SHALLOW.guesses)}
    assert rows[BEHIND_NOISE[mode][-1]].protected is False


@pytest.mark.parametrize("noise_multiplier", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("candidates", [32, 256])
def test_bound_is_the_least_of_all_that_epsilon_and_delta_give(noise_multiplier, candidates):
    """δ(ε) of one Gaussian step without sampling: Balle, Wang 2018, theorem 8."""
    epsilons, half = np.linspace(0.0, 12.0, 4001), 0.5 / noise_multiplier
    deltas = norm.cdf(half - epsilons * noise_multiplier)
    deltas -= np.exp(epsilons) * norm.cdf(-half - epsilons * noise_multiplier)
    least = (np.exp(epsilons) / candidates + deltas).min()
    assert most_named(noise_multiplier, candidates) == pytest.approx(least, rel=1e-3)


def test_bound_behind_a_mask_is_chance():
    assert most_named(math.inf, 64) == pytest.approx(1 / 64)


@pytest.mark.parametrize(
    ("named", "accounted", "protected"),
    [(16, None, None), (9, 0.4, True), (16, 0.4, False), (2, 0.6, None), (16, 0.6, None), (0, 1 / 64, True)],
)
def test_stage_is_called_protected_only_where_the_attack_could_have_refuted_it(named, accounted, protected):
    one = Named("clip and noise", named, 16, 64, accounted)
    assert one.protected is protected
    assert ("nothing can be told at this noise" in one.gains) == (accounted == 0.6)


def test_phone_book_has_different_names_and_is_the_same_for_everybody():
    book = phone_book(300, BAG)
    assert book.shape == (300, 1, 16, 1)
    assert len({name.tobytes() for name in book}) == 300
    assert np.array_equal(book, phone_book(300, BAG))
    assert 1 < len(phone_book(300, replace(BAG, width=1))) < 300


def test_everybody_on_the_list_is_named_and_not_only_the_first_few(tmp_path):
    plan = text_plan(BAG, Mode.LOCAL)
    nothing, *_ = name_victims(plan, None, tmp_path, Guesses(24, 40))
    assert (nothing.named, nothing.victims) == (40, 40)


@pytest.mark.slow
def test_whole_red_team_attacks_the_texts_of_a_plan_with_a_shared_head_and_shows_it(tmp_path):
    plan = text_plan(BAG, Mode.LOCAL, shared_head=SharedHead(("ca", "cs", "da"), BAG.embedding_dim))
    # An extractor for which no time is left gets a list of the shortest length.
    report = run_redteam(plan, replace(SHALLOW, most_audit_s=0.0), tmp_path)
    rows = [row for row in report.attacks if row.name == NAME]
    assert [row.protected for row in rows] == [None, None, True]
    assert rows[0].gains == "named 16 of 16 out of 32 texts"
    assert any("Its ngram-bag is attacked by guessing the text" in note for note in report.notes)
    written = json.loads((tmp_path / "redteam.json").read_text())
    assert [row["gains"] for row in written["attacks"] if row["name"] == NAME] == [row.gains for row in rows]
    assert f"| {NAME} | clip and noise | {rows[2].gains} | held |" in (tmp_path / "report.md").read_text()
