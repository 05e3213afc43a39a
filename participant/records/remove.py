"""Take back a data set that was added by mistake, while nobody trained with it."""

from __future__ import annotations

import shutil

from participant.home import Home
from participant.records.dataset import open_data_set
from participant.spending import refuse_lost_ledger
from shared.domain.errors import IllegalMove
from shared.domain.locking import held_lock
from shared.privacy.ledger import Ledger


def remove_data_set(home: Home, name: str) -> None:
    """Forget what `data add` wrote; the records themselves are left where they are.

    Only while the ledger has no charge for it: its budget counts for the life of the records, and added again they
    would get a fresh one (clause 7.5). Raises IllegalMove then, NotFound, and BrokenChain for a ledger that was lost.
    """
    data_set = open_data_set(home.root, name)
    with held_lock(home.root / "node.lock"):  # no round is charged meanwhile
        ledger = Ledger.read(home.ledger)
        refuse_lost_ledger(home, ledger)
        rounds = sum(
            entry.charge is not None and entry.charge.dataset_id == data_set.id for entry in ledger.entries()
        )
        if rounds:
            raise IllegalMove(
                f'"{name}" has paid for {rounds} rounds, and its budget counts for the life of its records. Nothing '
                "was removed. Keep it; policy.toml decides which data set plans train with."
            )
        (data_set.folder / "dataset.json").unlink()  # from here on it is no data set
        shutil.rmtree(data_set.folder)
        shutil.rmtree(home.root / "cache" / data_set.id, ignore_errors=True)
