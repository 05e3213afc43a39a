"""What an extractor of texts is worth: `PYTHONPATH=. python tests/benchmarks/text.py [--epsilon 8 --rounds 120]`.

Four members train in mode secure, in memory and with all else as shipped, on names by language (tests/texts.py). Then
heads are fitted on a few labels: of the languages that were trained on, and of six that nobody had. Beside the
consortium's extractor stand how often each byte occurs, hashed n-grams, the starting weights, and the member with most
names alone on the same terms. Its results stand in docs/results.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from coordinator.runs.draft import PlanDraft, PrivacyDraft, TrainingDraft
from coordinator.runs.planning import complete
from coordinator.workers.probe import Probe
from coordinator.workers.probe_worker import probe
from participant.heads.accuracy import measure
from participant.heads.embed import embed
from participant.heads.fit import fit_head
from participant.training.alone import train_alone
from participant.training.head import HeadState
from participant.training.workbench import Workbench
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.plan import Plan
from shared.extractors.architectures import build
from shared.extractors.preprocess import fit_record
from shared.extractors.text import NgramCounts
from shared.extractors.vectors import get_flat, set_flat
from tests.desk import open_desk, prepare_home
from tests.simulator import ConsortiumSimulator
from tests.texts import LANGUAGES, UNSEEN, Labelled, keep_back, names, split_among

MEMBERS, LANGUAGES_EACH = 4, 8
TESTED, FOR_HEADS = 100, 100
"""Names a language that are kept from training: to measure on, and to take labels from."""
_NO_RELEASE = "sha256:" + "0" * 64


def main() -> None:
    """Train, fit, measure, print."""
    asked = _arguments()
    spec = ExtractorSpec(
        asked.architecture,
        *(1, 1, asked.bytes, 64),
        options={"buckets": asked.buckets} if asked.architecture == "ngram-bag" else {},
        kind=RecordKind.TEXT,
    )
    every = names(most=1000)
    tested, for_heads, trained = keep_back(every, TESTED, FOR_HEADS)
    with tempfile.TemporaryDirectory() as folder:
        prepare_home(Path(folder) / "coordinator")
        sim = ConsortiumSimulator(
            open_desk(Path(folder) / "coordinator"),
            Path(folder) / "members",
            texts=split_among(trained, MEMBERS, LANGUAGES_EACH),
        )
        plan = _propose(sim, spec, asked)
        print(f"{plan.trainable_coordinates} coordinates, noise multiplier {plan.privacy.noise_multiplier:g}")
        started = time.perf_counter()
        released = sim.weights_of(sim.drive(sim.start(plan)))
        print(
            f"{plan.rounds} rounds of {MEMBERS} members one after the other: {time.perf_counter() - started:.0f} s"
        )
        extractors = {
            "bytes counted": (NgramCounts(256, 1), 256),
            "hashed n-grams counted": (NgramCounts(asked.buckets, 4), asked.buckets),
            "starting weights": (build(spec, 1), 64),
            "alone": (_module(spec, _alone(sim, plan)), 64),
            "consortium": (_module(spec, released[: plan.extractor_coordinates]), 64),
        }
        unseen = keep_back(names(UNSEEN, most=300), TESTED, FOR_HEADS)
        _report("languages that were trained on", spec, extractors, tested, for_heads)
        _report("languages that nobody had", spec, extractors, unseen[0], unseen[1])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="ngram-bag")
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=120)
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--learning-rate", type=float, default=8.0)
    parser.add_argument("--buckets", type=int, default=2048)
    parser.add_argument("--bytes", type=int, default=48)
    return parser.parse_args()


def _propose(sim: ConsortiumSimulator, spec: ExtractorSpec, asked: argparse.Namespace) -> Plan:
    rate = asked.learning_rate
    draft = PlanDraft(
        extractor_name="languages",
        extractor=spec,
        training=TrainingDraft(1, rate, rate, schedule="cosine", shared_classes=LANGUAGES),
        privacy=PrivacyDraft(target_epsilon=asked.epsilon, clip_norm_l2=1.0, sampling_rate=asked.rate),
        rounds=asked.rounds,
    )
    found = Probe(**probe(spec, draft.starting_seed, sim.starting))
    plan = complete(draft, "Testing", sim.every_member(), found).plan
    sim.store.add_plan(plan, "operator", found.file_name)
    return plan


def _alone(sim: ConsortiumSimulator, plan: Plan) -> np.ndarray:
    """float32 [d]: the member with most names, on the plan's terms."""
    member = max(sim.members, key=lambda one: one.data_set.findings.records)
    reader, module = member.data_set.reader(plan.extractor), build(plan.extractor, 1)
    head = HeadState.zeros(len(reader.classes), plan.extractor.embedding_dim)
    return train_alone(plan, get_flat(module), Workbench(member.id, module, reader, head))


def _module(spec: ExtractorSpec, vector: np.ndarray) -> nn.Module:
    module = build(spec, 1)
    set_flat(module, vector)
    return module


def _report(
    title: str,
    spec: ExtractorSpec,
    extractors: dict[str, tuple[nn.Module, int]],
    tested: Labelled,
    for_heads: Labelled,
) -> None:
    """A table: rows are ways, columns are labels a language, each cell a mean over five draws of the labels."""
    classes = tuple(sorted({code for _, code in tested}))
    counts = (5, 20, FOR_HEADS)
    print(f"\n{len(classes)} {title}, {len(tested)} names to measure on")
    print(f"\n| features | {' | '.join(f'{count} labels each' for count in counts)} |")
    print("|---|" + "---|" * len(counts))
    for way, (module, numbers) in extractors.items():
        own = dataclasses.replace(spec, embedding_dim=numbers)
        fitted_on, measured_on = (_embedded(module, own, part, classes) for part in (for_heads, tested))
        cells = []
        for count in counts:
            draws = range(5 if count < FOR_HEADS else 1)
            found = [_accuracy(fitted_on, measured_on, count, draw, classes, own) for draw in draws]
            cells.append(f"{100 * np.mean(found):.1f} %")
        print(f"| {way} | {' | '.join(cells)} |", flush=True)


def _embedded(
    module: nn.Module, spec: ExtractorSpec, part: Labelled, classes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    records = np.stack([fit_record(text.encode("utf-8"), spec) for text, _ in part])
    return embed(module, records, spec), np.array([classes.index(code) for _, code in part])


def _accuracy(
    fitted_on: tuple[np.ndarray, np.ndarray],
    measured_on: tuple[np.ndarray, np.ndarray],
    count: int,
    draw: int,
    classes: tuple[str, ...],
    spec: ExtractorSpec,
) -> float:
    """Held-out accuracy of a head on `count` labels of each class."""
    embeddings, labels = fitted_on
    generator = np.random.default_rng(draw)
    chosen = np.concatenate(
        [generator.permutation(np.flatnonzero(labels == k))[:count] for k in range(len(classes))]
    )
    head = fit_head(embeddings[chosen], labels[chosen], classes, spec=spec, release_digest=_NO_RELEASE)
    return measure(head, *measured_on, classes, release_digest=_NO_RELEASE).accuracy


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
