"""A member's folder as join, data, peers and consent leave it, made without a network, for the red team's node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from participant.consents import give_consent, save_reviewed
from participant.enrol import COORDINATOR_FILE, CoordinatorLink, make_keys
from participant.home import Home
from participant.peers import approve, waiting
from participant.policy import write_default_policy
from participant.records.reader import RecordReader
from participant.redteam.canaries import given_head, make_audit_set
from participant.redteam.dishonest_play import RUN
from participant.redteam.dry_run import synthetic_head
from participant.roll import accept_roll
from participant.training.head import save_head
from shared.domain.canonical import digest_of_bytes
from shared.domain.clock import SystemClock, to_text
from shared.domain.consortium import MemberState, Roll, RollEntry
from shared.domain.extractor import ExtractorSpec
from shared.domain.files import write_json
from shared.domain.ids import MemberId
from shared.domain.plan import Plan, TrainingTerms, summed_coordinates
from shared.domain.strict import to_plain
from shared.extractors import architectures
from shared.extractors.files import write_weights
from shared.release.roles import sign_roll
from shared.release.signing import SigningKey
from shared.release.trust import RootKeys, Trust, sign_trust

START = "start.safetensors"
_PICTURES, _SIDE = 16, 16
_CEILING = 1e9


def node_plan(plan: Plan, folder: Path) -> Plan:
    """`plan` for a node that trains a small extractor on all of a few pictures; its start lies in `folder`."""
    given = plan.extractor
    spec = ExtractorSpec("small-gn", given.channels, _SIDE, _SIDE, 16, given.mean, given.std, {"width": 8})
    tensors, layout = architectures.starting_weights(spec, 0)
    rate, head = plan.privacy.sampling_rate, synthetic_head(plan, given_head(spec.embedding_dim))
    return replace(
        plan,
        consortium="Synthetic",
        extractor=spec,
        starting_weights=write_weights(folder / START, tensors, spec, layout),
        trainable_coordinates=summed_coordinates(layout.trainable_coordinates, head),
        shared_head=head,
        training=TrainingTerms(1, 1.0, 1.0),
        # Its price plays no part here: what is measured is the noise, and ε follows from that.
        privacy=replace(plan.privacy, sampling_rate=1.0, target_epsilon=1e6),
        rounds=2,
        evaluate_every=0,
        starting_release=None,
        members=tuple(
            replace(line, declared_size=max(1, round(rate * line.declared_size))) for line in plan.members
        ),
    )


def make_home(
    plan: Plan, folder: Path, others: Mapping[str, SigningKey], approved: bool
) -> tuple[Home, RecordReader]:
    """The folder of the plan's first member, with its synthetic records; it consented to `plan`.

    `others`: identity keys of the plan's other members, as the roll gives them; `approved` by the operator, or not.
    """
    home = Home(folder / "home")
    identity, _ = make_keys(home.root)
    write_membership(home, plan, {**others, plan.members[0].member_id: identity})
    data_set = make_audit_set(home.root, plan.extractor, plan.privacy.unit, (), _PICTURES)
    write_default_policy(home.policy, "synthetic", _CEILING)
    if plan.colluders == 0:
        text = home.policy.read_text("utf-8").replace("most_colluders = 1", "most_colluders = 0")
        home.policy.write_text(text, "utf-8")
    if approved:
        approve(home, waiting(home))
    save_reviewed(home, plan, (folder / START).read_bytes())
    give_consent(home, plan)
    # With a training head at zero no gradient would reach the extractor.
    save_head(home.training / RUN / "000000.safetensors", given_head(plan.extractor.embedding_dim))
    return home, data_set.reader


def write_membership(home: Home, plan: Plan, identities: Mapping[str, SigningKey]) -> None:
    """Trust document, roll and link, signed by a root and a roll key of this consortium's own."""
    root, roll_key, release_key = (SigningKey.generate() for _ in range(3))
    ends, fingerprint = to_text(SystemClock().now() + timedelta(days=1)), digest_of_bytes(b"")
    keys = RootKeys((root.public_hex,), 1)
    trust = sign_trust(
        Trust(plan.consortium, 1, ends, keys, roll_key.public_hex, release_key.public_hex, fingerprint),
        [root],
    )
    me = plan.members[0]
    link = CoordinatorLink(
        url="https://localhost",
        ca_pem="",
        ca_sha256=fingerprint,
        root_public_key=root.public_hex,
        trust=dict(trust),
        consortium=plan.consortium,
        member_id=me.member_id,
        name=me.member_id,
        token="",
        declared_size=me.declared_size,
        roll_version=1,
    )
    write_json(home.root / COORDINATOR_FILE, to_plain(link))
    entries = tuple(
        RollEntry(
            MemberId(line.member_id),
            line.member_id,
            identities[line.member_id].public_hex,
            MemberState.ACTIVE,
        )
        for line in plan.members
    )
    accept_roll(home, trust, sign_roll(Roll(plan.consortium, 1, entries, ends), roll_key))
