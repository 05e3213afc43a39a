"""Rebuild shared secrets although some who answer lie: every secret is known by a commitment of its owner.

Shamir's shares carry no proof (shamir.py), but mask keys, self seeds and noise seeds each have a signed
counterpart in the owner's key offer. So a wrong share is always noticed, and other shares are tried.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator, Mapping
from math import comb
from typing import Final

from shared.domain.errors import InvalidMessage, UnmaskFailed
from shared.secagg import shamir
from shared.secagg.messages import decode
from shared.secagg.parameters import RoundTerms
from shared.secagg.roster import Roster

MAXIMUM_WORK: Final = 10**7
"""Sets of shares tried beyond the first of each secret, in all, times the square of a set's size, which is what one
costs: a few seconds, whoever lies and however many they are. With the default quorum all sets are fewer in a cohort
of up to 20, and all sets for every member's secret in one of up to 16: there a quorum of right shares is found."""


class Rebuilder:
    """Rebuilds the secrets of one round, and remembers who gave a wrong share, to ask them last."""

    def __init__(self, terms: RoundTerms, roster: Roster) -> None:
        self._threshold = terms.share_threshold
        self._colluders = terms.colluders
        self._roster = roster
        self._most_tries = self._tries_left = MAXIMUM_WORK // terms.share_threshold**2
        self._misfits: dict[str, set[str]] = {}
        """Holder → owners of whom its share is none, unless the owner or more than the colluders lied."""
        self.suspects: set[str] = set()
        """Members who gave a share that does not fit those by which its owner's secret was rebuilt: asked last."""

    @property
    def liars(self) -> set[str]:
        """Who gave wrong shares, as far as no more than the plan's colluders lie.

        That a share does not fit says that its holder lied *or* its owner dealt it so: one dealer could have any
        holder's share look wrong. So a holder is among these where its share of its own secret does not fit, or
        those of more owners than there are colluders.
        """
        return {
            holder
            for holder, owners in self._misfits.items()
            if holder in owners or len(owners) > self._colluders
        }

    def rebuild(self, owner: str, given: Mapping[str, str | None], fits: Callable[[bytes], bool]) -> bytes:
        """The 32-byte secret of `owner` for which `fits`, from shares (base64) by holder. Raises UnmaskFailed."""
        shares = {
            holder: decode(text, shamir.SHARE_BYTES, f"the share of {owner}")
            for holder, text in given.items()
            if text is not None
        }
        trusted_first = sorted(shares, key=lambda holder: (holder in self.suspects, holder))
        if len(shares) >= self._threshold:
            for count, tried in enumerate(self._subsets(trusted_first)):
                secret = self._combined({holder: shares[holder] for holder in tried})
                if secret is not None and fits(secret):
                    if count or self.suspects:
                        self._note_misfits(owner, tried, shares, secret)
                    return secret
        raise UnmaskFailed(
            f"A mask of {owner} is rebuilt from {self._threshold} right shares; {len(shares)} came, and none of "
            f"the sets tried leads to what {owner} signed. Nothing was unmasked. {self._whose_lie(owner, shares)}"
        )

    def _whose_lie(self, owner: str, shares: Mapping[str, bytes]) -> str:
        """After all sets of an honest owner's shares, more than len(shares) - threshold of them must be wrong."""
        all_tried = comb(len(shares), self._threshold) <= self._most_tries and self._tries_left > 0
        if all_tried and len(shares) - self._threshold >= self._colluders:
            return (
                f"All sets were tried, so {owner} dealt wrong shares, unless more members than the {self._colluders} "
                "that the plan reckons with lied about them. Ask its operator, and leave it out if it happens again."
            )
        return "It dealt wrong shares, or too many members answered with wrong ones: ask their operators."

    def _subsets(self, holders: list[str]) -> Iterator[tuple[str, ...]]:
        """The first `threshold` holders; then all sets of that size where they are few, else random ones."""
        size = self._threshold
        yield tuple(holders[:size])
        if comb(len(holders), size) <= self._most_tries:
            others: Iterator[tuple[str, ...]] = itertools.islice(
                itertools.combinations(holders, size), 1, None
            )
        else:
            draw = secrets.SystemRandom().sample
            others = (tuple(draw(holders, size)) for _ in itertools.count())
        for tried in others:
            if self._tries_left <= 0:
                return
            self._tries_left -= 1
            yield tried

    def _combined(self, shares: Mapping[str, bytes]) -> bytes | None:
        try:
            return shamir.combine(
                {self._roster.x_of(holder): share for holder, share in shares.items()}, self._threshold
            )
        except InvalidMessage:  # a value outside the field, or a secret too large: some share is wrong
            return None

    def _note_misfits(
        self, owner: str, right: tuple[str, ...], shares: Mapping[str, bytes], secret: bytes
    ) -> None:
        """Whose shares are off the polynomial through the secret and `right`, and whether that is the owner's.

        It need not be: errors that cancel at the secret lead to it as well. Two polynomials through it have at most
        threshold - 2 further points in common; where threshold - 1 honest holders are on this one, it is the one.
        """
        places = {holder: self._roster.x_of(holder) for holder in shares}
        others = [holder for holder in shares if holder not in right]
        if not others:
            return
        given = {places[holder]: [int.from_bytes(shares[holder], "big")] for holder in right[1:]}
        (fitting,) = shamir.complete([secret], given, [places[holder] for holder in others])
        off = {holder for holder in others if shares[holder] != fitting[places[holder]]}
        self.suspects |= off
        if len(shares) - len(off) - self._colluders >= self._threshold - 1:
            for holder in off:
                self._misfits.setdefault(holder, set()).add(owner)
