"""One round of the real member code on synthetic records: charge, draw, clip, noise, and what is seen of it.

Nothing here copies a step of the mechanism: a round is `local_round`, called as member.py calls it, with a
token from a real ledger. What differs from a round of the plan is public and in the plan itself: another noise
multiplier, sampling rate or learning rate, which the member obeys like any other numbers. Learning rates are set
so that an update is minus the noised sum in units of the clip norm; float32 then loses nothing.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from participant.redteam.canaries import CLASSES
from participant.redteam.pictures import Pixels
from participant.training.head import HeadState
from participant.training.local_round import local_round
from participant.training.runtime import RuntimeOptions
from participant.training.shared_head import part_leaving
from participant.training.workbench import Indices, NoiseShare, Records, Workbench
from shared.domain.plan import Plan, SharedHead, summed_coordinates
from shared.domain.privacy import Budget, Charge
from shared.domain.update import NoisyGridSum, Update
from shared.extractors.vectors import get_flat, trainable_layout
from shared.privacy.distributed import COUNT_SCALE, grid_variance, share_variances
from shared.privacy.ledger import Ledger
from shared.privacy.mechanism import NoiseSource
from shared.privacy.noise_shares import base_share, step_share
from shared.secagg.fixed_point import from_ring
from shared.secagg.parameters import Ring, tolerance
from shared.wire.rounds import PROTOCOL_VERSION, RoundRequest

Floats = npt.NDArray[np.float64]
Member = Callable[..., tuple[Update | NoisyGridSum, HeadState]]
"""What is audited; in use `local_round`."""
_ALL_OF_IT = Budget(1e9, 1e-5)
_SMALL_PACE = 1e-3
"""Of several local steps, so that none moves the weights far: the next step's gradients are then the same."""
_GRID_STEPS_IN_A_STD = 50.0


@dataclass(frozen=True)
class Seen:
    """What one round gave away, in units of the sensitivity (C, or C' on a grid): noised sums over all steps."""

    extractor: Floats
    """[d], with this member's own noise; in mode secure that is a share of the whole, and goes under masks."""
    head: Floats
    """[h], bias first: what the training head was moved by, which stays at home and shapes later rounds; of a shared
    head its part of what leaves, with the same noise as the extractor's."""
    counts: Floats | None
    """[2] validation counts, with this member's own noise."""
    kept: tuple[Floats, ...] = ()
    """Mode secure: `extractor` as it stays where more and more members drop out: with step 1 of the noise, with steps 1
    and 2, … up to all (3.9)."""


@dataclass(frozen=True)
class Terms:
    """What a dry round asks for in place of the plan's numbers."""

    noise_multiplier: float
    sampling_rate: float = 1.0
    local_steps: int = 1
    evaluates: bool = False
    augmented: bool = True
    """As the plan says; without augmentations two rounds on the same records have the same sum."""


class RecordsInMemory:
    """Pictures or texts in memory, all on the training side."""

    def __init__(self, records_u8: Pixels, labels: Indices, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.held_out_indices: Indices = np.zeros(0, dtype=np.int64)
        self._records, self._labels = records_u8, labels

    def poisson_draw(self, noise: NoiseSource, rate: float) -> Indices:
        """Each record with probability `rate`; all of them at 1."""
        return np.flatnonzero(noise.uniform(len(self._labels)) < rate)

    def load(self, indices: Indices) -> tuple[Pixels, Indices]:
        """(uint8 [B, H, W, C], int64 [B])."""
        return self._records[indices], self._labels[indices]


class DryRun:
    """A member of `plan` in `folder`, with an extractor and a training head of the red team's choice."""

    def __init__(
        self, plan: Plan, extractor: nn.Module, head: HeadState, folder: Path, member: Member = local_round
    ) -> None:
        self.plan = plan
        self.extractor = extractor
        self.head = head
        self.layout = trainable_layout(extractor)
        self._start = get_flat(extractor)
        self._shared_head = synthetic_head(plan, head)
        self._member = member
        self._ledger = Ledger(folder / "ledger.jsonl")
        self._numbers = itertools.count(1)

    def part(self, tensor: str) -> slice:
        """Where a trained tensor lies in the flat vector."""
        start = 0
        for slot in self.layout.slots:
            if slot.name == tensor:
                break
            start += slot.coordinates if slot.trainable else 0
        return slice(start, start + slot.coordinates)

    def plan_of(self, terms: Terms) -> Plan:
        """The plan with the numbers of a dry round; its digest is what that round trains under."""
        plan, member = self.plan, self.plan.members[0]
        pace = 1.0 if terms.local_steps == 1 else _SMALL_PACE
        # An update is - rate / (q·n_declared) · sum: with this rate it is - pace · sum / C.
        rate = pace * terms.sampling_rate * member.declared_size / plan.privacy.clip_norm_l2
        secure = plan.secure
        if secure is not None and terms.noise_multiplier != plan.privacy.noise_multiplier:
            finest = terms.noise_multiplier * plan.privacy.clip_norm_l2 / _GRID_STEPS_IN_A_STD
            secure = replace(secure, grid_width=min(secure.grid_width, finest))
        return replace(
            plan,
            trainable_coordinates=summed_coordinates(self.layout.trainable_coordinates, self._shared_head),
            shared_head=self._shared_head,
            training=replace(
                plan.training,
                local_steps=terms.local_steps,
                learning_rate=rate,
                head_learning_rate=rate,
                schedule="constant",
                augmentations=plan.training.augmentations if terms.augmented else (),
            ),
            privacy=replace(
                plan.privacy,
                noise_multiplier=terms.noise_multiplier,
                sampling_rate=terms.sampling_rate,
            ),
            rounds=1,
            evaluate_every=int(terms.evaluates),
            secure=secure,
        )

    def round(self, records: Records, terms: Terms) -> Seen:
        """Train one round on `records`, from the weights and the head that were given at first."""
        plan, number, before = self.plan_of(terms), next(self._numbers), self.head
        start = part_leaving(plan, self._start, before.flat)
        request = RoundRequest(
            protocol=PROTOCOL_VERSION,
            run_id=f"run_{number:012x}",
            round_number=1,
            plan_digest=plan.digest,
            weights_digest="sha256:" + "0" * 64,
            weights_bytes=start.nbytes,
            deadline_s=plan.deadline_s,
            weights_ticket="",
            contribution_ticket="",
        )
        # Every round is another data set to the ledger: what a dry run spends is of records that nobody has.
        charge = Charge(
            f"dat_{number:012x}",
            plan.digest,
            request.run_id,
            1,
            plan.events_of_round(1),
            None if plan.secure is None else plan.events_alone_of_round(1),
        )
        token = self._ledger.charge(charge, _ALL_OF_IT)
        me = plan.members[0].member_id
        bench = Workbench(me, self.extractor, records, before, runtime=RuntimeOptions(device="cpu"))
        share = _noise_share(plan)
        result, after = self._member(request, plan, token, start, bench, share)
        pace = 1.0 if terms.local_steps == 1 else _SMALL_PACE
        unit = plan.privacy.clip_norm_l2 / plan.sensitivity_l2 / pace
        kept: tuple[Floats, ...] = ()
        if isinstance(result, NoisyGridSum) and share is not None:
            own, *more = _by_kept_steps(result, plan, share)
            d = plan.trainable_coordinates
            left, counts = own[:d] * self._grid_step(plan), own[d:] / COUNT_SCALE if len(own) > d else None
            kept = tuple(one[: plan.extractor_coordinates] * self._grid_step(plan) for one in more)
        else:
            left = -np.frombuffer(result.vector_f32, dtype=np.float32).astype(np.float64) * unit
            noised = result.counts
            counts = None if noised is None else np.array([noised.correct, noised.wrong])
        extractor, head = np.split(left, [plan.extractor_coordinates])
        if plan.shared_head is None:
            head = (before.flat - after.flat).astype(np.float64) * unit
        return Seen(extractor, head, counts, kept)

    def kept_stds(self, terms: Terms) -> tuple[float, ...]:
        """What the noise's std is to be on each coordinate of `Seen.kept`, in units of the sensitivity."""
        plan = self.plan_of(terms)
        share = _noise_share(plan)
        if share is None:
            return ()
        variances = share_variances(
            grid_variance(plan), share.cohort_size, plan.quorum, plan.colluders, share.covered
        )
        return tuple(
            math.sqrt(sum(variances[: k + 1])) * self._grid_step(plan) for k in range(1, len(variances))
        )

    def with_honest_shares(self, seen: Seen, terms: Terms) -> Floats:
        """[d] of the extractor as colluders see it once the masks are lifted: with all honest members' shares (3.2).

        In mode local a member's own noise is all there is to count on.
        """
        plan = self.plan_of(terms)
        share = _noise_share(plan)
        if share is None:
            return seen.extractor
        others = np.zeros(plan.extractor_coordinates, dtype=np.int64)
        for _ in range(share.cohort_size - plan.colluders - 1):
            others += base_share(plan, 1, share.cohort_size, share.covered)[: len(others)]
        return seen.extractor + others * self._grid_step(plan)

    def _grid_step(self, plan: Plan) -> float:
        return (0.0 if plan.secure is None else plan.secure.grid_width) / plan.sensitivity_l2


def synthetic_head(plan: Plan, head: HeadState) -> SharedHead | None:
    """The plan's shared head, if it has one, over the classes of synthetic records and with `head`'s inputs."""
    return None if plan.shared_head is None else SharedHead(CLASSES, head.weight.shape[1])


def _noise_share(plan: Plan) -> NoiseShare | None:
    """As the protocol would give it when every member of the plan is in the cohort."""
    if plan.secure is None:
        return None
    covered = tolerance(len(plan.members), plan.quorum, plan.secure.tolerance_steps)
    seeds = tuple(os.urandom(32) for _ in covered)
    return NoiseShare(len(plan.members), covered, seeds)


def _by_kept_steps(result: NoisyGridSum, plan: Plan, share: NoiseShare) -> list[Floats]:
    """The member's part once the steps that are not needed were taken out with the revealed seeds (3.9): all of them,
    where everybody answered; all but step 1; … ; none.
    """
    ring = np.array(result.ring)
    found = [_signed(ring)]
    for step, seed in reversed(list(enumerate(share.step_seeds, start=1))):
        excess = step_share(plan, 1, share.cohort_size, share.covered, step, seed)
        ring -= excess.astype(ring.dtype)
        found.append(_signed(ring))
    return found[::-1]


def _signed(ring: Ring) -> Floats:
    return from_ring(ring, 8 * ring.itemsize).astype(np.float64)
