"""Real short texts by language: names of languages, countries, currencies and scripts, as pycountry translates them.

pycountry (LGPL-2.1) carries Debian's iso-codes as gettext catalogues. Which language a name is written in is the label.
Only languages in Latin script, so that single bytes do not give it away, and only names that are written so in none of
the others and not in English. Nothing is downloaded, and no text of it lies in this repository.

`PYTHONPATH=. python tests/texts.py FOLDER` writes the tables of docs/tutorial-text.md.
"""

from __future__ import annotations

import csv
import functools
import gettext
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycountry

LANGUAGES = ("ca", "cs", "da", "de", "es", "et", "fi", "fr", "hr", "hu", "it", "nl", "pl", "ro", "sv", "tr")
"""What members know between them: sixteen languages, 1,000 names each at most."""
UNSEEN = ("ga", "is", "lt", "pt", "sl", "vi")
"""Languages that nobody trains on: for heads on a few labels."""
_CATALOGUES: Mapping[str, Iterable[Any]] = {
    "iso639-3": pycountry.languages,
    "iso639-5": pycountry.language_families,
    "iso3166-1": pycountry.countries,
    "iso3166-3": pycountry.historic_countries,
    "iso4217": pycountry.currencies,
    "iso15924": pycountry.scripts,
}
"""Without iso3166-2, whose names of provinces are hardly translated."""
_NAMES = ("name", "common_name", "official_name")

Labelled = list[tuple[str, str]]


def names(languages: Sequence[str] = LANGUAGES, most: int = 1000, seed: int = 0) -> Labelled:
    """(text, language), shuffled: up to `most` names in each of `languages`."""
    every = {code: _translations(code) for code in sorted({*LANGUAGES, *UNSEEN, *languages})}
    written_in = Counter(text for texts in every.values() for text in texts)
    generator = np.random.default_rng(seed)
    found: Labelled = []
    for code in languages:
        own = sorted(text for text in every[code] if written_in[text] == 1)
        found += [(own[k], code) for k in generator.permutation(len(own))[:most]]
    return [found[k] for k in generator.permutation(len(found))]


def keep_back(labelled: Labelled, *counts: int) -> list[Labelled]:
    """The first names of each language, as many as `counts` say, in parts of their own; what is left comes last."""
    parts: list[Labelled] = [[] for _ in range(len(counts) + 1)]
    seen: Counter[str] = Counter()
    for text, code in labelled:
        place, part = seen[code], 0
        while part < len(counts) and place >= counts[part]:
            place, part = place - counts[part], part + 1
        parts[part].append((text, code))
        seen[code] += 1
    return parts


def split_among(labelled: Labelled, members: int, each: int) -> list[Labelled]:
    """Each member knows `each` languages, the next one's overlap with its own; a language's names are dealt out.

    No name goes to two members.
    """
    codes = sorted({code for _, code in labelled})
    step = len(codes) / members
    known = [[codes[(round(m * step) + k) % len(codes)] for k in range(each)] for m in range(members)]
    dealt: list[Labelled] = [[] for _ in range(members)]
    turns: Counter[str] = Counter()
    for text, code in labelled:
        holders = [m for m in range(members) if code in known[m]]
        if holders:
            dealt[holders[turns[code] % len(holders)]].append((text, code))
            turns[code] += 1
    return dealt


def write_csv(path: Path, labelled: Iterable[tuple[str, str]]) -> Path:
    """A CSV with the columns text and label, as `data add --text-column text` reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(labelled)
    return path


@functools.cache
def _english() -> dict[str, set[str]]:
    """Catalogue → the English names that it translates."""
    return {
        catalogue: {getattr(entry, key) for entry in entries for key in _NAMES if hasattr(entry, key)}
        for catalogue, entries in _CATALOGUES.items()
    }


@functools.cache
def _translations(code: str) -> frozenset[str]:
    """Names in one language that differ from the English ones."""
    found = set()
    for catalogue, english in _english().items():
        translation = gettext.translation(catalogue, pycountry.LOCALES_DIR, [code], fallback=True)
        found |= {translation.gettext(name) for name in english} - english
    return frozenset(found)


def main() -> None:
    """Four members that train, and a newcomer with twenty labels a language."""
    folder = Path(sys.argv[1])
    tested, few, trained = keep_back(names(most=1000), 100, 20)
    for name, own in zip(("alder", "birch", "cedar", "dogwood"), split_among(trained, 4, 8), strict=True):
        write_csv(folder / f"{name}.csv", own)
    write_csv(folder / "newcomer.csv", few)
    write_csv(folder / "newcomer-test.csv", tested)


if __name__ == "__main__":
    main()
