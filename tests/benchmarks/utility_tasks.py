"""What an extractor is worth to whom: heads fitted by the shipped code on its embeddings, and their accuracies."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from utility_data import Consortium, Labels, Records

from participant.heads.fit import fit_head
from shared.domain.extractor import ExtractorSpec

Embed = Callable[[np.ndarray], np.ndarray]

JOINERS = 4
"""Draws of a joiner's labels whose accuracies are averaged."""
LABELS = (10, 20)
EVALUATED = 3
"""Contributors of each kind: the richest, and the first of the poor."""
MOST_FITTED = 2000
_DIGEST = "sha256:" + "0" * 64


def evaluated(dealt: Consortium) -> dict[str, list[int]]:
    """Members whose own task is measured."""
    sizes = [len(records.y) for records in dealt.members]
    rich = [place for place, poor in enumerate(dealt.poor) if not poor]
    poor = [place for place, is_poor in enumerate(dealt.poor) if is_poor]
    usable = [place for place in poor if len(np.unique(dealt.members[place].y)) > 1]
    richest = sorted(rich, key=lambda place: -sizes[place])
    return {"rich": richest[:EVALUATED], "poor": usable[:EVALUATED]}


def joiner_tasks(dealt: Consortium, seed: int) -> dict[str, list[tuple[Labels, tuple[int, ...]]]]:
    """Records that joiners label: {"joiner 10": [(places in dealt.joiner, classes), …], "unseen 10": …}."""
    tasks = {}
    for kind, classes in (("joiner", dealt.trained), ("unseen", dealt.held_out)):
        for labels in LABELS:
            rng = np.random.default_rng([seed, labels])
            draws = []
            for _ in range(JOINERS):
                chosen = [
                    rng.choice(np.flatnonzero(dealt.joiner.y == c), labels, replace=False) for c in classes
                ]
                draws.append((np.concatenate(chosen), classes))
            tasks[f"{kind} {labels}"] = draws
    return tasks


def joiner_scores(embed: Embed, dealt: Consortium, seed: int, spec: ExtractorSpec) -> dict[str, float]:
    """Mean accuracy of joiners on the trained and on the held-out classes."""
    embedded, test = embed(dealt.joiner.x), embed(dealt.test.x)
    scores = {}
    for name, draws in joiner_tasks(dealt, seed).items():
        found = [
            accuracy(
                embedded[chosen],
                dealt.joiner.y[chosen],
                test,
                dealt.test.y,
                dict.fromkeys(classes, 1.0),
                spec,
            )
            for chosen, classes in draws
        ]
        scores[name] = float(np.mean(found))
    return scores


def member_score(embed: Embed, dealt: Consortium, place: int, seed: int, spec: ExtractorSpec) -> float:
    """One contributor's accuracy on records in its own proportions, head fitted on its own records."""
    own: Records = dealt.members[place]
    classes, counts = np.unique(own.y, return_counts=True)
    proportions = {int(c): float(n) for c, n in zip(classes, counts, strict=True)}
    order = np.random.default_rng([seed, place]).permutation(len(own.y))[:MOST_FITTED]
    return accuracy(embed(own.x[order]), own.y[order], embed(dealt.test.x), dealt.test.y, proportions, spec)


def accuracy(
    fitted: np.ndarray, labels: Labels, tested: np.ndarray, truth: Labels, proportions: dict[int, float],
    spec: ExtractorSpec,
) -> float:  # fmt: skip
    """Accuracy of the shipped head on `tested`, each class weighted by its proportion."""
    present = np.unique(labels)
    names = tuple(str(c) for c in present)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        head = fit_head(fitted, np.searchsorted(present, labels), names, spec=spec, release_digest=_DIGEST)
    total = sum(proportions.values())
    score = 0.0
    for c, share in proportions.items():
        of_class = tested[truth == c]
        if c in present:
            found = head.predict(of_class, release_digest=_DIGEST)
            score += share / total * float((found == np.searchsorted(present, c)).mean())
    return score
