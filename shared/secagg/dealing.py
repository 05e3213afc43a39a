"""Shares of one member's secrets: derived or sealed, opened at their holders, and given to unmask (5.2, 5.4).

A bundle is what one holder gets of one owner: a share of its mask key, of each noise step's seed, and of the self
mask's seed, in this order, SHARE_BYTES each.

*Who is sent what.* A polynomial of degree threshold - 1 is fixed by its secret and threshold - 1 further points.
Those points are the shares of the threshold - 1 members after the owner, and both sides derive them from the
secret of their channel; only what the others hold, n - threshold bundles, is computed and sent. Points that
are uniform and independent make a polynomial that is uniform among those with its secret, as Shamir's drawn
coefficients do: what any set of holders knows together is distributed as before, up to what tells HKDF's output
from random bits. It takes the dealer's liberty away for these holders, and gives the network less to change.

*What it does not show.* A derived share comes with no ciphertext that fails to open: a member that is told an
owner's name and another roster than the owner dealt for derives shares that fit nothing. Such an owner's
contribution is in no sum (its signature is for its own roster), and where its mask key is to be rebuilt, what is
rebuilt does not fit its offer: the round ends empty, as if that owner had dealt nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from shared.domain.errors import InvalidMessage
from shared.secagg import keys, shamir
from shared.secagg.channels import Channels
from shared.secagg.messages import Deal, UnmaskShares, bundle_bytes, decode, encode, sealed_bytes
from shared.secagg.parameters import RoundTerms, needed_steps
from shared.secagg.roster import Roster


def deal_shares(
    terms: RoundTerms, roster: Roster, owner: str, drawn: keys.RoundSecrets, channels: Channels
) -> tuple[Deal, str]:
    """The owner's deal, and the bundle (base64) that it keeps as its own holder. The same whenever it is called."""
    bundles = computed_bundles(terms, roster, owner, drawn, channels)
    own = encode(bundles.pop(owner))
    sealed = {holder: encode(channels.seal(holder, data)) for holder, data in bundles.items()}
    return Deal(owner, sealed), own


def computed_bundles(
    terms: RoundTerms, roster: Roster, owner: str, drawn: keys.RoundSecrets, channels: Channels
) -> dict[str, bytes]:
    """Holder → bundle, of the owner itself and of everybody who does not derive one."""
    derived = {
        roster.x_of(holder): channels.derived(owner, holder)
        for holder in roster.members
        if roster.derives(terms, holder, owner)
    }
    others = [holder for holder in roster.members if roster.x_of(holder) not in derived]
    places = [roster.x_of(holder) for holder in others]
    shared = (drawn.mask_private, *keys.shared_seeds(drawn.noise_seed, terms.tolerance_steps))
    completed = shamir.complete(shared, derived, places)
    return {
        holder: b"".join(shares[place] for shares in completed)
        for holder, place in zip(others, places, strict=True)
    }


def check_deal(terms: RoundTerms, roster: Roster, deal: Deal) -> None:
    """Raise InvalidMessage unless the deal is of one of the roster, and has a bundle for each who is sent one alone.

    Whether a bundle opens only its receiver can tell. But one that is missing or of another length would have the
    receivers refuse the cohort that its owner is in, and so keep them out instead of it.
    """
    owner = deal.member_id
    if owner not in roster.members:
        raise InvalidMessage(
            f"The roster of round {terms.round_number} has no keys of {owner}, which sent sealed shares for it. They "
            "were not handed on. That member runs other software or is not honest."
        )
    owed = {m for m in roster.members if m != owner and not roster.derives(terms, m, owner)}
    if set(deal.ciphertexts) != owed:
        raise InvalidMessage(
            f"{owner} owes sealed shares to {len(owed)} members of round {terms.round_number}, and sent those of "
            f"{len(owed & set(deal.ciphertexts))} and of {len(set(deal.ciphertexts) - owed)} others. They were not "
            "handed on. That member runs other software or is not honest."
        )
    deal.check(terms)


def addressed_to(holder: str, deals: Iterable[Deal]) -> dict[str, str]:
    """Owner → sealed bundle (base64) of those whose deal has one for `holder`."""
    return {deal.member_id: deal.ciphertexts[holder] for deal in deals if holder in deal.ciphertexts}


def sent_shares(terms: RoundTerms, roster: Roster, holder: str, owners: Iterable[str]) -> set[str]:
    """Those of `owners` whose shares `holder` is sent; of the others it derives them, and keeps its own."""
    return {owner for owner in owners if owner != holder and not roster.derives(terms, holder, owner)}


def held_bundles(
    terms: RoundTerms,
    roster: Roster,
    holder: str,
    owners: Iterable[str],
    ciphertexts: Mapping[str, str],
    channels: Channels,
) -> dict[str, str]:
    """Owner → bundle (base64) of each of the other `owners`. Raises InvalidMessage, SharesRejected."""
    bundles = {}
    for owner in owners:
        if owner in ciphertexts:
            data = decode(ciphertexts[owner], sealed_bytes(terms), f"the deal of {owner}")
            bundles[owner] = encode(channels.unseal(owner, data))
        elif owner != holder:
            bundles[owner] = encode(derived_bundle(owner, holder, channels))
    return bundles


def derived_bundle(owner: str, holder: str, channels: Channels) -> bytes:
    """What `holder` has of `owner` without being sent it, at either of the two."""
    return b"".join(map(shamir.to_share, channels.derived(owner, holder)))


def shares_for(
    terms: RoundTerms,
    holder: str,
    cohort: Sequence[str],
    survivors: Sequence[str],
    bundles: Mapping[str, str],
) -> UnmaskShares:
    """What `holder` gives to unmask `survivors`: never two shares that belong to both masks of one owner.

    Of a survivor its share of the first seed that these survivors do not need (clause 3.9), from which the self
    mask's follows; of a dropped member its key share.
    """
    needed = needed_steps(len(cohort), terms.quorum, terms.tolerance_steps, len(survivors))
    survived = set(survivors)
    seed_shares: dict[str, str] = {}
    key_shares: dict[str, str] = {}
    for owner in sorted(bundles):
        bundle = decode(bundles[owner], bundle_bytes(terms), "a stored bundle")
        place = 1 + needed if owner in survived else 0
        share = encode(bundle[place * shamir.SHARE_BYTES : (place + 1) * shamir.SHARE_BYTES])
        (seed_shares if owner in survived else key_shares)[owner] = share
    return UnmaskShares(holder, seed_shares, key_shares)
