"""A malicious coordinator's block in front of the network reads single records out of a *sum* of gradients.

Fowl, Geiping, Czaja, Goldblum, Goldstein 2022, "Robbing the Fed: directly obtaining private data in federated
learning with modified models", section 4: a Linear layer whose rows all measure the same thing, the picture's
mean brightness, with biases at the quantiles of that measurement, then ReLU, then a layer with equal columns. Row
i is active for every record brighter than its threshold, so the difference of two neighbouring rows' gradients
holds only the records between the two. Where that is one record, weight gradient over bias gradient *is* the
record. A clip scales both alike and changes nothing; noise does.

Run here on all of a full batch, where the attack is strongest. Its failure says nothing about ε.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from participant.policy import Policy, check_rules
from participant.redteam.canaries import CLASSES, given_head
from participant.redteam.dry_run import DryRun, Floats, Member, RecordsInMemory, Terms
from participant.redteam.pictures import Pixels, psnr_db, synthetic_pictures
from participant.redteam.report import AttackRow
from participant.training.dp_sgd import make_engine
from participant.training.head import build_head
from participant.training.local_round import local_round
from participant.training.workbench import Indices
from shared.domain.errors import InvalidConfig, PolicyForbids
from shared.domain.extractor import ExtractorSpec
from shared.domain.plan import Plan
from shared.domain.privacy import Mode
from shared.extractors import architectures
from shared.extractors.preprocess import to_input

NAME = "imprint"
RECOVERED_DB = 30.0
"""PSNR above which a recovered picture counts: nobody could tell it from the record."""
UNBOUNDED = 1e30
_BINS_A_RECORD, _LEAST_RECORDS, _MOST_COORDINATES = 4, 4, 4_000_000


class ImprintBlock(nn.Module):
    """[B, C, H, W] → [B, embedding_dim]: what the attacker would put in front; nothing follows that hides it."""

    def __init__(self, spec: ExtractorSpec, thresholds: npt.NDArray[np.float64]) -> None:
        super().__init__()
        pixels, bins = spec.channels * spec.height * spec.width, len(thresholds)
        self.imprint = nn.Linear(pixels, bins)
        self.out = nn.Linear(bins, spec.embedding_dim, bias=False)
        with torch.no_grad():
            self.imprint.weight.fill_(1.0 / pixels)
            self.imprint.bias.copy_(-torch.from_numpy(thresholds))
            # Equal columns: every active row then has the same gradient for one record. Small ones: a head that is
            # sure of its answer would let almost none through.
            self.out.weight.fill_(spec.embedding_dim**-0.5 / bins)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, embedding_dim]."""
        result: Tensor = self.out(torch.relu(self.imprint(x.flatten(1))))
        return result


@dataclass(frozen=True)
class Robbery:
    """What came out of one sum."""

    psnr_db: Floats
    """[n]: of each record, how well the closest recovered picture shows it."""
    closest: Floats
    """[n, height, width, channels]: that picture."""

    @property
    def recovered(self) -> int:
        """Records that some recovered picture shows at more than RECOVERED_DB."""
        return int((self.psnr_db > RECOVERED_DB).sum())


def imprint_rows(
    plan: Plan,
    folder: Path,
    pictures: Pixels | None = None,
    count: int = 64,
    member: Member = local_round,
) -> tuple[list[AttackRow], dict[str, Robbery], Pixels]:
    """(rows, what was made at each stage, the victims): the attack on up to `count` pictures, and the allow-list.

    `pictures`: uint8 [n, H, W, C] of the plan's size, synthetic ones where None; of large pictures fewer are
    attacked, so that the block stays small.
    """
    spec = plan.extractor
    most = _MOST_COORDINATES // (_BINS_A_RECORD * spec.channels * spec.height * spec.width)
    count = max(_LEAST_RECORDS, min(count, most))
    victims = (synthetic_pictures(count, spec, number=3) if pictures is None else pictures)[:count]
    thresholds = _thresholds(spec, _BINS_A_RECORD * len(victims))
    dry = DryRun(plan, ImprintBlock(spec, thresholds), given_head(spec.embedding_dim), folder, member)
    labels: Indices = np.arange(len(victims), dtype=np.int64) % len(CLASSES)
    sums = {
        "nothing": _plain_sum(dry, victims, labels, UNBOUNDED),
        "clip only": _plain_sum(dry, victims, labels, plan.privacy.clip_norm_l2),
    }
    terms = Terms(plan.privacy.noise_multiplier, augmented=False)
    seen = dry.round(RecordsInMemory(victims, labels, CLASSES), terms)
    sums["the plan: clip and noise"] = dry.with_honest_shares(seen, terms)
    if plan.privacy.mode is Mode.SECURE:
        sums["the plan, all other members deviating"] = seen.extractor
    robberies = {stage: rob(dry, total, victims) for stage, total in sums.items()}
    rows = [
        AttackRow(
            name="imprint (Robbing the Fed)",
            tried=stage,
            gains=f"{found.recovered} of {len(victims)} records at more than {RECOVERED_DB:g} dB; the best at "
            f"{found.psnr_db.max():.1f} dB",
            number=float(found.recovered),
            protected=None if stage in ("nothing", "clip only") else found.recovered == 0,
        )
        for stage, found in robberies.items()
    ]
    return [*rows, allow_list_row(plan)], robberies, victims


def rob(dry: DryRun, total: Floats, victims: Pixels) -> Robbery:
    """Read the records out of a sum [d] of an ImprintBlock's gradients, clipped, noised or neither."""
    spec = dry.plan.extractor
    bias = total[dry.part("imprint.bias")]
    weight = total[dry.part("imprint.weight")].reshape(len(bias), -1)
    below = np.append(bias[1:], 0.0), np.concatenate([weight[1:], np.zeros_like(weight[:1])])
    bias_steps, weight_steps = bias - below[0], weight - below[1]
    # Bins that hold nobody are rounding errors over rounding errors.
    used = np.abs(bias_steps) > 1e-6 * np.abs(bias).max()
    found = weight_steps[used] / bias_steps[used, None]
    shape = (spec.channels, spec.height, spec.width)
    mean, std = (np.resize(values, spec.channels)[:, None, None] for values in (spec.mean, spec.std))
    candidates = np.clip(found.reshape(-1, *shape) * std + mean, 0.0, 1.0).transpose(0, 2, 3, 1)
    truths = victims.astype(np.float64) / 255.0
    likeness, closest = np.zeros(len(truths)), np.zeros_like(truths)
    for place, true in enumerate(truths if len(candidates) else ()):
        errors = np.square(candidates - true).reshape(len(candidates), -1).mean(axis=1)
        closest[place] = candidates[int(errors.argmin())]
        likeness[place] = psnr_db(closest[place], true)
    return Robbery(likeness, closest)


def allow_list_row(plan: Plan) -> AttackRow:
    """Propose the block by name: neither this software builds it, nor a default policy allows it."""
    crafted = ExtractorSpec(NAME, plan.extractor.channels, plan.extractor.height, plan.extractor.width, 8)
    refusals = []
    try:
        architectures.build(crafted, seed=0)
    except InvalidConfig as refused:
        refusals.append(refused.code)
    me = plan.members[0]
    policy = Policy(data_set="synthetic", epsilon=1e9)
    proposed = replace(plan, extractor=crafted)
    try:
        check_rules(policy, proposed, me.member_id, plan.privacy.unit, me.declared_size)
    except PolicyForbids as refused:
        if f"architecture {NAME} is not among" in refused.message:
            refusals.append(refused.code)
    return AttackRow(
        name="imprint (Robbing the Fed)",
        tried="a plan that names the block",
        gains=f"nothing: refused twice ({', '.join(refusals)})" if len(refusals) == 2 else "it is accepted",
        number=float(2 - len(refusals)),
        protected=len(refusals) == 2,
    )


def _plain_sum(dry: DryRun, victims: Pixels, labels: Indices, clip_norm_l2: float) -> Floats:
    """The sum of clipped gradients by the member's own engine, before anything is added."""
    head = build_head(dry.head)
    engine = make_engine(dry.extractor, head, micro_batch=64, device=torch.device("cpu"))
    x = torch.from_numpy(to_input(victims, dry.plan.extractor))
    total, _ = engine.clipped_sum(x, torch.from_numpy(labels), clip_norm_l2)
    return total.astype(np.float64)


def _thresholds(spec: ExtractorSpec, bins: int) -> npt.NDArray[np.float64]:
    """Quantiles of a picture's mean brightness, from pictures the attacker has: public ones of the same kind."""
    pixels = spec.channels * spec.height * spec.width
    public = synthetic_pictures(max(256, min(2048, _MOST_COORDINATES // pixels)), spec, number=4)
    brightness = to_input(public, spec).mean(axis=(1, 2, 3)).astype(np.float64)
    return np.asarray(np.quantile(brightness, np.arange(bins) / bins))
