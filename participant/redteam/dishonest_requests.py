"""What a coordinator can ask of a real node, each attempt with and without the rule that stops it.

Without: a node that lost the protection in question, where the attempt must succeed. With: the node as it is.
Fresh noise is what these attempts are after: noise of the same std drawn k times over averages to 1/√k of it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from participant.consents import plan_file_name, save_reviewed
from participant.redteam.dishonest_home import START
from participant.redteam.dishonest_node import UNBOUNDED, NodePlay, NodeRefused, Vector
from participant.redteam.dishonest_play import VICTIM_ALONE, Outcome
from shared.domain.files import write_json
from shared.domain.plan import Plan
from shared.extractors.vectors import trainable_layout
from shared.privacy.soundness import LEAST_NOISE

TIMES = 4
"""How often the same round is asked for."""
_AMPLIFIED = 1e3


def fake_members(plan: Plan, folder: Path, protected: bool) -> Outcome:
    """Enrol friends under the names of all other members, and sum the victim with them alone."""
    play = NodePlay(plan, folder, approved=not protected, honest_peers=False)
    return _measured(play, holds=VICTIM_ALONE)


def replayed_round(plan: Plan, folder: Path, protected: bool) -> Outcome:
    """Send the same request again and again, and average the answers."""
    play = NodePlay(plan, folder)
    weights, seen = play.weights, []
    if protected:
        seen.append(play.seen(weights, play.plan))
        for _ in range(TIMES - 1):
            play.ask(play.request(play.plan, weights, play.masked))
        if len(set(play.wire.uploads)) > 1:
            return Outcome(1.0 / math.sqrt(TIMES), "the average of different answers")
    else:
        for _ in range(TIMES):
            play.forget()
            seen.append(play.seen(weights, play.plan))
    noise = np.mean(seen, axis=0) - play.exact(weights, play.plan)
    return Outcome(float(np.std(noise)) / play.std(play.plan), "the average of the answers")


def other_weights(plan: Plan, folder: Path, protected: bool) -> Outcome:
    """Ask for a round once more, from other weights each time."""
    play = NodePlay(plan, folder)
    found = []
    for turn in range(TIMES):
        weights = play.weights * np.float32(1.0 + turn)
        if not protected:
            play.forget()
        elif turn:
            try:
                play.ask(play.request(play.plan, weights, play.masked))
            except NodeRefused as refusal:
                return Outcome(refusal=str(refusal))
        found.append(play.noise_left(weights))
    return Outcome(float(np.mean(found)), releases=TIMES // play.charges)


def other_cohort(plan: Plan, folder: Path, protected: bool) -> Outcome:
    """Ask for a round once more, with another cohort each time."""
    play = NodePlay(plan, folder)
    found = []
    for turn in range(TIMES):
        if not protected:
            play.forget()
        try:
            found.append(play.noise_left(play.weights, gone=turn % 2))
        except NodeRefused as refusal:
            return Outcome(refusal=str(refusal))
    return Outcome(float(np.mean(found)), releases=TIMES // play.charges)


def changed_plan(plan: Plan, folder: Path, protected: bool) -> Outcome:
    """Ask for a round of another plan, with less noise; unprotected, the coordinator's word is consent enough."""
    play = NodePlay(plan, folder)
    terms = play.plan.privacy
    weaker = max(LEAST_NOISE, terms.noise_multiplier / 4.0)
    secure = play.plan.secure
    if secure is not None:
        finer = secure.grid_width * weaker / terms.noise_multiplier
        secure = replace(secure, grid_width=finer, ring_bits=32)
    other = replace(play.plan, privacy=replace(terms, noise_multiplier=weaker), secure=secure)
    save_reviewed(play.home, other, (folder / START).read_bytes())
    if not protected:
        digest = str(other.digest)
        consent = {"plan_digest": digest, "member_id": play.me, "signature": "", "runs": 1}
        write_json(play.home.consents / f"{plan_file_name(digest)}.json", consent)
    return _measured(play, other)


def crafted_weights(plan: Plan, folder: Path, protected: bool) -> Outcome:
    """Send weights with a layer zeroed, or amplified a thousandfold; all other members deviate too.

    The node trains from them: weights are public inputs of the mechanism, and its bound holds for any. What
    they can do is make one record's gradient long, which the clip undoes; unprotected is a sum without it.
    """
    play = NodePlay(plan, folder, honest_peers=False)
    clip_norm_l2 = play.plan.privacy.clip_norm_l2
    crafted = crafted_vectors(play)
    records = play.reader.training_indices
    together = [np.linalg.norm(play.clipped(weights, records, UNBOUNDED)) for weights in crafted]
    worst = crafted[int(np.argmax(together))]
    noise_left = play.noise_left(worst)
    if protected:
        influence = max(play.longest_of_one(weights, clip_norm_l2) for weights in crafted)
    else:
        influence = play.longest_of_one(worst, UNBOUNDED)
    return Outcome(noise_left * clip_norm_l2 / influence, VICTIM_ALONE, influence=influence / clip_norm_l2)


def _measured(play: NodePlay, plan: Plan | None = None, holds: str = "the sum") -> Outcome:
    try:
        return Outcome(play.noise_left(play.weights, plan), holds)
    except NodeRefused as refusal:
        return Outcome(refusal=str(refusal))


def crafted_vectors(play: NodePlay) -> list[Vector]:
    """The starting weights, with each layer in turn zeroed, and amplified; a shared head is one layer more."""
    crafted, start = [], 0
    sizes = [slot.coordinates for slot in trainable_layout(play.extractor).slots if slot.trainable]
    head = play.plan.shared_head
    for size in (*sizes, *(() if head is None else (head.coordinates,))):
        for factor in (0.0, _AMPLIFIED):
            weights = play.weights
            weights[start : start + size] *= np.float32(factor)
            crafted.append(weights)
        start += size
    return crafted
