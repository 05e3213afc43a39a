"""Whether the files that other programs read beside the weights say what the weights file itself says.

All of them are made from model.safetensors, so they are made again here and compared: JSON value by value, tensors
number by number, anything else byte by byte. A file that this version does not make is shown and not judged: a
program of somebody else's may open it all the same.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from shared.domain.release import (
    ABOUT_FILE,
    CARD_FILE,
    FIRST_CARD_FILE,
    LENS_FILE,
    LENS_PICTURE_FILE,
    MEASURED_FILE,
    ONNX_FILE,
    ONNX_INT8_FILE,
    TRAINED_FILES,
)
from shared.embedding import promised_bytes
from shared.evaluation.claims import Claim, equal, shown
from shared.exports.configuration import configuration
from shared.verification import VerifiedExtractor

_PART = "files"
_SAME = "as the weights file"
_NAMED_AT_MOST = 3
_OTHERS_OF_OURS: Final = frozenset(
    {
        *TRAINED_FILES,
        ABOUT_FILE,
        CARD_FILE,
        FIRST_CARD_FILE,
        LENS_FILE,
        LENS_PICTURE_FILE,
        MEASURED_FILE,
        ONNX_FILE,
        ONNX_INT8_FILE,
    }
)
"""What a release has beside `configuration`."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a name that stands there twice, one program takes the first value and another the last."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name occurs twice")
    return dict(pairs)


_READ: Mapping[str, tuple[Callable[[bytes], Any], Callable[[Any, Any], bool]]] = {
    ".json": (lambda data: json.loads(data, object_pairs_hook=_unique), operator.eq),
    ".safetensors": (load, lambda one, other: one.dtype == other.dtype and np.array_equal(one, other)),
}
"""By suffix: what is in the file, and whether two of it are the same."""


def configuration_claims(release: VerifiedExtractor, directory: Path) -> Iterator[Claim]:
    """A claim of each file of `configuration`, then what is not ours.

    Raises DigestMismatch as `promised_bytes`, and as `configuration`.
    """
    ours = configuration(release.weights)
    for name, made in ours.items():
        stated = promised_bytes(release, directory, name)
        if stated is None:
            yield shown(_PART, name, "none in the release")
            continue
        odd = _differences(name, stated, made)
        more = f" and {len(odd) - _NAMED_AT_MOST} more" if len(odd) > _NAMED_AT_MOST else ""
        said = f"otherwise: {', '.join(odd[:_NAMED_AT_MOST])}{more}" if odd else _SAME
        yield equal(_PART, name, said, _SAME)
    for name in sorted(release.manifest.files.keys() - ours.keys() - _OTHERS_OF_OURS):
        yield shown(_PART, name, "no file that this software makes, and nothing here looked into it")


def _differences(name: str, stated: bytes, made: bytes) -> list[str]:
    """What is not the same: keys of JSON, names of tensors, or the whole."""
    if stated == made:
        return []
    if Path(name).suffix not in _READ:
        return ["all of it"]
    read, same = _READ[Path(name).suffix]
    try:
        one, other = read(stated), read(made)
    except (SafetensorError, LookupError, ValueError, RecursionError):
        # LookupError: safetensors knows types of numbers that numpy has not.
        return ["not readable"]
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if same(one, other) else ["all of it"]
    return sorted(
        key
        for key in one.keys() | other.keys()
        if key not in one or key not in other or not same(one[key], other[key])
    )
