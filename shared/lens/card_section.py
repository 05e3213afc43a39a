"""The lens profile in a model card: the sentences, and every number with its interval."""

from __future__ import annotations

from shared.domain.release import LENS_FILE, LENS_PICTURE_FILE
from shared.lens.profile_shape import LensProfile
from shared.lens.words import describe

HEADING = "What it sees"
NOT_OF_TEXTS = "A lens profile is measured on pictures. This extractor reads texts, so it has none."


def lens_section(profile: LensProfile) -> dict[str, str]:
    """Heading → Markdown."""
    moves = [
        f"| {move.what} | {move.distance:.2f} | {move.low:.2f} to {move.high:.2f} |" for move in profile.moves
    ]
    tells = [
        f"| {p.question} | {_share(p.accuracy)} | {_share(p.low)} to {_share(p.high)} | {_share(p.chance)} |"
        for p in profile.tells
    ]
    lines = [
        describe(profile),
        "",
        # Hubs draw it here; `body_of` leaves it out for whoever draws the card as text.
        f"![Bars: under what an embedding moves, and what a probe reads from it]({LENS_PICTURE_FILE})",
        "",
        "How far an embedding moves (0 not at all, 1 as far as to another photograph), with 95 % intervals:",
        "",
        "| change | moves | interval |",
        "|---|---|---|",
        *moves,
        "",
        "What a linear probe reads from it:",
        "",
        "| question | right | interval | chance |",
        "|---|---|---|---|",
        *tells,
        "",
        f"Measured on the public probe set {profile.probe_set}. The picture is `{LENS_PICTURE_FILE}`, the numbers "
        f"`{LENS_FILE}`.",
    ]
    return {HEADING: "\n".join(lines)}


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"
