"""How often a linear probe is right where records are too few to hold most of them out: cross-validation.

Each part of the records is held out once and asked about by a probe that learned from the others, and the parting is
drawn anew REPEATS times: one parting of twenty records would say as much of the draw as of the records.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from shared.lens.estimate import Estimate

REPEATS = 20
MOST_PARTS = 5
SEED = 20_263
"""Draws the parts: the same records give the same numbers."""
_Z_95 = 1.959963984540054
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def parts_of(labels: Labels) -> int:
    """Into how many parts records with these labels [N] are dealt, so that each has one of every label at least."""
    return min(MOST_PARTS, int(np.unique(labels, return_counts=True)[1].min()))


def crossed(made: Mapping[str, Floats], learned_from: str, labels: Labels) -> dict[str, Labels]:
    """Name → what probes say of its embeddings [N, D], int64 [REPEATS, N]; they learn from `made[learned_from]`.

    Every label stands at least twice in `labels` [N].
    """
    from shared.exports.comparison import Probe

    said = {name: np.empty((REPEATS, len(labels)), dtype=np.int64) for name in made}
    for repeat, part in enumerate(_partings(labels)):
        for held_out in (part == number for number in range(parts_of(labels))):
            probe = Probe(made[learned_from][~held_out], labels[~held_out])
            for name, embeddings in made.items():
                said[name][repeat, held_out] = probe.predict(embeddings[held_out])
    return said


def crossed_share(right: Mask, parts: int) -> Estimate:
    """The mean of `right` [REPEATS, N] with its 95 % interval.

    Repeating makes no new records, and the probes of one parting share most of what they learned from: by Nadeau and
    Bengio 2003, "Inference for the generalization error", N records in `parts` parts count as N·(parts - 1)/parts
    independent ones. Wilson's interval (JASA 1927) for so many.
    """
    value, count = float(right.mean()), right.shape[1] * (parts - 1) / parts
    z2 = _Z_95**2
    centre = (value + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z_95 / (1 + z2 / count) * math.sqrt(value * (1 - value) / count + z2 / (4 * count**2))
    return Estimate(value, max(0.0, centre - half), min(1.0, centre + half))


def _partings(labels: Labels) -> Iterator[Labels]:
    """REPEATS times the part of each record, int64 [N]: every label dealt evenly."""
    rng, parts = np.random.Generator(np.random.PCG64(SEED)), parts_of(labels)
    for _ in range(REPEATS):
        part = np.empty(len(labels), dtype=np.int64)
        for label in np.unique(labels):
            those = rng.permutation(np.flatnonzero(labels == label))
            part[those] = np.arange(len(those)) % parts
        yield part
