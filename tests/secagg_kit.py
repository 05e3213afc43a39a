"""A consortium of real members for tests of secure rounds: real keys and signatures, no wire and no disk.

`Round` plays the coordinator, honest or not: a test decides what it tells to whom, and keeps all that it hears.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from shared.domain.canonical import digest_of_bytes
from shared.release.signing import SigningKey, verify_value
from shared.secagg import shamir
from shared.secagg.dealing import addressed_to
from shared.secagg.keys import next_noise_seed
from shared.secagg.member import MemberRound
from shared.secagg.messages import Deal, KeyOffer, UnmaskShares, roster_digest
from shared.secagg.parameters import Ring, RoundTerms
from shared.secagg.server import ServerRound

IDENTITIES = [SigningKey.generate() for _ in range(12)]
"""Long-lived keys, which members keep from round to round."""

WEIGHTS = digest_of_bytes(b"the weights of the round")
"""What everybody trains from, unless a test says otherwise."""


def names(count: int) -> list[str]:
    """mem_0, mem_1, …"""
    return [f"mem_{place}" for place in range(count)]


def identity(member_id: str) -> SigningKey:
    """The long-lived key of a member of `names`."""
    return IDENTITIES[int(member_id.removeprefix("mem_"))]


def terms(**changes: Any) -> RoundTerms:
    """Terms for five numbers a member; quorum 4 of 5, one colluder."""
    values: dict[str, Any] = {
        "run_id": "run_1",
        "round_number": 1,
        "plan_digest": "sha256:" + "0" * 64,
        "quorum": 4,
        "colluders": 1,
        "mask_reach": 0,
        "tolerance_steps": 2,
        "ring_bits": 32,
        "length": 5,
        **changes,
    }
    return RoundTerms(**{"share_threshold": values["quorum"], **values})


def secret_vector(the_terms: RoundTerms, member_id: str) -> Ring:
    """What a member contributes: as random as anything, and the same each time."""
    place = int(member_id.removeprefix("mem_"))
    generator = np.random.default_rng(1000 * place + the_terms.round_number)
    return generator.integers(0, 1 << the_terms.ring_bits, the_terms.length, dtype=the_terms.dtype)


def plain_sum(the_terms: RoundTerms, members: Iterable[str]) -> Ring:
    """What the masked sum must come out as."""
    total = np.zeros(the_terms.length, dtype=the_terms.dtype)
    for member in members:
        total += secret_vector(the_terms, member)
    return total


class Round:
    """One round of `count` members, and everything the coordinator has heard so far."""

    def __init__(
        self, the_terms: RoundTerms, count: int, kinds: Mapping[str, type[MemberRound]] | None = None
    ) -> None:
        self.terms = the_terms
        self.names = names(count)
        self.identity_keys = {name: identity(name).public_hex for name in self.names}
        self.members = {
            name: (kinds or {}).get(name, MemberRound).open(the_terms, name, identity(name).sign_value)
            for name in self.names
        }
        self.offers: list[KeyOffer] = [member.offer for member in self.members.values()]
        self.deals: dict[str, Deal] = {}
        self.masked: dict[str, Ring] = {}
        self.bundles: dict[str, dict[str, str]] = {}
        """What each member was dealt: what a colluder hands over."""
        self.told: dict[str, str] = {}
        """Signatures under the cohort."""
        self.listed: dict[str, str] = {}
        """Signatures under the last list of survivors that was asked for."""

    def deal(self, who: Sequence[str] | None = None) -> None:
        """Everybody (or `who`) deals for the roster of all offers."""
        for name in self.names if who is None else who:
            self.deals[name] = self.members[name].deal(self.offers, self.identity_keys, verify_value)

    def ciphertexts_for(self, name: str, cohort: Sequence[str]) -> dict[str, str]:
        """The sealed shares that `name` gets with `cohort`."""
        return addressed_to(name, [self.deals[sender] for sender in cohort])

    def accept(self, name: str, cohort: Sequence[str]) -> None:
        """One member takes the cohort."""
        self.members[name].accept(roster_digest(self.offers), cohort, self.ciphertexts_for(name, cohort))
        self.bundles[name] = self.members[name].to_plain()["bundles"]

    def contribute(self, cohort: Sequence[str], who: Sequence[str] | None = None) -> None:
        """Everybody of the cohort (or `who`) sends its masked vector and its signature under the cohort."""
        for name in cohort if who is None else who:
            self.accept(name, cohort)
            self.masked[name] = self.members[name].mask(secret_vector(self.terms, name))
            self.told[name] = self.members[name].contributed(WEIGHTS)

    def endorse(self, survivors: Sequence[str], who: Sequence[str] | None = None) -> dict[str, str]:
        """Signatures under a list of survivors."""
        self.listed = {
            name: self.members[name].endorse(survivors) for name in (survivors if who is None else who)
        }
        return self.listed

    def unmask(self, survivors: Sequence[str], who: Sequence[str] | None = None) -> list[UnmaskShares]:
        """The answers of all survivors (or `who`), with all signatures that were heard."""
        told = {name: self.told[name] for name in survivors}
        return [
            self.members[name].unmask(survivors, told, self.listed, verify_value)
            for name in (survivors if who is None else who)
        ]

    def server(self, cohort: Sequence[str], added: Sequence[str]) -> ServerRound:
        """A sum with the masked vectors of `added` in it."""
        server = ServerRound(self.terms, self.offers, cohort, WEIGHTS)
        for name in added:
            server.add(name, self.masked[name])
        return server

    def until_contributed(self, cohort: Sequence[str] | None = None) -> Round:
        """Everybody deals and contributes."""
        self.deal()
        self.contribute(cohort or self.names)
        return self


def split(secret: bytes, threshold: int, xs: Sequence[int]) -> dict[int, bytes]:
    """Shamir's sharing: threshold - 1 of the shares drawn, those of the first places; the others follow."""
    drawn = {x: secrets.randbelow(shamir.PRIME) for x in xs[: threshold - 1]}
    (others,) = shamir.complete([secret], {x: [value] for x, value in drawn.items()}, xs[threshold - 1 :])
    return {x: shamir.to_share(value) for x, value in drawn.items()} | others


def chain_from(seed: bytes, steps: int) -> list[bytes]:
    """`steps` seeds of a noise chain from `seed` on."""
    chain = [seed]
    while len(chain) < steps:
        chain.append(next_noise_seed(chain[-1]))
    return chain[:steps]
