"""peers.json: which organisations this member's operator approved, each pinned by its identity key (clause 5.1)."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from participant.home import Home
from shared.domain.errors import Invalid, NotFound
from shared.domain.files import read_json, write_json
from shared.domain.locking import held_lock
from shared.domain.strict import build, to_plain

FORMAT: Final = "commonlens-peers/1"


@dataclass(frozen=True)
class Approval:
    """What the operator approved: this name under this key."""

    name: str
    identity_public_key: str
    approved_at: str


@dataclass(frozen=True)
class Approvals:
    """The whole file: approvals by member id."""

    peers: Mapping[str, Approval] = field(default_factory=dict)
    format: str = FORMAT


def read_approvals(home: Home) -> dict[str, Approval]:
    """Approvals by member id; none where there is no file. Raises InvalidConfig, Invalid."""
    if not home.peers.exists():
        return {}
    read = build(Approvals, read_json(home.peers), home.peers.name)
    if read.format != FORMAT:
        raise Invalid(
            f"{home.peers.name}: expected the format {FORMAT!r}, found {read.format[:60]!r}. Nothing was read. "
            "If a newer Commonlens wrote it, upgrade this one."
        )
    return dict(read.peers)


def write_approvals(home: Home, approvals: Mapping[str, Approval]) -> None:
    """Replace the file, whole or not at all. The caller holds `home.peers_lock`."""
    write_json(home.peers, to_plain(Approvals(approvals)))


def forget(home: Home, wanted: str) -> Approval:
    """Take an approval back, by member id or name: the organisation waits again. Raises NotFound."""
    with held_lock(home.peers_lock):
        approvals = read_approvals(home)
        fits = [i for i, approval in approvals.items() if alike(approval.name) == alike(wanted)]
        member_id = wanted if wanted in approvals else next(iter(fits), None)
        if member_id is None:
            raise NotFound(
                f"No organisation {wanted[:100]!r} is approved here. Nothing was changed. Run "
                "commonlens-participant peers to see which are."
            )
        forgotten = approvals.pop(member_id)
        write_approvals(home, approvals)
    return forgotten


def alike(name: str) -> str:
    """Names that a person would take for one another: capitals, width and spaces do not tell them apart."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())
