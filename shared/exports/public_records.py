"""The public records that exports are compared on, with a question for a linear probe: which of a few it is from.

Pictures are crops of photographs (public_pictures.py), texts are names in several languages (public_texts.py); both
come from files of installed packages and one public seed, so that anyone measures on the same ones.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.domain.canonical import Digest, canonical_bytes
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.exports.public_pictures import picture_records
from shared.exports.public_texts import text_records

SEED = 20_261
LEARNED, HELD_OUT = 32, 64
"""Of each label."""
MOST_HELD_OUT = 1024
"""Of each label, where more than HELD_OUT were asked for."""
MOST_BYTES = 2**28
"""Of all records together: of very large ones there are fewer."""
_LEAST = 2

Bytes = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PublicRecords:
    """uint8 [N, H, W, C] of the extractor's size, and labels int64 [N]."""

    set_name: str
    learned: Bytes
    learned_labels: Labels
    held_out: Bytes
    held_out_labels: Labels

    @property
    def labels(self) -> int:
        """How many there are; a guess is right once in so many."""
        return int(self.held_out_labels.max()) + 1

    @property
    def digest(self) -> Digest:
        """SHA-256 of the set's name, shapes, bytes and labels."""
        hashed = hashlib.sha256(canonical_bytes(self.set_name))
        sides = ((self.learned, self.learned_labels), (self.held_out, self.held_out_labels))
        for records, labels in sides:
            hashed.update(canonical_bytes(list(records.shape)))
            hashed.update(np.ascontiguousarray(records).data)
            hashed.update(labels.astype("<i8").tobytes())
        return Digest("sha256:" + hashed.hexdigest())


def public_records(
    spec: ExtractorSpec, held_out: int = 0, most_of_each: int = MOST_HELD_OUT
) -> PublicRecords:
    """The same records for the same arguments and packages; `held_out`: about how many, if more than the usual ones.

    Asked for as many as it has, a set comes again. Raises InvalidConfig, DigestMismatch.
    """
    set_name, draw = text_records() if spec.kind is RecordKind.TEXT else picture_records()
    rng = np.random.Generator(np.random.PCG64(SEED))
    room = MOST_BYTES / (spec.height * spec.width * spec.channels * len(draw))
    asked = max(HELD_OUT, min(held_out // len(draw), most_of_each, int(room) - LEARNED))
    share = min(1.0, room / (LEARNED + asked))
    sides = []
    for side, count in ((False, LEARNED), (True, asked)):
        parts = [one(spec, side, max(_LEAST, int(share * count)), rng) for one in draw]
        least = min(len(part) for part in parts)  # of texts there may be fewer than were asked for
        labels = np.repeat(np.arange(len(draw), dtype=np.int64), least)
        sides.append((np.concatenate([part[:least] for part in parts]), labels))
    return PublicRecords(set_name, *sides[0], *sides[1])
