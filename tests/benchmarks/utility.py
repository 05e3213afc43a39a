"""What a consortium is worth, to whom, at which ε: alone, fixed features, local, secure, trusted curator, no privacy.

    PYTHONPATH=. python tests/benchmarks/utility.py --quick --fashion PATH       one cell, one seed, some 2 minutes
    PYTHONPATH=. python tests/benchmarks/utility.py --fashion PATH --signs PATH  the whole matrix
    PYTHONPATH=. python tests/benchmarks/utility.py --report                     the tables of what is finished

Every finished row goes to OUT/rows.jsonl, and a row that is there is not computed again. All arms of a seed have the
same records, the same start, the same drawn batches and the same joiners. What stands in for the network, and why
that changes no number: utility_arms.py. What was tuned, on a seed that is not reported: RECIPES there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from utility_arms import CURATOR, LOCAL, NOT_PRIVATE, PRIVATE_HEADS, RECIPES, SECURE, Recipe, make_plan, train
from utility_data import SPECS, Consortium, Pool, deal, load_pool
from utility_model import Adapter, check_against_shipped
from utility_report import BARE, Row, tables
from utility_tasks import Embed, evaluated, joiner_scores, member_score

from shared.domain.privacy import Mode

EPSILONS = (1.0, 3.0, 8.0)
MEMBERS = (10, 4, 50)
SKEWS = ("dirichlet", "disjoint")
TUNING_SEED = 1000
"""Never reported: learning rates, rounds, clip and widths were chosen on it."""
WITHOUT_COLLUDERS = f"{SECURE}, t = 0"
OWN_HEADS, DROP_OUTS = f"{SECURE}, private heads", f"{SECURE}, a third drops out"
ASIDE_EPSILON = 3.0
"""Where arms are measured that not every cell has."""
ALONE, ALONE_NOT_PRIVATE, FIXED = "alone", "alone, no privacy", "fixed"


@dataclass(frozen=True)
class Cell:
    """One column of the matrix with one seed."""

    data: str
    members: int
    skew: str
    seed: int

    def row(self, arm: str, epsilon: float) -> Row:
        return {**self.__dict__, "arm": arm, "epsilon": epsilon}


class Rows:
    """The finished rows, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.done: list[Row] = []
        if path.exists():
            self.done = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        self._keys = {self._key(row) for row in self.done}

    def __contains__(self, row: Row) -> bool:
        return self._key(row) in self._keys

    def add(self, row: Row) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.done.append(row)
        self._keys.add(self._key(row))

    @staticmethod
    def _key(row: Row) -> tuple[object, ...]:
        return tuple(row[name] for name in ("data", "members", "skew", "seed", "arm", "epsilon"))


def arms(cell: Cell, epsilons: tuple[float, ...]) -> Iterator[tuple[str, float]]:
    """All rows of a cell; what knows no ε stands under 0."""
    yield from ((arm, 0.0) for arm in (FIXED, ALONE_NOT_PRIVATE, NOT_PRIVATE))
    for epsilon in epsilons:
        yield from ((arm, epsilon) for arm in (SECURE, CURATOR, LOCAL, ALONE))
        if cell.members == MEMBERS[0] and cell.skew == SKEWS[0]:
            yield WITHOUT_COLLUDERS, epsilon
    if ASIDE_EPSILON in epsilons and cell.data in PRIVATE_HEADS:
        if cell.members == MEMBERS[0]:
            yield DROP_OUTS, ASIDE_EPSILON
        if cell.members >= MEMBERS[0]:
            yield OWN_HEADS, ASIDE_EPSILON


def measure(cell: Cell, arm: str, epsilon: float, pool: Pool) -> dict[str, float]:
    """Accuracies of one arm: {task: 0…1}."""
    recipe = (PRIVATE_HEADS if arm == OWN_HEADS else RECIPES)[cell.data]
    dealt = deal(pool, cell.members, cell.skew, cell.seed)
    adapter = Adapter(recipe.spec, cell.seed)
    if arm in (ALONE, ALONE_NOT_PRIVATE):
        return _alone(cell, arm, epsilon, dealt, adapter, recipe)
    if arm == FIXED:
        return scores(lambda x: x, dealt, cell.seed, recipe)
    kind = SECURE if arm.startswith(SECURE) else arm
    plan = make_plan(
        recipe, dealt.members, Mode.SECURE if kind == SECURE else Mode.LOCAL, epsilon or EPSILONS[-1],
        0 if arm == WITHOUT_COLLUDERS else None,
    )  # fmt: skip
    drop = len(plan.members) - plan.quorum if arm == DROP_OUTS else 0
    weights = train(adapter, plan, kind, dealt.members, cell.seed, drop)
    found = scores(partial(adapter.released, weights), dealt, cell.seed, recipe)
    if arm in (SECURE, CURATOR):
        bare = joiner_scores(partial(adapter.embed, weights), dealt, cell.seed, recipe.spec)
        found |= {task + BARE: score for task, score in bare.items()}
    return found


def scores(embed: Embed, dealt: Consortium, seed: int, recipe: Recipe) -> dict[str, float]:
    """Of one extractor that everybody uses."""
    found = joiner_scores(embed, dealt, seed, recipe.spec)
    for kind, places in evaluated(dealt).items():
        found[kind] = float(
            np.mean([member_score(embed, dealt, place, seed, recipe.spec) for place in places])
        )
    return found


def _alone(
    cell: Cell, arm: str, epsilon: float, dealt: Consortium, adapter: Adapter, recipe: Recipe
) -> dict[str, float]:
    """Each evaluated contributor with an extractor of its own; joiners with that of the richest."""
    found: dict[str, float] = {}
    for kind, places in evaluated(dealt).items():
        own = []
        for place in places:
            records = (dealt.members[place],)
            plan = make_plan(recipe, records, Mode.LOCAL, epsilon or EPSILONS[-1])
            kept = CURATOR if arm == ALONE else NOT_PRIVATE
            embed = partial(adapter.released, train(adapter, plan, kept, records, cell.seed))
            own.append(member_score(embed, dealt, place, cell.seed, recipe.spec))
            if kind == "rich" and place == places[0]:
                found |= joiner_scores(embed, dealt, cell.seed, recipe.spec)
        found[kind] = float(np.mean(own))
    return found


def run(
    cells: list[Cell],
    epsilons: tuple[float, ...],
    wanted: list[str] | None,
    pools: dict[str, Pool],
    rows: Rows,
) -> None:
    """Compute what is missing, of the `wanted` arms only if given."""
    for cell in cells:
        for arm, epsilon in arms(cell, epsilons):
            row = cell.row(arm, epsilon)
            if row in rows or (wanted and arm not in wanted):
                continue
            began = time.perf_counter()
            found = measure(cell, arm, epsilon, pools[cell.data])
            seconds = round(time.perf_counter() - began, 1)
            rows.add(
                {
                    **row,
                    "scores": {task: round(value, 5) for task, value in found.items()},
                    "seconds": seconds,
                }
            )
            print(f"{cell} {arm} {epsilon:g}: {seconds} s", file=sys.stderr, flush=True)


def main() -> None:
    """Run, then print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="10 members, Dirichlet labels, ε = 3, one seed")
    parser.add_argument("--report", action="store_true", help="only print the tables of the finished rows")
    parser.add_argument("--fashion", type=Path, help="Fashion-MNIST: a numpy file, or Debian's folder")
    parser.add_argument("--signs", type=Path, help="the hand-sign photos: a numpy file")
    parser.add_argument("--out", type=Path, default=Path("utility-results"))
    parser.add_argument("--members", type=int, nargs="+", default=list(MEMBERS))
    parser.add_argument("--skews", nargs="+", default=list(SKEWS), choices=SKEWS)
    parser.add_argument("--epsilons", type=float, nargs="+", default=list(EPSILONS))
    parser.add_argument("--arms", nargs="+", help="only these, to give a pair of arms more seeds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = Rows(options.out / ("quick.jsonl" if options.quick else "rows.jsonl"))
    given = {name: getattr(options, name) for name in SPECS if getattr(options, name)}
    if not options.report:
        if not given:
            parser.error("name the data with --fashion or --signs")
        pools = {name: load_pool(name, path, options.out) for name, path in given.items()}
        for name in pools:
            worst = check_against_shipped(RECIPES[name].spec)
            print(f"{name}: within {worst:.1g} of the shipped module and engine", file=sys.stderr)
        if options.quick:
            options.members, options.skews, options.epsilons, options.seeds = [10], ["dirichlet"], [3.0], [0]
        # Seeds outermost, so that a run that is stopped leaves whole seeds.
        matrix = itertools.product(options.seeds, pools, options.members, options.skews)
        cells = [Cell(data, members, skew, seed) for seed, data, members, skew in matrix]
        run(cells, tuple(options.epsilons), options.arms, pools, rows)
    print(tables(rows.done))


if __name__ == "__main__":
    main()
