"""Shares of one member's secrets: split, sealed to their holders, opened there, and given to unmask (5.2, 5.4).

A bundle is what one holder gets of one owner: a share of its self-mask seed, of its mask key, and of each of its
noise seeds, in this order, SHARE_BYTES each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.secagg import keys, shamir
from shared.secagg.messages import Deal, UnmaskShares, decode, encode, sealed_bytes
from shared.secagg.parameters import RoundTerms, needed_steps, tolerance
from shared.secagg.roster import Roster


def deal_shares(terms: RoundTerms, roster: Roster, owner: str, drawn: keys.RoundSecrets) -> tuple[Deal, str]:
    """The owner's deal to everybody else on the roster, and the bundle (base64) that it keeps as its own holder."""
    places = [roster.x_of(holder) for holder in roster.members]
    seeds = keys.noise_chain(drawn.noise_seed, terms.tolerance_steps)
    split = [
        shamir.split(secret, terms.share_threshold, places)
        for secret in (drawn.self_seed, drawn.mask_private, *seeds)
    ]
    channel = keys.load_private(drawn.channel_private)
    sealed, own = {}, b""
    for holder, place in zip(roster.members, places, strict=True):
        bundle = b"".join(shares[place] for shares in split)
        if holder == owner:
            own = bundle
            continue
        peer = roster.offer(holder).channel_public_key
        sealed[holder] = encode(keys.seal(terms, roster.digest, owner, holder, channel, peer, bundle))
    return Deal(owner, sealed), encode(own)


def open_bundles(
    terms: RoundTerms, roster: Roster, holder: str, channel_private: bytes, ciphertexts: Mapping[str, str]
) -> dict[str, str]:
    """Owner → bundle (base64) from owner → sealed bundle. Raises InvalidMessage, SharesRejected."""
    bundles, channel = {}, keys.load_private(channel_private)
    for owner, text in ciphertexts.items():
        data = decode(text, sealed_bytes(terms), f"the deal of {owner}")
        peer = roster.offer(owner).channel_public_key
        bundles[owner] = encode(keys.unseal(terms, roster.digest, owner, holder, channel, peer, data))
    return bundles


def shares_for(
    terms: RoundTerms,
    holder: str,
    cohort: Sequence[str],
    survivors: Sequence[str],
    bundles: Mapping[str, str],
) -> UnmaskShares:
    """What `holder` gives to unmask `survivors`: never two shares that belong to both masks of one owner.

    Of a survivor its self share, and its share of the first noise seed that these survivors do not need
    (clause 3.9); of a dropped member its key share.
    """
    steps = len(tolerance(len(cohort), terms.quorum, terms.tolerance_steps))
    needed = needed_steps(len(cohort), terms.quorum, terms.tolerance_steps, len(survivors))
    survived = set(survivors)
    self_shares, key_shares, noise_shares = {}, {}, {}
    for owner in sorted(bundles):
        bundle = decode(bundles[owner], (2 + terms.tolerance_steps) * shamir.SHARE_BYTES, "a stored bundle")
        of_self, of_key, *of_noise = (
            encode(bundle[start : start + shamir.SHARE_BYTES])
            for start in range(0, len(bundle), shamir.SHARE_BYTES)
        )
        if owner not in survived:
            key_shares[owner] = of_key
            continue
        self_shares[owner] = of_self
        if needed < steps:
            noise_shares[owner] = of_noise[needed]
    return UnmaskShares(holder, self_shares, key_shares, noise_shares)
