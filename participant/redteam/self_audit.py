"""A dry run of the member's own code that asks: does it spend no more ε than the plan claims?

Synthetic records with canaries among them (canaries.py) go through data set, draw, clip, noise and update as real
ones do (dry_run.py). What is seen of them gives two numbers for ε, which are two things:

 - the *bound* of one run (one_run.py): rigorous with its confidence, and weak;
 - the *estimate*: if noise is Gaussian, ε follows from how far a canary moves its coordinate and from the
   noise's std. Both are measured; the accountant then composes that σ over the whole plan. It is no proof: who
   adds noise of another shape, or less of it on real records, is not seen here.

Beside them stand direct tests, each of one thing that must hold for the argument: one record moves extractor and
head together by at most the sensitivity (clause 2.2); every tensor, the head and the validation counts carry
their noise (2.3, 6.2); batches are Poisson (2.4).

An interval is wrong, and an honest member refused, about once in 10⁵ times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from participant.redteam import one_run
from participant.redteam.canaries import AuditedExtractor, AuditSet, Chosen, given_head, make_audit_set
from participant.redteam.dry_run import DryRun, Floats, Member, Seen, Terms
from participant.redteam.intervals import ERROR, Interval, Z, poisson_p_value, shift_of, std_of
from participant.redteam.report import AuditRow
from participant.training.local_round import local_round
from shared.domain.errors import UnsoundPlan
from shared.domain.plan import Plan
from shared.domain.privacy import GaussianEvent, Mode
from shared.extractors import architectures
from shared.extractors.files import Weights
from shared.privacy.accountant import epsilon
from shared.privacy.mechanism import NoiseSource

_QUIET, _SILENT = 0.1, 1e-3
"""Noise multipliers of rounds in which single canaries are to be seen, and of those that measure lengths."""
_MOST_STEPS = 3
_LEAST_RATE, _MOST_RATE, _USUAL_RATE = 0.1, 0.5, 0.25
_FLOAT_SLACK = 1e-3


@dataclass(frozen=True)
class AuditDepth:
    """How much is spent: all counts of synthetic records or rounds."""

    canaries: int = 1250
    coordinates: int = 4096
    """Canary coordinates; those without a canary show the noise for nothing."""
    draw_canaries: int = 96
    draw_rounds: int = 40
    noise_rounds: int = 32


def self_audit(
    plan: Plan, start: Weights | None, folder: Path, depth: AuditDepth, member: Member = local_round
) -> list[AuditRow]:
    """All rows for `member` under `plan`; scratch files lie in `folder`. `start` None: weights from seed 0."""
    dry = audited(plan, start, folder, depth.coordinates, member)
    game = make_audit_set(folder / "game", plan.extractor, plan.privacy.unit, range(depth.canaries))
    rows = epsilon_rows(dry, game)
    small = make_audit_set(
        folder / "small", plan.extractor, plan.privacy.unit, range(depth.draw_canaries), pictures=16, loud=16
    )
    rows.append(influence_row(dry, small))
    rows += noise_rows(dry, small, depth.noise_rounds)
    rows += step_rows(dry, small, depth.noise_rounds)
    rows.append(draw_row(dry, small, depth.draw_rounds))
    return rows


def audited(
    plan: Plan, start: Weights | None, folder: Path, coordinates: int, member: Member = local_round
) -> DryRun:
    """`member` with the plan's extractor, and `coordinates` canary coordinates beside it."""
    spec = plan.extractor
    inner = architectures.build(spec, seed=0) if start is None else architectures.load(spec, start)
    return DryRun(
        plan, AuditedExtractor(inner, spec, coordinates), given_head(spec.embedding_dim), folder, member
    )


def _canary_part(dry: DryRun) -> slice:
    return dry.part("canaries.weight")


def epsilon_rows(dry: DryRun, game: AuditSet) -> list[AuditRow]:
    """The bound and the estimate of ε; in mode secure also the estimate where all others deviate (3.7)."""
    plan, terms = dry.plan, dry.plan.privacy
    steps = min(plan.training.local_steps, _MOST_STEPS)
    canaries = game.canaries
    present = NoiseSource().uniform(len(canaries)) < 0.5
    records = Chosen(game.reader, np.isin(game.codes, canaries[present]))
    loud = Terms(terms.noise_multiplier, local_steps=steps)
    seen = dry.round(records, loud)
    together = dry.with_honest_shares(seen, loud)[_canary_part(dry)]
    quiet = dry.round(records, Terms(_QUIET, local_steps=steps)).extractor[_canary_part(dry)]
    # One step without sampling, as often as there are local steps: what this dry run itself may cost.
    claim = epsilon([GaussianEvent(terms.noise_multiplier, 1.0, steps)], terms.delta)
    bound = one_run.lower_bound(together[canaries], present, terms.delta)
    rows = [
        AuditRow(
            name="ε of the dry run, one-run bound",
            kind="bound",
            claim=claim,
            found=bound,
            low=bound,
            high=bound,
            refused=bound > claim,
            says=f"A rigorous lower bound at {one_run.CONFIDENCE:.0%} confidence (Steinke, Nasr, Jagielski 2023, "
            f"theorem 5.2) from {len(canaries)} canaries, each present with probability ½, all of whose batch is "
            "drawn. It refutes a claim that it exceeds; below the claim it says nothing.",
        )
    ]
    shift = shift_of(quiet, canaries[present], canaries[~present])
    rows.append(
        _estimate(plan, "ε of the plan, Gaussian estimate", together, shift, canaries[present], steps)
    )
    if terms.mode is Mode.SECURE:
        own = seen.extractor[_canary_part(dry)]
        rows.append(
            _estimate(
                plan, "ε_alone of the plan, Gaussian estimate", own, shift, canaries[present], steps, True
            )
        )
    return rows


def _estimate(
    plan: Plan,
    name: str,
    scores: Floats,
    shift: Interval,
    present: npt.NDArray[np.int64],
    steps: int,
    alone: bool = False,
) -> AuditRow:
    """ε of the whole plan if every step had the σ = std·√K/shift that the dry run had."""
    noise = std_of([scores[present], np.delete(scores, present)])
    events = plan.events_alone_of_run() if alone else plan.events_of_run()
    claim = epsilon(events, plan.privacy.delta)
    root = math.sqrt(steps)
    arrived = shift.low > 0.0

    def whole(std: float, moved: float) -> float:
        return _epsilon_at(plan, root * std / moved, alone) if moved > 0.0 else 0.0

    found = whole(noise.found, shift.found)
    low, high = whole(noise.high, shift.low), whole(noise.low, shift.high)
    says = (
        f"An estimate, true if noise is Gaussian: over {steps} step(s) a canary moved its coordinate by "
        f"{shift.found:.4g} and noise has std {noise.found:.4g}, both in units of the sensitivity; the accountant "
        f"composed that over the plan. The claim is for 1 and {plan.privacy.noise_multiplier:g} in each step"
        + (", of which this member adds its share." if alone else ".")
    )
    if not arrived:
        says = "No canary was seen in what leaves, so nothing was audited. " + says
    return AuditRow(name, "estimate", claim, found, low, high, low > claim or not arrived, says)


def _epsilon_at(plan: Plan, noise_multiplier: float, alone: bool) -> float:
    """ε of the plan's run with another σ in its training steps; infinite where the accountant has no bound.

    The σ of validation counts stays as planned: noise_rows measures it.
    """
    events = plan.events_alone_of_run() if alone else plan.events_of_run()
    training, rest = events[0], events[1:]
    try:
        return epsilon([replace(training, noise_multiplier=noise_multiplier), *rest], plan.privacy.delta)
    except UnsoundPlan:
        return math.inf if noise_multiplier < 1.0 else 0.0


def influence_row(dry: DryRun, small: AuditSet) -> AuditRow:
    """How far one added record moves extractor and head together, with all others as they were (2.1, 2.2).

    The record is loud and on the wrong side: one that would turn a head fitted to the raw records. Its own
    clipped gradient is one sensitivity long, so an honest member shows 1.
    """
    loud = np.flatnonzero(small.codes == -2)
    loud = loud[np.isin(loud, small.reader.training_indices)][:1]
    keep = small.codes == -1
    without, terms = Chosen(small.reader, keep.copy()), Terms(_SILENT, augmented=False)
    keep[loud] = True
    with_it = Chosen(small.reader, keep)
    first, second, added = (_joint(dry.round(records, terms)) for records in (without, without, with_it))
    # Twice the same records: what differs is noise, and is taken off.
    noise = float(np.square(first - second).sum())
    squared = float(np.square(added - first).sum()) - noise
    per_coordinate = noise / len(first)
    length = math.sqrt(max(0.0, squared))
    error = math.sqrt(4.0 * len(first) * per_coordinate**2 + 4.0 * max(squared, 0.0) * per_coordinate)
    low, high = (math.sqrt(max(0.0, squared + sign * Z * error)) for sign in (-1.0, 1.0))
    limit = 1.0 + _FLOAT_SLACK
    arrived = len(loud) > 0 and high > 0.5
    says = (
        "A test: the sum of clipped gradients, extractor and training head as one vector, with and without one "
        "added record; in units of the sensitivity. Above 1 the noise is too small for what a record can do: no "
        "clip, a clip of parts, or a head that was fitted to the records outside the mechanism."
    )
    if not arrived:
        says = "The added record was not seen, so nothing was tested. " + says
    return AuditRow(
        "influence of one record", "test", 1.0, length, low, high, low > limit or not arrived, says
    )


def noise_rows(dry: DryRun, small: AuditSet, rounds: int) -> list[AuditRow]:
    """Whether each trained tensor, the training head and the validation counts carry their noise.

    The same few canaries, in every round: what differs between rounds is noise, with or without augmentations.
    """
    plan = dry.plan
    records = Chosen(small.reader, np.isin(small.codes, small.canaries[:4]))
    evaluates = plan.evaluate_every > 0
    terms = Terms(plan.privacy.noise_multiplier, evaluates=evaluates)
    seen = [dry.round(records, terms) for _ in range(rounds)]
    share = plan.events_alone_of_round(1)[0].noise_multiplier / plan.privacy.noise_multiplier
    claimed = share * plan.privacy.noise_multiplier
    vectors = np.stack([one.extractor for one in seen])
    tensors = {
        slot.name: std_of(list(vectors[:, dry.part(slot.name)].T))
        for slot in dry.layout.slots
        if slot.trainable
    }
    worst = min(tensors, key=lambda name: tensors[name].high)
    said = "A test: the noise's std between rounds on the same records, in units of the sensitivity. "
    head_claim, head_says = plan.privacy.noise_multiplier, "It stays at home; without it later rounds would"
    if plan.shared_head is not None:
        head_claim, head_says = claimed, "The shared head leaves with the extractor; without it that would"
    rows = [
        _noise_row("noise on each tensor", claimed, tensors[worst], said + f"The least is that on {worst}."),
        _noise_row(
            "noise on the training head",
            head_claim,
            std_of(list(np.stack([one.head for one in seen]).T)),
            f"{said}{head_says} depend on raw records (clause 2.1).",
        ),
    ]
    if evaluates:
        counts = np.stack([one.counts for one in seen if one.counts is not None])
        rows.append(
            _noise_row(
                "noise on validation counts",
                share * plan.privacy.evaluation_noise_multiplier,
                std_of(list(counts.T)),
                "A test: the std of the two counts between rounds, in units (clause 6.2).",
            )
        )
    return rows


def step_rows(dry: DryRun, small: AuditSet, rounds: int) -> list[AuditRow]:
    """Mode secure: whether the steps of the noise are there that drop-outs leave in the sum, and no others (3.9).

    Where everybody answers they are taken out again, by their seeds: a member that never added them would look the
    noisier. So they are looked at where they stay, and on both sides. None where nobody may drop out.
    """
    terms = Terms(dry.plan.privacy.noise_multiplier)
    claims = dry.kept_stds(terms)
    if not claims:
        return []
    records = Chosen(small.reader, np.isin(small.codes, small.canaries[:4]))
    seen = [dry.round(records, terms) for _ in range(rounds)]
    stds = [std_of(list(np.stack([one.kept[k] for one in seen]).T)) for k in range(len(claims))]
    found = [
        Interval(*(value / claim for value in (std.found, std.low, std.high)))
        for std, claim in zip(stds, claims, strict=True)
    ]
    worst = max(found, key=lambda one: max(one.low, 1.0 / one.high))
    return [
        AuditRow(
            "noise that drop-outs leave",
            "test",
            1.0,
            worst.found,
            worst.low,
            worst.high,
            not worst.low <= 1.0 <= worst.high,
            "A test: the noise's std where steps of it stay in the sum, in units of what is due. "
            f"Looked at for {len(claims)} number(s) of drop-outs; this is the one farthest off. Below 1 a sum without "
            "some members has too little noise (clause 3.9); above 1 what the seeds take out was never in it.",
        )
    ]


def _noise_row(name: str, claimed: float, std: Interval, says: str) -> AuditRow:
    return AuditRow(name, "test", claimed, std.found, std.low, std.high, std.high < claimed, says)


def _joint(seen: Seen) -> Floats:
    return np.concatenate([seen.extractor, seen.head])


def draw_row(dry: DryRun, small: AuditSet, rounds: int) -> AuditRow:
    """Whether every unit enters every batch by a coin of its own: from which canaries are seen in what leaves."""
    rate = dry.plan.privacy.sampling_rate
    rate = rate if _LEAST_RATE <= rate <= _MOST_RATE else _USUAL_RATE
    canaries = small.canaries
    everybody = Chosen(small.reader, np.ones(len(small.codes), dtype=bool))
    terms = Terms(_QUIET, sampling_rate=rate)
    scores = np.stack(
        [dry.round(everybody, terms).extractor[_canary_part(dry)][canaries] for _ in range(rounds)]
    )
    drawn = scores > 0.5
    probability, which = poisson_p_value(drawn, rate)
    return AuditRow(
        name="Poisson draw, p-value",
        kind="test",
        claim=ERROR,
        found=probability,
        low=probability,
        high=probability,
        refused=probability < ERROR,
        says=f"A test: {rounds} rounds at rate {rate:g}, the presence of {len(canaries)} canaries read from what "
        f"leaves. Compared with independent coins: {which}. Refused below {ERROR:g}.",
    )
