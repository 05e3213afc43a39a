"""Who of the phone book wrote it? The attack on texts: pick the record out of a list, by its gradient.

Texts have no pixels to move along a gradient; but whoever has a list on which the text stands need not invert
anything. The attacker knows the weights, the training head, the label and k candidates, of which one is the batch
(stages.py). It computes every candidate's clipped gradient g_c and names the one nearest to what it sees, v: the
largest ⟨v, g_c⟩ - ‖g_c‖²/2, which is the most likely one under Gaussian noise. So do Hayes, Mahloujifar, Balle 2023,
"Bounding training data reconstruction in DP-SGD", with their prior-aware attack. Architecture, starting weights, clip,
noise and masks are the plan's; the texts are synthetic, and the head is one of no meaning.

How often may it be right? Let P_c be the law of v where candidate c was the batch, P_∅ where the batch was empty, and
S_c the v on which c is named. The noise is Gaussian with std σ·C in every direction and ‖g_c‖ ≤ C, so by Neyman and
Pearson P_c(S_c) ≤ f(P_∅(S_c)), f(p) = Φ(Φ⁻¹(p) + 1/σ). The S_c are disjoint, f is concave and grows, and the victim is
drawn uniformly, so by Jensen, whatever rule names:

    P(named) = Σ P_c(S_c)/k ≤ Σ f(P_∅(S_c))/k ≤ f(Σ P_∅(S_c)/k) ≤ f(1/k).

That is the least of e^ε/k + δ over all (ε, δ) that hold for one such step, because f is their envelope (Dong, Roth, Su,
JRSS-B 2022). Under a mask σ is infinite and f(1/k) = 1/k. Victims are drawn with replacement and each is trained alone
under fresh noise: independent trials. A share that is surely larger than f(1/k) refutes the claim; a smaller one
proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from participant.redteam.dry_run import DryRun, Member
from participant.redteam.imprint import UNBOUNDED
from participant.redteam.intervals import least_share
from participant.redteam.pictures import Pixels
from participant.redteam.report import AttackRow
from participant.redteam.stages import Gradient, Stage, gradient_of, public_head, stages_of
from participant.training.local_round import local_round
from shared.domain.extractor import ExtractorSpec
from shared.domain.plan import Plan
from shared.extractors import architectures
from shared.extractors.files import Weights
from shared.extractors.preprocess import fit_text

NAME = "guessing the text out of a list"
_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
_FAMILIES = 40
_DRAWS_A_TEXT = 50
_AT_ONCE = 16
"""Candidates whose gradients are held at a time."""
_BYTES_A_COORDINATE = 20
"""Of a victim: float32 at up to five stages."""
_MOST_BYTES, _LEAST_VICTIMS = 2**29, 4
"""Of all that is seen of the victims; of large extractors fewer are attacked."""


@dataclass(frozen=True)
class Guesses:
    """How long the list is, and how often somebody on it is to be named."""

    candidates: int = 256
    victims: int = 24


@dataclass(frozen=True)
class Named:
    """How the attack did at one stage."""

    stage: str
    named: int
    victims: int
    candidates: int
    accounted: float | None
    """The largest share of victims that the noise allows in the long run; None where nothing protects."""

    @property
    def protected(self) -> bool | None:
        """Whether the noise kept its claim; None where there is none, or one that so few victims cannot refute."""
        if self.accounted is None or least_share(self.victims, self.victims) <= self.accounted:
            return None
        return least_share(self.named, self.victims) <= self.accounted

    @property
    def gains(self) -> str:
        """In words, with both numbers."""
        told = f"named {self.named} of {self.victims} out of {self.candidates} texts"
        if self.accounted is None:
            return told
        told += f"; up to {self.accounted:.1%} of them is accounted for"
        return told if self.protected is not None else f"{told}, so nothing can be told at this noise"


def guessing_rows(
    plan: Plan, start: Weights | None, folder: Path, guesses: Guesses, member: Member = local_round
) -> list[AttackRow]:
    """The attack at each stage on a plan of texts; `start` None: weights from seed 0. Scratch files lie in `folder`."""
    return [
        AttackRow(NAME, one.stage, one.gains, float(one.named), one.protected)
        for one in name_victims(plan, start, folder, guesses, member)
    ]


def name_victims(
    plan: Plan, start: Weights | None, folder: Path, guesses: Guesses, member: Member = local_round
) -> list[Named]:
    """Train on one text at a time and ask the attacker who it was, at each stage of what leaves."""
    spec = plan.extractor
    extractor, trained = (
        architectures.build(spec, seed=0) if start is None else architectures.load(spec, start)
        for _ in range(2)
    )
    head = public_head(extractor, spec)
    dry, gradient = DryRun(plan, trained, head, folder, member), gradient_of(extractor, head, spec)
    candidates = phone_book(guesses.candidates, spec)
    most = _MOST_BYTES // (_BYTES_A_COORDINATE * dry.layout.trainable_coordinates)
    victims = np.random.default_rng().integers(
        len(candidates), size=max(_LEAST_VICTIMS, min(guesses.victims, most))
    )
    stages: Sequence[Stage] = ()
    vectors = []
    for victim in victims:
        stages = stages_of(dry, gradient, candidates[[victim]])
        vectors.append(np.stack([stage.vector for stage in stages]).astype(np.float32))
    answers = most_likely(vectors, [stage.clip_norm_l2 for stage in stages], candidates, gradient)
    return [
        Named(
            stage.name,
            int((answers[place] == victims).sum()),
            len(victims),
            len(candidates),
            most_named(stage.noise_multiplier, len(candidates)) if stage.protects else None,
        )
        for place, stage in enumerate(stages)
    ]


def phone_book(count: int, spec: ExtractorSpec) -> Pixels:
    """uint8 [up to count, 1, width, 1]: different names of nobody, some of one family; equal for equal arguments.

    Fewer than `count` where so few bytes have no more names.
    """
    generator = np.random.Generator(np.random.PCG64(7))

    def name(longest: int) -> str:
        drawn = generator.integers(len(_SYLLABLES), size=generator.integers(1, longest, endpoint=True))
        return "".join(_SYLLABLES[place] for place in drawn).capitalize()

    families = [name(4) for _ in range(_FAMILIES)]
    found: dict[bytes, Pixels] = {}
    for _ in range(_DRAWS_A_TEXT * count):
        if len(found) == count:
            break
        fitted = fit_text(f"{name(3)} {families[generator.integers(_FAMILIES)]}", spec)
        found[fitted.tobytes()] = fitted
    return np.stack(list(found.values()))


def most_likely(
    vectors: Sequence[npt.NDArray[np.float32]],
    clip_norms_l2: Sequence[float],
    candidates: Pixels,
    gradient: Gradient,
) -> npt.NDArray[np.int64]:
    """int64 [stages, victims]: whom the attacker names. `vectors`: of each victim what is seen, [stages, d]."""
    scores, norms = np.empty((len(clip_norms_l2), len(vectors), len(candidates))), np.array(clip_norms_l2)
    for first in range(0, len(candidates), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        both = [gradient(candidate[None], UNBOUNDED) for candidate in candidates[part]]
        # The clip is that of extractor and head together, and only the former's part is looked at.
        squares, head_squares = (
            np.array([float(one @ one) for one in side]) for side in zip(*both, strict=True)
        )
        factors = norms[:, None] / np.maximum(norms[:, None], np.sqrt(squares + head_squares))
        gradients = np.stack([extractor for extractor, _ in both]).astype(np.float32)
        for place, seen in enumerate(vectors):
            scores[:, place, part] = factors * (seen @ gradients.T) - factors**2 * squares / 2.0
    return np.asarray(scores.argmax(axis=2), dtype=np.int64)


def most_named(noise_multiplier: float, candidates: int) -> float:
    """f(1/k) of the top of this file: the largest share of victims that anybody can name in the long run."""
    return float(norm.cdf(norm.ppf(1.0 / candidates) + 1.0 / noise_multiplier))
