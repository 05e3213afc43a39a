"""Data of the utility benchmark: fixed features computed once, and records dealt to members, joiners and a test.

Contributors hold seven of the ten classes; the other three are seen by joiners only. Three in ten members are
poor in labels. Which classes, who holds what and what joiners label follows from the seed.
"""

from __future__ import annotations

import argparse
import functools
import gzip
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from shared.domain.extractor import ExtractorSpec
from shared.extractors import architectures
from shared.extractors.preprocess import fit_image, to_input

WHERE_TO_GET_IT = """No data at {path}.
  Fashion-MNIST: `apt install dataset-fashion-mnist`, then --fashion /usr/share/dataset-fashion-mnist;
                 or a numpy file with x_train, y_train, x_test, y_test (uint8).
  Hand signs:    the Sign-Language-Digits-Dataset (Ankara Ayranci Anadolu High School, Apache-2.0) as a numpy
                 file with x [n, 100, 100, 3], y [n] and participant [n]; then --signs FILE."""

TRAINED_CLASSES = 7
DIRICHLET = 0.3
POOR_SHARE = 0.3
POOR_RECORDS = 100
POOR_PERSONS = 2
JOINER_SHARE = 0.1
"""Of Fashion-MNIST's training pictures: what joiners may label."""
CONTRIBUTING_PERSONS, JOINING_PERSONS = 140, 30
LEAST_RECORDS = 10

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

_FILTERS = {"scales": 2, "orientations": 4, "kernel": 7, "grid": 7}
_FASHION_FIXED, _SIGNS_FIXED = 392, 539
FASHION = ExtractorSpec(
    "fixed-mlp", 1, 28, 28, 128 + _FASHION_FIXED, options={**_FILTERS, "hidden": 128, "concatenate": True}
)
SIGNS = ExtractorSpec(
    "fixed-mlp", 3, 48, 48, 64 + _SIGNS_FIXED, options={**_FILTERS, "hidden": 64, "concatenate": True}
)
SPECS = {"fashion": FASHION, "signs": SIGNS}


@dataclass(frozen=True, eq=False)
class Pool:
    """A whole data set as fixed features; `person` [n] numbers units (a record each, or a person)."""

    name: str
    x: Features
    y: Labels
    person: Labels
    x_test: Features
    y_test: Labels
    """Records kept apart by the data set itself; empty where persons are kept apart by the seed."""


@dataclass(frozen=True)
class Records:
    """Records of one party."""

    x: Features
    y: Labels
    unit: Labels
    """[n]: which unit a record belongs to, from 0."""

    @property
    def units(self) -> int:
        return int(self.unit.max()) + 1 if len(self.unit) else 0

    def take(self, chosen: Labels) -> Records:
        return Records(self.x[chosen], self.y[chosen], self.unit[chosen])


@dataclass(frozen=True)
class Consortium:
    """What one seed deals."""

    members: tuple[Records, ...]
    poor: tuple[bool, ...]
    joiner: Records
    test: Records
    trained: tuple[int, ...]
    held_out: tuple[int, ...]


def fashion_options(described: str | None) -> argparse.ArgumentParser:
    """What every benchmark on Fashion-MNIST alone can be told."""
    parser = argparse.ArgumentParser(
        description=described, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fashion", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("utility-results"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser


def load_pool(name: str, path: Path, cache: Path) -> Pool:
    """Features of `fixed-mlp`'s public filters; kept in `cache`. Exits with a word where the data is absent."""
    if not path.exists():
        raise SystemExit(WHERE_TO_GET_IT.format(path=path))
    kept = cache / f"{name}-features.npz"
    if kept.exists():
        stored = np.load(kept, allow_pickle=False)
        return Pool(name, *(stored[key] for key in ("x", "y", "person", "x_test", "y_test")))
    raw = fashion_records(path) if name == "fashion" else _signs(path)
    images, y, person, images_test, y_test = raw
    spec = SPECS[name]
    pool = Pool(name, features(images, spec), y, person, features(images_test, spec), y_test)
    cache.mkdir(parents=True, exist_ok=True)
    np.savez(kept, x=pool.x, y=pool.y, person=pool.person, x_test=pool.x_test, y_test=pool.y_test)
    return pool


def features(images_u8: np.ndarray, spec: ExtractorSpec) -> Features:
    """uint8 [n, H, W, C] → float32 [n, F]: the shipped module's fixed part."""
    fixed = architectures.build(spec, 0).fixed
    with torch.inference_mode():
        parts = [
            fixed(torch.from_numpy(to_input(images_u8[start : start + 500], spec))).numpy()
            for start in range(0, len(images_u8), 500)
        ]
    return np.concatenate(parts) if parts else np.zeros((0, fixed.features), np.float32)


def fashion_images(path: Path) -> dict[str, np.ndarray]:
    """x_train, y_train, x_test, y_test from a numpy file or from the folder of Debian's package."""
    if path.is_file():
        stored = np.load(path, allow_pickle=False)
        return {key: stored[key] for key in ("x_train", "y_train", "x_test", "y_test")}
    found = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        for key, stem, header in (("x", "images-idx3", 16), ("y", "labels-idx1", 8)):
            file = next(iter(sorted(path.glob(f"{prefix}-{stem}-ubyte*"))), None)
            if file is None:
                raise SystemExit(WHERE_TO_GET_IT.format(path=path / f"{prefix}-{stem}-ubyte"))
            data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            array = np.frombuffer(data, np.uint8, offset=header)
            found[f"{key}_{part}"] = array.reshape(-1, 28, 28) if key == "x" else array
    return found


def fashion_records(path: Path) -> tuple[np.ndarray, ...]:
    """Pictures uint8 [n, 28, 28, 1], labels and persons of a Pool, then pictures and labels of its test."""
    stored = fashion_images(path)
    y = stored["y_train"].astype(np.int64)
    return (stored["x_train"][..., None], y, np.arange(len(y)), stored["x_test"][..., None],
            stored["y_test"].astype(np.int64))  # fmt: skip


def _signs(path: Path) -> tuple[np.ndarray, ...]:
    stored = np.load(path, allow_pickle=False)
    spec = SPECS["signs"]
    images = np.stack([fit_image(Image.fromarray(picture), spec) for picture in stored["x"]])
    _, person = np.unique(stored["participant"], return_inverse=True)
    nothing = np.zeros(0, np.int64)
    return images, stored["y"].astype(np.int64), person.astype(np.int64), images[:0], nothing


@functools.lru_cache(maxsize=1)
def deal(pool: Pool, members: int, skew: str, seed: int) -> Consortium:
    """Members, joiner and test of one seed; `skew` is dirichlet or disjoint."""
    rng = np.random.default_rng([seed, members, skew == "disjoint"])
    classes = rng.permutation(10)
    trained, held_out = np.sort(classes[:TRAINED_CLASSES]), np.sort(classes[TRAINED_CLASSES:])
    own, joining, test = _apart(pool, rng)
    own = own.take(np.flatnonzero(np.isin(own.y, trained)))
    poor = tuple(place >= members - max(1, round(POOR_SHARE * members)) for place in range(members))
    if pool.name == "fashion":
        shares = _deal_records(own.y, trained, poor, skew, rng)
    else:
        shares = _deal_persons(own, trained, poor, skew, rng)
    dealt = tuple(_renumbered(own.take(np.sort(share))) for share in shares)
    return Consortium(dealt, poor, joining, test, tuple(map(int, trained)), tuple(map(int, held_out)))


def _apart(pool: Pool, rng: np.random.Generator) -> tuple[Records, Records, Records]:
    everything = Records(pool.x, pool.y, pool.person)
    if len(pool.x_test):
        order = rng.permutation(len(pool.y))
        cut = int(JOINER_SHARE * len(order))
        test = Records(pool.x_test, pool.y_test, np.arange(len(pool.y_test)))
        return everything.take(order[cut:]), everything.take(order[:cut]), test
    people = rng.permutation(everything.units)
    ends = (CONTRIBUTING_PERSONS, CONTRIBUTING_PERSONS + JOINING_PERSONS)
    groups = (people[: ends[0]], people[ends[0] : ends[1]], people[ends[1] :])
    own, joining, test = (everything.take(np.flatnonzero(np.isin(everything.unit, g))) for g in groups)
    return own, joining, test


def label_groups(trained: Labels, members: int) -> list[Labels]:
    """Disjoint skew: member i holds the classes of group i modulo 3, of two, two and three classes."""
    groups = (trained[:2], trained[2:4], trained[4:])
    return [groups[place % 3] for place in range(members)]


def _deal_records(
    y: Labels, trained: Labels, poor: tuple[bool, ...], skew: str, rng: np.random.Generator
) -> list[Labels]:
    shares: list[list[Labels]] = [[] for _ in poor]
    rich = [place for place, is_poor in enumerate(poor) if not is_poor]
    left = {int(c): rng.permutation(np.flatnonzero(y == c)) for c in trained}
    groups = label_groups(trained, len(poor))
    for place in np.flatnonzero(poor):
        mix = rng.dirichlet(np.full(len(trained), DIRICHLET))
        if skew == "disjoint":
            mix = np.isin(trained, groups[place]) / len(groups[place])
        # Two of every class it has: a head needs two classes, and a share of none is no share.
        counts = np.where(mix > 0.02, np.maximum(2, np.round(mix * POOR_RECORDS)), 0).astype(int)
        if np.count_nonzero(counts) < 2:
            counts[np.argsort(mix)[-2]] = 2
        for c, count in zip(trained, counts, strict=True):
            shares[place].append(left[int(c)][:count])
            left[int(c)] = left[int(c)][count:]
    for c in trained:
        holders = [p for p in rich if skew == "dirichlet" or c in groups[p]]
        parts = rng.dirichlet(np.full(len(holders), DIRICHLET if skew == "dirichlet" else 10.0))
        cuts = (np.cumsum(parts)[:-1] * len(left[int(c)])).astype(int)
        for place, part in zip(holders, np.split(left[int(c)], cuts), strict=True):
            shares[place].append(part)
    # A member of a handful of records could not fit a head of its own: the largest gives it some.
    joined = [np.concatenate(share) for share in shares]
    largest = int(np.argmax([len(share) for share in joined]))
    for place in rich:
        if len(joined[place]) < LEAST_RECORDS or len(np.unique(y[joined[place]])) < 2:
            given = rng.permutation(joined[largest])[: 2 * LEAST_RECORDS]
            joined[place] = np.concatenate([joined[place], given])
            joined[largest] = np.setdiff1d(joined[largest], given)
    return joined


def _deal_persons(
    own: Records, trained: Labels, poor: tuple[bool, ...], skew: str, rng: np.random.Generator
) -> list[Labels]:
    people = rng.permutation(np.unique(own.unit))
    poor_total = POOR_PERSONS * sum(poor)
    rich_parts = iter(np.array_split(people[poor_total:], len(poor) - sum(poor)))
    poor_parts = iter(np.split(people[:poor_total], max(1, sum(poor))))
    groups = label_groups(trained, len(poor))
    shares = []
    for place, is_poor in enumerate(poor):
        mine = np.flatnonzero(np.isin(own.unit, next(poor_parts) if is_poor else next(rich_parts)))
        if skew == "disjoint":
            kept = np.isin(own.y[mine], groups[place])
        else:
            mix = rng.dirichlet(np.full(len(trained), DIRICHLET))
            mix = np.maximum(mix / np.sort(mix)[-2], 0.02).clip(
                max=1.0
            )  # its two commonest classes are kept whole
            kept = rng.random(len(mine)) < mix[np.searchsorted(trained, own.y[mine])]
        shares.append(mine[kept])
    return shares


def _renumbered(records: Records) -> Records:
    _, unit = np.unique(records.unit, return_inverse=True)
    return replace(records, unit=unit.astype(np.int64))
