"""The whole red team for one plan: imprint, inversion, guessing of texts, self-audit, coordinator table, report.

Start reading here. A pure function of a plan: it needs no member's folder, no network and no records. Everything it
trains on is synthetic, unless the operator asks for pictures of its own records, which then stay in the report's
folder.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from participant.records.reader import RecordReader
from participant.redteam.coordinator_table import coordinator_table
from participant.redteam.guessing import NAME as GUESSING
from participant.redteam.guessing import Guesses, guessing_rows
from participant.redteam.imprint import Robbery, imprint_rows
from participant.redteam.inversion import Effort, demonstration_spec, inversion_rows
from participant.redteam.pictures import Pixels, side_by_side, synthetic_pictures
from participant.redteam.report import AttackRow, PictureFile, RedteamReport, write_report
from participant.redteam.self_audit import AuditDepth, self_audit
from participant.training.dp_sgd import make_engine
from participant.training.head import HeadState, build_head
from shared.domain.errors import Invalid
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.plan import Plan
from shared.extractors import architectures
from shared.extractors.architectures import head_inputs
from shared.extractors.files import Weights
from shared.extractors.preprocess import to_input
from shared.privacy.accountant import epsilon

Progress = Callable[[str], None]
_TIMED = 8
_SHORTEST_LIST = 32
_STAND_IN = ExtractorSpec("small-gn", 1, 16, 16, 16, options={"width": 8})


@dataclass(frozen=True)
class Depth:
    """How long it may take. The default is for a gate: under a minute on one core."""

    name: str = "default"
    audit: AuditDepth = field(default_factory=AuditDepth)
    imprint_records: int = 64
    inversion: Effort = field(default_factory=lambda: Effort(iterations=250, starts=2))
    guesses: Guesses = field(default_factory=Guesses)
    most_audit_s: float = 15.0
    """Estimated seconds of gradients of the plan's extractor, above which the audit takes a smaller one, and the attack
    on texts a shorter list."""


DEEP = Depth(
    name="deep",
    audit=AuditDepth(canaries=5000, coordinates=16384, draw_canaries=400, draw_rounds=100, noise_rounds=100),
    imprint_records=256,
    inversion=Effort(iterations=2000, starts=8),
    guesses=Guesses(candidates=1000, victims=100),
    most_audit_s=math.inf,
)
DEPTHS = {depth.name: depth for depth in (Depth(), DEEP)}


@dataclass(frozen=True)
class OwnPictures:
    """Pictures of a member's own records, to be attacked in place of synthetic ones."""

    of_the_plan: Pixels
    """uint8 [n, H, W, C] at the plan's size."""
    small: Pixels
    """uint8 [1, h, w, C] at the size of the inversion's network."""


def run_redteam(
    plan: Plan,
    depth: Depth,
    folder: Path,
    start: Weights | None = None,
    own: OwnPictures | None = None,
    more: Sequence[AttackRow] = (),
    progress: Progress = lambda stage: None,
) -> RedteamReport:
    """Attack and audit; redteam.json, report.md and the pictures are in `folder` when it returns.

    `start`: the plan's starting weights; None draws them from seed 0. `more`: rows of attacks made elsewhere.
    Nothing is raised for a finding: see `RedteamReport.refused`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    agreed, own_start, (plan, start, played) = plan, start, _in_pictures(plan, start)
    audited, start, notes = _extractor_to_audit(plan, start, depth)
    with tempfile.TemporaryDirectory(prefix="redteam-") as scratch:
        progress("imprint")
        attacks, robberies, victims = imprint_rows(
            plan, Path(scratch) / "imprint", None if own is None else own.of_the_plan, depth.imprint_records
        )
        _show_robberies(folder / "imprint.png", robberies, victims)
        progress("gradient inversion")
        inverted, picture = inversion_rows(
            plan,
            Path(scratch) / "inversion",
            folder,
            depth.inversion,
            None if own is None else own.small,
        )
        guessed = _guessed(agreed, own_start, Path(scratch) / "guessing", depth, progress)
        progress("self-audit")
        audit = self_audit(audited, start, Path(scratch) / "audit", depth.audit)
    progress("malicious coordinator")
    coordinators = coordinator_table(plan)
    caption = (
        "The imprint attack: a record, and the closest to it of what was read out of the sum at each stage."
    )
    report = RedteamReport(
        plan_digest=agreed.digest,
        mode=plan.privacy.mode.value,
        depth=depth.name,
        epsilon=epsilon(plan.events_of_run(), plan.privacy.delta),
        epsilon_alone=epsilon(plan.events_alone_of_run(), plan.privacy.delta),
        delta=plan.privacy.delta,
        attacks=(*attacks, *inverted, *guessed, *coordinators, *more),
        audit=tuple(audit),
        pictures=(PictureFile("imprint.png", caption), picture),
        notes=(*played, *notes, *_notes(plan, own)),
    )
    write_report(report, folder)
    return report


def _show_robberies(path: Path, robberies: Mapping[str, Robbery], victims: Pixels) -> None:
    """The record that comes out best without protection, at every stage."""
    best = int(next(iter(robberies.values())).psnr_db.argmax())
    shown = [("the record", victims[best].astype(np.float64) / 255.0)]
    shown += [
        (f"{stage}\n{found.psnr_db[best]:.1f} dB", found.closest[best]) for stage, found in robberies.items()
    ]
    side_by_side(path, shown)


def own_pictures(plan: Plan, reader: Callable[[ExtractorSpec], RecordReader], most: int) -> OwnPictures:
    """Up to `most` training records of a member, for attacks whose pictures stay with it. Raises Invalid for texts."""
    if plan.extractor.kind is not RecordKind.IMAGE:
        raise Invalid(
            f"The attacks show pictures, and this plan's records are of kind {plan.extractor.kind.value!r}. Nothing "
            "was attacked. Leave out --own-records: the plan's own extractor is then attacked on synthetic texts, and "
            "the rest shows synthetic pictures."
        )
    large, small = reader(plan.extractor), reader(demonstration_spec(plan))
    return OwnPictures(
        large.load(large.training_indices[:most])[0], small.load(small.training_indices[:1])[0]
    )


def _guessed(
    plan: Plan, start: Weights | None, folder: Path, depth: Depth, progress: Progress
) -> list[AttackRow]:
    """The attack on a plan of texts, on its own extractor; nothing for pictures."""
    if plan.extractor.kind is not RecordKind.TEXT:
        return []
    progress(GUESSING)
    affordable = max(_SHORTEST_LIST, depth.most_audit_s / _seconds_a_gradient(plan, start))
    candidates = int(min(depth.guesses.candidates, affordable))
    return guessing_rows(plan, start, folder, replace(depth.guesses, candidates=candidates))


def _in_pictures(plan: Plan, start: Weights | None) -> tuple[Plan, Weights | None, list[str]]:
    """The plan as it is, or of texts one that differs in its extractor alone; and a note that says so."""
    if plan.extractor.kind is RecordKind.IMAGE:
        return plan, start, []
    note = (
        f"The plan's records are of kind {plan.extractor.kind.value!r}. Its {plan.extractor.architecture} is attacked "
        f"by {GUESSING}, with synthetic texts in batches of one; that each record of a larger batch is clipped by "
        "itself is held by the tests of this software. All other attacks and the audit are on pictures: they took "
        f"small-gn on {_STAND_IN.height}x{_STAND_IN.width} pixels in its place. Clip, noise, grid, masks and ledger "
        "are the plan's, and the member's code."
    )
    return replace(plan, extractor=_STAND_IN), None, [note]


def _extractor_to_audit(
    plan: Plan, start: Weights | None, depth: Depth
) -> tuple[Plan, Weights | None, list[str]]:
    """The plan as it is, or with a small extractor where its own would take too long; and a note that says so."""
    estimated_s = _seconds_a_gradient(plan, start) * _gradients(plan, depth.audit)
    if estimated_s <= depth.most_audit_s:
        return plan, start, []
    spec = ExtractorSpec(
        "small-gn", plan.extractor.channels, 16, 16, 16, plan.extractor.mean, plan.extractor.std, {"width": 8}
    )
    note = (
        f"The self-audit took small-gn in place of {plan.extractor.architecture}, whose gradients would take about "
        f"{estimated_s:.0f} s here. All else is the plan's. --deep audits the plan's own extractor."
    )
    return replace(plan, extractor=spec), None, [note]


def _gradients(plan: Plan, depth: AuditDepth) -> float:
    """About how many records' gradients the audit takes."""
    game = 2 * 0.4 * depth.canaries * plan.training.local_steps
    draws = 0.25 * depth.draw_rounds * depth.draw_canaries + 4 * depth.noise_rounds + 50
    return (game + draws) * plan.training.augmentation_multiplicity


def _seconds_a_gradient(plan: Plan, start: Weights | None) -> float:
    spec = plan.extractor
    module = architectures.build(spec, seed=0) if start is None else architectures.load(spec, start)
    engine = make_engine(
        module, build_head(HeadState.zeros(2, head_inputs(module, spec))), _TIMED, torch.device("cpu")
    )
    x = torch.from_numpy(to_input(synthetic_pictures(_TIMED, spec), spec))
    y = torch.from_numpy(np.zeros(_TIMED, dtype=np.int64))
    fastest = math.inf
    for _ in range(2):
        started = time.perf_counter()
        engine.clipped_sum(x, y, 1.0)
        fastest = min(fastest, time.perf_counter() - started)
    return fastest / _TIMED


def _notes(plan: Plan, own: OwnPictures | None) -> list[str]:
    demonstration = demonstration_spec(plan)
    shared = "The plan's shared training head is played over the two classes of the synthetic records."
    return [
        "Imprint and inversion attack this member's own engine and rounds; the networks are the attacker's choice: "
        f"the imprint block, and {demonstration.architecture} at {demonstration.height}x{demonstration.width}.",
        "The self-audit is a dry run: data set, draw, clip, noise, grid, ledger and update are the member's code on "
        "synthetic records; the canaries' layer and the gains on embeddings are injected (see canaries.py).",
        "Pictures are of synthetic records."
        if own is None
        else "Pictures are of this member's own records: keep this folder at home.",
        *([] if plan.shared_head is None else [shared]),
    ]
