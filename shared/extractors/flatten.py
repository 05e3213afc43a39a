"""Named tensors to one flat vector and back: the vector is what is trained, sent and averaged (numpy only).

Order is the layout's: slots sorted by name, trainable ones only, each in C order.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from shared.domain.errors import InvalidWeights
from shared.domain.extractor import TensorSlot, WeightLayout

Vector = npt.NDArray[np.float32]
Tensors = dict[str, npt.NDArray[np.float32]]


def flatten(tensors: Mapping[str, npt.NDArray[np.float32]], layout: WeightLayout) -> Vector:
    """The trainable tensors as one float32 [d], d = layout.trainable_coordinates; always a copy.

    Raises InvalidWeights when names, shapes or dtypes are not the layout's.
    """
    check_tensors(tensors, layout)
    trained = [tensors[slot.name].reshape(-1) for slot in layout.slots if slot.trainable]
    return np.concatenate(trained) if trained else np.zeros(0, dtype=np.float32)


def unflatten(vector: Vector, layout: WeightLayout, frozen: Mapping[str, npt.NDArray[np.float32]]) -> Tensors:
    """All tensors: trainable ones are views of `vector` float32 [d], the others come from `frozen`.

    `frozen` may hold more than is needed. Raises InvalidWeights as `check_vector` and `check_tensors` do.
    """
    check_vector(vector, layout)
    tensors: Tensors = {}
    start = 0
    for slot in layout.slots:
        if slot.trainable:
            tensors[slot.name] = vector[start : start + slot.coordinates].reshape(slot.shape)
            start += slot.coordinates
        elif slot.name in frozen:
            tensors[slot.name] = frozen[slot.name]
    check_tensors(tensors, layout)
    return tensors


def check_vector(vector: npt.NDArray[np.float32], layout: WeightLayout) -> None:
    """Raise InvalidWeights unless `vector` is a finite float32 [d], d = layout.trainable_coordinates."""
    check_coordinates(vector, layout.trainable_coordinates)


def check_coordinates(vector: npt.NDArray[np.float32], wanted: int) -> None:
    """Raise InvalidWeights unless `vector` is a finite float32 [wanted]."""
    if vector.shape != (wanted,) or vector.dtype != np.float32:
        raise InvalidWeights(
            f"Expected a vector of {wanted} float32 coordinates, found {vector.dtype} {list(vector.shape)}. "
            "It was not used. Check that both sides hold the same plan."
        )
    if not np.isfinite(vector).all():
        raise InvalidWeights(
            f"Expected {wanted} finite coordinates, found some that are NaN or infinite. The vector was not "
            "used. Go back to an earlier checkpoint, or lower the learning rate."
        )


def check_tensors(tensors: Mapping[str, npt.NDArray[np.float32]], layout: WeightLayout) -> None:
    """Raise InvalidWeights unless names, shapes and dtypes are exactly the layout's."""
    wanted = {slot.name for slot in layout.slots}
    if wanted != set(tensors):
        missing, extra = sorted(wanted - set(tensors)), sorted(set(tensors) - wanted)
        raise InvalidWeights(
            f"Expected {len(wanted)} tensors, found {len(tensors)}: missing {_few(missing)}, not known "
            f"{_few(extra)}. They were not used. Check that they belong to this extractor."
        )
    for slot in layout.slots:
        found = tensors[slot.name]
        if found.shape != slot.shape or found.dtype != np.float32:
            raise InvalidWeights(
                f"Tensor {slot.name}: expected float32 {list(slot.shape)}, found {found.dtype} "
                f"{list(found.shape)}. The weights were not used. Check that they belong to this extractor."
            )


def layout_of(
    tensors: Mapping[str, npt.NDArray[np.float32]], trainable: frozenset[str] | set[str]
) -> WeightLayout:
    """The layout that describes `tensors`: slots sorted by name."""
    return WeightLayout(
        tuple(
            TensorSlot(name, tuple(int(side) for side in tensors[name].shape), name in trainable)
            for name in sorted(tensors)
        )
    )


def _few(names: list[str]) -> str:
    if not names:
        return "none"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
