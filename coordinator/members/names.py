"""Members' names; one that looks like another organisation's is refused before anybody is invited or let in under it.

Of Unicode's rules for names (UTS 39) the two that matter here, and small: a word keeps to one of the scripts whose
letters look alike, and two names with one skeleton are one name. A skeleton is made with a table of the letters and
signs that people do confuse. The limit: what is not in the table passes, as do accents, letters of one script that
look alike in some fonts, and names that mean the same. Members compare fingerprints all the same (protocol, 5.1).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from shared.domain.errors import AlreadyExists, InvalidMessage

_ALIKE = frozenset({"LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE", "COPTIC"})
"""As the names of their letters begin in Unicode."""
_LETTERS = str.maketrans(
    "АВЕЅІЈКМНОРСТУХаеорсухѕіјһԁԛԝӏ" "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαινορυ",
    "ABESIJKMHOPCTYXaeopcyxsijhdqwl" "ABEZHIKMNOPTYXaivopu",
)  # fmt: skip
_SIGNS = str.maketrans("i1|0", "lllo")
_WORD = re.compile(r"[^\W_]+")


class Names(dict[str, str]):
    """Member id → name, for lists that hold ids, as plans do; an id that nobody enrolled under stands for itself."""

    def __missing__(self, member_id: str) -> str:
        return member_id


def refuse_mixed(name: str) -> None:
    """Raise InvalidMessage for a word with letters of two scripts that look alike."""
    for word in _WORD.findall(unicodedata.normalize("NFKC", name)):
        scripts = sorted({_script(letter) for letter in word} & _ALIKE)
        if len(scripts) > 1:
            raise InvalidMessage(
                f"The word {word} of the name mixes {' and '.join(each.title() for each in scripts)} letters, which "
                "look alike; a word may have those of one script. Nothing was changed. Type the name in one script."
            )


def refuse_alike(name: str, others: Iterable[str]) -> None:
    """Raise AlreadyExists where `name` is none of `others` and looks like one of them."""
    mine = _skeletons(name)
    for other in others:
        if other != name and mine & _skeletons(other):
            raise AlreadyExists(
                f"The name {name} looks like {other}, which is another one here. Nothing was changed. Write it as it "
                "is written there, or choose a name that cannot be taken for it."
            )


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def _skeletons(name: str) -> set[str]:
    """What two names share that are taken for each other: by their letters, or by how those look."""
    whole = unicodedata.normalize("NFKC", name)
    seen = whole.translate(_LETTERS).casefold().translate(_SIGNS).replace("rn", "m").replace("vv", "w")
    return {" ".join(_WORD.findall(text)) for text in (whole.casefold(), seen)}
