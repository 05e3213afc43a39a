"""What a spec says of its scope, and what a low-rank change makes of a weight (numpy, no torch).

A scope is two options of the spec that every architecture understands, `scope` and `lora_rank`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shared.domain.errors import InvalidConfig, InvalidWeights
from shared.domain.extractor import ExtractorSpec
from shared.extractors.flatten import Tensors
from shared.extractors.options import Options

SCOPES = ("all", "last_block", "film", "lora")
LORA_DOWN, LORA_UP = "lora_a", "lora_b"


@dataclass(frozen=True)
class Scope:
    """`rank` is that of `lora`, and means nothing elsewhere."""

    kind: str
    rank: int


def split_scope(spec: ExtractorSpec) -> tuple[ExtractorSpec, Scope]:
    """`spec` without the options of the scope, and the scope. Raises InvalidConfig.

    scope: among SCOPES, default all. lora_rank: 4 by default, only with scope lora.
    """
    options = Options(spec)
    scope = Scope(options.take_one_of("scope", SCOPES), options.take("lora_rank", 4))
    if "lora_rank" in spec.options and scope.kind != "lora":
        raise InvalidConfig(
            f"Expected lora_rank only with scope 'lora', found it with scope {scope.kind!r}. Nothing was built. "
            "Remove it, or set the scope."
        )
    plain = {name: value for name, value in spec.options.items() if name not in ("scope", "lora_rank")}
    return replace(spec, options=plain), scope


def folded(tensors: Mapping[str, npt.NDArray[np.float32]]) -> Tensors:
    """Tensors float32 of a network after `lora` as those of the network without: W + B·A in place of W.

    The same bits on every machine: files that are made of it are compared number by number. Raises InvalidWeights where
    a weight and its two factors do not fit.
    """
    plain = {name: tensor for name, tensor in tensors.items() if not _is_low_rank(name)}
    for name, down in tensors.items():
        layer, is_down, _ = name.rpartition(f".{LORA_DOWN}.weight")
        if is_down:
            plain[f"{layer}.weight"] = _changed(layer, tensors, down)
    return plain


def _changed(
    layer: str, tensors: Mapping[str, npt.NDArray[np.float32]], down: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    weight, up = (tensors.get(f"{layer}.{name}") for name in ("weight", f"{LORA_UP}.weight"))
    if weight is None or up is None or not _fits(weight, down, up):
        raise InvalidWeights(
            f"Expected a weight {layer!r} and two matrices whose product has its shape, found other tensors. They were "
            "not used. Get the file again from its release, and verify it."
        )
    rows, columns = up.reshape(len(weight), len(down)), down.reshape(len(down), down[0].size)
    changed = weight.astype(np.float64).reshape(len(weight), down[0].size)
    # Not by a matrix product, whose order of summing is the machine's: products of float32 are exact here.
    for column, row in zip(rows.T, columns, strict=True):
        changed += np.multiply.outer(column.astype(np.float64), row.astype(np.float64))
    return changed.astype(np.float32).reshape(weight.shape)


def _fits(
    weight: npt.NDArray[np.float32], down: npt.NDArray[np.float32], up: npt.NDArray[np.float32]
) -> bool:
    """Before anything is allocated: the product of two long vectors would be larger than any file."""
    wide = weight.ndim >= 2 and down.size > 0 and down.shape[1:] == weight.shape[1:]
    return wide and up.shape[:2] == (len(weight), len(down)) and up.size == len(weight) * len(down)


def _is_low_rank(name: str) -> bool:
    return name.endswith((f".{LORA_DOWN}.weight", f".{LORA_UP}.weight"))
