"""The rows of the utility benchmark beside docs/results.md → its tables of levels, with their intervals.

    python -m tools.utility_levels > docs/results/utility.md

The rows are what tests/benchmarks/utility.py measured; its own `--report` prints means and paired differences of them.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

ROWS = Path(__file__).resolve().parents[1] / "docs" / "results" / "utility-rows.jsonl.gz"
TASKS = ("rich", "poor", "joiner 10", "joiner 20", "unseen 10", "unseen 20")
ARMS = {
    "fixed": "fixed features",
    "alone, no privacy": "alone, no privacy",
    "not private": "consortium, no privacy",
    "alone": "alone, same ε",
    "local": "mode local",
    "secure": "**mode secure**",
    "curator": "trusted curator",
    "secure, t = 0": "mode secure, t = 0",
    "secure, private heads": "mode secure, private heads",
    "secure, a third drops out": "mode secure, a third drops out",
}
NAMES = {"fashion": "Fashion-MNIST, unit record", "signs": "Hand signs, unit person"}
CONFIDENCE = 0.95

Cell = tuple[str, int, str]
"""Data, members, labels."""
Values = dict[tuple[Cell, str, float, str], list[float]]
"""By cell, arm, ε and task: accuracies from 0 to 1, one a seed. ε is 0 for arms that know none."""

INTRO = """# Utility: every cell

Made by `python -m tools.utility_levels` from the {rows} rows in [utility-rows.jsonl.gz](utility-rows.jsonl.gz). What
was run, who is rich, poor or a joiner, and what follows from it is in [results](../results.md#utility-of-mode-secure).
Means and paired differences of the same rows:

    mkdir -p utility-results && gunzip -c docs/results/utility-rows.jsonl.gz > utility-results/rows.jsonl
    PYTHONPATH=. python tests/benchmarks/utility.py --report

Accuracy in %, mean over seeds 0 to 2 ± half of Student's 95 % interval. With three seeds that is 2.5 standard
deviations, and each seed trains on other classes and deals other labels, so these intervals are wide: some reach
beyond 100 %. All arms of a seed share both, and whether one is better than another is read from paired differences.
"""


def read_rows(path: Path = ROWS) -> list[dict[str, Any]]:
    """The finished rows of the benchmark."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def values_of(rows: Iterable[Mapping[str, Any]]) -> Values:
    """Every accuracy under its cell, arm, ε and task."""
    found: Values = defaultdict(list)
    for row in rows:
        cell = (row["data"], row["members"], row["skew"])
        for task in TASKS:
            found[cell, row["arm"], row["epsilon"], task].append(row["scores"][task])
    return found


def level(values: Sequence[float]) -> str:
    """Mean ± half of the interval, in per cent."""
    spread = np.std(values, ddof=1) / np.sqrt(len(values))
    half = spread * stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)
    return f"{100.0 * np.mean(values):.1f} ± {100.0 * half:.1f}"


def cell_table(values: Values, cell: Cell) -> str:
    """All arms of one cell, at every ε, on every task."""
    lines = ["| arm | ε | " + " | ".join(TASKS) + " |", "|" + "---|" * (len(TASKS) + 2)]
    arms = sorted({(arm, epsilon) for other, arm, epsilon, _ in values if other == cell}, key=_place)
    for arm, epsilon in arms:
        texts = [level(values[cell, arm, epsilon, task]) for task in TASKS]
        lines.append(f"| {ARMS[arm]} | {f'{epsilon:g}' if epsilon else '–'} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def data_table(values: Values, data: str, epsilon: float) -> str:
    """All cells of one data set at one ε, on three tasks."""
    arms = (("fixed", 0.0), ("alone, no privacy", 0.0), *((arm, epsilon) for arm in ("alone", "local")))
    arms = (*arms, ("secure", epsilon), ("curator", epsilon), ("not private", 0.0))
    lines = [
        "| members, labels | task | fixed | alone, no privacy | alone | local | **secure** | curator | no privacy |",
        "|" + "---|" * 9,
    ]
    for cell in cells_of(values, data):
        for task in ("poor", "joiner 10", "rich"):
            texts = [level(values[cell, *arm, task]) for arm in arms]
            lines.append(f"| {cell[1]}, {cell[2]} | {task} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def cells_of(values: Values, data: str) -> list[Cell]:
    """The cells of one data set, in their order."""
    return sorted({cell for cell, *_ in values if cell[0] == data})


def page() -> str:
    """docs/results/utility.md."""
    rows = read_rows()
    values = values_of(rows)
    parts = [INTRO.format(rows=len(rows))]
    for data, name in NAMES.items():
        parts.append(f"## {name}\n")
        for cell in cells_of(values, data):
            parts += [
                f"### {name.split(',')[0]}, {cell[1]} members, {cell[2]} labels\n",
                cell_table(values, cell) + "\n",
            ]
    return "\n".join(parts)


def _place(arm: tuple[str, float]) -> tuple[float, int]:
    return arm[1], list(ARMS).index(arm[0])


if __name__ == "__main__":
    print(page(), end="")
