"""Does this machine find the same gradient for a record wherever it stands, and beside whomever?

What the clip promises rests on it (dp_sgd.py), and no library promises it: which kernel multiplies a row may depend on
the row's place. So a node looks before it trains under a plan, with the plan's own network, portions and device.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from participant.training.dp_sgd import NO_RECORD, Sum, make_engine
from participant.training.head import HeadState, build_head
from shared.domain.errors import PlaceDecides
from shared.domain.extractor import ExtractorSpec
from shared.extractors.architectures import build, head_inputs
from shared.extractors.preprocess import to_input
from shared.extractors.vectors import trainable_parameters

_SEED = 11
"""Of weights and pictures. None that a coordinator chose: it could choose some by which nothing has to be rounded."""
_SOUND: set[tuple[str, int, int, int, str]] = set()
"""What was looked at in this process, and held."""


def check_places(spec: ExtractorSpec, classes: int, records: int, copies: int, device: torch.device) -> None:
    """Raise PlaceDecides unless a record's gradient has the same bits at the first, a middle and the last place.

    Each time beside other records, in one portion of `records` records with `copies` pictures each. Looked at once a
    process: it costs three portions.
    """
    looked_at = (repr(spec), classes, records, copies, device.type)
    if records == 1 or looked_at in _SOUND:
        return
    gradient_at = _gradients(spec, classes, records, copies, device)
    here = [gradient_at(place) for place in (0, records // 2 - 1, records - 1)]
    if not all(np.array_equal(here[0], other) for other in here[1:]):
        raise PlaceDecides(
            f"On the device {device.type} a record's gradient depends on its place among the others: one record "
            "could move a sum by far more than the clip norm. Nothing was charged and nothing was trained. Start the "
            "node by its own command; if that does not help, set another device in participant.toml and report this."
        )
    _SOUND.add(looked_at)


def _gradients(
    spec: ExtractorSpec, classes: int, records: int, copies: int, device: torch.device
) -> Callable[[int], Sum]:
    """Place → the clipped gradient of one and the same record there, the only one with a label: float64 [d + h]."""
    extractor, generator = build(spec, _SEED), torch.Generator().manual_seed(_SEED)
    head = build_head(HeadState.zeros(classes, head_inputs(extractor, spec)))
    with torch.no_grad():
        # What a scope adds begins at zero, and so does the head: with zeros there is nothing to round.
        for parameter in (*trainable_parameters(extractor), *head.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    engine = make_engine(extractor, head, records * copies, device)

    def pixels(pictures: int, seed: int) -> npt.NDArray[np.uint8]:
        shape = (pictures, spec.height, spec.width, spec.channels)
        return np.random.default_rng(seed).integers(1, 256, shape, dtype=np.uint8)

    def gradient_at(place: int) -> Sum:
        portion, labels = pixels(records * copies, _SEED + 1 + place), torch.full((records,), NO_RECORD)
        portion[place * copies : (place + 1) * copies] = pixels(copies, _SEED)
        labels[place] = 0
        return np.concatenate(
            engine.clipped_sum(torch.from_numpy(to_input(portion, spec)), labels, 1.0, copies)
        )

    return gradient_at
