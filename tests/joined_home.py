"""A member's folder as joining leaves it, for commands that need no coordinator."""

from __future__ import annotations

from pathlib import Path

from participant.enrol import COORDINATOR_FILE, CoordinatorLink
from participant.home import Home
from shared.domain.files import write_json
from shared.domain.privacy import Budget, Charge
from shared.domain.strict import to_plain
from shared.privacy.ledger import Ledger
from tests.release_kit import RUN_ID, Kit


def joined(kit: Kit, folder: Path) -> Home:
    """The home of the first member of the kit's plan, whose ledger has paid for every round of its run."""
    home = Home(folder)
    link = CoordinatorLink(
        url="https://localhost:8443",
        ca_pem="",
        ca_sha256=kit.fingerprint,
        root_public_key=kit.root,
        trust={},
        consortium=kit.plan.consortium,
        member_id=kit.plan.members[0].member_id,
        name="North",
        token="t",
        declared_size=500,
        roll_version=1,
    )
    write_json(home.root / COORDINATOR_FILE, to_plain(link))
    ledger, plan = Ledger(home.ledger), kit.plan
    for number in range(1, plan.rounds + 1):
        events, alone = plan.events_of_round(number), plan.events_alone_of_round(number)
        charge = Charge("dat_own", str(plan.digest), RUN_ID, number, events, alone)
        ledger.charge(charge, Budget(1000.0, 1e-5))
    return home
