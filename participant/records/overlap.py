"""No unit may stand in two data sets of one member: the ledger counts per data set, for life.

Otherwise the same files under a second name would be given a second budget, and the first ledger's ε would no
longer bound what was learned of them (clauses 1.3, 7.5).
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc

from participant.records.index import read_index
from shared.domain.errors import OverlappingData


def refuse_overlap(name: str, index: Path, others: list[tuple[str, Path]]) -> None:
    """Compare file bytes, pixels and persons with every other index. Raises OverlappingData naming the other.

    `others`: (name, index.parquet) pairs. Persons are compared where both data sets name them.
    """
    for other_name, other_index in others:
        for column, what in (
            ("file_digest", "files"),
            ("pixel_digest", "pictures or texts"),
            ("person", "persons"),
        ):
            shared = _shared(index, other_index, column)
            if shared:
                raise OverlappingData(
                    f'Expected no records of "{name}" in another data set of this member, found {shared} '
                    "whose "
                    f'{what} are also in "{other_name}". Nothing was added: the ledger counts for the life '
                    "of a data set, and the same units under a second name would be given a second budget. "
                    f'Use "{other_name}", or add only what is new{_advice(column)}. If "{other_name}" was added by '
                    f"mistake, and no round was charged for it: data remove {other_name}."
                )


def _shared(index: Path, other: Path, column: str) -> int:
    mine = pc.drop_null(read_index(index, [column])[column])
    theirs = pc.unique(pc.drop_null(read_index(other, [column])[column]))
    if len(mine) == 0 or len(theirs) == 0:
        return 0
    return int(pc.sum(pc.is_in(mine, value_set=theirs)).as_py() or 0)


def _advice(column: str) -> str:
    if column != "person":
        return ""
    return "; if they are different people, give each a name of its own in the person column"
