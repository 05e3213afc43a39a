"""The member's own rules (clause 7.3), in a file that its operator owns: the coordinator can only propose.

Step 1 of the walk: a plan is checked against this file before anything of the records is touched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.domain.errors import Invalid, InvalidConfig, PolicyForbids
from shared.domain.files import write_atomically
from shared.domain.plan import Plan
from shared.domain.privacy import MAXIMUM_DELTA, Budget, GaussianEvent, Mode, Unit
from shared.domain.strict import read_toml
from shared.privacy.accountant import epsilon
from shared.privacy.soundness import check_soundness

DEFAULT_ARCHITECTURES = (
    "fixed-mlp",
    "small-gn",
    "wrn-16-4-gn",
    "resnet18-gn",
    "vit-tiny",
    "efficientnet-lite0",
    "ngram-bag",
    "byte-transformer",
)


@dataclass(frozen=True)
class Policy:
    """policy.toml. `epsilon` and `delta` are the ceiling for the whole life of one data set."""

    data_set: str
    """Name of the data set that this member trains with."""
    epsilon: float
    delta: float = 1e-5
    least_quorum: int = 1
    most_colluders: int = 1
    """How many others may work together against this member: plans that hold against fewer are refused."""
    most_epsilon_alone: float = 0.0
    """Ceiling for the data set's whole life, were every other member to deviate (clause 3.7); 0 sets none."""
    architectures: tuple[str, ...] = DEFAULT_ARCHITECTURES
    modes: tuple[str, ...] = (Mode.LOCAL.value, Mode.SECURE.value)
    starting_weights: tuple[str, ...] = ()
    """Digests of starting weights that are allowed; empty allows any that have the architecture's shape."""
    declare_budget: bool = False
    """Tell the consortium how much of the ceiling is left, as a share and an ε: who plans sees who can still take
    part. A policy without this line tells nothing; `data add --epsilon` writes it as true."""

    @property
    def budget(self) -> Budget:
        """The ceiling as the ledger takes it."""
        return Budget(self.epsilon, self.delta, self.most_epsilon_alone)


def read_policy(path: Path) -> Policy:
    """policy.toml. Raises InvalidConfig: without a policy, or with ceilings that are none, a node trains for nobody."""
    if not path.exists():
        raise InvalidConfig(
            "There is no policy.toml in this folder: no plan may train with records here. None was touched. Write one: "
            "data add --epsilon does it with a new data set, docs/configuration.md says how by hand."
        )
    policy = read_toml(path, Policy)
    rules = (
        (_is_ceiling(policy.epsilon), f"epsilon: expected a number above 0, found {policy.epsilon:g}"),
        (
            0.0 < policy.delta <= MAXIMUM_DELTA,
            f"delta: expected a number above 0 and at most {MAXIMUM_DELTA:g}, found {policy.delta:g}",
        ),
        (
            policy.most_epsilon_alone == 0.0 or _is_ceiling(policy.most_epsilon_alone),
            f"most_epsilon_alone: expected 0 or a number above, found {policy.most_epsilon_alone:g}",
        ),
    )
    for holds, said in rules:
        if not holds:
            raise InvalidConfig(f"{path.name}.{said}. Nobody's plan is allowed by it. Correct this value.")
    return policy


def check_ceiling(epsilon: float) -> None:
    """Raise Invalid unless `epsilon` can be a ceiling."""
    if not _is_ceiling(epsilon):
        raise Invalid(
            f"A ceiling of ε must be a number above 0, and is {epsilon:g}. Nothing was added and no policy was "
            "written. Choose another."
        )


def _is_ceiling(epsilon: float) -> bool:
    return 0.0 < epsilon < math.inf


def write_default_policy(path: Path, data_set: str, epsilon: float) -> bool:
    """A first policy.toml, each line with its meaning. Never replaces one that is there: False then."""
    if path.exists():
        return False
    text = f"""# What this member allows. Only you change this file; the coordinator never sees or writes it.
data_set = "{data_set}"        # which data set this node trains with
epsilon = {epsilon}            # ceiling for the whole life of that data set, at delta
delta = 1e-5
least_quorum = 1               # refuse plans whose sum may hold fewer members than this
most_colluders = 1             # refuse plans in mode secure that hold against fewer colluding members
most_epsilon_alone = 0         # ceiling where every other member deviates (mode secure); 0 sets none
architectures = [{", ".join(f'"{name}"' for name in DEFAULT_ARCHITECTURES)}]
modes = ["local", "secure"]
starting_weights = []          # digests; empty allows any weights of an allowed architecture
declare_budget = true          # tell the consortium how much of these ceilings is left, as a share and an ε
"""
    write_atomically(path, text.encode("utf-8"))
    return True


def check_rules(policy: Policy, plan: Plan, member_id: str, unit: Unit, declared_size: int) -> None:
    """Raise PolicyForbids unless the policy as it is today allows the plan, its price aside.

    Asked before every round too, so that a changed policy.toml stops a run that is under way.
    """
    _refuse(_reasons(policy, plan, member_id, unit, declared_size))


def check_plan(
    policy: Policy,
    plan: Plan,
    member_id: str,
    unit: Unit,
    declared_size: int,
    spent: Sequence[GaussianEvent],
    spent_alone: Sequence[GaussianEvent],
) -> None:
    """Raise PolicyForbids, with every broken rule at once, unless this member's rules allow the whole plan.

    Its price is asked last, of a plan that is otherwise in order. `spent` and `spent_alone` are everything the
    ledger holds for the data set: composition is over its whole life (7.5). Raises UnsoundPlan where the plan's
    argument does not hold.
    """
    reasons = _reasons(policy, plan, member_id, unit, declared_size)
    if not reasons:
        check_soundness(plan)
        reasons += _prices(policy, plan, spent, spent_alone)
    _refuse(reasons)


def _prices(
    policy: Policy, plan: Plan, spent: Sequence[GaussianEvent], spent_alone: Sequence[GaussianEvent]
) -> list[str]:
    reasons = []
    after = epsilon([*spent, *plan.events_of_run()], policy.delta)
    if not after <= policy.epsilon:
        reasons.append(
            f"the data set would have spent ε = {after:.3f} of {policy.epsilon:g} at δ = {policy.delta:g}"
        )
    if policy.most_epsilon_alone > 0.0:
        alone = epsilon([*spent_alone, *plan.events_alone_of_run()], policy.delta)
        if not alone <= policy.most_epsilon_alone:
            reasons.append(
                f"were every other member to deviate, the data set would have spent ε = {alone:.3f} of "
                f"{policy.most_epsilon_alone:g} at δ = {policy.delta:g} (ask for a plan of mode local)"
            )
    return reasons


def _reasons(policy: Policy, plan: Plan, member_id: str, unit: Unit, declared_size: int) -> list[str]:
    terms = plan.privacy
    line = plan.member(member_id)
    secure = terms.mode is Mode.SECURE
    rules = (
        (line is None, "this member is not in the plan"),
        (
            line is not None and line.declared_size != declared_size,
            f"the plan declares a size of {line.declared_size if line else 0} for this member, "
            f"it declared {declared_size}",
        ),
        (
            plan.extractor.architecture not in policy.architectures,
            f"architecture {plan.extractor.architecture} is not among {', '.join(policy.architectures)}",
        ),
        (terms.mode.value not in policy.modes, f"mode {terms.mode.value} is not allowed"),
        (
            secure and plan.training.local_steps != 1,
            "mode secure with more than one local step is not sound (clause 3.5)",
        ),
        (
            bool(policy.starting_weights) and plan.starting_weights not in policy.starting_weights,
            "its starting weights are not on the list",
        ),
        (plan.quorum < policy.least_quorum, f"its quorum {plan.quorum} is below {policy.least_quorum}"),
        (
            secure and plan.colluders < policy.most_colluders,
            f"it holds against {plan.colluders} colluding members, the policy asks for {policy.most_colluders}",
        ),
        (unit is not terms.unit, f"its unit is {terms.unit.value}, the data set's is {unit.value}"),
        (terms.delta > policy.delta, f"its δ {terms.delta:g} is above {policy.delta:g}"),
    )
    return [reason for forbidden, reason in rules if forbidden]


def _refuse(reasons: Sequence[str]) -> None:
    if reasons:
        raise PolicyForbids(
            f"This member's policy does not allow the plan: {'; '.join(reasons)}. No record was touched. "
            "Ask for another plan, or change policy.toml."
        )
