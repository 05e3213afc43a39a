"""A head on a few labelled records, without joining anything: python fit.py RELEASE HEAD.json LABEL=EMBEDDINGS.npy...

    commonlens embed RELEASE cats/*.png --root KEY --out cat.npy       (the same for each label)
    python fit.py RELEASE pets.json cat=cat.npy dog=dog.npy

HEAD.json is what the other examples apply; docs/formats.md has its arithmetic. It holds what was learned from your
records: whoever gets it may learn something of them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

USAGE = "Usage: python fit.py RELEASE HEAD.json LABEL=EMBEDDINGS.npy LABEL=EMBEDDINGS.npy..."


def fitted(parts: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Weight [labels, D] and bias [labels] for embeddings [N, D] of each label, as they come from the extractor."""
    every = np.concatenate(list(parts.values()))
    scaler = StandardScaler().fit(every)
    asked = np.repeat(np.arange(len(parts)), [len(part) for part in parts.values()])
    found = LogisticRegression(max_iter=1000).fit(scaler.transform(every), asked)
    weight, bias = found.coef_, found.intercept_
    if len(parts) == 2:  # scikit-learn gives the difference of two rows alone
        weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scaler.scale_
    return weight, bias - weight @ scaler.mean_


def head(release: Path, parts: dict[str, np.ndarray]) -> dict[str, Any]:
    """The file of a head on the release in that folder; what must stand in it says head.schema.json."""
    form = json.loads((release / "head.schema.json").read_text("utf-8"))["properties"]
    manifest = json.loads((release / "manifest.json").read_text("utf-8"))["signed"]
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    weight, bias = fitted(parts)
    return {
        "format": form["format"]["const"],
        "labels": list(parts),
        "embedding_dim": form["embedding_dim"]["const"],
        "weight": weight.astype(np.float32).tolist(),
        "bias": bias.astype(np.float32).tolist(),
        "release": {
            "consortium": manifest["consortium"],
            "release": manifest["release"],
            "manifest_digest": f"sha256:{hashlib.sha256(canonical).hexdigest()}",
        },
        "preprocessing": {k: v["const"] for k, v in form["preprocessing"]["properties"].items()},
        "arithmetic": form["arithmetic"]["description"],
    }


def main(words: list[str]) -> None:
    """Write the head."""
    given = [word.partition("=") for word in words[2:]]
    if len(given) < 2 or not all(label and path for label, _, path in given):
        sys.exit(USAGE)
    parts = {label: np.load(path, allow_pickle=False) for label, _, path in given}
    made = head(Path(words[0]), parts)
    Path(words[1]).write_text(json.dumps(made, ensure_ascii=False), "utf-8")
    print(f"{words[1]}: {', '.join(f'{label} ({len(part)})' for label, part in parts.items())}")


if __name__ == "__main__":
    main(sys.argv[1:])
