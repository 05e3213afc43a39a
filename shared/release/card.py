"""The model card inside every release, README.md: written by machine, in the form that model hubs read.

The part between the two lines of dashes is metadata in YAML (Hugging Face's model card format, which other hubs
read too); every value in it is quoted as JSON, which is YAML as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.plan import Plan
from shared.domain.privacy import REPORTED_DELTA, Mode, PrivacyGuarantee
from shared.domain.release import Certificate, CertificateMember, Source
from shared.release.promise import epsilon_text, not_promised, promise

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+|<>!])")


Sections = Mapping[str, str]
"""Heading → Markdown: what the export measured, written by whoever understands its numbers."""
LIBRARY = "commonlens"
PIPELINES = {RecordKind.IMAGE: "image-feature-extraction", RecordKind.TEXT: "feature-extraction"}
"""What hubs call the use of an extractor of each kind."""


def write_card(
    release: str,
    created_at: str,
    plan: Plan,
    run_id: str,
    certificate: Certificate,
    started_from: str = "",
    sections: Sections | None = None,
) -> str:
    """Markdown: what this is, the sentence of clause 10, both ε of every member, how to use it.

    `started_from`: what the plan's starting weights say of where they came from; a claim of who proposed it.
    """
    spec = plan.extractor
    origin = f"\n- Started from {_escape(started_from)}." if started_from else ""
    closed = sum(1 for cohort in certificate.rounds if cohort.state.value == "closed")
    measured = sections or {}
    tags = ["differential-privacy", "federated-learning", f"{plan.privacy.mode.value}-mode"]
    return f"""{metadata("other", spec, "trained", tags)}
# {_escape(release)}

A shared feature extractor, trained by the members of **{_escape(plan.consortium)}** without their records
leaving them.

- Made at {created_at} by run {_escape(run_id)}: {len(certificate.rounds)} rounds, {closed} of them closed.
- Architecture `{_escape(spec.architecture)}`: {_takes(spec)} to an
  embedding of {spec.embedding_dim} numbers; {plan.extractor_coordinates} trained coordinates.
- {_training_head(plan)}
- Plan {certificate.plan_digest}.{origin}

## What is promised

{promise(plan)}

Each member's ε, add or remove one {plan.privacy.unit.value}, by {_escape(certificate.accountant)}:

{_table(plan, certificate)}

These numbers cover this release. A member's own ledger composes everything that it ever released.
{_written(measured)}
## Known limits

{_bullets(not_promised(plan))}

## Licence

The consortium's own terms: ask **{_escape(plan.consortium)}**. No licence is given by this card.
{_CHECK_IT}
`commonlens verify . --root KEY --explain` tells who took part, every ε recomputed, and what it means.

## Made again

Plan {certificate.plan_digest}, run {_escape(run_id)}, starting weights {plan.starting_weights}: everything
that is not noise or a record follows from the plan, which stands beside this card. Noise and batches are drawn from
each member's own cryptographic generator and kept by nobody, so the same weights cannot be made twice.
"""


def write_kept_card(
    release: str,
    consortium: str,
    created_at: str,
    source: Source,
    spec: ExtractorSpec,
    sections: Sections | None = None,
) -> str:
    """The card of an extractor that was not trained here: it saw no member's records."""
    return f"""{metadata(source.licence.lower(), spec, source.kind.value, [])}
# {_escape(release)}

{_escape(source.about)}

- Kept since {created_at} in the library of **{_escape(consortium)}**. No member's records had a part in it, so there
  is no ε to state.
- {_KINDS[source.kind.value]}: {_escape(source.origin)}.
- Architecture `{_escape(spec.architecture)}`: {_takes(spec)} to an
  embedding of {spec.embedding_dim} numbers.
- Licence: {_escape(source.licence)}.
{_written(sections or {})}{_CHECK_IT}"""


_KINDS = {
    "classical": "A rule that people wrote, nothing was learned",
    "random": "Random weights, to compare others with",
    "public": "Public weights",
}
_CHECK_IT = """
## Check it, use it

    commonlens verify . --root KEY       every proof, offline; KEY is the root key that you were given
    commonlens embed . IMAGE             checks first, then prints the embedding

The same files by OpenSSF's own tool, with the key that trust.json names (and the root signed):

    python3 -c 'import json; print(json.load(open("trust.json"))["signed"]["openssf_key"], end="")' > ../key.pem
    model_signing verify key --public_key ../key.pem --signature model.sig .
"""


def metadata(licence: str, spec: ExtractorSpec, kind: str, tags: Iterable[str]) -> str:
    """The YAML block of a hub's model card, with its two lines of dashes."""
    facts: dict[str, Any] = {
        "license": licence,
        "library_name": LIBRARY,
        "pipeline_tag": PIPELINES[spec.kind],
        "tags": [spec.kind.value, "feature-extraction", spec.architecture, kind, *tags],
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in facts.items()]
    return "\n".join(["---", *lines, "---"])


def body_of(card: str) -> str:
    """The card without its metadata."""
    begins, dashes, rest = card.partition("---\n")
    if begins or not dashes:
        return card
    return rest.partition("\n---\n")[2]


def _written(sections: Sections) -> str:
    return "".join(f"\n## {heading}\n\n{text.strip()}\n" for heading, text in sections.items())


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _takes(spec: ExtractorSpec) -> str:
    if spec.kind is RecordKind.TEXT:
        return f"text of at most {spec.width} bytes of UTF-8"
    return f"image [{spec.channels}, {spec.height}, {spec.width}]"


def _training_head(plan: Plan) -> str:
    """Which head the extractor was trained under; no release holds one."""
    if plan.shared_head is None:
        return "Training heads: each member's own, over its own classes, at home."
    return f"Training head: shared, over {len(plan.shared_head.classes)} classes that the plan lists; not released."


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


def _escape(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", _CONTROL.sub(" ", text))
