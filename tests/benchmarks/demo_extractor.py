"""Which extractor the demo should train: `python tests/benchmarks/demo_extractor.py [--seeds 3] [--cnn]`.

Drives the shipped clip, noise and step code in one process over the demo's own organisations, dealt anew for each
seed, and prints held-out accuracies: the joiner's task, each contributor's own task, and two digits nobody trained
on. Rounds here skip the ledger and the wire, which change no number. Its results stand in docs/results.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import tomllib
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from coordinator.runs.draft import PlanDraft
from demo.organisations import ORGANISATIONS, Shares, deal, load_digits
from participant.heads.fit import fit_head
from participant.training.alone import train_alone
from participant.training.dp_sgd import make_engine
from participant.training.head import HeadState, build_head, head_state
from participant.training.step import clipped_sum, noisy_step
from participant.training.workbench import Workbench
from shared.domain.plan import Plan, PlanMember
from shared.domain.privacy import GaussianEvent, PrivacyTerms
from shared.domain.strict import build
from shared.extractors import architectures
from shared.extractors.fixed_features import OrientedEnergies
from shared.extractors.preprocess import to_input
from shared.extractors.vectors import get_flat, set_flat
from shared.privacy.accountant import calibrate_noise_multiplier

CONTRIBUTORS = tuple(o for o in ORGANISATIONS if not o.joins_to_use)
JOINER = next(o for o in ORGANISATIONS if o.joins_to_use)
NO_PRIVACY_SIGMA = 1e-3


class Dealt:
    """One organisation's pictures as training asks for them."""

    def __init__(self, pictures: np.ndarray, numbers: dict[int, list[int]]) -> None:
        self.classes = tuple(str(digit) for digit in sorted(numbers))
        self._images = np.concatenate([pictures[numbers[d]] for d in sorted(numbers)])[..., None]
        self._labels = np.concatenate([np.full(len(numbers[d]), i) for i, d in enumerate(sorted(numbers))])
        self.held_out_indices = np.zeros(0, np.int64)

    def poisson_draw(self, noise, rate: float) -> np.ndarray:
        return np.flatnonzero(noise.uniform(len(self._labels)) < rate)

    def load(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._images[indices], self._labels[indices]


def demo_plan(epsilon: float, rounds: int | None = None, architecture: str | None = None) -> Plan:
    """demo/plan.toml with another ε (infinity: noise of no account), number of rounds or architecture."""
    text = (Path(__file__).parents[2] / "demo" / "plan.toml").read_text()
    draft = build(PlanDraft, tomllib.loads(text), "plan.toml")
    rounds = rounds or draft.rounds
    spec = dataclasses.replace(draft.extractor, architecture=architecture or draft.extractor.architecture)
    terms, sigma = draft.privacy, NO_PRIVACY_SIGMA
    if np.isfinite(epsilon):
        validation = [GaussianEvent(terms.evaluation_noise_multiplier, 1.0, rounds // draft.evaluate_every)]
        sigma = calibrate_noise_multiplier(epsilon, terms.delta, terms.sampling_rate, rounds, validation)
    members = tuple(PlanMember(o.folder, o.records) for o in CONTRIBUTORS)
    _, layout = architectures.starting_weights(spec, draft.starting_seed)
    return Plan(
        consortium="benchmark",
        extractor_name="digits",
        extractor=spec,
        starting_weights="",
        trainable_coordinates=layout.trainable_coordinates,
        training=draft.training,
        privacy=PrivacyTerms(
            terms.mode, terms.unit, epsilon, terms.delta, terms.clip_norm_l2, sigma, terms.sampling_rate,
            terms.evaluation_noise_multiplier,
        ),
        server=draft.server,
        rounds=rounds,
        evaluate_every=0,
        quorum=1,
        colluders=0,
        deadline_s=60.0,
        members=members,
    )  # fmt: skip


def benches(plan: Plan, pictures: np.ndarray, dealt: dict[str, Shares], seed: int) -> dict[str, Workbench]:
    """One workbench a contributor, all from the same start."""
    made = {}
    for organisation in CONTRIBUTORS:
        records = Dealt(pictures, dealt[organisation.folder]["own"])
        head = HeadState.zeros(len(records.classes), plan.extractor.embedding_dim)
        extractor = architectures.build(plan.extractor, seed)
        made[organisation.folder] = Workbench(organisation.folder, extractor, records, head)
    return made


def train(plan: Plan, members: dict[str, Workbench], start: np.ndarray) -> np.ndarray:
    """The consortium's weights after all rounds of federated averaging, K = 1."""
    weights = start.copy()
    for _ in range(plan.rounds):
        total = np.zeros(len(weights))
        for name, bench in members.items():
            head = build_head(bench.head)
            engine = make_engine(bench.extractor, head, bench.runtime.micro_batch, torch.device("cpu"))
            set_flat(bench.extractor, weights)
            drawn = bench.records.poisson_draw(bench.noise, plan.privacy.sampling_rate)
            extractor_sum, head_sum = clipped_sum(engine, bench.records, drawn, plan, bench.noise)
            noisy_step(bench.extractor, extractor_sum, plan, bench, plan.training.learning_rate)
            noisy_step(head, head_sum, plan, bench, plan.training.head_learning_rate)
            bench.head = head_state(head)
            total += plan.weight(name) * (get_flat(bench.extractor) - weights)
        weights = (weights + total).astype(np.float32)
    return weights


def evaluate(
    module: nn.Module, plan: Plan, pictures: np.ndarray, dealt: dict[str, Shares]
) -> dict[str, float]:
    """Accuracy of a head on `module` for the joiner, the contributors' own tasks, and unseen digits."""

    def accuracy(shares: Shares, fit: str, test: str) -> float:
        fitted, tested = Dealt(pictures, shares[fit]), Dealt(pictures, shares[test])
        embedded = []
        for part in (fitted, tested):
            images, labels = part.load(np.arange(len(part._labels)))
            with torch.inference_mode():
                embedded.append((module(torch.from_numpy(to_input(images, plan.extractor))).numpy(), labels))
        (x, y), (x_test, y_test) = embedded
        head = fit_head(x, y, fitted.classes, spec=plan.extractor, release_digest="sha256:" + "0" * 64)
        return float((head.predict(x_test, release_digest=head.release_digest) == y_test).mean())

    own = [accuracy(dealt[o.folder], "own", "test") for o in CONTRIBUTORS]
    unseen = [accuracy(shares, "unseen", "unseen-test") for shares in dealt.values()]
    return {
        "joiner": accuracy(dealt[JOINER.folder], "own", "test"),
        "contributors": float(np.mean(own)),
        "unseen": float(np.mean(unseen)),
    }


def main() -> None:
    """Print mean ± standard deviation over seeds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--cnn", action="store_true", help="also a convolutional network from scratch (minutes)"
    )
    options = parser.parse_args()
    pictures, labels = load_digits()
    runs = [("consortium, ε = 8", 8.0, None, None), ("consortium, ε = 3", 3.0, None, None),
            ("consortium, ε = 1", 1.0, None, None), ("consortium, no privacy", np.inf, None, None),
            ("consortium, ε = 8, 30 rounds", 8.0, 30, None)]  # fmt: skip
    if options.cnn:
        runs += [
            ("small-gn, ε = 8, 60 rounds", 8.0, 60, "small-gn"),
            ("small-gn, ε = 8, 150 rounds", 8.0, 150, "small-gn"),
        ]
    table: dict[str, list[dict[str, float]]] = defaultdict(list)
    for seed in range(options.seeds):
        dealt = deal(labels, seed)
        plan = demo_plan(8.0)
        untrained = architectures.build(plan.extractor, seed).eval()
        fixed = OrientedEnergies(plan.extractor.channels, scales=2, orientations=8, kernel=7, grid=4)
        for name, module in (
            ("raw pixels", nn.Flatten()),
            ("fixed features", fixed),
            ("untrained start", untrained),
        ):
            table[name].append(evaluate(module, plan, pictures, dealt))
        members = benches(plan, pictures, dealt, seed)
        start = get_flat(untrained)
        alone = []
        for bench in members.values():
            set_flat(bench.extractor, train_alone(plan, start, bench))
            alone.append(evaluate(bench.extractor.eval(), plan, pictures, dealt))
        table["alone, ε = 8 (mean of four)"].append(
            {task: float(np.mean([line[task] for line in alone])) for task in alone[0]}
        )
        for name, epsilon, rounds, architecture in runs:
            run_plan = demo_plan(epsilon, rounds, architecture)
            members = benches(run_plan, pictures, dealt, seed)
            module = architectures.build(run_plan.extractor, seed)
            set_flat(module, train(run_plan, members, get_flat(module)))
            table[name].append(evaluate(module.eval(), run_plan, pictures, dealt))
        print(f"seed {seed} done", flush=True)
    print(f"{'':32}{'joiner':>14}{'contributors':>16}{'unseen':>14}")
    for name, lines in table.items():
        cells = [[line[task] for line in lines] for task in ("joiner", "contributors", "unseen")]
        print(f"{name:32}" + "".join(f"   {np.mean(c):.3f} ± {np.std(c):.3f}" for c in cells))


if __name__ == "__main__":
    main()
