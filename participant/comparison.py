"""What the consortium is worth to this member, measured on its own records; the numbers stay in its folder.

Five ways to the same task, each with a head fitted on the same labels and measured on the same test set: raw
pixels (of large pictures, the means of their blocks; of texts, how often each byte occurs), fixed features that nobody
trained (oriented filters; of texts, hashed n-grams), a public backbone from the library, an extractor that this member
trained alone on the plan's terms, and the consortium's release. Then those that need no training set of one's own:
classes nobody trained on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from participant.consents import agreed_plan
from participant.enrol import read_link
from participant.heads.accuracy import Accuracy, measure
from participant.heads.embed import embed
from participant.heads.fit import fit_head
from participant.home import Home
from participant.records.dataset import open_data_set
from participant.training.alone import train_alone
from participant.training.head import HeadState
from participant.training.runtime import RuntimeOptions, apply_threads, read_options
from participant.training.workbench import Workbench
from shared.domain.errors import ConsentMissing, Invalid
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.extractors import architectures
from shared.extractors.device import choose_device
from shared.extractors.fixed_features import OrientedEnergies
from shared.extractors.flatten import flatten
from shared.extractors.text import NgramCounts
from shared.extractors.vectors import set_flat
from shared.verification import VerifiedExtractor, VerifiedRelease

_BYTES, _NGRAM_SLOTS = 256, 2048
_MOST_RAW_NUMBERS = 4096
"""Of one picture, for the head on raw pixels: 64 × 64 in grey and 32 × 32 in colour stay as they are. All records are
held at once while it is fitted, and 10,000 pictures of 224 × 224 in colour would want 18 GB."""
_NOT_A_RELEASE = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Task:
    """A data set to fit a head on, and another one to measure it on, by name."""

    fit: str
    test: str


@dataclass(frozen=True)
class Comparison:
    """Held-out accuracies with 95 % intervals; None where it does not apply."""

    records: int
    alone: Accuracy | None
    fixed_features: Accuracy
    raw_pixels: Accuracy
    """Of what `raw_numbers` says."""
    raw_numbers: str
    """What the head on raw pixels was given, in words: see `raw_words`."""
    public: Accuracy | None
    consortium: Accuracy
    unseen_fixed_features: Accuracy | None
    unseen_public: Accuracy | None
    unseen_consortium: Accuracy | None


def compare(
    home: Home,
    release: VerifiedExtractor,
    own: Task,
    unseen: Task | None,
    public: VerifiedExtractor | None = None,
    progress: Callable[[str], None] = lambda what: None,
) -> Comparison:
    """Measure all that apply. `alone` needs a plan that trained it and that this member consented to; it takes as
    long as the run did.

    Computes on the device of participant.toml. Raises Invalid where `public` reads texts and `release` pictures, or
    the other way round.
    """
    spec, options = release.spec, read_options(home.settings)
    if public is not None and public.spec.kind is not spec.kind:
        raise Invalid(
            f"{release.manifest.release} reads {spec.kind.value}s, {public.manifest.release} "
            f"{public.spec.kind.value}s. Nothing was measured. Name a public extractor of the same kind."
        )
    apply_threads(options)
    device = choose_device(options.device)

    def accuracy(task: Task, module: nn.Module, spec: ExtractorSpec) -> Accuracy:
        return _accuracy(home, task, module, spec, device)

    def backbone(task: Task) -> Accuracy | None:
        if public is None:
            return None
        return accuracy(task, architectures.load(public.spec, public.weights), public.spec)

    consortium = architectures.load(spec, release.weights)
    fixed, fixed_spec = _fixed_features(spec)
    raw, raw_spec = raw_numbers(spec)

    beside = "" if public is None else "public backbone, "
    progress(f"{raw_words(spec)}, fixed features, {beside}consortium")
    found = Comparison(
        records=open_data_set(home.root, own.fit).findings.records,
        alone=None,
        fixed_features=accuracy(own, fixed, fixed_spec),
        raw_pixels=accuracy(own, raw, raw_spec),
        raw_numbers=raw_words(spec),
        public=backbone(own),
        consortium=accuracy(own, consortium, spec),
        unseen_fixed_features=None if unseen is None else accuracy(unseen, fixed, fixed_spec),
        unseen_public=None if unseen is None else backbone(unseen),
        unseen_consortium=None if unseen is None else accuracy(unseen, consortium, spec),
    )
    if not isinstance(release, VerifiedRelease):
        return found
    alone = _train_alone(home, release, own.fit, options, progress)
    return found if alone is None else dataclasses.replace(found, alone=accuracy(own, alone, spec))


def raw_words(spec: ExtractorSpec) -> str:
    """What `Comparison.raw_pixels` is called for such records; of large pictures, how many pixels a number averages."""
    if spec.kind is RecordKind.TEXT:
        return "bytes"
    side = _block_side(spec)
    return "raw pixels" if side == 1 else f"raw pixels, {side}×{side} means"


def raw_numbers(spec: ExtractorSpec) -> tuple[nn.Module, ExtractorSpec]:
    """What gives the head on raw pixels its numbers, [B, C, H, W] → [B, D], and the spec that says how many."""
    if spec.kind is RecordKind.TEXT:
        return NgramCounts(_BYTES, longest=1), dataclasses.replace(spec, embedding_dim=_BYTES)
    side = _block_side(spec)
    numbers = dataclasses.replace(spec, embedding_dim=_blocks(spec, side))
    if side == 1:
        return nn.Flatten(), numbers
    # A block at the right or lower edge may be cut off; it is averaged over the pixels that it has.
    return nn.Sequential(nn.AvgPool2d(side, ceil_mode=True), nn.Flatten()), numbers


def _block_side(spec: ExtractorSpec) -> int:
    """Pixels of a block's side, the fewest with which a picture has no more than _MOST_RAW_NUMBERS numbers."""
    side = 1
    while _blocks(spec, side) > _MOST_RAW_NUMBERS and side < max(spec.height, spec.width):
        side += 1
    return side


def _blocks(spec: ExtractorSpec, side: int) -> int:
    return spec.channels * -(-spec.height // side) * -(-spec.width // side)


def _fixed_features(spec: ExtractorSpec) -> tuple[nn.Module, ExtractorSpec]:
    if spec.kind is RecordKind.TEXT:
        return NgramCounts(_NGRAM_SLOTS, longest=4), dataclasses.replace(spec, embedding_dim=_NGRAM_SLOTS)
    module = OrientedEnergies(spec.channels, scales=2, orientations=8, kernel=7, grid=4)
    return module, dataclasses.replace(spec, embedding_dim=module.features)


def _accuracy(
    home: Home, task: Task, module: nn.Module, spec: ExtractorSpec, device: torch.device
) -> Accuracy:
    fit_set, test_set = open_data_set(home.root, task.fit), open_data_set(home.root, task.test)
    fit_reader, test_reader = fit_set.reader(spec), test_set.reader(spec)
    every = np.arange(fit_reader.records, dtype=np.int64)
    head = fit_head(
        embed(module, fit_reader, spec, indices=every, device=device),
        fit_reader.labels(every),
        fit_set.classes,
        spec=spec,
        release_digest=_NOT_A_RELEASE,
    )
    tested = np.arange(test_reader.records, dtype=np.int64)
    return measure(
        head,
        embed(module, test_reader, spec, indices=tested, device=device),
        test_reader.labels(tested),
        test_set.classes,
        release_digest=_NOT_A_RELEASE,
    )


def _train_alone(
    home: Home, release: VerifiedRelease, data: str, options: RuntimeOptions, progress: Callable[[str], None]
) -> nn.Module | None:
    plan = release.plan
    try:
        start = agreed_plan(home, str(plan.digest)).start
    except ConsentMissing:
        return None  # a member that only uses releases trains nothing
    progress("alone, on the plan's terms")
    reader = open_data_set(home.root, data).reader(plan.extractor)
    module = architectures.load(plan.extractor, start)
    bench = Workbench(
        member_id=read_link(home.root).member_id,
        extractor=module,
        records=reader,
        head=HeadState.zeros(len(reader.classes), architectures.head_inputs(module, plan.extractor)),
        runtime=options,
    )
    set_flat(module, train_alone(plan, flatten(start.tensors, start.layout), bench))
    return module
