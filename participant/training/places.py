"""Does this machine find the same gradient and prediction for a record wherever it stands, and beside whomever?

What the clip promises rests on it (dp_sgd.py), and what a count can move by (validation.py); and no library promises
it: which kernel multiplies a row may depend on the row's place. So a node looks before it trains under a plan, with
the plan's own network, portions and device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from participant.training.dp_sgd import NO_RECORD, Sum, make_engine
from participant.training.head import HeadState, build_head, with_head
from participant.training.portions import halved
from participant.training.validation import logits, records_of_a_portion
from shared.domain.errors import PlaceDecides
from shared.domain.extractor import ExtractorSpec
from shared.extractors.architectures import build, head_inputs
from shared.extractors.preprocess import to_input
from shared.extractors.vectors import trainable_parameters

_SEED = 11
"""Of weights and pictures. None that a coordinator chose: it could choose some by which nothing has to be rounded."""
_SOUND: set[tuple[Any, ...]] = set()
"""What was looked at in this process, and held."""
_At = Callable[[int], npt.NDArray[Any]]
"""Place → what is found for one and the same record there."""


def check_places(spec: ExtractorSpec, classes: int, records: int, copies: int, device: torch.device) -> None:
    """Raise PlaceDecides unless a record's gradient has the same bits at the first, a middle and the last place.

    Each time beside other records, in one portion of `records` records with `copies` pictures each. Looked at once a
    process: it costs three portions.
    """
    looked_at = ("gradient", repr(spec), classes, records, copies, device.type)
    if records == 1 or looked_at in _SOUND:
        return
    if not _is_everywhere_the_same(_gradients(spec, classes, records, copies, device), records):
        raise _decides(device, "gradient", "one record could move a sum by far more than the clip norm")
    _SOUND.add(looked_at)


def check_places_in_validation(
    spec: ExtractorSpec, classes: int, micro_batch: int, device: torch.device
) -> None:
    """The same of a record's logits, in a portion as `exact_counts` takes them. Raises PlaceDecides, OutOfMemory."""
    looked_at = ("logits", repr(spec), classes, micro_batch, device.type)
    records = records_of_a_portion(micro_batch)
    while records > 1 and looked_at not in _SOUND:
        try:
            if not _is_everywhere_the_same(_logits(spec, classes, records, device), records):
                raise _decides(
                    device, "prediction", "one record could change what is counted of all the others"
                )
            _SOUND.add(looked_at)
        except _TooMany:
            records = halved(records, device)


class _TooMany(Exception):
    """Records for the device's memory."""


def _is_everywhere_the_same(found_at: _At, records: int) -> bool:
    first, *others = (found_at(place) for place in (0, records // 2 - 1, records - 1))
    return all(np.array_equal(first, other) for other in others)


def _decides(device: torch.device, what: str, consequence: str) -> PlaceDecides:
    return PlaceDecides(
        f"On the device {device.type} a record's {what} depends on its place among the others: {consequence}. Nothing "
        "was charged and nothing was trained. Start the node by its own command; if that does not help, set another "
        "device in participant.toml and report this."
    )


def _modules(spec: ExtractorSpec, classes: int) -> tuple[nn.Module, nn.Linear]:
    extractor, generator = build(spec, _SEED), torch.Generator().manual_seed(_SEED)
    head = build_head(HeadState.zeros(classes, head_inputs(extractor, spec)))
    with torch.no_grad():
        # What a scope adds begins at zero, and so does the head: with zeros there is nothing to round.
        for parameter in (*trainable_parameters(extractor), *head.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return extractor, head


def _portion(spec: ExtractorSpec, records: int, copies: int, place: int) -> torch.Tensor:
    """float32 [records·copies, C, H, W]: always the same record, at `place`, beside others that each place has anew."""

    def pixels(pictures: int, seed: int) -> npt.NDArray[np.uint8]:
        shape = (pictures, spec.height, spec.width, spec.channels)
        return np.random.default_rng(seed).integers(1, 256, shape, dtype=np.uint8)

    portion = pixels(records * copies, _SEED + 1 + place)
    portion[place * copies : (place + 1) * copies] = pixels(copies, _SEED)
    return torch.from_numpy(to_input(portion, spec))


def _gradients(spec: ExtractorSpec, classes: int, records: int, copies: int, device: torch.device) -> _At:
    """Place → the clipped gradient of the only record there that has a label: float64 [d + h]."""
    engine = make_engine(*_modules(spec, classes), records * copies, device)

    def gradient_at(place: int) -> Sum:
        labels = torch.full((records,), NO_RECORD)
        labels[place] = 0
        return np.concatenate(engine.clipped_sum(_portion(spec, records, copies, place), labels, 1.0, copies))

    return gradient_at


def _logits(spec: ExtractorSpec, classes: int, records: int, device: torch.device) -> _At:
    """Place → the record's logits there, float32 [classes]. Raises _TooMany."""
    model = with_head(*_modules(spec, classes)).to(device).eval()

    def logits_at(place: int) -> npt.NDArray[np.float32]:
        found = logits(model, _portion(spec, records, 1, place), device)
        if found is None:
            raise _TooMany
        return found[place]

    return logits_at
