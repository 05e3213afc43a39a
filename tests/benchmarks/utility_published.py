"""The benchmark's model beside published figures: Fashion-MNIST pooled, ten classes, one head, (3, 1e-5).

    PYTHONPATH=. python tests/benchmarks/utility_published.py --fashion PATH

Tramèr and Boneh 2021 give 86.0 for a CNN, 89.7 for ScatterNet + linear and 89.0 for ScatterNet + CNN. Here the head is
trained inside the mechanism too and what is scored is the pair (extractor, noisy head): everything is private.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from utility_arms import CURATOR, NOT_PRIVATE, RECIPES, Recipe, classes_of, make_plan, train
from utility_data import Pool, Records, fashion_options, load_pool
from utility_model import Adapter

from shared.domain.privacy import Mode

EPSILON = 3.0
ROUNDS, RATE = 600, 0.1


def accuracy(pool: Pool, recipe: Recipe, arm: str, seed: int) -> float:
    """Of extractor and head after pooled DP-SGD over all training records."""
    everybody = (Records(pool.x, pool.y, pool.person),)
    adapter = Adapter(recipe.spec, seed)
    trained = train(adapter, make_plan(recipe, everybody, Mode.LOCAL, EPSILON), arm, everybody, seed)
    bias, weight = np.split(trained[len(adapter.start) :], [len(classes_of(everybody))])
    logits = adapter.embed(trained, pool.x_test) @ weight.reshape(len(bias), -1).T + bias
    return float((logits.argmax(1) == pool.y_test).mean())


def main() -> None:
    """Print one line an arm."""
    options = fashion_options(__doc__).parse_args()
    torch.set_num_threads(1)
    pool = load_pool("fashion", options.fashion, options.out)
    recipe = replace(RECIPES["fashion"], rounds=ROUNDS, sampling_rate=RATE, schedule="cosine")
    for arm in (CURATOR, NOT_PRIVATE):
        found = [100.0 * accuracy(pool, recipe, arm, seed) for seed in options.seeds]
        name = f"pooled DP-SGD, ε = {EPSILON:g}" if arm == CURATOR else "the same without noise"
        print(f"{name}: {np.mean(found):.1f} ± {np.std(found):.1f}", flush=True)


if __name__ == "__main__":
    main()
