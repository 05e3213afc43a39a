"""How far an export is from what it was made of: torch against ONNX fp32, and fp32 against int8."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from shared.domain.extractor import ExtractorSpec
from shared.exports.measured import LARGEST_DIFFERENCE, LOSS_BAR_POINTS, Int8Loss, Parity
from shared.exports.onnx_file import OnnxFile
from shared.exports.public_records import PublicRecords
from shared.extractors.preprocess import to_input

PARITY_RECORDS = 48
_Z_95 = 1.959963984540054
_ROUNDING = 1e-5
"""A dimension that varies by less than so much of its largest value is constant: float32 rounds sums so."""

Floats = npt.NDArray[np.float32]
Vectors = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def parity(module: nn.Module, onnx: OnnxFile, public: PublicRecords, spec: ExtractorSpec) -> Parity:
    """The largest difference over PARITY_RECORDS held-out records, evenly over all labels."""
    step = max(1, len(public.held_out) // PARITY_RECORDS)
    pixels = to_input(public.held_out[::step][:PARITY_RECORDS], spec)
    with torch.inference_mode():
        wanted = module(torch.from_numpy(pixels)).numpy()
    # One alone and the others together: a file that holds for one batch size only is none.
    found = np.concatenate([onnx.run(pixels[:1]), onnx.run(pixels[1:])])
    largest = float(np.abs(wanted.astype(np.float64) - found.astype(np.float64)).max())
    return Parity(largest, LARGEST_DIFFERENCE, len(pixels))


def int8_loss(fp32: OnnxFile, int8: OnnxFile, public: PublicRecords, spec: ExtractorSpec) -> Int8Loss:
    """What a head loses that was fitted on fp32 embeddings and is applied to int8 ones."""
    return compare_embeddings(
        fp32.embed(public.learned, spec),
        fp32.embed(public.held_out, spec),
        int8.embed(public.held_out, spec),
        public,
    )


def compare_embeddings(learned: Floats, fp32: Floats, int8: Floats, public: PublicRecords) -> Int8Loss:
    """`learned` [L, D] and `fp32` [N, D] by fp32, `int8` [N, D] by int8, of `public`."""
    probe = Probe(learned, public.learned_labels)
    right, right_int8 = (probe.predict(each) == public.held_out_labels for each in (fp32, int8))
    cosines = _cosines(fp32, int8)
    loss, half = paired_loss(right, right_int8)
    return Int8Loss(
        cosine_mean=float(cosines.mean()),
        cosine_least=float(cosines.min()),
        top1_fp32=float(right.mean()),
        top1_int8=float(right_int8.mean()),
        loss_points=100.0 * loss,
        loss_low=100.0 * (loss - half),
        loss_high=100.0 * (loss + half),
        bar_points=LOSS_BAR_POINTS,
    )


def error_share(fp32: Floats, int8: Floats) -> float:
    """Mean square of what [N, D] differ by, each dimension in its variance over the records; 0 for equal ones.

    What a probe on standardised embeddings meets. The cosine does not show it: a mean that all records share hides
    what differs between them.
    """
    _, factor = _standard(fp32)
    difference = (int8.astype(np.float64) - fp32.astype(np.float64)) * factor
    return float((difference**2).sum(axis=1).mean())


class Probe:
    """A linear probe: least squares to one-hot labels with a ridge, on standardised embeddings.

    Hoerl and Kennard 1970, "Ridge regression", in its dual form. The ridge is as large as the mean square length
    of an embedding, so neither the scale nor the number of dimensions enters. Same numbers in, same probe out.
    """

    def __init__(self, embeddings: Floats, labels: Labels) -> None:
        self._mean, self._factor = _standard(embeddings)
        learned = self._standardised(embeddings)
        targets = np.eye(int(labels.max()) + 1)[labels]
        self._bias = targets.mean(axis=0)
        kernel = learned @ learned.T + np.eye(len(learned))
        self._weight = learned.T @ np.linalg.solve(kernel, targets - self._bias)

    def predict(self, embeddings: Floats) -> Labels:
        """The likeliest label of each of [N, D], int64 [N]."""
        scores = self._standardised(embeddings) @ self._weight + self._bias
        return np.asarray(scores.argmax(axis=1), dtype=np.int64)

    def _standardised(self, embeddings: Floats) -> Vectors:
        scaled: Vectors = (embeddings.astype(np.float64) - self._mean) * self._factor
        return scaled


def _standard(embeddings: Floats) -> tuple[Vectors, Vectors]:
    """Means, and factors after which [N, D] have a mean square length of 1: 0 where a dimension is constant."""
    wide = embeddings.astype(np.float64)
    mean, spread = wide.mean(axis=0), wide.std(axis=0)
    varies = spread > _ROUNDING * np.abs(wide).max(axis=0)
    factor = np.divide(1.0, spread, out=np.zeros_like(spread), where=varies)
    return mean, factor / math.sqrt(max(int(varies.sum()), 1))


def paired_loss(before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Share of right answers lost, and half the width of its 95 % interval.

    The normal interval for two shares of the same records (Agresti 2002, "Categorical data analysis", 10.1.1).
    """
    lost, won, total = int((before & ~after).sum()), int((after & ~before).sum()), len(before)
    share = (lost - won) / total
    half = _Z_95 * math.sqrt(max(lost + won - (lost - won) ** 2 / total, 0.0)) / total
    return share, half


def _cosines(one: Floats, other: Floats) -> Vectors:
    """Of each pair of rows; two embeddings of nothing but zeros are equal."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    equal = (a == b).all(axis=1).astype(np.float64)
    cosines: Vectors = np.divide((a * b).sum(axis=1), lengths, out=equal, where=lengths > 0)
    return cosines
