"""The benchmark's model beside published figures: Fashion-MNIST pooled, ten classes, one head, (3, 1e-5).

    PYTHONPATH=. python tests/benchmarks/utility_published.py --fashion PATH

Tramèr and Boneh 2021 give 86.0 for a CNN, 89.7 for ScatterNet + linear and 89.0 for ScatterNet + CNN. Here the head is
trained inside the mechanism too and what is scored is the pair (extractor, noisy head): everything is private.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from utility_arms import CURATOR, NOT_PRIVATE, RECIPES, Drawer, Recipe, extractor_total, make_plan
from utility_data import Pool, Records, load_pool
from utility_model import Adapter, Heads

from shared.domain.privacy import Mode
from shared.privacy.mechanism import NoiseSource

EPSILON = 3.0
ROUNDS, RATE = 600, 0.1


def accuracy(pool: Pool, recipe: Recipe, arm: str, seed: int) -> float:
    """Of extractor and head after pooled DP-SGD over all training records."""
    rng, noise = np.random.default_rng([seed, 7]), NoiseSource()
    records = Records(pool.x, pool.y, pool.person)
    plan = make_plan(recipe, (records.units,), Mode.LOCAL, EPSILON, None)
    adapter = Adapter(recipe.spec, seed)
    weights, heads = adapter.start.copy(), Heads.zeros(np.ones((1, 10), bool), recipe.spec.embedding_dim)
    drawer = Drawer((records,), recipe.sampling_rate, rng)
    expected = plan.expected_batch_size(plan.members[0].member_id)
    for number in range(1, plan.rounds + 1):
        batch = drawer.draw()
        clipped = adapter.clipped(weights, heads, batch, recipe.clip_norm_l2)
        pace = plan.learning_rate_factor(number) / expected
        total = extractor_total(clipped, batch, plan, number, arm, noise)
        flat = torch.cat([part.reshape(-1) for part in clipped.head_sum(slice(None))])
        if arm != NOT_PRIVATE:
            flat = torch.from_numpy(noise.noised(flat.numpy(), plan.noise_std_l2))
        weights = (weights - pace * recipe.learning_rate * total).astype(np.float32)
        step = pace * recipe.head_learning_rate * flat
        cut = heads.weight.numel()
        heads.weight -= step[:cut].reshape(heads.weight.shape)
        heads.bias -= step[cut:].reshape(heads.bias.shape)
    logits = adapter.embed(weights, pool.x_test) @ heads.weight[0].numpy().T + heads.bias[0].numpy()
    return float((logits.argmax(1) == pool.y_test).mean())


def main() -> None:
    """Print one line an arm."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fashion", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("utility-results"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    pool = load_pool("fashion", options.fashion, options.out)
    recipe = replace(RECIPES["fashion"], rounds=ROUNDS, sampling_rate=RATE, schedule="cosine")
    for arm in (CURATOR, NOT_PRIVATE):
        found = [100.0 * accuracy(pool, recipe, arm, seed) for seed in options.seeds]
        name = f"pooled DP-SGD, ε = {EPSILON:g}" if arm == CURATOR else "the same without noise"
        print(f"{name}: {np.mean(found):.1f} ± {np.std(found):.1f}", flush=True)


if __name__ == "__main__":
    main()
