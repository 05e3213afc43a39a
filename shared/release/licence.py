"""The licence of a release, and how model hubs want it said.

Hubs know some licences by a short name (Hugging Face: "Licenses" in its hub documentation) and refuse a card with
another; any other is `other`, with a name and a link of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

OTHER: Final = "other"
IDENTIFIER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}\Z")
"""SPDX, or `other`."""
NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}\Z")
LINK: Final = re.compile(r"https://[A-Za-z0-9][A-Za-z0-9._~:/?#@!$&'()*+,;=%-]{0,250}\Z")
_KNOWN: Final = """
    afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gpl-2.0 gpl-3.0 isc
    lgpl-2.1 lgpl-3.0 lppl-1.3c mit mpl-2.0 ms-pl ncsa ofl-1.1 osl-3.0 postgresql unlicense wtfpl zlib
"""
"""Hugging Face's names for what SPDX knows as well."""


@dataclass(frozen=True)
class Licence:
    """Under which terms the consortium's own releases may be used; stated on each release's card."""

    id: str = OTHER
    """An SPDX identifier, such as Apache-2.0, or other: the consortium's own terms."""
    name: str = ""
    """Where it is other: what to call the terms, in lower-case letters, digits, dots and hyphens."""
    link: str = ""
    """Where it is other and has a name: the https:// address where the terms can be read."""


OWN_TERMS: Final = Licence()
"""Nothing is known of them; whoever wants to use a release has to ask."""


def hub_metadata(licence: Licence) -> dict[str, str]:
    """The lines of a card's metadata that say it."""
    if licence.id.lower() == OTHER:
        named = {"license_name": licence.name, "license_link": licence.link}
        return {"license": OTHER} | {key: value for key, value in named.items() if value}
    known = licence.id.lower()
    for ending in ("-only", "-or-later"):  # hubs know each GNU licence by one name
        known = known.removesuffix(ending)
    return (
        {"license": known}
        if known in _KNOWN.split()
        else {"license": OTHER, "license_name": licence.id.lower()}
    )


def fault_of(licence: Licence) -> tuple[str, str, str] | None:
    """(field, what is expected there, what was found) of the first thing that is wrong, or None."""
    if not IDENTIFIER.match(licence.id):
        return "id", "an SPDX identifier such as Apache-2.0, or other", licence.id[:80]
    if licence.id.lower() != OTHER and (licence.name or licence.link):
        return "name", f"no name and no link beside the id {licence.id}", (licence.name or licence.link)[:80]
    if licence.name and not NAME.match(licence.name):
        return "name", "lower-case letters, digits, dots and hyphens, 64 at most", licence.name[:80]
    if licence.link and not licence.name:
        return "name", "a name for the terms that link leads to", licence.name
    if licence.link and not LINK.match(licence.link):
        return "link", "an address that starts with https:// and has no spaces", licence.link[:80]
    return None
