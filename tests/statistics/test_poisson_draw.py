"""The Poisson draw: every unit independently with probability q. Accepted at q, rejected at 2/3 q and 3/2 q.

Uniforms come from a fixed generator and the split's salt from a fixed key, so a verdict never changes from run to run.
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy import stats

from participant.records.add import add_data_set
from participant.records.reader import RecordReader
from shared.domain.extractor import ExtractorSpec
from tests.fixed_noise import fixed_noise

SPEC = ExtractorSpec("fixed-mlp", channels=1, height=1, width=1, embedding_dim=1)
RATE = 0.2
DRAWS = 2_000


class FixedUniforms:
    """A uniform source that repeats itself."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)

    def uniform(self, size: int) -> np.ndarray:
        return self.generator.random(size)


def reader_of(folder: Path, persons: bool) -> RecordReader:
    """200 records; as persons, person p has 1, 2, 3 or 4 of them."""
    rows = [(p, r) for p in range(80) for r in range(1 + p % 4)]
    images = []
    for person, record in rows:
        file = io.BytesIO()
        Image.fromarray(np.array([[person], [record]], np.uint8)).save(file, "PNG")
        images.append(file.getvalue())
    table = pa.table({"image": images, "label": ["x"] * len(rows), "who": [p for p, _ in rows]})
    pq.write_table(table, folder / "x.parquet")
    column = "who" if persons else None
    with fixed_noise():
        data_set = add_data_set(folder / "home", "x", folder / "x.parquet", person_column=column)
    return data_set.reader(SPEC)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> RecordReader:
    return reader_of(tmp_path_factory.mktemp("records"), persons=False)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> RecordReader:
    return reader_of(tmp_path_factory.mktemp("people"), persons=True)


def batch_sizes(reader: RecordReader, rate: float, seed: int = 1) -> np.ndarray:
    source = FixedUniforms(seed)
    return np.array([len(reader.poisson_draw(source, rate)) for _ in range(DRAWS)])


def accepts(sizes: np.ndarray, units: int, rate: float) -> bool:
    """Whether the total drawn is what Binomial(units · draws, rate) gives, two-sided at 1e-7."""
    return bool(stats.binomtest(int(sizes.sum()), units * len(sizes), rate).pvalue > 1e-7)


@pytest.mark.parametrize("unit", ["records", "people"])
def test_inclusion_is_accepted_at_q_and_rejected_on_both_sides(
    unit: str, request: pytest.FixtureRequest
) -> None:
    reader: RecordReader = request.getfixturevalue(unit)
    sizes = batch_sizes(reader, RATE)
    assert accepts(sizes, reader.training_units, RATE)
    for wrong in (RATE * 2 / 3, RATE * 3 / 2):
        assert not accepts(sizes, reader.training_units, wrong)
        assert not accepts(batch_sizes(reader, wrong), reader.training_units, RATE)


def test_batch_size_varies_as_independent_coins_do(records: RecordReader) -> None:
    """Drawing a fixed number, or shuffling, has variance 0; all-or-nothing draws have units times more."""
    sizes = batch_sizes(records, RATE)
    expected = records.training_units * RATE * (1 - RATE)
    # Var of the sample variance of a near-normal count is 2·σ⁴/(n-1).
    spread = expected * math.sqrt(2 / (DRAWS - 1))
    assert abs(sizes.var(ddof=1) - expected) < 5 * spread
    for wrong in (2 / 3, 3 / 2):
        assert abs(sizes.var(ddof=1) - expected * wrong) > 5 * spread


def test_every_unit_is_drawn_equally_often(records: RecordReader) -> None:
    source = FixedUniforms(2)
    counts = np.zeros(200)
    for _ in range(DRAWS):
        counts[records.poisson_draw(source, RATE)] += 1
    assert counts[records.held_out_indices].sum() == 0
    chosen = counts[records.training_indices]
    # Each count is Binomial(DRAWS, q): the sum of squared standard scores is chi-squared.
    scores = (chosen - DRAWS * RATE) ** 2 / (DRAWS * RATE * (1 - RATE))
    assert 1e-7 < stats.chi2.sf(scores.sum(), len(chosen)) < 1 - 1e-7


def test_two_draws_and_two_units_are_independent(records: RecordReader) -> None:
    source = FixedUniforms(3)
    drawn = np.zeros((DRAWS, 200))
    for turn in range(DRAWS):
        drawn[turn, records.poisson_draw(source, RATE)] = 1
    first, second, third = records.training_indices[[0, 1, 50]]
    bound = 5.5 / math.sqrt(DRAWS)
    assert abs(np.corrcoef(drawn[:, first], drawn[:, second])[0, 1]) < bound
    assert abs(np.corrcoef(drawn[:, first], drawn[:, third])[0, 1]) < bound
    assert abs(np.corrcoef(drawn[:-1, first], drawn[1:, first])[0, 1]) < bound


def test_a_persons_records_are_drawn_equally_often(people: RecordReader) -> None:
    source = FixedUniforms(4)
    counts = np.zeros(200)
    for _ in range(DRAWS):
        counts[people.poisson_draw(source, RATE)] += 1
    start = 0
    tested = 0
    for person in range(80):
        mine = counts[start : start + 1 + person % 4]
        start += len(mine)
        if len(mine) > 1 and mine.sum() > 0:
            assert stats.chisquare(mine).pvalue > 1e-8
            tested += 1
    assert tested > 30
