"""The end of docs/configuration.md: the architectures with their options, and the augmentations.

Each architecture is built once while its reads of options are listened to, so names, defaults and choices are
those of the code. Their sentences stand in docs_sentences.py.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from unittest.mock import patch

import torch

from participant.training.augment import AUGMENTATIONS
from shared.domain.extractor import ExtractorSpec, Option
from shared.extractors.architectures import ARCHITECTURES, CLASSICAL, SENTENCES, TRAINABLE
from shared.extractors.options import Options
from shared.extractors.scope_shape import split_scope
from tools.docs_sentences import OPTIONS

INTRODUCTION = """
## Architectures

What `extractor.architecture` can be in a plan, and the keys of the table `[extractor.options]` for each. An option
that an architecture does not know is refused by name.
"""
CLASSICAL_INTRODUCTION = """
## Classical extractors

Formulas with a clear reading, equal to those of scikit-image. They are released and used like the others, and as they
have nothing to train, a plan that names one is refused. Their embedding_dim follows from the picture's size and the
options; another one is refused with the right number.
"""
SENTENCES_INTRODUCTION = """
## Public encoders of texts

Trained elsewhere, by others, and read from a package; released and used like the others, while a plan that names one
is refused. They read word pieces, so whoever embeds with one needs the package `tokenizers`; verifying needs it not.
"""
AUGMENTATIONS_INTRODUCTION = """
## Augmentations

What `training.augmentations` can list; they are applied in the order given.

| name | what it does |
|---|---|
"""
EVERY = "every architecture that is trained"


@dataclass(frozen=True)
class OptionRead:
    """One option as the code reads it; `choices` are empty where any value of the default's type may stand."""

    name: str
    default: Option
    choices: tuple[str, ...] = ()


def options_of(architecture: str) -> list[OptionRead]:
    """The options that one architecture alone reads, in the order in which it reads them."""
    build, spec = ARCHITECTURES[architecture], _spec(architecture)

    def built() -> None:
        with torch.device("meta"):
            build(spec)

    return _heard(built)


def common_options() -> list[OptionRead]:
    """The options that every architecture of a plan knows: its scope."""
    spec = _spec(next(iter(TRAINABLE)))
    return _heard(lambda: split_scope(spec))


def sentence_of(architecture: str, option: OptionRead) -> str:
    """Its text, by architecture and name or by name alone; empty where there is none."""
    return OPTIONS.get(f"{architecture}.{option.name}") or OPTIONS.get(option.name, "")


def architectures_part() -> str:
    """One section an architecture: those of a plan and what they share, the classical ones, the public encoders."""
    shared = f"\n### Options of {EVERY}\n{_table(EVERY, common_options())}"
    parts = [
        INTRODUCTION,
        *map(_section, TRAINABLE),
        shared,
        CLASSICAL_INTRODUCTION,
        *map(_section, CLASSICAL),
    ]
    return "".join([*parts, SENTENCES_INTRODUCTION, *map(_section, SENTENCES)])


def augmentations_part() -> str:
    """One line an augmentation, from its docstring."""
    rows = (f"| `{name}` | {inspect.getdoc(act)} |\n" for name, act in AUGMENTATIONS.items())
    return AUGMENTATIONS_INTRODUCTION + "".join(rows)


def _section(name: str) -> str:
    return f"\n### {name}\n\n{OPTIONS.get(name, '')}\n{_table(name, options_of(name))}"


def _table(architecture: str, options: list[OptionRead]) -> str:
    if not options:
        return "\nNo options of its own.\n"
    rows = "".join(
        f"| `{o.name}` | {_values(o)} | `{json.dumps(o.default)}` | {sentence_of(architecture, o)} |\n"
        for o in options
    )
    return f"\n| option | values | default | meaning |\n|---|---|---|---|\n{rows}"


def _values(option: OptionRead) -> str:
    if option.choices:
        return ", ".join(f"`{json.dumps(choice)}`" for choice in option.choices)
    return "true or false" if isinstance(option.default, bool) else "whole number"


def _spec(architecture: str) -> ExtractorSpec:
    return ExtractorSpec(architecture, channels=3, height=32, width=32, embedding_dim=96)


def _heard(read: Callable[[], object]) -> list[OptionRead]:
    """Every option that `read` takes."""
    heard: dict[str, OptionRead] = {}
    take, take_one_of = Options.take, Options.take_one_of

    def listen(self: Options, name: str, default: Option) -> Option:
        heard.setdefault(name, OptionRead(name, default))
        return take(self, name, default)

    def listen_to_choice(self: Options, name: str, choices: tuple[str, ...]) -> str:
        heard[name] = OptionRead(name, choices[0], choices)
        return take_one_of(self, name, choices)

    with patch.object(Options, "take", listen), patch.object(Options, "take_one_of", listen_to_choice):
        read()
    return list(heard.values())
