"""What is held at once does not grow with the data: Parquet of one row group, validation, embeddings, a full device."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from participant.comparison import raw_numbers
from participant.heads.embed import embed
from participant.heads.fit import fit_head
from participant.training.dp_sgd import make_engine
from participant.training.portions import is_out_of_memory, records_at_once
from participant.training.validation import exact_counts
from shared.domain.errors import OutOfMemory
from shared.domain.extractor import ExtractorSpec
from shared.extractors.architectures import build
from tests.plans import small_plan

SPEC = ExtractorSpec("small-gn", 1, 8, 8, 6, (0.5,), (0.25,), {"width": 8})
CPU = torch.device("cpu")


STREAM = """
import sys
import tracemalloc
from pathlib import Path
import pyarrow as pa
from participant.records.parquet import ParquetShards

path, rows = Path(sys.argv[1]), int(sys.argv[2])
source = ParquetShards(path, None)
assert sum(1 for _ in source.entries()) == rows
assert sum(1 for _ in source.contents(f"{path.name}#{row}" for row in range(rows))) == rows
print(pa.default_memory_pool().max_memory())
"""


def test_parquet_of_one_row_group_is_never_held_whole(tmp_path: Path) -> None:
    rows, bytes_each = 24_000, 2_000  # Arrow and pandas put up to a million rows into one row group
    path, pictures = tmp_path / "one.parquet", os.urandom(rows * bytes_each)
    images = [pictures[at : at + bytes_each] for at in range(0, len(pictures), bytes_each)]
    pq.write_table(pa.table({"image": images, "label": ["a"] * rows}), path)
    assert pq.ParquetFile(path).num_row_groups == 1

    # In a process of its own, because Arrow counts what it took since a process began.
    argv = [sys.executable, "-c", STREAM, str(path), str(rows)]
    most_bytes = int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    assert most_bytes < path.stat().st_size / 3


PAGE = """
import resource, sys
from pathlib import Path
from participant.records.parquet import ParquetShards
from shared.domain.errors import InvalidRecords

source = ParquetShards(Path(sys.argv[1]), None)
assert next(source.entries()).label == "a"
in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + 2**25, in_use + 2**25))
try:
    print(sum(1 for _ in source.entries()))
except InvalidRecords as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process cannot be given less memory")
@pytest.mark.parametrize(
    ("more", "said"), [({}, "does not fit into memory"), ({"write_batch_size": 8}, "501")]
)
def test_a_page_that_does_not_fit_is_said_so_and_smaller_ones_are_the_way_out(
    tmp_path: Path, more: dict[str, int], said: str
) -> None:
    path, bytes_each = tmp_path / "one.parquet", 100_000
    small = pa.table({"image": [b"x"], "label": ["a"]})
    images = [os.urandom(bytes_each) for _ in range(500)]
    with pq.ParquetWriter(path, small.schema, use_dictionary=["label"], **more) as file:
        file.write_table(small)  # a page of its own, so that everything is loaded before the limit
        file.write_table(pa.table({"image": images, "label": ["a"] * 500}))
    plain = os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system"}  # others reserve far more than they use
    argv = [sys.executable, "-c", PAGE, str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=plain)
    assert said in done.stdout


class Widest(nn.Module):
    """Notes how many records it saw at once; memory for more than `most` ends behind its first layer."""

    def __init__(self, most: int = 10**9) -> None:
        super().__init__()
        self.first, self.out, self.most, self.seen = nn.Linear(64, 8), nn.Linear(8, 6), most, [0]

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1, 8, 8] → [B, 6]."""
        self.seen.append(len(x))
        middle = self.first(x.flatten(1))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        out: Tensor = self.out(middle)
        return out


class Records:
    """300 pictures, all held out."""

    classes = ("cat", "dog", "owl")
    held_out_indices = np.arange(300)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 1), dtype=np.uint8)

    def poisson_draw(self, noise: object, rate: float) -> np.ndarray:
        return self.held_out_indices

    def load(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.pixels[indices], indices % 3


def test_validation_takes_no_more_records_at_once_than_a_micro_batch() -> None:
    torch.manual_seed(0)
    extractor, head, plan = Widest(), nn.Linear(6, 3), small_plan(extractor=SPEC)
    counts = [exact_counts(extractor, head, plan, Records(), CPU, micro_batch=n).tolist() for n in (300, 7)]
    assert counts[0] == counts[1] and sum(counts[0]) == 300
    assert max(extractor.seen[-75:]) == 4  # one, or a multiple of four


@pytest.mark.parametrize(("most", "last"), [(100, 64), (5, 4)])
def test_validation_on_a_device_that_is_too_small_gets_smaller_portions(most: int, last: int) -> None:
    torch.manual_seed(0)
    roomy, head, plan = Widest(), nn.Linear(6, 3), small_plan(extractor=SPEC)
    small = Widest(most)
    small.load_state_dict(roomy.state_dict())
    expected = exact_counts(roomy, head, plan, Records(), CPU, micro_batch=64)
    assert exact_counts(small, head, plan, Records(), CPU, micro_batch=64).tolist() == expected.tolist()
    assert small.seen[-1] == last
    with pytest.raises(OutOfMemory, match="too little memory for even one record"):
        exact_counts(Widest(0), head, plan, Records(), CPU, micro_batch=64)


def test_portions_follow_from_public_numbers_and_halve_without_a_rest() -> None:
    assert [records_at_once(expected, 64) for expected in (0.0, 1.0, 20.0, 100.0, 205.0, 1e6)] == [
        8,
        8,
        16,
        32,
        64,
        64,
    ]
    assert [records_at_once(1e6, most) for most in (0, 1, 3, 48)] == [1, 1, 1, 32]


@pytest.mark.parametrize(("side", "most"), [(8, 256), (224, 32)])
def test_large_pictures_are_embedded_fewer_at_once(side: int, most: int) -> None:
    class Mean(Widest):
        def forward(self, x: Tensor) -> Tensor:
            """[B, 1, H, W] → [B, 6]."""
            self.seen.append(len(x))
            return x.mean(dim=(2, 3)).expand(-1, 6)

    module, spec = Mean(), ExtractorSpec("small-gn", 1, side, side, 6, (0.5,), (0.25,))
    embed(module, np.zeros((300, side, side, 1), np.uint8), spec)
    assert 1 < max(module.seen) <= most


def test_a_head_on_the_pixels_of_large_pictures_takes_twelve_bytes_a_number_and_few_numbers() -> None:
    spec, records = ExtractorSpec("small-gn", 3, 224, 224, 8), 500
    module, numbers = raw_numbers(spec)
    pixels, labels = np.zeros((20, 224, 224, 3), np.uint8), (np.arange(records) % 20 == 7).astype(np.int64)
    pixels[:, :112] = np.arange(20, dtype=np.uint8)[:, None, None, None]
    embeddings = np.tile(embed(module, pixels, numbers), (records // 20, 1))
    assert embeddings.shape == (records, numbers.embedding_dim) and numbers.embedding_dim <= 4096
    names = ("most", "few")  # too few to choose by, which would copy some
    fit_head(embeddings[:20], labels[:20], names, spec=numbers, release_digest="")  # loads what it needs
    tracemalloc.start()
    try:
        fit_head(embeddings, labels, names, spec=numbers, release_digest="")
        most_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Beside the embeddings one copy in float64, and what the fit keeps for each feature, however many the records are.
    assert most_bytes < embeddings.size * 8 * 1.3


def draw(records: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(records, 1, 8, 8, generator=generator), torch.arange(records) % 3


@pytest.mark.parametrize("copies", [1, 3])
def test_a_device_that_is_too_small_gets_smaller_portions_and_the_sum_stays(copies: int) -> None:
    torch.manual_seed(0)
    roomy, head = Widest(), nn.Linear(6, 3)
    small = Widest(most=4)
    small.load_state_dict(roomy.state_dict())
    x, y = draw(33 * copies)[0], draw(33)[1]
    expected = np.concatenate(make_engine(roomy, head, 64, CPU).clipped_sum(x, y, 0.5, copies))
    engine = make_engine(small, head, 64, CPU)
    np.testing.assert_allclose(
        np.concatenate(engine.clipped_sum(x, y, 0.5, copies)), expected, rtol=1e-4, atol=1e-6
    )
    # It is not tried again with what did not fit.
    small.seen.clear()
    engine.clipped_sum(x, y, 0.5, copies)
    assert max(small.seen) == (4 if copies == 1 else 3)


def test_memory_that_ends_between_two_parameters_counts_no_record_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    extractor, head, (x, y) = build(SPEC, 1), nn.Linear(6, 3), draw(33)
    expected = np.concatenate(make_engine(extractor, head, 64, CPU).clipped_sum(x, y, 0.5))
    whole, calls = torch.Tensor.addmv_, iter(range(10**6))

    def full_once(total: Tensor, *factors: Tensor) -> Tensor:
        if next(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(total, *factors)

    monkeypatch.setattr(torch.Tensor, "addmv_", full_once)
    found = np.concatenate(make_engine(extractor, head, 64, CPU).clipped_sum(x, y, 0.5))
    assert next(calls) > 8  # it broke off, and was done again
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_device_without_room_for_one_record_is_said_so() -> None:
    engine = make_engine(Widest(most=0), nn.Linear(6, 3), 64, CPU)
    with pytest.raises(OutOfMemory, match="too little memory for even one record"):
        engine.clipped_sum(*draw(5), 0.5)


def test_any_other_failure_of_a_device_is_not_taken_for_a_lack_of_memory() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    assert is_out_of_memory(
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory")
    )
    engine = make_engine(Widest(), nn.Linear(6, 3), 64, CPU)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        engine.clipped_sum(torch.zeros(5, 1, 9, 9), torch.zeros(5, dtype=torch.int64), 0.5)
