"""Writes the weights of a standard extractor: `python -m coordinator.workers.standard_worker`, JSON in, JSON out."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from shared.domain.errors import CommonlensError
from shared.domain.release import WEIGHTS_FILE, Source, SourceKind
from shared.domain.strict import to_plain
from shared.extractors.files import write_weights
from shared.extractors.standard_catalogue import make_standard
from shared.extractors.standard_entries import standard_extractor


def main() -> None:
    """Read one question from stdin, write one line of JSON to stdout."""
    question = json.loads(sys.stdin.read())
    os.nice(question["niceness"])
    try:
        source = _write(question["name"], Path(question["folder"]))
        answer: dict[str, Any] = {"source": to_plain(source)}
    except CommonlensError as error:
        answer = {"error": error.code, "message": error.message}
    print(json.dumps(answer))


def _write(name: str, folder: Path) -> Source:
    entry, made = standard_extractor(name), make_standard(name)
    path = folder / WEIGHTS_FILE
    write_weights(path, made.tensors, made.spec, made.layout, made.origin, made.vocabulary)
    origin = "this software" if made.origin is None else f"{made.origin.name}, {made.origin.digest}"
    return Source(SourceKind(entry.kind), entry.description, entry.licence, origin)


if __name__ == "__main__":
    main()
