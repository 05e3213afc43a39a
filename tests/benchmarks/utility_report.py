"""Rows of the utility benchmark → markdown: means over seeds, and paired differences with their intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import t as student

Row = dict[str, object]
TASKS = ("rich", "poor", "joiner 10", "joiner 20", "unseen 10", "unseen 20")
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
PAIRS = (("secure", "curator"), ("secure, t = 0", "curator"), ("secure", "local"), ("secure", "alone"),
         ("secure", "alone, no privacy"), ("secure", "fixed"))  # fmt: skip
CONFIDENCE = 0.95


def interval(values: Sequence[float]) -> tuple[float, float]:
    """(mean, half width of Student's 95 % interval); NaN half width for one value."""
    found = np.asarray(values)
    if len(found) < 2:
        return float(found.mean()), float("nan")
    spread = found.std(ddof=1) / np.sqrt(len(found))
    return float(found.mean()), float(spread * student.ppf(0.5 + CONFIDENCE / 2, len(found) - 1))


def tables(rows: Iterable[Row]) -> str:
    """All cells that have rows, each with its two tables."""
    cells: dict[tuple[object, ...], dict[tuple[str, float], dict[int, dict[str, float]]]] = {}
    for row in rows:
        cell = cells.setdefault((row["data"], row["members"], row["skew"]), defaultdict(dict))
        cell[str(row["arm"]), float(row["epsilon"])][int(row["seed"])] = row["scores"]  # type: ignore[arg-type, assignment]
    return "\n\n".join(_cell(name, cell) for name, cell in sorted(cells.items(), key=str))


def _cell(name: tuple[object, ...], cell: dict[tuple[str, float], dict[int, dict[str, float]]]) -> str:
    data, members, skew = name
    seeds = sorted({seed for by_seed in cell.values() for seed in by_seed})
    lines = [f"#### {data}, {members} members, {skew} labels, seeds {', '.join(map(str, seeds))}", ""]
    lines += ["| arm | ε | " + " | ".join(TASKS) + " |", "|" + "---|" * (len(TASKS) + 2)]
    epsilons = sorted({epsilon for _, epsilon in cell if epsilon})
    for arm, label in FREE.items():
        lines += _means(label, "–", cell.get((arm, 0.0)))
    for epsilon in epsilons:
        for arm, label in ARMS.items():
            lines += _means(label, f"{epsilon:g}", cell.get((arm, epsilon)))
        lines += _means("mode secure, t = 0", f"{epsilon:g}", cell.get(("secure, t = 0", epsilon)))
    lines += ["", "| paired difference, points | ε | " + " | ".join(TASKS) + " |"]
    lines += ["|" + "---|" * (len(TASKS) + 2)]
    for first, second in PAIRS:
        for epsilon in epsilons:
            other = 0.0 if second in FREE else epsilon
            lines += _difference(
                f"{first} − {second}", epsilon, cell.get((first, epsilon)), cell.get((second, other))
            )
    return "\n".join(lines)


def _means(label: str, epsilon: str, by_seed: dict[int, dict[str, float]] | None) -> list[str]:
    if not by_seed:
        return []
    found = [100.0 * np.mean([scores[task] for scores in by_seed.values()]) for task in TASKS]
    return [f"| {label} | {epsilon} | " + " | ".join(f"{value:.1f}" for value in found) + " |"]


def differences(
    first: dict[int, dict[str, float]], second: dict[int, dict[str, float]], task: str
) -> list[float]:
    """In points, of the seeds that both have."""
    return [100.0 * (first[seed][task] - second[seed][task]) for seed in sorted(first.keys() & second.keys())]


def _difference(
    label: str, epsilon: float, first: dict[int, dict[str, float]] | None,
    second: dict[int, dict[str, float]] | None,
) -> list[str]:  # fmt: skip
    if not first or not second or not first.keys() & second.keys():
        return []
    texts = []
    for task in TASKS:
        mean, half = interval(differences(first, second, task))
        texts.append(f"{mean:+.1f} ± {half:.1f}")
    return [f"| {label} | {epsilon:g} | " + " | ".join(texts) + " |"]
