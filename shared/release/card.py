"""The short README inside every release, written from the manifest's plan and the certificate."""

from __future__ import annotations

import re

from shared.domain.plan import Plan
from shared.domain.privacy import Unit
from shared.domain.release import REPORTED_DELTA, Certificate, CertificateMember

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+|<>!])")


def write_card(release: str, created_at: str, plan: Plan, run_id: str, certificate: Certificate) -> str:
    """Markdown: what this is, the sentence of clause 10 for mode `local`, every member's ε, how to use it."""
    spec = plan.extractor
    closed = sum(1 for cohort in certificate.rounds if cohort.state.value == "closed")
    members = "\n".join(_line(member, plan.privacy.delta) for member in certificate.members)
    return f"""# {_escape(release)}

A shared feature extractor, trained by the members of **{_escape(plan.consortium)}** without their records
leaving them.

- Made at {created_at} by run {_escape(run_id)}: {len(certificate.rounds)} rounds, {closed} of them closed.
- Architecture `{_escape(spec.architecture)}`: image [{spec.channels}, {spec.height}, {spec.width}] to an
  embedding of {spec.embedding_dim} numbers; {plan.trainable_coordinates} trained coordinates.
- Plan {certificate.plan_digest}.

## What is promised

{promise(plan.privacy.unit)}

Each member's ε, add or remove one {plan.privacy.unit.value}, by {_escape(certificate.accountant)}:

| member | ε at the plan's δ = {plan.privacy.delta:g} | ε at δ = {REPORTED_DELTA:g} |
|---|---|---|
{members}

These numbers cover this release. A member's own ledger composes everything that it ever released.

## Check it, use it

    commonlens verify . --root KEY    every proof, offline; KEY is the root key that the consortium gave you
    commonlens embed . IMAGE          checks first, then prints the embedding
"""


def promise(unit: Unit) -> str:
    """The sentence of clause 10 as mode `local` allows it: it rests on nobody but the member itself."""
    one = unit.value
    return (
        f"For every {one} r of member k: everything that the coordinator, every other member "
        "colluding with "
        "it, and anyone who downloads the extractor will ever see of this release is (ε, "
        "δ)-indistinguishable "
        "with and without r (add or remove one). The bound rests on the member's own noise alone. "
        "Not covered: "
        "the member's own head and what it publishes with it, the label names, the declared size, "
        "and that the "
        "member takes part."
    )


def _line(member: CertificateMember, delta: float) -> str:
    by_delta = {guarantee.delta: guarantee.epsilon for guarantee in member.guarantees}
    numbers = [by_delta.get(wanted) for wanted in (delta, REPORTED_DELTA)]
    cells = ["–" if number is None else f"{number:.3f}" for number in numbers]
    return f"| {_escape(member.name)} | {cells[0]} | {cells[1]} |"


def _escape(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", _CONTROL.sub(" ", text))
