"""about.json: what a consortium says of a trained release beside what its certificate proves.

The notes of whoever published it, the licence, the run's last validation, and the few numbers of a changelog. The
manifest promises its digest, so it is signed; a release from before there was such a file is read without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shared.domain.errors import Invalid
from shared.domain.release import ABOUT_FILE, Certificate
from shared.domain.run import RoundState
from shared.domain.strict import later
from shared.release.envelope import parse_document, read_signed
from shared.release.licence import OWN_TERMS, Licence
from shared.release.promise import alone_text, epsilon_text

ABOUT_FORMAT: Final = "commonlens-about/1"
MOST_NOTES: Final = 20
MOST_NOTE_CHARACTERS: Final = 300
MOST_TEXT_CHARACTERS: Final = MOST_NOTES * (MOST_NOTE_CHARACTERS + 8)
"""Of all notes as they are typed, with what stands before and after each."""


@dataclass(frozen=True)
class NoisedAccuracy:
    """The last validation of the run (clause 6.2): a share of held-out units, from counts that carry noise."""

    round_number: int
    """It was measured with the weights that this round began with."""
    accuracy: float
    """0…1."""
    spread: float
    """One standard deviation of the noise that was added to the counts, not of anything else."""


@dataclass(frozen=True)
class Summary:
    """A release as one line of a changelog; the certificate beside it proves these numbers."""

    rounds: int
    """Closed."""
    members: int
    """Who were asked in at least one round."""
    epsilon: float
    """The highest of any member at `delta`."""
    epsilon_alone: float
    """The same if all others deviate (clause 3.7); in mode local the same number."""
    delta: float


@dataclass(frozen=True)
class About:
    """about.json."""

    notes: tuple[str, ...] = ()
    """One line of plain text each."""
    licence: Licence = OWN_TERMS
    validation: NoisedAccuracy | None = None
    summary: Summary | None = None
    """None only where there is no about.json."""
    software: str = ""
    """The version of Commonlens that made the release; empty where there is no about.json."""
    format: str = ABOUT_FORMAT
    starting_seed: int | None = later(None)
    """What the random ones of the starting weights were drawn from; None where the coordinator does not know."""


def notes_of(text: str) -> tuple[str, ...]:
    """Notes as a person writes them, one a line, with or without a hyphen before each. Raises Invalid."""
    lines = [line.strip() for line in text.replace("\r\n", "\n").split("\n")]
    notes = tuple(line.removeprefix("- ").strip() for line in lines if line.strip("- "))
    check_notes(notes)
    return notes


def check_notes(notes: tuple[str, ...]) -> None:
    """Raise Invalid for what does not fit on a page, or holds a character that cannot be seen."""
    if len(notes) > MOST_NOTES:
        raise Invalid(
            f"A release has at most {MOST_NOTES} notes, these are {len(notes)}. Nothing was done. Say less, or link to "
            "the rest."
        )
    for number, note in enumerate(notes, start=1):
        unseen = next((c for c in note if not c.isprintable()), None)
        if unseen is not None:
            raise Invalid(
                f"Note {number} has the character U+{ord(unseen):04X}, which cannot be seen. Nothing was done. Take it "
                "out."
            )
        if not 1 <= len(note) <= MOST_NOTE_CHARACTERS:
            raise Invalid(
                f"A note has 1 to {MOST_NOTE_CHARACTERS} characters, note {number} has {len(note)}. Nothing was done. "
                "Make two of it."
            )


def parse_about(data: bytes | None) -> About:
    """about.json from its bytes, promised by a manifest; empty for None. Raises Invalid."""
    if data is None:
        return About()
    about = read_signed(About, ABOUT_FORMAT, parse_document(data, ABOUT_FILE), ABOUT_FILE)
    check_notes(about.notes)
    return about


def summarise(certificate: Certificate, delta: float) -> Summary:
    """The numbers of a changelog, at the plan's δ."""
    both = [(m.guarantees, m.guarantees_alone or m.guarantees) for m in certificate.members]
    return Summary(
        rounds=sum(cohort.state is RoundState.CLOSED for cohort in certificate.rounds),
        members=len(certificate.members),
        epsilon=max((g.epsilon for own, _ in both for g in own if g.delta == delta), default=0.0),
        epsilon_alone=max((g.epsilon for _, alone in both for g in alone if g.delta == delta), default=0.0),
        delta=delta,
    )


def changelog_line(summary: Summary, validation: NoisedAccuracy | None) -> str:
    """The numbers of a release in one line."""
    measured = (
        f"; validation {validation_text(validation.accuracy, validation.spread)} (noised)"
        if validation
        else ""
    )
    return (
        f"{_many(summary.rounds, 'closed round')}, {_many(summary.members, 'member')}, highest ε "
        f"{epsilon_text(summary.epsilon)} at δ {summary.delta:g} "
        f"({alone_text(summary.epsilon, summary.epsilon_alone)}){measured}"
    )


def validation_text(accuracy: float, spread: float) -> str:
    """Value and error bar, both as parts of 1: `70.0 % ± 3.8 %` on cards, pages and in the terminal."""
    return f"{share_text(accuracy)} ± {share_text(spread)}"


def share_text(share: float) -> str:
    """`70.0 %` for 0.7."""
    return f"{100 * share:.1f} %"


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
