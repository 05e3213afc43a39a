"""Whether the files that other programs read beside the weights say what the weights file itself says.

All of them are made from model.safetensors, so they are made again here and compared: JSON value by value, tensors
number by number, anything else byte by byte. A file that this version does not make is nobody's claim of ours.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from shared.embedding import promised_bytes
from shared.evaluation.claims import Claim, equal, shown
from shared.exports.configuration import configuration
from shared.verification import VerifiedExtractor

_PART = "files"
_SAME = "as the weights file"
_NAMED_AT_MOST = 3
_READ: Mapping[str, tuple[Callable[[bytes], Any], Callable[[Any, Any], bool]]] = {
    ".json": (json.loads, operator.eq),
    ".safetensors": (load, np.array_equal),
}
"""By suffix: what is in the file, and whether two of it are the same."""


def configuration_claims(release: VerifiedExtractor, directory: Path) -> Iterator[Claim]:
    """A claim of each file of `configuration`. Raises DigestMismatch as `promised_bytes`, and as `configuration`."""
    for name, made in configuration(release.weights).items():
        stated = promised_bytes(release, directory, name)
        if stated is None:
            yield shown(_PART, name, "none in the release")
            continue
        odd = _differences(name, stated, made)
        more = f" and {len(odd) - _NAMED_AT_MOST} more" if len(odd) > _NAMED_AT_MOST else ""
        said = f"otherwise: {', '.join(odd[:_NAMED_AT_MOST])}{more}" if odd else _SAME
        yield equal(_PART, name, said, _SAME)


def _differences(name: str, stated: bytes, made: bytes) -> list[str]:
    """What is not the same: keys of JSON, names of tensors, or the whole."""
    if stated == made:
        return []
    if Path(name).suffix not in _READ:
        return ["all of it"]
    read, same = _READ[Path(name).suffix]
    try:
        one, other = read(stated), read(made)
    except (SafetensorError, ValueError, RecursionError):
        return ["not readable"]
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if same(one, other) else ["all of it"]
    return sorted(
        key
        for key in one.keys() | other.keys()
        if key not in one or key not in other or not same(one[key], other[key])
    )
