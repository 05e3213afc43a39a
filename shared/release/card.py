"""The short README inside every release, written from the manifest's plan and the certificate."""

from __future__ import annotations

import re
from collections.abc import Iterable

from shared.domain.plan import Plan
from shared.domain.privacy import REPORTED_DELTA, Mode, PrivacyGuarantee
from shared.domain.release import Certificate, CertificateMember
from shared.release.promise import epsilon_text, promise

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+|<>!])")


def write_card(
    release: str, created_at: str, plan: Plan, run_id: str, certificate: Certificate, started_from: str = ""
) -> str:
    """Markdown: what this is, the sentence of clause 10, both ε of every member, how to use it.

    `started_from`: what the plan's starting weights say of where they came from; a claim of who proposed it.
    """
    spec = plan.extractor
    origin = f"\n- Started from {_escape(started_from)}." if started_from else ""
    closed = sum(1 for cohort in certificate.rounds if cohort.state.value == "closed")
    return f"""# {_escape(release)}

A shared feature extractor, trained by the members of **{_escape(plan.consortium)}** without their records
leaving them.

- Made at {created_at} by run {_escape(run_id)}: {len(certificate.rounds)} rounds, {closed} of them closed.
- Architecture `{_escape(spec.architecture)}`: image [{spec.channels}, {spec.height}, {spec.width}] to an
  embedding of {spec.embedding_dim} numbers; {plan.extractor_coordinates} trained coordinates.
- {_training_head(plan)}
- Plan {certificate.plan_digest}.{origin}

## What is promised

{promise(plan)}

Each member's ε, add or remove one {plan.privacy.unit.value}, by {_escape(certificate.accountant)}:

{_table(plan, certificate)}

These numbers cover this release. A member's own ledger composes everything that it ever released.

## Check it, use it

    commonlens verify . --root KEY              every proof, offline; KEY is the root key that you were given
    commonlens verify . --root KEY --explain    who took part, every ε recomputed, what it means
    commonlens embed . IMAGE                    checks first, then prints the embedding
"""


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
