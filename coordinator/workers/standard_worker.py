"""Writes the weights of a standard extractor: `python -m coordinator.workers.standard_worker`, JSON in, JSON out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from shared.domain.errors import CommonlensError
from shared.domain.release import WEIGHTS_FILE, Source, SourceKind
from shared.domain.strict import to_plain
from shared.extractors.files import write_weights
from shared.extractors.standard_catalogue import STANDARD_EXTRACTORS, StandardExtractor, standard_extractor


def main() -> None:
    """Read one question from stdin, write one line of JSON to stdout."""
    question = json.loads(sys.stdin.read())
    try:
        answer: dict[str, Any] = {"names": list(STANDARD_EXTRACTORS)}
        if question["name"]:
            answer = {"source": to_plain(_write(question["name"], Path(question["folder"])))}
    except CommonlensError as error:
        answer = {"error": error.code, "message": error.message}
    print(json.dumps(answer))


def _write(name: str, folder: Path) -> Source:
    entry: StandardExtractor = standard_extractor(name)
    made = entry.make()
    write_weights(folder / WEIGHTS_FILE, made.tensors, made.spec, made.layout, made.origin)
    origin = "this software" if made.origin is None else f"{made.origin.name}, {made.origin.digest}"
    return Source(SourceKind(entry.kind), entry.description, entry.licence, origin)


if __name__ == "__main__":
    main()
