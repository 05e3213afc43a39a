"""Rows of a CSV with a first line of column names, as labels of pictures and labelled texts come."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from shared.domain.errors import InvalidRecords

Row = dict[str, str]


def csv_rows(path: Path, columns: Sequence[str], errors: str = "strict") -> Iterator[tuple[int, Row, bool]]:
    """(line, what stands in `columns`, whether more stands behind the last column) of every row.

    A field that is left out is "". What stands behind the last column has no name: a comma that should have been in
    quotes may have moved it there. `errors` as in `open`: what becomes of bytes that are not UTF-8. Raises
    InvalidRecords where a column is missing, or the file is, or it is no CSV.
    """
    try:
        with path.open(encoding="utf-8-sig", errors=errors, newline="") as file:
            reader = csv.DictReader(file, strict=True)
            found = reader.fieldnames or []
            if missing := [column for column in columns if column not in found]:
                raise InvalidRecords(
                    f"{path.name}: expected the columns {', '.join(columns)} separated by commas, found "
                    f"{', '.join(map(repr, found)) or 'none'}; {', '.join(missing)} is missing. Nothing "
                    "was added. Correct the first line."
                )
            for row in reader:
                # DictReader keeps what has no column under None, which its types do not say.
                behind = any(field.strip() for field in row.get(None, ()))
                yield reader.line_num, {column: row[column] or "" for column in columns}, behind
    except FileNotFoundError as error:
        raise InvalidRecords(f"There is no file {path}. Nothing was added. Check the path.") from error
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise InvalidRecords(f"{path} cannot be read: {why}. Nothing was added. Check the file.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidRecords(
            f"{path.name} cannot be read as a CSV in UTF-8: {error}. Nothing was added. Save it again as "
            "UTF-8."
        ) from error
