"""What a spec says of its scope, and what a low-rank change makes of a weight (numpy, no torch).

A scope is two options of the spec that every architecture understands, `scope` and `lora_rank`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shared.domain.errors import InvalidConfig
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

    The same bits on every machine: files that are made of it are compared number by number.
    """
    plain = {name: tensor for name, tensor in tensors.items() if not _is_low_rank(name)}
    for name, down in tensors.items():
        layer, is_down, _ = name.rpartition(f".{LORA_DOWN}.weight")
        if is_down:
            up, weight = tensors[f"{layer}.{LORA_UP}.weight"], plain[f"{layer}.weight"]
            changed = weight.astype(np.float64).reshape(len(up), -1)
            # Not by a matrix product, whose order of summing is the machine's: products of float32 are exact here.
            for column, row in zip(up.reshape(len(up), -1).T, down.reshape(len(down), -1), strict=True):
                changed += np.multiply.outer(column.astype(np.float64), row.astype(np.float64))
            plain[f"{layer}.weight"] = changed.astype(np.float32).reshape(weight.shape)
    return plain


def _is_low_rank(name: str) -> bool:
    return name.endswith((f".{LORA_DOWN}.weight", f".{LORA_UP}.weight"))
