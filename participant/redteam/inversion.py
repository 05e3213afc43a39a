"""Gradient inversion: find a picture whose gradient points where the one that left the node points.

Geiping, Bauermeister, Dröge, Moeller 2020, "Inverting gradients: how easy is it to break privacy in federated
learning?", equation 4: minimise 1 - cos(∇L(x, y), g) + α·TV(x) by Adam on the sign of its gradient, pixels kept
in range, step size a tenth after 3/8, 5/8 and 7/8 of the way.

What the attacker is given, and what it sees: stages.py. The network is one that this attack is good at, because a
failure on a hard one would teach nothing; the clip, the noise and the masks are those of the plan. Its failure
certifies nothing about ε.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from participant.redteam.dry_run import DryRun, Floats
from participant.redteam.pictures import (
    Picture,
    Pixels,
    psnr_db,
    side_by_side,
    ssim,
    synthetic_pictures,
)
from participant.redteam.report import AttackRow, PictureFile
from participant.redteam.stages import LABEL, gradient_of, public_head, stages_of
from participant.training.head import build_head
from shared.domain.extractor import ExtractorSpec
from shared.domain.plan import Plan
from shared.extractors import architectures

MOST_PIXELS_A_SIDE = 32
_STEP_SIZE, _TOTAL_VARIATION = 0.075, 0.01
_ROW_NAME = "gradient inversion (Inverting Gradients)"
_SEEN_SSIM, _SEEN_PSNR = 0.5, 0.7
"""Shares of the SSIM and of the PSNR (dB) without protection: with both, the attack is said to have got through. One
alone can be luck: on a picture of a few pixels noise scores well in either now and then."""


@dataclass(frozen=True)
class Effort:
    """How long the attack goes on, for each target."""

    iterations: int
    starts: int
    """Pictures that it begins from; the best by the attacker's own measure counts."""


@dataclass(frozen=True)
class Inverted:
    """What the attack made of one vector."""

    stage: str
    picture: Picture
    psnr_db: float
    ssim: float
    protects: bool
    """Whether a protection of the plan was in place."""


def demonstration_spec(plan: Plan) -> ExtractorSpec:
    """A small convolutional network at the plan's picture size, at most 32 pixels a side."""
    spec = plan.extractor
    height, width = (min(side, MOST_PIXELS_A_SIDE) for side in (spec.height, spec.width))
    return replace(
        spec, architecture="small-gn", height=height, width=width, embedding_dim=32, options={"width": 32}
    )


def inversion_rows(
    plan: Plan, folder: Path, out: Path, effort: Effort, victim: Pixels | None = None
) -> tuple[list[AttackRow], PictureFile]:
    """The attack at each stage; the PNG goes into `out`. `victim` uint8 [1, H, W, C], synthetic where None."""
    spec = demonstration_spec(plan)
    picture = synthetic_pictures(1, spec, number=5) if victim is None else victim
    true = picture[0].astype(np.float64) / 255.0
    found = invert_stages(replace(plan, extractor=spec), picture, folder, effort)
    undone = found[0]
    rows = [
        AttackRow(
            name=_ROW_NAME,
            tried=one.stage,
            gains=f"PSNR {one.psnr_db:.1f} dB, SSIM {one.ssim:.2f}",
            number=round(one.psnr_db, 3),
            protected=not _seen(one, undone) if one.protects else None,
        )
        for one in found
    ]
    shown = [("the record", true)]
    shown += [(f"{one.stage}\n{one.psnr_db:.1f} dB, SSIM {one.ssim:.2f}", one.picture) for one in found]
    side_by_side(out / "inversion.png", shown)
    caption = (
        "What gradient inversion makes of what leaves the node, from one record's gradient with nothing around it "
        "to what the plan sends. That it fails on the right certifies nothing about ε."
    )
    return rows, PictureFile("inversion.png", caption)


def _seen(one: Inverted, undone: Inverted) -> bool:
    alike = one.ssim >= _SEEN_SSIM * max(undone.ssim, 1e-6)
    return alike and one.psnr_db >= _SEEN_PSNR * undone.psnr_db


def invert_stages(plan: Plan, picture: Pixels, folder: Path, effort: Effort) -> list[Inverted]:
    """Attack each stage of what leaves; `plan.extractor` is the network. The first has no protection."""
    spec = plan.extractor
    extractor = architectures.build(spec, seed=0)
    state = public_head(extractor, spec)
    dry = DryRun(plan, architectures.build(spec, seed=0), state, folder)
    true = picture[0].astype(np.float64) / 255.0
    stages = stages_of(dry, gradient_of(extractor, state, spec), picture)
    label = torch.full((1,), LABEL)
    targets = [stage.vector for stage in stages]
    pictures = invert(extractor, build_head(state), targets, label, spec, effort)
    return [
        Inverted(stage.name, made, psnr_db(made, true), ssim(made, true), stage.protects)
        for stage, made in zip(stages, pictures, strict=True)
    ]


def invert(
    extractor: nn.Module,
    head: nn.Linear,
    targets: Sequence[Floats],
    label: Tensor,
    spec: ExtractorSpec,
    effort: Effort,
) -> list[Picture]:
    """For each target the picture whose gradient by the extractor's weights is most like it.

    Of several starts the best by the attacker's own measure, as in the paper: one in a few ends far away. All
    starts of all targets go side by side, because most of a step's time is not spent on pixels.
    """
    wanted = torch.from_numpy(np.stack(targets).astype(np.float32)).repeat_interleave(effort.starts, dim=0)
    wanted /= wanted.norm(dim=1, keepdim=True).clamp(min=1e-30)
    gradients = _gradients_of(extractor, head, label, spec)
    # They start at a middle grey with a little noise: the attacker knows that pictures are not noise.
    generator = torch.Generator().manual_seed(0)
    starts = 0.5 + 0.05 * torch.randn(
        effort.starts, spec.channels, spec.height, spec.width, generator=generator
    )
    guesses = starts.repeat(len(targets), 1, 1, 1).requires_grad_(True)
    optimiser = torch.optim.Adam([guesses], lr=_STEP_SIZE)
    turns = [effort.iterations * eighths // 8 for eighths in (3, 5, 7)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, turns, gamma=0.1)
    for _ in range(effort.iterations):
        unlike = 1.0 - F.cosine_similarity(gradients(guesses), wanted, dim=1, eps=1e-12)
        (towards,) = torch.autograd.grad(
            (unlike + _TOTAL_VARIATION * _total_variation(guesses)).sum(), guesses
        )
        guesses.grad = towards.sign()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            guesses.clamp_(min=0.0, max=1.0)
    best = unlike.detach().reshape(-1, effort.starts).argmin(dim=1) + effort.starts * torch.arange(
        len(targets)
    )
    return [picture.permute(1, 2, 0).double().numpy() for picture in guesses.detach()[best]]


def _gradients_of(
    extractor: nn.Module, head: nn.Linear, label: Tensor, spec: ExtractorSpec
) -> Callable[[Tensor], Tensor]:
    """Pictures [N, C, H, W] → each one's gradient by the extractor's weights [N, d], itself differentiable."""
    parameters = {
        name: weights.detach() for name, weights in extractor.named_parameters() if weights.requires_grad
    }
    mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in (spec.mean, spec.std))

    def loss(weights: dict[str, Tensor], picture: Tensor) -> Tensor:
        embedding = torch.func.functional_call(extractor, weights, ((picture - mean) / std)[None])
        return F.cross_entropy(head(embedding), label)

    of_each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))

    def gradients(pictures: Tensor) -> Tensor:
        named = of_each(parameters, pictures)
        return torch.cat([named[name].flatten(1) for name in sorted(named)], dim=1)

    return gradients


def _total_variation(x: Tensor) -> Tensor:
    """[N, C, H, W] → [N]."""
    across = (x[..., 1:] - x[..., :-1]).abs().mean(dim=(1, 2, 3))
    return across + (x[..., 1:, :] - x[..., :-1, :]).abs().mean(dim=(1, 2, 3))
