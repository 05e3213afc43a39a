"""What the utility benchmark compares: the same rounds with the noise of each arm.

Plans are completed by the coordinator's own planning, so sigma, grid width, quorum and noise shares are what a run
would have. Masks cancel exactly and the wire changes no number, so both are left out; the shares' rounding and the
discrete Gaussian noise that stays are drawn member by member. Who is drawn and who drops out when follows from the
seed and is the same for every arm; the noise is the shipped one and cannot be seeded.
"""

from __future__ import annotations

import functools
import math
import os
from dataclasses import dataclass, replace

import numpy as np
import torch
from utility_data import FASHION, SIGNS, Records
from utility_model import Adapter, Batch, Clipped, Heads

from coordinator.runs.averaging import ServerState, apply_average
from coordinator.runs.draft import PlanDraft, PrivacyDraft, TrainingDraft
from coordinator.runs.planning import complete
from coordinator.workers.probe import Probe
from shared.domain.consortium import Member, MemberState, Node, Purpose
from shared.domain.extractor import ExtractorSpec
from shared.domain.ids import MemberId
from shared.domain.plan import Plan, ServerOptimizer
from shared.domain.privacy import Mode, Unit
from shared.domain.update import AggregateSum
from shared.privacy.accountant import calibrate_noise_multiplier, highest_delta
from shared.privacy.discrete_gaussian import SEED_BYTES
from shared.privacy.mechanism import NoiseSource
from shared.privacy.noise_shares import base_share, step_share
from shared.secagg.fixed_point import to_grid
from shared.secagg.parameters import needed_steps, tolerance

SECURE, LOCAL, CURATOR, NOT_PRIVATE = "secure", "local", "curator", "not private"


@dataclass(frozen=True)
class Recipe:
    """What was tuned, once per data set."""

    spec: ExtractorSpec
    unit: Unit
    rounds: int
    sampling_rate: float
    learning_rate: float
    head_learning_rate: float
    averaging_decay: float
    clip_norm_l2: float = 1.0
    schedule: str = "constant"
    shared_head: bool = True


RECIPES = {
    "fashion": Recipe(FASHION, Unit.RECORD, 150, 0.1, 4.0, 2.0, 0.95),
    "signs": Recipe(SIGNS, Unit.PERSON, 40, 1.0, 0.5, 1.0, 0.9),
}
PRIVATE_HEADS = {
    "fashion": replace(RECIPES["fashion"], learning_rate=8.0, head_learning_rate=4.0, shared_head=False)
}
"""The same with a head of each member's own, at the rates that were tuned for that."""


@functools.lru_cache(maxsize=64)
def noise_multiplier(epsilon: float, delta: float, rate: float, rounds: int) -> float:
    """sigma of the whole run without validation."""
    return calibrate_noise_multiplier(epsilon, delta, rate, rounds)


def make_plan(
    recipe: Recipe,
    members: tuple[Records, ...],
    mode: Mode,
    epsilon: float,
    colluders: int | None = None,
    probe: Probe | None = None,
) -> Plan:
    """The plan that `plan propose` would make for members with these records; `probe` is of the adapter where None.

    delta is 1e-5, or less where a member holds more than 10,000 units (clause 7.35).
    """
    sizes = [two_digits(records.units) for records in members]
    delta = min(highest_delta(size) for size in sizes)
    shared = tuple(str(c) for c in classes_of(members)) if recipe.shared_head else ()
    draft = PlanDraft(
        extractor_name="utility",
        extractor=recipe.spec,
        training=TrainingDraft(
            1, recipe.learning_rate, recipe.head_learning_rate, recipe.schedule, shared_classes=shared
        ),
        privacy=PrivacyDraft(
            epsilon, recipe.clip_norm_l2, recipe.sampling_rate, mode, recipe.unit, delta,
            noise_multiplier(epsilon, delta, recipe.sampling_rate, recipe.rounds),
        ),
        rounds=recipe.rounds,
        server=ServerOptimizer("fedavg", averaging_decay=recipe.averaging_decay),
        colluders=colluders,
    )  # fmt: skip
    enrolled = [
        Member(
            id=MemberId(f"mem_{place:04}"), name=f"member {place}", purpose=Purpose.CONTRIBUTE,
            state=MemberState.ACTIVE, identity_public_key="00" * 32, declared_size=size,
            node=Node("pem", "cpu", "0"), enrolled_at="2026-01-01T00:00:00Z",
        )
        for place, size in enumerate(sizes)
    ]  # fmt: skip
    if probe is None:
        adapter = Adapter(recipe.spec, 0)
        probe = Probe("sha256:00", "start.safetensors", len(adapter.start), 0.0, adapter.width)
    return complete(draft, "utility", enrolled, probe).plan


def two_digits(size: int) -> int:
    """A declared size (clause 6.3)."""
    unit = 10 ** max(0, len(str(size)) - 2)
    return max(1, round(size / unit) * unit)


def classes_of(members: tuple[Records, ...]) -> np.ndarray:
    """Classes that anybody holds, ascending."""
    return np.unique(np.concatenate([records.y for records in members]))


def train(
    adapter: Adapter, plan: Plan, arm: str, members: tuple[Records, ...], seed: int, drop: int = 0
) -> np.ndarray:
    """What the consortium has after the plan's rounds, float32: the extractor [d], then the head if it is shared.

    In every round `drop` members, drawn anew, do not answer.
    """
    rng, leaving, noise = np.random.default_rng([seed, 7]), np.random.default_rng([seed, 8]), NoiseSource()
    classes, d = classes_of(members), plan.extractor_coordinates
    shared = plan.shared_head is not None
    held = np.stack([np.isin(classes, records.y) for records in members])
    heads = Heads.zeros(held.any(axis=0)[None] if shared else held, adapter.width)
    start = np.concatenate([adapter.start, heads.flat(0)]) if shared else adapter.start
    rates = np.full(plan.trainable_coordinates, plan.training.learning_rate)
    rates[d:] = plan.training.head_learning_rate
    state, drawer = ServerState(start.copy()), Drawer(members, classes, plan.privacy.sampling_rate, rng)
    expected = np.array([plan.expected_batch_size(m.member_id) for m in plan.members])
    for number in range(1, plan.rounds + 1):
        batch = drawer.draw()
        survivors = np.sort(leaving.permutation(len(members))[drop:])
        clipped = adapter.clipped(state.weights[:d], heads, batch, plan.privacy.clip_norm_l2)
        total = summed(clipped, batch, plan, number, arm, noise, survivors)
        step = total * rates * (-plan.learning_rate_factor(number) / expected[survivors].sum())
        state = apply_average(state, AggregateSum(step.data, 1.0, ()), plan.server)
        if shared:
            heads.place(0, state.weights[d:])
            continue
        for member, size in enumerate(expected):
            own = clipped.head_sum(batch.part(member))
            noised = own if arm == NOT_PRIVATE else noise.noised(own, plan.noise_std_l2)
            pace = plan.learning_rate_factor(number) * plan.training.head_learning_rate / size
            heads.place(member, heads.flat(member) - np.float32(pace) * noised)
    return state.released_weights


def summed(
    clipped: Clipped,
    batch: Batch,
    plan: Plan,
    number: int,
    arm: str,
    noise: NoiseSource,
    survivors: np.ndarray,
) -> np.ndarray:
    """The sum over `survivors` with the arm's noise, float64 [plan.trainable_coordinates]."""
    members, d = len(plan.members), plan.trainable_coordinates
    if arm == SECURE:
        assert plan.secure is not None
        steps, grid = plan.secure.tolerance_steps, np.zeros(d, np.int64)
        covered = tolerance(members, plan.quorum, steps)
        # Steps that this many survivors do not need are removed again exactly; the others stay (clause 3.9).
        kept = range(1, needed_steps(members, plan.quorum, steps, len(survivors)) + 1)
        for member in survivors:
            grid += to_grid(clipped.joint_sum(batch.part(member))[:d], plan.secure.grid_width)
            grid += base_share(plan, number, members, covered)
            for step in kept:
                grid += step_share(plan, number, members, covered, step, os.urandom(SEED_BYTES))
        return grid * plan.secure.grid_width
    exact = clipped.joint_sum(slice(None))[:d].astype(np.float64)
    if arm == NOT_PRIVATE:
        return exact
    # Mode local: n independent Gaussians of one std are one Gaussian of √n times that std.
    std = plan.noise_std_l2 * (math.sqrt(members) if arm == LOCAL else 1.0)
    return noise.noised(exact, std).astype(np.float64)


class Drawer:
    """Poisson batches of all members: every unit by itself, and of a drawn unit one record."""

    def __init__(
        self, members: tuple[Records, ...], classes: np.ndarray, rate: float, rng: np.random.Generator
    ) -> None:
        self._rate, self._rng, self._members = rate, rng, members
        self._x = torch.from_numpy(np.concatenate([records.x for records in members]))
        y = np.concatenate([records.y for records in members])
        self._y = torch.from_numpy(np.searchsorted(classes, y))
        self._squares = self._x.square().sum(1)

    def draw(self) -> Batch:
        """The next round's."""
        chosen, cuts, offset = [], [0], 0
        for records in self._members:
            drawn = np.flatnonzero(self._rng.random(records.units) < self._rate)
            if records.units != len(records.y):
                order = self._rng.permutation(len(records.y))
                _, first = np.unique(records.unit[order], return_index=True)
                drawn = order[first[drawn]]
            chosen.append(drawn + offset)
            cuts.append(cuts[-1] + len(drawn))
            offset += len(records.y)
        rows = torch.from_numpy(np.concatenate(chosen))
        return Batch(self._x[rows], self._y[rows], self._squares[rows], tuple(cuts))
