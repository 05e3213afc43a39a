"""The lens profile: what an extractor sees, as numbers that anyone can measure again."""

from __future__ import annotations

from shared.lens.changes import CHANGES
from shared.lens.estimate import DIGITS, rounded
from shared.lens.measures import movement, share
from shared.lens.probe_set import ProbeSet, Question, build_probe_set
from shared.lens.profile_shape import PROFILE_FORMAT, LensProfile, Movement, Probe
from shared.lens.seen import Embed, Findings, Seen, find, look


def measure(
    embed: Embed, channels: int, height: int, width: int, probe_set: ProbeSet | None = None
) -> LensProfile:
    """The profile of `embed`, as `look` shows it the probe set; questions of colour have no answer in grey.

    Give `probe_set` to build it once for several. Raises as `look`, and DigestMismatch.
    """
    probes = build_probe_set() if probe_set is None else probe_set
    seen = look(embed, channels, height, width, probes)
    return profile_of(seen, find(seen, probes), probes)


def profile_of(seen: Seen, found: Findings, probe_set: ProbeSet) -> LensProfile:
    """The profile of whoever has `seen` this probe set, of which `found` is what `find` gives."""
    return LensProfile(
        format=PROFILE_FORMAT,
        probe_set=probe_set.digest,
        channels=seen.channels,
        height=seen.height,
        width=seen.width,
        embedding_dim=seen.embedding_dim,
        pictures=int(probe_set.content.held_out.sum()),
        moves=tuple(
            Movement(change.name, change.words, *rounded(movement(found.moved[change.name])))
            for change in CHANGES
        ),
        tells=tuple(_told(question, found) for question in (probe_set.content, *probe_set.scene_questions)),
    )


def _told(question: Question, found: Findings) -> Probe:
    measured = rounded(share(found.told[question.name]))
    learned, asked = int((~question.held_out).sum()), int(question.held_out.sum())
    return Probe(question.name, *measured, round(question.chance, DIGITS), learned, asked)
