"""What admins and members may do with plans and runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from coordinator.members.names import Names
from coordinator.registry.shelf import Shelf
from coordinator.runs.draft import PlanDraft
from coordinator.runs.plan_checks import PlanChecks
from coordinator.runs.planning import PlanCheck, complete, cost_of
from coordinator.runs.predecessors import Predecessors, predecessor_in
from coordinator.runs.proposals import Proposal, Proposed, withdrawn_error
from coordinator.runs.store import RunRow, RunStore
from coordinator.workers.kept_probes import KeptProbes
from coordinator.workers.probe import Probe, ReleaseStart, find_start, start_of
from shared.domain.consortium import Member
from shared.domain.errors import ConsentMissing, NotAllowed, UnsoundPlan
from shared.domain.plan import Plan
from shared.domain.release import EXTRACTOR_NAME, MANIFEST_FILE, Predecessor
from shared.domain.run import RunState
from shared.release import limits
from shared.release.certificate import check_consent, consent_record
from shared.release.envelope import read_document
from shared.release.lineage import links_behind
from shared.release.manifest import parse_manifest

MOST_COSTS = 200


class RunService:
    """The room's decisions. Routes parse and render; the store turns rows into words."""

    def __init__(
        self,
        consortium: str,
        store: RunStore,
        members: Callable[[], list[Member]],
        starting_folder: Path,
    ) -> None:
        self._consortium = consortium
        self.store = store
        self._members = members
        self.starting_folder = starting_folder
        self._probes = KeptProbes(starting_folder)
        self._predecessors = Predecessors(starting_folder)
        self._costs: dict[tuple[str, bool], PlanCheck] = {}
        self._checks = PlanChecks()

    def check(self, draft: PlanDraft) -> PlanCheck:
        """What the plan would cost. Raises UnsoundPlan, MixesRecords, InvalidConfig; stores nothing."""
        return complete(draft, self._consortium, self._members(), *self._probe(draft))

    def propose(self, draft: PlanDraft, actor: str) -> PlanCheck:
        """Check the plan and put it before its members."""
        probe, predecessor = self._probe(draft)
        check = complete(draft, self._consortium, self._members(), probe, predecessor)
        self._predecessors.keep(predecessor)
        self.store.add_plan(check.plan, actor, probe.file_name)
        return check

    def cost(self, digest: str) -> PlanCheck:
        """What a proposed plan costs, as it was checked. Raises NotFound, and UnsoundPlan where `fault` says one.

        Kept by digest, under which nothing changes: the ε of a long plan take half a second.
        """
        self._require_sound(digest)
        plan = self.store.plan(digest)
        probe = self._probes.about(self.store.starting_weights(digest))
        known = self._costs.get((digest, probe is None))
        if known is None:
            known = cost_of(plan, self.names(), probe, self._predecessors.of(plan))
            if len(self._costs) >= MOST_COSTS:
                self._costs.clear()
            self._costs[digest, probe is None] = known
        return known

    def fault(self, digest: str) -> str:
        """Which check of its privacy argument a stored plan fails, in words; empty where it holds. Raises NotFound."""
        return self._checks.fault(self.store.plan(digest))

    def faults(self, plans: Iterable[Proposed]) -> dict[str, str]:
        """Digest → the same, as far as it is known: a list does not wait. Give plans that could begin (`not_begun`)."""
        return self._checks.known(one.plan for one in plans)

    def _require_sound(self, digest: str) -> None:
        fault = self.fault(digest)
        if fault:
            raise UnsoundPlan(fault)

    def _probe(self, draft: PlanDraft) -> tuple[Probe, Predecessor | None]:
        """Starting weights and speed, from what `starting_from` names; and of a trained release what it cost.

        Raises InvalidConfig, a NotTrusted leaf.
        """
        wanted = draft.starting_from
        name, _, number = wanted.rpartition("-")
        shelf = Shelf(self.starting_folder.parent)
        shown = shelf.folder(name, int(number)) if EXTRACTOR_NAME.match(name) and number.isdecimal() else None
        if shown is None or not shown.is_dir():
            start = find_start(wanted)
            predecessor = predecessor_in(Path(wanted)) if isinstance(start, ReleaseStart) else None
            return self._probes.probe(draft.extractor, draft.starting_seed, start), predecessor
        # Verified when it was first asked about, so nothing is fetched or checked again for another dial of the plan.
        manifest = parse_manifest(read_document(shown / MANIFEST_FILE, limits.MANIFEST_BYTES)).claimed
        known = self._probes.known(draft.extractor, draft.starting_seed, start_of(manifest, shown))
        if known is None:
            with shelf.large.whole(shown) as complete:
                known = self._probes.probe(draft.extractor, draft.starting_seed, find_start(str(complete)))
        return known, predecessor_in(shown)

    def consent(self, digest: str, member_id: str, signature: str) -> None:
        """Record a member's signed consent (clause 8.2). Raises NotFound, NotAllowed, BadSignature."""
        plan = self.store.plan(digest)
        member = next(m for m in self._members() if m.id == member_id)
        if plan.member(member.id) is None:
            raise NotAllowed(
                f"{member.name} is not among the {len(plan.members)} members of this plan. No consent was "
                "recorded. Ask an admin for a plan that names it."
            )
        check_consent(consent_record(plan, member.id, member.name, signature), member.identity_public_key)
        self.store.add_consent(digest, member.id, signature)

    def withdraw(self, digest: str, actor: str) -> None:
        """Take a plan back that no run began from, for good. Raises NotFound, IllegalMove."""
        self.store.withdraw_plan(digest, actor)

    def start(self, digest: str, actor: str) -> RunRow:
        """Begin a run. Raises ConsentMissing unless the consents of a quorum of the plan's members count, UnsoundPlan
        where its privacy argument does not hold, IllegalMove for a withdrawn plan, NotFound where the certificate of
        the release that it starts from is lost, and as `links_behind`.
        """
        one = self.store.proposal(digest)
        if one.withdrawn:
            raise withdrawn_error(digest)
        if not one.may_start:
            raise _too_few(one, self.names())
        if not one.may_start_again:
            raise _used_up(one, self.names())
        self._require_sound(digest)
        # Else the run would cost what no release could state.
        links_behind(one.plan, self._predecessors.of(one.plan))
        return self.store.create_run(digest, actor)

    def move(self, run_id: str, wanted: RunState, actor: str) -> RunRow:
        """Pause, resume or stop a run. Raises IllegalMove, NotFound."""
        self.store.move_run(run_id, wanted, actor, f"{wanted.value} by {actor}")
        return self.store.run(run_id)

    def starting_weights(self, digest: str) -> Path:
        """The file that members check against the plan's digest. Raises NotFound."""
        return self.starting_folder / self.store.starting_weights(digest)

    def names(self) -> Names:
        """Of all members, as they stand on the signed roll: plans list ids."""
        return Names({str(member.id): member.name for member in self._members()})

    def plan(self, digest: str) -> Plan:
        """The plan with this digest. Raises NotFound."""
        return self.store.plan(digest)


def _too_few(one: Proposal, names: Names) -> ConsentMissing:
    said = [
        f"{one.given} of {len(one.plan.members)} members consented, the plan's quorum is {one.plan.quorum}. "
        "No run was started."
    ]
    if one.missing:
        said.append(f"Waiting for {', '.join(names[member_id] for member_id in one.missing)}.")
    shut_out = [f"{names[member_id]} ({why})" for member_id, why in one.uncounted.items()]
    if shut_out:
        said.append(f"What {', '.join(shut_out)} signed does not count.")
    return ConsentMissing(" ".join(said))


def _used_up(one: Proposal, names: Names) -> ConsentMissing:
    whose = [f"{names[member_id]} ({run})" for member_id, run in sorted(one.spent.items())]
    return ConsentMissing(
        f"One consent pays for one run, and earlier runs of this plan used up those of {', '.join(whose)}. No run was "
        "started. Ask them to consent to the plan again, or propose a new one."
    )
