"""Rows of the utility benchmark → markdown: means over seeds, and paired differences with their intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

Row = dict[str, Any]
TASKS = ("rich", "poor", "joiner 10", "joiner 20", "unseen 10", "unseen 20")
BARE = ", trained part only"
"""Ends the name of a score for which the fixed features were not behind the trained ones."""
FREE = {
    "fixed": "fixed features",
    "alone, no privacy": "alone, no privacy",
    "not private": "consortium, no privacy",
}
ARMS = {
    "alone": "alone, same ε",
    "local": "mode local",
    "secure": "**mode secure**",
    "curator": "trusted curator",
}
PAIRS = (("secure", "curator"), ("secure, t = 0", "curator"), ("secure, a third drops out", "secure"),
         ("secure", "secure, private heads"), ("secure", "local"), ("secure", "alone"),
         ("secure", "alone, no privacy"), ("secure", "fixed"), ("secure" + BARE, "fixed"))  # fmt: skip
CONFIDENCE = 0.95


def interval(values: Sequence[float]) -> tuple[float, float]:
    """(mean, half width of Student's 95 % interval); NaN half width for one value."""
    found = np.asarray(values)
    if len(found) < 2:
        return float(found.mean()), float("nan")
    spread = found.std(ddof=1) / np.sqrt(len(found))
    return float(found.mean()), float(spread * student.ppf(0.5 + CONFIDENCE / 2, len(found) - 1))


Scores = dict[int, dict[str, float]]
"""By seed, then by task."""
Arms = dict[tuple[str, float], Scores]
"""By arm and epsilon; 0 for arms that know none."""


def tables(rows: Iterable[Row]) -> str:
    """All cells of a data set together, then each cell with its two tables."""
    cells: dict[tuple[str, int, str], Arms] = {}
    for row in rows:
        cell = cells.setdefault((row["data"], row["members"], row["skew"]), defaultdict(dict))
        whole, bare = _apart(row["scores"])
        cell[row["arm"], row["epsilon"]][row["seed"]] = whole
        if bare:
            cell[row["arm"] + BARE, row["epsilon"]][row["seed"]] = bare
    ordered = sorted(cells.items())
    parts = [_together(data, ordered) for data in sorted({name[0] for name in cells})]
    return "\n\n".join([*parts, *(_cell(name, cell) for name, cell in ordered)])


def _apart(scores: dict[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Scores of what is released, and of its trained part alone."""
    bare = {task.removesuffix(BARE): score for task, score in scores.items() if task.endswith(BARE)}
    return {task: score for task, score in scores.items() if not task.endswith(BARE)}, bare


def _whole(cell: Arms) -> Arms:
    """Seeds that every arm has: a mean over other seeds would be of another population."""
    seeds = set.intersection(*(set(by_seed) for by_seed in cell.values()))
    return {arm: {seed: by_seed[seed] for seed in seeds} for arm, by_seed in cell.items()}


def _together(data: str, cells: list[tuple[tuple[str, int, str], Arms]]) -> str:
    """Paired differences over all cells of one data set, every pair of (cell, seed) once."""
    merged: Arms = defaultdict(dict)
    for place, (name, cell) in enumerate(cells):
        if name[0] == data:
            for arm, by_seed in _whole(cell).items():
                merged[arm] |= {1000 * place + seed: scores for seed, scores in by_seed.items()}
    return "\n".join([f"#### {data}, all cells together", *_pairs(merged)])


def _cell(name: tuple[str, int, str], cell: Arms) -> str:
    whole = _whole(cell)
    seeds = sorted(next(iter(whole.values())))
    data, members, skew = name
    lines = [f"#### {data}, {members} members, {skew} labels, seeds {', '.join(map(str, seeds))}", ""]
    lines += ["| arm | ε | " + " | ".join(TASKS) + " |", "|" + "---|" * (len(TASKS) + 2)]
    for arm, label in FREE.items():
        lines += _means(label, "–", whole.get((arm, 0.0)))
    for epsilon in _epsilons(cell):
        for arm, label in ARMS.items():
            lines += _means(label, f"{epsilon:g}", whole.get((arm, epsilon)))
    return "\n".join(lines + _pairs(cell))


def _epsilons(cell: Arms) -> list[float]:
    return sorted({epsilon for _, epsilon in cell if epsilon})


def _pairs(cell: Arms) -> list[str]:
    lines = ["", "| paired difference, points | ε | pairs | " + " | ".join(TASKS) + " |"]
    lines += ["|" + "---|" * (len(TASKS) + 3)]
    for first, second in PAIRS:
        for epsilon in _epsilons(cell):
            other = cell.get((second, 0.0 if second in FREE else epsilon))
            lines += _difference(f"{first} − {second}", epsilon, cell.get((first, epsilon)), other)
    return lines


def _means(label: str, epsilon: str, by_seed: Scores | None) -> list[str]:
    if not by_seed:
        return []
    found = [100.0 * np.mean([scores[task] for scores in by_seed.values()]) for task in TASKS]
    return [f"| {label} | {epsilon} | " + " | ".join(f"{value:.1f}" for value in found) + " |"]


def differences(first: Scores, second: Scores, task: str) -> list[float]:
    """In points, of the seeds that both have."""
    return [100.0 * (first[seed][task] - second[seed][task]) for seed in sorted(first.keys() & second.keys())]


def _difference(
    label: str, epsilon: float, first: Scores | None,
    second: Scores | None,
) -> list[str]:  # fmt: skip
    if not first or not second or not first.keys() & second.keys():
        return []
    texts = []
    for task in TASKS:
        if any(task not in scores for scores in first.values()):
            texts.append("–")
            continue
        mean, half = interval(differences(first, second, task))
        texts.append(f"{mean:+.1f} ± {half:.1f}" if half == half else f"{mean:+.1f}")
    count = len(first.keys() & second.keys())
    return [f"| {label} | {epsilon:g} | {count} | " + " | ".join(texts) + " |"]
