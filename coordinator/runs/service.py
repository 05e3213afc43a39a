"""What admins and members may do with plans and runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coordinator.registry.shelf import Shelf
from coordinator.runs.draft import PlanDraft
from coordinator.runs.planning import PlanCheck, complete, cost_of
from coordinator.runs.store import RunRow, RunStore
from coordinator.workers.kept_probes import KeptProbes
from coordinator.workers.probe import Probe, find_start
from shared.domain.consortium import Member
from shared.domain.errors import ConsentMissing, NotAllowed
from shared.domain.plan import Plan
from shared.domain.release import EXTRACTOR_NAME, ConsentRecord
from shared.domain.run import RunState
from shared.release.certificate import check_consent

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
        self._costs: dict[tuple[str, bool], PlanCheck] = {}

    def check(self, draft: PlanDraft) -> PlanCheck:
        """What the plan would cost. Raises UnsoundPlan, MixesRecords, InvalidConfig; stores nothing."""
        return complete(draft, self._consortium, self._members(), self._probe(draft))

    def propose(self, draft: PlanDraft, actor: str) -> PlanCheck:
        """Check the plan and put it before its members."""
        probe = self._probe(draft)
        check = complete(draft, self._consortium, self._members(), probe)
        self.store.add_plan(check.plan, actor, probe.file_name)
        return check

    def cost(self, digest: str) -> PlanCheck:
        """What a proposed plan costs, as it was checked. Raises NotFound.

        Kept by digest, under which nothing changes: the ε of a long plan take half a second.
        """
        plan = self.store.plan(digest)
        probe = self._probes.about(self.store.starting_weights(digest))
        known = self._costs.get((digest, probe is None))
        if known is None:
            known = cost_of(plan, probe)
            if len(self._costs) >= MOST_COSTS:
                self._costs.clear()
            self._costs[digest, probe is None] = known
        return known

    def _probe(self, draft: PlanDraft) -> Probe:
        """Starting weights and speed, from what `starting_from` names. Raises InvalidConfig, a NotTrusted leaf."""
        wanted = draft.starting_from
        name, _, number = wanted.rpartition("-")
        if EXTRACTOR_NAME.match(name) and number.isdecimal():
            shown = Shelf(self.starting_folder.parent).folder(name, int(number))
            wanted = str(shown) if shown.is_dir() else wanted
        return self._probes.probe(draft.extractor, draft.starting_seed, find_start(wanted))

    def consent(self, digest: str, member_id: str, signature: str) -> None:
        """Record a member's signed consent (clause 8.2). Raises NotFound, NotAllowed, BadSignature."""
        plan = self.store.plan(digest)
        member = next(m for m in self._members() if m.id == member_id)
        if plan.member(member.id) is None:
            raise NotAllowed(
                f"{member.name} is not among the {len(plan.members)} members of this plan. No consent was "
                "recorded. Ask an admin for a plan that names it."
            )
        check_consent(ConsentRecord(member.id, digest, signature), member.identity_public_key)
        self.store.add_consent(digest, member.id, signature)

    def start(self, digest: str, actor: str) -> RunRow:
        """Begin a run. Raises ConsentMissing unless at least a quorum of the plan's members signed it."""
        plan = self.store.plan(digest)
        signed = set(self.store.consents(digest))
        unsigned = [m.name for m in plan.members if m.member_id not in signed]
        if len(plan.members) - len(unsigned) < plan.quorum:
            raise ConsentMissing(
                f"{len(plan.members) - len(unsigned)} of {len(plan.members)} members consented, the plan's "
                f"quorum is {plan.quorum}. No run was started. Waiting for {', '.join(unsigned)}."
            )
        return self.store.create_run(digest, actor)

    def move(self, run_id: str, wanted: RunState, actor: str) -> RunRow:
        """Pause, resume or stop a run. Raises IllegalMove, NotFound."""
        self.store.move_run(run_id, wanted, actor, f"{wanted.value} by {actor}")
        return self.store.run(run_id)

    def starting_weights(self, digest: str) -> Path:
        """The file that members check against the plan's digest. Raises NotFound."""
        return self.starting_folder / self.store.starting_weights(digest)

    def plan(self, digest: str) -> Plan:
        """The plan with this digest. Raises NotFound."""
        return self.store.plan(digest)
