"""What helps a convolutional network that is trained end to end: copies averaged before the clip, standardised weights,
a moving average, and learned scopes on ImageNet's weights.

    PYTHONPATH=. python tests/benchmarks/utility_network.py --fashion PATH

The trusted curator's arm of utility.py (10 members, Dirichlet labels, all records pooled) with the shipped modules, the
shipped engine and the shipped augmentations. From scratch it is small-gn, from public weights EfficientNet-Lite0 (the
extra `backbones`), both on pictures of 32 pixels. Finished rows are kept in OUT/network.jsonl. Rates were chosen on a
seed that is not reported.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from utility import Cell, Rows
from utility_arms import Recipe, classes_of, make_plan
from utility_data import FASHION, Consortium, Pool, deal, fashion_options, fashion_records, features
from utility_report import Row, interval
from utility_tasks import joiner_scores

from coordinator.runs.averaging import ServerState, apply_average
from coordinator.workers.probe import Probe
from participant.training.dp_sgd import make_engine
from participant.training.step import clipped_sum
from shared.domain.extractor import ExtractorSpec
from shared.domain.privacy import Mode, Unit
from shared.domain.update import AggregateSum
from shared.extractors import architectures
from shared.extractors.preprocess import to_input
from shared.extractors.public_weights import public_weights
from shared.extractors.vectors import get_flat, set_flat
from shared.privacy.mechanism import NoiseSource

MEMBERS, SKEW = 10, "dirichlet"
TASKS = ("joiner 10", "joiner 20", "unseen 10", "unseen 20")
LAST = ", last weights"
"""Ends the name of an arm scored without the moving average."""
PORTION = 32


@dataclass(frozen=True)
class Arm:
    """One way to train a network."""

    name: str
    options: dict[str, object]
    rate: float
    public_start: bool = False
    rounds: int = 100
    sampling_rate: float = 0.03
    augmentations: tuple[str, ...] = ()
    copies: int = 1
    trained: bool = True

    @property
    def spec(self) -> ExtractorSpec:
        if self.public_start:
            return ExtractorSpec("efficientnet-lite0", 3, 32, 32, 1280, (0.5,) * 3, (0.5,) * 3, self.options)
        return ExtractorSpec("small-gn", 1, 32, 32, 64, (0.286,), (0.353,), {"width": 16, **self.options})


SHIFTED = ("shift2", "flip")
FROM_SCRATCH = (
    Arm("plain", {}, 4.0),
    Arm("weight standardisation", {"weight_standardisation": True}, 4.0),
    Arm("1 copy, shifted and flipped", {}, 4.0, augmentations=SHIFTED),
    Arm("4 copies, shifted and flipped", {}, 4.0, augmentations=SHIFTED, copies=4),
)
SCOPES = (
    Arm("public weights as they are", {}, 0.0, True, trained=False),
    Arm("last_block", {"scope": "last_block"}, 1.0, True, sampling_rate=0.015),
    Arm("film", {"scope": "film"}, 4.0, True, sampling_rate=0.015),
    Arm("lora(4)", {"scope": "lora", "lora_rank": 4}, 4.0, True, sampling_rate=0.015),
)


class Pixels:
    """Records as a node's data set gives them: pictures uint8 and numbers of classes."""

    def __init__(self, spec: ExtractorSpec, images_u8: np.ndarray, labels: np.ndarray) -> None:
        self._spec, self._images, self._labels = spec, images_u8, labels

    def load(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return as_read_by(self._spec, self._images[indices]), self._labels[indices]


def as_read_by(spec: ExtractorSpec, images_u8: np.ndarray) -> np.ndarray:
    """uint8 [n, 28, 28, 1] → [n, 32, 32, C]: black around, grey in every channel."""
    return np.pad(images_u8, ((0, 0), (2, 2), (2, 2), (0, 0))).repeat(spec.channels, axis=3)


def embedded(module: nn.Module, spec: ExtractorSpec, images_u8: np.ndarray) -> np.ndarray:
    """uint8 [n, H, W, C] → float32 [n, D]."""
    with torch.inference_mode():
        parts = [
            module(torch.from_numpy(to_input(as_read_by(spec, images_u8[i : i + 500]), spec))).numpy()
            for i in range(0, len(images_u8), 500)
        ]
    return np.concatenate(parts)


def measure(arm: Arm, epsilon: float, dealt: Consortium, seed: int) -> Iterator[tuple[str, dict[str, float]]]:
    """The arm's accuracies {task: 0…1}, with the moving average and without it."""
    start = public_weights("efficientnet-lite0-public")[0] if arm.public_start else None
    module = architectures.build(arm.spec, seed, start)

    def scores() -> dict[str, float]:
        found = joiner_scores(lambda x: embedded(module, arm.spec, x), dealt, seed, arm.spec)
        return {task: round(found[task], 5) for task in TASKS}

    if not arm.trained:
        yield arm.name, scores()
        return
    for weights, ending in zip(train(arm, module, epsilon, dealt, seed), ("", LAST), strict=True):
        set_flat(module, weights)
        yield arm.name + ending, scores()


def train(
    arm: Arm,
    module: nn.Module,
    epsilon: float,
    dealt: Consortium,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Pooled DP-SGD over all members' records: the extractor's averaged weights and its last ones, float32 [d]."""
    recipe = Recipe(arm.spec, Unit.RECORD, arm.rounds, arm.sampling_rate, arm.rate, arm.rate / 2, 0.95)
    classes = classes_of(dealt.members)
    d = len(get_flat(module))
    probe = Probe("sha256:00", "start.safetensors", d, 0.0, arm.spec.embedding_dim)
    plan = make_plan(recipe, dealt.members, Mode.LOCAL, epsilon, probe=probe)
    plan = replace(
        plan,
        training=replace(
            plan.training, augmentations=arm.augmentations, augmentation_multiplicity=arm.copies
        ),
    )
    x = np.concatenate([records.x for records in dealt.members])
    y = np.searchsorted(classes, np.concatenate([records.y for records in dealt.members]))
    records, head = Pixels(arm.spec, x, y), nn.Linear(arm.spec.embedding_dim, len(classes))
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    engine, noise = make_engine(module, head, PORTION, torch.device("cpu")), NoiseSource()
    rates = np.full(d + len(get_flat(head)), recipe.learning_rate)
    rates[d:] = recipe.head_learning_rate
    expected = sum(plan.expected_batch_size(m.member_id) for m in plan.members)
    state = ServerState(np.concatenate([get_flat(module), get_flat(head)]))
    drawing = np.random.default_rng([seed, 7])
    for _ in range(arm.rounds):
        drawn = np.flatnonzero(drawing.random(len(y)) < arm.sampling_rate)
        total = np.concatenate(clipped_sum(engine, records, drawn, plan, noise))
        step = noise.noised(total, plan.noise_std_l2).astype(np.float64) * rates / -expected
        state = apply_average(state, AggregateSum(step.data, 1.0, ()), plan.server)
        set_flat(module, state.weights[:d])
        set_flat(head, state.weights[d:])
    return state.released_weights[:d], state.weights[:d]


def report(rows: list[Row]) -> str:
    """Means over seeds, and each arm less the first of its group in pairs."""
    lines = ["| arm | ε | seeds | " + " | ".join(TASKS) + " |", "|" + "---|" * (len(TASKS) + 3)]
    by_arm: dict[tuple[str, float], dict[int, dict[str, float]]] = {}
    for row in rows:
        by_arm.setdefault((row["arm"], row["epsilon"]), {})[row["seed"]] = row["scores"]
    for (arm, epsilon), found in by_arm.items():
        means = [100.0 * np.mean([scores[task] for scores in found.values()]) for task in TASKS]
        told = f"{epsilon:g}" if epsilon else "–"
        lines.append(
            f"| {arm} | {told} | {len(found)} | " + " | ".join(f"{mean:.1f}" for mean in means) + " |"
        )
    lines += ["", "| points | ε | pairs | " + " | ".join(TASKS) + " |", "|" + "---|" * (len(TASKS) + 3)]
    for first, second in pairs(by_arm):
        both = by_arm[first].keys() & by_arm[second].keys()
        told = []
        for task in TASKS:
            mean, half = interval(
                [100.0 * (by_arm[first][seed][task] - by_arm[second][seed][task]) for seed in sorted(both)]
            )
            told.append(f"{mean:+.1f} ± {half:.1f}")
        lines.append(f"| {first[0]} − {second[0]} | {first[1]:g} | {len(both)} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def pairs(by_arm: dict[tuple[str, float], object]) -> Iterator[tuple[tuple[str, float], tuple[str, float]]]:
    """What is compared: each way with the plain one, scopes with no training, the average with the last weights."""
    for arm, epsilon in by_arm:
        if arm in {one.name for one in FROM_SCRATCH[1:]}:
            yield (arm, epsilon), (FROM_SCRATCH[0].name, epsilon)
        if arm in {one.name for one in SCOPES[1:]}:
            yield (arm, epsilon), (SCOPES[0].name, 0.0)
        if (arm + LAST, epsilon) in by_arm:
            yield (arm, epsilon), (arm + LAST, epsilon)


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = fashion_options(__doc__)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[3.0])
    parser.add_argument("--rounds", type=int, help="other than the arms' own")
    parser.add_argument(
        "--rate", type=float, help="another learning rate, to choose one on a seed not reported"
    )
    parser.add_argument("--arms", nargs="+", help="only these")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = Rows(options.out / "network.jsonl")
    pool = Pool("fashion", *fashion_records(options.fashion))
    for seed in options.seeds:
        cell = Cell(pool.name, MEMBERS, SKEW, seed)
        dealt = deal(pool, MEMBERS, SKEW, seed)
        if (row := cell.row("fixed features", 0.0)) not in rows:
            fixed = joiner_scores(lambda x: features(x, FASHION), dealt, seed, FASHION)
            rows.add({**row, "scores": {task: round(fixed[task], 5) for task in TASKS}})
        for arm in (*SCOPES, *FROM_SCRATCH):
            for epsilon in options.epsilons if arm.trained else [0.0]:
                if cell.row(arm.name, epsilon) in rows or (options.arms and arm.name not in options.arms):
                    continue
                began = time.perf_counter()
                tried = replace(arm, rate=options.rate or arm.rate, rounds=options.rounds or arm.rounds)
                for name, scores in measure(tried, epsilon, dealt, seed):
                    rows.add({**cell.row(name, epsilon), "scores": scores})
                took = time.perf_counter() - began
                print(f"{seed} {arm.name} {epsilon:g}: {took:.0f} s", file=sys.stderr, flush=True)
    print(report(rows.done))


if __name__ == "__main__":
    main()
