"""The model card inside every release, README.md: written by machine, in the form that model hubs read.

The part between the two lines of dashes is metadata in YAML (Hugging Face's model card format, which other hubs
read too); every value in it is quoted as JSON, which is YAML as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.plan import Plan
from shared.domain.printable import UNPRINTABLE_IN_LINE
from shared.domain.privacy import REPORTED_DELTA, Mode, PrivacyGuarantee
from shared.domain.release import Certificate, CertificateMember, Source, SourceKind
from shared.domain.run import RoundState
from shared.release.about import About, NoisedAccuracy, summarise, validation_text
from shared.release.licence import OTHER, Licence, hub_metadata
from shared.release.promise import epsilon_text, not_promised, percent_text, promise, right_at_most

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+|<>!~&])")
_PICTURE = re.compile(r"^!\[[^\]\n]*\]\([a-z0-9-]+\.svg\)\n\n?", re.MULTILINE)
_BEGINNING = re.compile(r"\A(\d*)([-=.])")
"""What would make a list, a rule or a heading of a line that begins with it."""


Sections = Mapping[str, str]
"""Heading → Markdown: what the export measured, written by whoever understands its numbers."""
Evaluations = Sequence[Mapping[str, Any]]
"""As hubs read them, written by whoever measured (shared/exports/model_index.py)."""
MODEL_INDEX = "model-index"
"""The name of evaluations in a card's metadata."""
LIBRARY = "commonlens"
PIPELINES = {RecordKind.IMAGE: "image-feature-extraction", RecordKind.TEXT: "feature-extraction"}
"""What hubs call the use of an extractor of each kind."""
_MOST_CLASSES = 24
_KIND_WORDS = {RecordKind.IMAGE: "pictures", RecordKind.TEXT: "short texts"}


def write_card(
    release: str,
    created_at: str,
    plan: Plan,
    run_id: str,
    certificate: Certificate,
    about: About,
    started_from: str = "",
    sections: Sections | None = None,
    programs: Iterable[str] = (),
    evaluations: Evaluations = (),
) -> str:
    """Markdown: what this is, the sentence of clause 10, both ε of every member, how to use it.

    `started_from`: what the plan's starting weights say of where they came from; a claim of who proposed it.
    `programs` load it by its name, and are tags. `evaluations`: the metadata's `model-index`.
    """
    spec, consortium = plan.extractor, f"**{_escape(plan.consortium)}**"
    origin = f"\n- Started from {_escape(started_from)}." if started_from else ""
    tags = ["differential-privacy", "federated-learning", f"{plan.privacy.mode.value}-mode", *programs]
    return f"""{metadata(hub_metadata(about.licence), spec, "trained", tags, evaluations)}
# {_escape(release)}

A feature extractor for {_KIND_WORDS[spec.kind]}, trained in common by members of {consortium} without their records
leaving them.

{_purpose(plan)}- {_use(spec)}
- {_rounds(plan, certificate)} Made at {created_at}.
- Architecture {_code(spec.architecture)}, {plan.extractor_coordinates:,} trained numbers. {_head(plan)}{origin}
{_changes(about)}
## What is promised

{promise(plan)}

Each member's ε, unit one {plan.privacy.unit.value} added or removed, by {_code(certificate.accountant)}:

{_table(plan, certificate)}

{_in_words(plan, certificate)} These numbers cover this release; each member's own ledger composes everything that it
ever released.
{_validation(about.validation, plan)}{_written(sections or {})}
{_limits()}

What ε says nothing about:

{_bullets(not_promised(plan))}

## Licence

{_licence(about.licence, consortium)}
{_check_it(spec)}
`commonlens verify . --root KEY --explain` tells who took part, every ε recomputed, and what it means.

{_made_again(plan, run_id, certificate, about)}"""


def write_kept_card(
    release: str,
    consortium: str,
    created_at: str,
    source: Source,
    spec: ExtractorSpec,
    software: str,
    sections: Sections | None = None,
    programs: Iterable[str] = (),
    evaluations: Evaluations = (),
) -> str:
    """The card of an extractor that was not trained here: it saw no member's records.

    `software`: the version that made its files. `programs` load it by its name, and are tags.
    """
    return f"""{metadata(hub_metadata(Licence(source.licence)), spec, source.kind.value, programs, evaluations)}
# {_escape(release)}

{_escape(source.about)}

- {_use(spec)}
- Kept since {created_at} in the library of **{_escape(consortium)}**. No member's records had a part in it, so there
  is no ε to state.
- {_KINDS[source.kind].is_a}: {_escape(source.origin)}.
- Architecture {_code(spec.architecture)}.
- Licence: {_escape(source.licence)}.
{_written(sections or {})}
{_limits([_KINDS[source.kind].limit])}
{_check_it(spec)}
## Made again

{_KINDS[source.kind].again} The other files were made by {_code(f"commonlens {software}")}. {_MEASURES_AGAIN}
"""


@dataclass(frozen=True)
class _Kind:
    """What a kept card says of one kind of source."""

    is_a: str
    limit: str
    again: str


_KINDS = {
    SourceKind.CLASSICAL: _Kind(
        "A rule that people wrote, nothing was learned",
        "It sees what its rule measures and nothing else, however many records you label.",
        "Its numbers follow from the rule and the settings in `config.json`; nothing in it is random.",
    ),
    SourceKind.RANDOM: _Kind(
        "Random weights, to compare others with",
        "It learned nothing. An extractor that does no better on your records learned nothing that they need.",
        "Its weights follow from the seed that is named above.",
    ),
    SourceKind.PUBLIC: _Kind(
        "Public weights",
        "What it was trained on, and what is wrong with that, only its origin can say. ε says nothing about the people "
        "in those records: none was computed for them.",
        "Its weights are those of its origin, by other names.",
    ),
}
_MEASURES_AGAIN = "`commonlens reproduce . --root KEY` measures the numbers of\nthis card again."


def metadata(
    licence: Mapping[str, str],
    spec: ExtractorSpec,
    kind: str,
    tags: Iterable[str],
    evaluations: Evaluations = (),
) -> str:
    """The YAML block of a hub's model card, with its two lines of dashes."""
    facts: dict[str, Any] = {
        **licence,
        "library_name": LIBRARY,
        "pipeline_tag": PIPELINES[spec.kind],
        "tags": [spec.kind.value, "feature-extraction", spec.architecture, kind, *tags],
    }
    if evaluations:
        facts[MODEL_INDEX] = list(evaluations)
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in facts.items()]
    return "\n".join(["---", *lines, "---"])


def body_of(card: str) -> str:
    """The card without its metadata, and without pictures of the release's own, which stand in lines of theirs."""
    begins, dashes, rest = card.partition("---\n")
    body = card if begins or not dashes else rest.partition("\n---\n")[2]
    return _PICTURE.sub("", body)


def _written(sections: Sections) -> str:
    return "".join(f"\n## {heading}\n\n{text.strip()}\n" for heading, text in sections.items())


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _use(spec: ExtractorSpec) -> str:
    """What goes in, what comes out, and what that is good for."""
    takes = f"a picture of {spec.width} × {spec.height} pixels ({'grey' if spec.channels == 1 else 'RGB'})"
    if spec.kind is RecordKind.TEXT:
        takes = f"a text of at most {spec.width} bytes of UTF-8"
    return (
        f"Turns {takes} into an embedding of {spec.embedding_dim} numbers. Use it as it is and fit a small head on the "
        "embeddings of records that you labelled: twenty are a beginning."
    )


def _purpose(plan: Plan) -> str:
    """What its members consented to train it for, in the words of whoever proposed the plan."""
    return f"- What it was trained for, as the plan says: {_escape(plan.purpose)}\n" if plan.purpose else ""


def _rounds(plan: Plan, certificate: Certificate) -> str:
    """How many rounds went into it. An attempt that was abandoned is charged (clause 5.5)."""
    closed = sum(cohort.state is RoundState.CLOSED for cohort in certificate.rounds)
    left = len(certificate.rounds) - closed
    abandoned = f"; {left} more {'attempt' if left == 1 else 'attempts'} came to nothing and counts in ε"
    return f"{closed} of {plan.rounds} planned rounds were closed{abandoned if left else ''}."


def _head(plan: Plan) -> str:
    """What the extractor was trained to tell apart, and under which head; no release holds one."""
    if plan.shared_head is None:
        return "Each member trained it to tell its own classes apart, under a head of its own; both stayed there."
    classes = plan.shared_head.classes
    named = ", ".join(map(_escape, classes[:_MOST_CLASSES]))
    more = (
        f" and {len(classes) - _MOST_CLASSES} more, which the plan lists"
        if len(classes) > _MOST_CLASSES
        else ""
    )
    return (
        f"Trained to tell {len(classes)} classes apart: {named}{more}; under one head, which nobody released."
    )


def _changes(about: About) -> str:
    """What whoever published it wrote, as text."""
    return f"\n## Changes\n\n{_bullets(map(_escape, about.notes))}\n" if about.notes else ""


def _in_words(plan: Plan, certificate: Certificate) -> str:
    """The highest ε as the chance to be right about one unit."""
    found, one = summarise(certificate, plan.privacy.delta), plan.privacy.unit.value
    together, alone = (
        percent_text(right_at_most(e, found.delta)) for e in (found.epsilon, found.epsilon_alone)
    )
    secure = f", {alone} if all others deviate" if plan.privacy.mode is Mode.SECURE else ""
    return (
        f"In words: whoever bets at even odds that one {one} was in a member's data is right in at most {together} of "
        f"cases{secure}, by the highest ε at δ = {found.delta:g}."
    )


def _validation(found: NoisedAccuracy | None, plan: Plan) -> str:
    """The only number that the run itself measured (clause 6.2)."""
    if found is None:
        return ""
    heads = "members' own training heads were" if plan.shared_head is None else "the shared training head was"
    measured = validation_text(found.accuracy, found.spread)
    return f"""
## What the run measured

With the weights that round {found.round_number} began with, {heads} right about
{measured} of the {plan.privacy.unit.value}s that members had held out. The counts were noised before they
left each member, and that noise is charged in the ε above. The error bar is one standard deviation of the noise and of
nothing else. The figure is of these members' own classes: compare it with earlier rounds and releases of this line, not
with other extractors.
"""


def _licence(licence: Licence, consortium: str) -> str:
    if licence.id.lower() != OTHER:
        return f"{_code(licence.id)} (SPDX), as {consortium} states."
    if not licence.name:
        return f"The consortium's own terms: ask {consortium}. No licence is given by this card."
    where = f"read them at {_code(licence.link)}" if licence.link else f"ask {consortium} for them"
    return f"The consortium's own terms, {_code(licence.name)}: {where}."


def _limits(more: Iterable[str] = ()) -> str:
    limits = (
        "How well it does on records of yours: nothing on this card can say. Fit a head on some and hold others back.",
        "Its embeddings compare with each other only. A head fitted on them is of no use with another release.",
        *more,
    )
    return f"## Known limits\n\n{_bullets(limits)}"


def _made_again(plan: Plan, run_id: str, certificate: Certificate, about: About) -> str:
    """What everything follows from that is not noise or a record."""
    seed = "" if about.starting_seed is None else f" (seed {about.starting_seed})"
    return f"""## Made again

Everything that is not noise or a record follows from the plan, which stands beside this card: plan
{_code(certificate.plan_digest)}, starting weights {_code(plan.starting_weights)}{seed}, run {_code(run_id)}, software
{_code(f"commonlens {about.software}")}. Noise and batches are drawn from each member's own cryptographic generator and
kept by nobody, so the same weights cannot be made twice. {_MEASURES_AGAIN}
"""


def _check_it(spec: ExtractorSpec) -> str:
    given = "IMAGE" if spec.kind is RecordKind.IMAGE else "TEXTS"
    return f"""
## Check it, use it

    commonlens verify . --root KEY       every proof, offline; KEY is the root key that you were given
    commonlens embed . {given} --root KEY  checks first, then prints the embeddings

The same files by OpenSSF's own tool, with the key that trust.json names (and the root signed):

    python3 -c 'import json; print(json.load(open("trust.json"))["signed"]["openssf_key"], end="")' > ../key.pem
    model_signing verify key --public_key ../key.pem --signature model.sig --ignore-paths .cache/huggingface .
"""


def _table(plan: Plan, certificate: Certificate) -> str:
    """Both numbers of clause 3.7 for every member, at both δ."""
    deltas = dict.fromkeys((plan.privacy.delta, REPORTED_DELTA))
    headings, alone = [f"ε at δ = {delta:g}" for delta in deltas], "ε_alone, if all others deviate: the same."
    if plan.privacy.mode is Mode.SECURE:
        headings = [name for delta in deltas for name in (f"ε at δ = {delta:g}", "ε_alone")]
        alone = "ε_alone is the bound if the coordinator and every other member deviate."
    lines = [["member", *headings], ["---"] * (1 + len(headings))]
    lines += [[_escape(member.name), *_numbers(member, deltas)] for member in certificate.members]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + f"\n\n{alone}"


def _numbers(member: CertificateMember, deltas: Iterable[float]) -> list[str]:
    cells = []
    for delta in deltas:
        cells.append(_epsilon_at(member.guarantees, delta))
        if member.guarantees_alone is not None:
            cells.append(_epsilon_at(member.guarantees_alone, delta))
    return cells


def _epsilon_at(guarantees: Iterable[PrivacyGuarantee], delta: float) -> str:
    return next((epsilon_text(g.epsilon) for g in guarantees if g.delta == delta), "–")


def _code(text: str) -> str:
    """As it is, between backticks: for ids, digests and addresses."""
    return f"`{UNPRINTABLE_IN_LINE.sub(' ', text).replace('`', ' ')}`"


def _escape(text: str) -> str:
    """Text that stays text, also where a line begins with it."""
    return _BEGINNING.sub(r"\1\\\2", _MARKDOWN.sub(r"\\\1", UNPRINTABLE_IN_LINE.sub(" ", text)))
