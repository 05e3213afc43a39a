"""What was spent must not be forgotten: the ledger, the outbox and the data sets have to know of each other."""

from __future__ import annotations

from participant.home import Home
from participant.records.dataset import list_data_sets
from shared.domain.errors import BrokenChain, OverlappingData
from shared.privacy.ledger import Ledger, LedgerView


def refuse_forgotten_spending(home: Home) -> None:
    """Raise OverlappingData while the ledger has charges for a data set that is no longer here.

    Its records, added again, would get a fresh budget, and nothing left here could tell.
    """
    charged = {entry.charge.dataset_id for entry in Ledger.read(home.ledger).entries() if entry.charge}
    gone = charged - {data_set.id for data_set in list_data_sets(home.root)}
    if gone:
        raise OverlappingData(
            f"The ledger has charges for {len(gone)} data set(s) that are no longer here: "
            f"{', '.join(sorted(gone))}. Nothing was added, because the same records would get a fresh "
            "budget. Put their folders under data/ back; only index.parquet and dataset.json are needed."
        )


def refuse_lost_ledger(home: Home, ledger: LedgerView) -> None:
    """Raise BrokenChain where this node answered runs that its ledger does not know of."""
    answered = {folder.name for folder in home.outbox.glob("run_*") if any(folder.glob("*.json"))}
    charged = {entry.charge.run_id for entry in ledger.entries() if entry.charge}
    if not answered <= charged:
        raise BrokenChain(
            f"This node answered {len(answered)} runs, its ledger knows {len(answered & charged)} of them. "
            "No record was touched. Restore ledger.jsonl and ledger.jsonl.head from a backup."
        )
