"""Step 1: a plan is fetched, checked against the member's own policy, and signed by its digest (clause 8)."""

from __future__ import annotations

from dataclasses import dataclass

from participant.enrol import read_link
from participant.home import Home
from participant.policy import check_plan, read_policy
from participant.records.dataset import open_data_set
from participant.releases import pulled_digest
from participant.training.labels import check_classes
from shared.domain.canonical import digest_of_bytes, digest_of_file
from shared.domain.errors import (
    ConsentMissing,
    DigestMismatch,
    InvalidWeights,
    NotFound,
    PolicyForbids,
    UnsoundPlan,
)
from shared.domain.files import read_json, write_atomically, write_json
from shared.domain.plan import Plan
from shared.domain.release import RELEASE_ID
from shared.domain.strict import build, to_plain
from shared.extractors import architectures
from shared.extractors.files import TRAINED, Origin, Weights, read_weights
from shared.privacy.ledger import Ledger, LedgerView
from shared.release.certificate import sign_consent
from shared.release.signing import SigningKey


@dataclass(frozen=True)
class AgreedPlan:
    """A plan that this member consented to, with its starting weights."""

    plan: Plan
    start: Weights


def plan_file_name(digest: str) -> str:
    """A plan's digest as a file name."""
    return digest.removeprefix("sha256:")


def save_reviewed(home: Home, plan: Plan, starting_weights: bytes) -> AgreedPlan:
    """Keep a plan and its starting weights after checking that they belong together.

    Raises DigestMismatch when the weights are not the plan's, InvalidWeights when they or the training head have
    another shape, UnsoundPlan when they are a release's that the plan does not name, and MixesRecords or InvalidConfig
    for a network that this member would not train (clause 2.5).
    """
    # Before anything is written: the right ones may be there already.
    _require_the_plans(plan, digest_of_bytes(starting_weights))
    name = plan_file_name(str(plan.digest))
    path = home.plans / f"{name}.safetensors"
    write_atomically(path, starting_weights)
    try:
        agreed = _checked(home, plan)
        _check_start(home, plan, agreed.start.origin)
        extractor = architectures.load(plan.extractor, agreed.start)
        architectures.check_layers(extractor)
        _check_inputs(plan, architectures.head_inputs(extractor, plan.extractor))
    except BaseException:
        path.unlink()
        raise
    write_json(home.plans / f"{name}.json", to_plain(plan))
    return agreed


def reviewed_plan(home: Home, digest: str) -> AgreedPlan:
    """A plan that was fetched before, checked again from disk. Raises NotFound, DigestMismatch."""
    plan = build(Plan, read_json(home.plans / f"{plan_file_name(digest)}.json"), "plan")
    if plan.digest != digest:
        raise DigestMismatch(
            f"The stored plan should have digest {digest}, its bytes have {plan.digest}. Nothing was trained. "
            "Review the plan again."
        )
    return _checked(home, plan)


def give_consent(home: Home, plan: Plan) -> str:
    """Sign the plan's digest, this member's id and its name after the policy allowed it; returns the signature, 128 hex
    digits.

    Raises PolicyForbids with every reason at once. Consenting again gives the same signature and pays for
    one more run of the plan: the budget was checked for one.
    """
    review(home, plan)
    digest = str(plan.digest)
    link = read_link(home.root)
    consent = sign_consent(plan, link.member_id, link.name, SigningKey.load(home.identity_key))
    runs = len(Ledger.read(home.ledger).runs_of(digest)) + 1
    write_json(home.consents / f"{plan_file_name(digest)}.json", {**to_plain(consent), "runs": runs})
    return consent.signature


def review(home: Home, plan: Plan) -> None:
    """Raise PolicyForbids unless the policy allows the whole plan on top of everything spent so far.

    Raises UnsoundPlan where the plan's privacy argument does not hold, UnknownClass where its shared training
    head has no place for a class of this member's data set, Invalid where its extractor reads another kind of record.
    """
    member = read_link(home.root)
    if plan.consortium != member.consortium:
        raise PolicyForbids(
            f"This member is in the consortium {member.consortium}, the plan is of {plan.consortium}. No "
            "record was touched. Tell the admin who sent it."
        )
    line = plan.member(member.member_id)
    # A plan of an earlier version names its members, and to sign its digest is to agree to those names.
    if line is not None and line.name not in ("", member.name):
        raise PolicyForbids(
            f"The plan names this member {line.name[:100]!r}, it is {member.name!r}: its releases would call it so. No "
            "record was touched. Tell the admin who sent it."
        )
    policy = read_policy(home.policy)
    data_set = open_data_set(home.root, policy.data_set)
    ledger = Ledger.read(home.ledger)
    check_plan(
        policy,
        plan,
        member.member_id,
        data_set.unit,
        member.declared_size,
        *ledger.spent_and_alone(data_set.id),
    )
    data_set.check_kind(plan.extractor)
    check_classes(plan, data_set.classes)


def require_consent(home: Home, digest: str) -> None:
    """Raise ConsentMissing unless this member's consent to the plan is in its folder."""
    if not (home.consents / f"{plan_file_name(digest)}.json").exists():
        raise ConsentMissing(
            f"This member has not consented to plan {digest[:23]}…. No record was touched. Review it with "
            "`commonlens-participant plan review` and consent if its policy allows it."
        )


def require_consent_for_run(home: Home, ledger: LedgerView, digest: str, run_id: str) -> None:
    """Raise ConsentMissing where the consent's runs are used up: one consent pays for one run."""
    require_consent(home, digest)
    allowed = int(read_json(home.consents / f"{plan_file_name(digest)}.json")["runs"])
    runs = ledger.runs_of(digest) | {run_id}
    if len(runs) > allowed:
        raise ConsentMissing(
            f"This member consented to {allowed} run(s) of plan {digest[:23]}…, and is asked for another. No "
            "record was touched. Consent again if it shall take part in that one too."
        )


def agreed_plan(home: Home, digest: str) -> AgreedPlan:
    """The plan with this digest, if this member signed it. Raises ConsentMissing."""
    require_consent(home, digest)
    try:
        return reviewed_plan(home, digest)
    except NotFound as error:
        raise ConsentMissing(
            f"The plan {digest[:23]}… is not in this member's folder. No record was touched. Review it again."
        ) from error


def _checked(home: Home, plan: Plan) -> AgreedPlan:
    path = home.plans / f"{plan_file_name(str(plan.digest))}.safetensors"
    _require_the_plans(plan, digest_of_file(path))
    start = read_weights(path)
    if start.spec != plan.extractor or start.layout.trainable_coordinates != plan.extractor_coordinates:
        raise InvalidWeights(
            f"The plan trains {plan.extractor_coordinates} coordinates of {plan.extractor.architecture}; its "
            f"starting weights are {start.layout.trainable_coordinates} of {start.spec.architecture}. "
            "Nothing was kept. Tell the consortium's admin."
        )
    return AgreedPlan(plan, start)


def _check_start(home: Home, plan: Plan, origin: Origin | None) -> None:
    """The weights' own header and the plan name one release, whose cost the certificate of the next will compose; and
    where that release is in this folder, it is the same one."""
    of_weights = origin.name if origin is not None and origin.kind == TRAINED else "no trained release"
    of_plan = plan.starting_release.release if plan.starting_release else "no trained release"
    if of_weights != of_plan:
        raise UnsoundPlan(
            f"The plan says that it starts from {of_plan}, its starting weights that they are of {of_weights}: the "
            "certificate would count the wrong rounds. Nothing was kept. Ask the consortium's admin for a new plan."
        )
    if plan.starting_release is None:
        return
    if not RELEASE_ID.match(of_plan):
        raise UnsoundPlan(
            f"The plan says that it starts from {of_plan[:80]!r}, which is no release's name. Nothing was kept. Ask "
            "the consortium's admin for a new plan."
        )
    here, planned = pulled_digest(home, of_plan), plan.starting_release.manifest_digest
    if here not in (None, planned):
        raise UnsoundPlan(
            f"The plan starts from a {of_plan} with the manifest {planned[:23]}…, and the {of_plan} in this folder has "
            f"{str(here)[:23]}…: one name was given to two releases, and the certificate would count the wrong rounds. "
            "Nothing was kept. Tell the other members."
        )


def _require_the_plans(plan: Plan, found: str) -> None:
    if found != plan.starting_weights:
        raise DigestMismatch(
            f"The plan's starting weights should have digest {plan.starting_weights}, these have {found}. "
            "Nothing was kept. Fetch the plan again."
        )


def _check_inputs(plan: Plan, inputs: int) -> None:
    if plan.shared_head is not None and plan.shared_head.inputs != inputs:
        raise InvalidWeights(
            f"A training head sees {inputs} numbers of this extractor's embedding, the plan's shared one "
            f"{plan.shared_head.inputs}. Nothing was kept. Ask for a plan made by `plan propose`."
        )
