"""Public texts: names of countries and currencies; which language they are written in is the label.

pycountry carries Debian's iso-codes (LGPL-2.1) as gettext catalogues. Only languages in Latin script, and only names
that none of the others writes so, nor English.
"""

from __future__ import annotations

import functools
import gettext
from collections import Counter

import numpy as np
import pycountry

from shared.domain.extractor import ExtractorSpec
from shared.exports.public_pictures import Bytes, Draw
from shared.extractors.preprocess import fit_text
from shared.extractors.texts import decode_text

SET_NAME = "commonlens-export-texts/1"
LANGUAGES = ("cs", "de", "es", "fi", "fr", "hu", "it", "pl", "tr")
_KEYS = ("name", "common_name", "official_name")


def text_records() -> tuple[str, list[Draw]]:
    """The set's name, and for each language what draws names in it."""
    every = [_names(code) for code in LANGUAGES]
    written_in = Counter(name for names in every for name in names)
    return SET_NAME, [
        functools.partial(_texts, sorted(name for name in names if written_in[name] == 1)) for names in every
    ]


def _texts(
    names: list[str], spec: ExtractorSpec, held_out: bool, count: int, rng: np.random.Generator
) -> Bytes:
    """Every second name is held out."""
    own = names[int(held_out) :: 2]
    chosen = rng.permutation(len(own))[:count]
    return np.stack([fit_text(decode_text(own[k].encode("utf-8")), spec) for k in chosen])


def _names(code: str) -> set[str]:
    found: set[str] = set()
    for catalogue, entries in (("iso3166-1", pycountry.countries), ("iso4217", pycountry.currencies)):
        translated = gettext.translation(catalogue, pycountry.LOCALES_DIR, [code])
        english = {getattr(entry, key) for entry in entries for key in _KEYS if hasattr(entry, key)}
        found |= {translated.gettext(name) for name in english} - english
    return found
