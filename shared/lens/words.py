"""A lens profile, or a difference of two, in two or three plain sentences, by thresholds that stand here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.lens.difference_shape import Difference
from shared.lens.estimate import Estimate
from shared.lens.profile_shape import LensProfile, Probe

CLEAR, IN_PART = 0.75, 0.25
"""Of the way from chance to always right: from the first on an answer is seen, from the second on in part."""
FAR, HARDLY = 0.75, 0.25
"""In distances to another photograph: from the first on a change moves it far, below the second hardly."""
OF_NOTE = 0.05
"""In distances to another photograph: by how much less a movement may have changed to go without saying."""

_CHANGED: Mapping[str, str] = {
    "colour-shift": "other colours",
    "brightness": "less light",
    "blur": "blur",
    "texture-swap": "another texture",
    "crop": "a crop",
    "rotation": "a quarter turn",
    "layout-shuffle": "a shuffled layout",
}


def describe(profile: LensProfile) -> str:
    """What it sees and is nearly blind to; what moves it far and what hardly does."""
    return f"{_sees(profile)} {_moves(profile)}"


def above_chance(probe: Probe) -> float:
    """0 is guessing and 1 always right; below 0 where it is wrong more often than by guessing."""
    return (probe.accuracy - probe.chance) / (1 - probe.chance)


def describe_difference(difference: Difference) -> str:
    """What is told better or worse beyond chance; what moves it farther or less far; how many neighbours stayed."""
    sentences = (_told_change(difference), _moved_change(difference), _neighbours(difference))
    return " ".join(sentence for sentence in sentences if sentence)


def _told_change(difference: Difference) -> str:
    changed = [told for told in difference.tells if told.more.beyond_chance]
    same = [told.what for told in difference.tells if not told.more.beyond_chance]
    parts = [
        f"tells {_listed([f'{told.what} {_points(told.more)}' for told in some])} {word}"
        for word, some in (
            ("better", [told for told in changed if told.more.value > 0]),
            ("worse", [told for told in changed if told.more.value < 0]),
        )
        if some
    ]
    parts += [f"no difference beyond chance in telling {_listed(same)}"] if same else []
    return _sentence(parts)


def _moved_change(difference: Difference) -> str:
    """Nothing where the records are no pictures."""
    if not difference.moves:
        return ""
    parts = []
    for word, sign in (("farther", 1), ("less far", -1)):
        some = [
            f"{_CHANGED[move.change]} ({move.more.value:+.2f}, 95 % {move.more.low:+.2f} to {move.more.high:+.2f})"
            for move in difference.moves
            if move.more.beyond_chance and sign * move.more.value >= OF_NOTE
        ]
        parts += [f"moves {word} under {_listed(some)}"] if some else []
    return _sentence(parts or ["moves about as far as before under every change"])


def _neighbours(difference: Difference) -> str:
    found = difference.neighbours
    least = found.subjects[0]
    fewest = f", fewest of {least.subject} ({least.stayed.value * 100:.0f} %)"
    return (
        f"Of the {found.nearest} nearest to each record {found.stayed.value * 100:.0f} % stayed (95 % "
        f"{found.stayed.low * 100:.0f} to {found.stayed.high * 100:.0f})"
        f"{fewest if least.stayed.value < found.stayed.value else ''}; "
        f"{found.same_after.value * 100:.0f} % show the same subject, before {found.same_before.value * 100:.0f} %."
    )


def _points(more: Estimate) -> str:
    return f"({more.value * 100:+.0f} points, 95 % {more.low * 100:+.0f} to {more.high * 100:+.0f})"


def _sees(profile: LensProfile) -> str:
    shares = {probe.question: above_chance(probe) for probe in profile.tells}
    clear = [name for name, share in shares.items() if share >= CLEAR]
    in_part = [name for name, share in shares.items() if IN_PART <= share < CLEAR]
    blind = [name for name, share in shares.items() if share < IN_PART]
    parts = [f"sees {_listed(clear)}"] if clear else []
    parts += (
        [f"{_listed(in_part)} in part" if clear else f"sees {_listed(in_part)} in part"] if in_part else []
    )
    parts += [f"nearly blind to {_listed(blind)}"] if blind else []
    return _sentence(parts)


def _moves(profile: LensProfile) -> str:
    by_distance = sorted(profile.moves, key=lambda move: -move.distance)
    far = [_CHANGED[move.change] for move in by_distance if move.distance >= FAR]
    little = [_CHANGED[move.change] for move in by_distance if move.distance < HARDLY]
    parts = [f"moves about as far as to another photograph under {_listed(far)}"] if far else []
    if little:
        under = f"under {_listed(little)}" if len(little) < len(by_distance) else "under any change"
        parts.append(f"hardly {under}" if far else f"hardly moves {under}")
    return _sentence(
        parts or ["moves some way under every change, under none as far as to another photograph"]
    )


def _sentence(parts: Sequence[str]) -> str:
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
