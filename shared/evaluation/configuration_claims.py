"""Whether the files that other programs read beside the weights say what the weights file itself says.

All of them are made from model.safetensors, so they are made again here and compared: JSON value by value, tensors
number by number, anything else byte by byte. A file that this version does not make is nobody's claim of ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

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
    try:
        if name.endswith(".safetensors"):
            tensors, right = load(stated), load(made)
            return sorted(
                key
                for key in tensors.keys() | right.keys()
                if key not in tensors or key not in right or not np.array_equal(tensors[key], right[key])
            )
        if name.endswith(".json"):
            values, wanted = json.loads(stated), json.loads(made)
            if isinstance(values, dict) and isinstance(wanted, dict):
                absent = object()
                return sorted(
                    key
                    for key in values.keys() | wanted.keys()
                    if values.get(key, absent) != wanted.get(key, absent)
                )
            return [] if values == wanted else ["all of it"]
    except (SafetensorError, ValueError, RecursionError):
        return ["not readable"]
    return ["all of it"]
