"""What the utility benchmark compares: the same rounds with the noise of each arm.

Plans are completed by the coordinator's own planning, so sigma, grid width, quorum and noise shares are what a run
would have. Masks cancel exactly and the wire changes no number, so both are left out; the shares' rounding and the
discrete Gaussian noise that stays when nobody drops out are drawn member by member. Who is drawn when follows from
the seed and is the same for every arm; the noise is the shipped one and cannot be seeded.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from utility_data import FASHION, FASHION_BOTH, SIGNS, Records
from utility_model import Adapter, Batch, Clipped, Heads

from coordinator.runs.averaging import ServerState, apply_average
from coordinator.runs.draft import PlanDraft, PrivacyDraft
from coordinator.runs.planning import complete
from coordinator.workers.probe import Probe
from shared.domain.consortium import Member, MemberState, Node, Purpose
from shared.domain.extractor import ExtractorSpec
from shared.domain.ids import MemberId
from shared.domain.plan import Plan, ServerOptimizer, TrainingTerms
from shared.domain.privacy import Mode, Unit
from shared.domain.update import AggregateSum
from shared.privacy.accountant import calibrate_noise_multiplier, highest_delta
from shared.privacy.mechanism import NoiseSource
from shared.privacy.noise_shares import base_share
from shared.secagg.fixed_point import to_grid
from shared.secagg.parameters import tolerance

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
    clip_norm_l2: float = 1.0
    schedule: str = "constant"
    averaging_decay: float = 0.0


RECIPES = {
    "fashion": Recipe(FASHION, Unit.RECORD, 100, 0.05, 8.0, 4.0),
    "fashion, concatenated": Recipe(FASHION_BOTH, Unit.RECORD, 100, 0.05, 8.0, 4.0),
    "signs": Recipe(SIGNS, Unit.PERSON, 40, 1.0, 2.0, 2.0),
}


@functools.lru_cache(maxsize=64)
def noise_multiplier(epsilon: float, delta: float, rate: float, rounds: int) -> float:
    """sigma of the whole run without validation."""
    return calibrate_noise_multiplier(epsilon, delta, rate, rounds)


def make_plan(
    recipe: Recipe, sizes: tuple[int, ...], mode: Mode, epsilon: float, colluders: int | None
) -> Plan:
    """The plan that `plan propose` would make for members of these sizes.

    delta is 1e-5, or less where a member holds more than 10,000 units (clause 7.35).
    """
    delta = min(highest_delta(two_digits(size)) for size in sizes)
    draft = PlanDraft(
        extractor_name="utility",
        extractor=recipe.spec,
        training=TrainingTerms(1, recipe.learning_rate, recipe.head_learning_rate, recipe.schedule),
        privacy=PrivacyDraft(
            epsilon, recipe.clip_norm_l2, recipe.sampling_rate, mode, recipe.unit, delta,
            noise_multiplier(epsilon, delta, recipe.sampling_rate, recipe.rounds),
        ),
        rounds=recipe.rounds,
        server=ServerOptimizer("fedavg", averaging_decay=recipe.averaging_decay),
        colluders=colluders,
    )  # fmt: skip
    members = [
        Member(
            id=MemberId(f"mem_{place:04}"), name=f"member {place}", purpose=Purpose.CONTRIBUTE,
            state=MemberState.ACTIVE, identity_public_key="00" * 32, declared_size=two_digits(size),
            node=Node("pem", "cpu", "0"), enrolled_at="2026-01-01T00:00:00Z",
        )
        for place, size in enumerate(sizes)
    ]  # fmt: skip
    probe = Probe("sha256:00", "start.safetensors", len(Adapter(recipe.spec, 0).start), 0.0)
    return complete(draft, "utility", members, probe).plan


def two_digits(size: int) -> int:
    """A declared size (clause 6.3)."""
    unit = 10 ** max(0, len(str(size)) - 2)
    return max(1, round(size / unit) * unit)


def train(adapter: Adapter, plan: Plan, arm: str, members: tuple[Records, ...], seed: int) -> np.ndarray:
    """Weights float32 [d] that the consortium releases after the plan's rounds."""
    rng = np.random.default_rng([seed, 7])
    classes = int(max(records.y.max() for records in members)) + 1
    held = np.stack([np.isin(np.arange(classes), records.y) for records in members])
    heads = Heads.zeros(held, plan.extractor.embedding_dim)
    state, noise = ServerState(adapter.start.copy()), NoiseSource()
    drawer = Drawer(members, plan.privacy.sampling_rate, rng)
    expected = np.array([plan.expected_batch_size(m.member_id) for m in plan.members])
    for number in range(1, plan.rounds + 1):
        batch = drawer.draw()
        clipped = adapter.clipped(state.weights, heads, batch, plan.privacy.clip_norm_l2)
        pace = plan.learning_rate_factor(number)
        total = extractor_total(clipped, batch, plan, number, arm, noise)
        for member in range(len(members)):
            weight, bias = clipped.head_sum(batch.part(member))
            rate = pace * plan.training.head_learning_rate / expected[member]
            flat = torch.cat([weight.reshape(-1), bias])
            if arm != NOT_PRIVATE:
                flat = torch.from_numpy(noise.noised(flat.numpy(), plan.noise_std_l2))
            heads.weight[member] -= rate * flat[: weight.numel()].reshape(weight.shape)
            heads.bias[member] -= rate * flat[weight.numel() :]
        step = total * (-pace * plan.training.learning_rate / expected.sum())
        state = apply_average(state, AggregateSum(step.data, 1.0, ()), plan.server)
    return state.released_weights


def extractor_total(
    clipped: Clipped, batch: Batch, plan: Plan, number: int, arm: str, noise: NoiseSource
) -> np.ndarray:
    """The sum over all members with the arm's noise, float64 [d]."""
    members = len(plan.members)
    if arm == SECURE:
        assert plan.secure is not None
        steps = plan.secure.tolerance_steps
        covered = tolerance(members, plan.quorum, steps)
        # Nobody drops out: what the tolerance steps added is removed again exactly, only the base share stays.
        grid = sum(
            to_grid(clipped.extractor_sum(batch.part(member)), plan.secure.grid_width)
            + base_share(plan, number, members, covered)
            for member in range(members)
        )
        return np.asarray(grid) * plan.secure.grid_width
    exact = clipped.extractor_sum(slice(None)).astype(np.float64)
    if arm == NOT_PRIVATE:
        return exact
    # Mode local: n independent Gaussians of one std are one Gaussian of √n times that std.
    std = plan.noise_std_l2 * (math.sqrt(members) if arm == LOCAL else 1.0)
    return noise.noised(exact, std).astype(np.float64)


class Drawer:
    """Poisson batches of all members: every unit by itself, and of a drawn unit one record."""

    def __init__(self, members: tuple[Records, ...], rate: float, rng: np.random.Generator) -> None:
        self._rate, self._rng, self._members = rate, rng, members
        self._x = torch.from_numpy(np.concatenate([records.x for records in members]))
        self._y = torch.from_numpy(np.concatenate([records.y for records in members]))
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
