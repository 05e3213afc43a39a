"""Two releases that see different things, as formulas in ONNX: cheap to compare, and without torch anywhere."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper

from coordinator.app import build_coordinator
from coordinator.config import Config
from coordinator.registry.behaviour import Comparison, Comparisons
from coordinator.registry.build import KeepRequest, weights_only
from coordinator.registry.publish import publish
from coordinator.registry.shelf import Shelf, read_catalogue
from shared.domain.canonical import digest_of
from shared.domain.clock import SystemClock
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.files import write_json
from shared.domain.release import ONNX_FILE, CatalogueEntry, Source, SourceKind
from shared.extractors.files import read_weights, write_weights
from tests.dashboard_kit import Board
from tests.desk import CHEAP_HASHER, CONSORTIUM
from tests.patience import PATIENCE_S
from tests.release_kit import Kit, make_kit

SPEC = ExtractorSpec("small-gn", 3, 16, 16, 3, (0.5,), (0.25,))
WORDS = ExtractorSpec("ngram-bag", 1, 1, 48, 3, kind=RecordKind.TEXT)
Document = dict[str, Any]


def mean_colour() -> bytes:
    """Blind to everything but colour."""
    return model([helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"])])


def thirds() -> bytes:
    """How bright each third of the picture is: blind to colour."""
    strips = helper.make_node("AveragePool", ["grey"], ["pooled"], kernel_shape=[16, 5], strides=[16, 5])
    return model([helper.make_node("ReduceMax", ["pixels", "channels"], ["grey"]), strips])


def model(nodes: list[Any]) -> bytes:
    """An extractor of SPEC that is a formula; its weights file is not asked."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, 16, 16])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 3])
    channels = helper.make_tensor("channels", TensorProto.INT64, [1], [1])
    flat = helper.make_node("Flatten", ["pooled"], ["embedding"])
    graph = helper.make_graph([*nodes, flat], "formula", [pixels], [embedding], [channels])
    opset = [helper.make_opsetid("", 20)]
    made: bytes = helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    return made


def make_compared_kit(folder: Path) -> Kit:
    """digits-1 sees colours alone, digits-2 of another run none; words-1 reads texts."""
    kit = make_kit(folder, SPEC, moment=SystemClock().now())
    for number, (name, data) in enumerate((("one", mean_colour()), ("two", thirds())), start=1):

        def export(where: Path, release: str, data: bytes = data) -> dict[str, str]:
            (where / ONNX_FILE).write_bytes(data)
            return {}

        publish(kit.home, kit.request(name, run_id=f"run_{number:012x}"), kit.clock, export=export)
    found = read_weights(kit.starting)
    write_weights(folder / "words.safetensors", found.tensors, WORDS, found.layout)
    source = Source(SourceKind.RANDOM, "Reads by chance.", "Apache-2.0", "this software")
    publish(
        kit.home, KeepRequest("words", source, folder / "words.safetensors"), kit.clock, export=weights_only
    )
    return kit


def comparisons(board: Board) -> Comparisons:
    found: Comparisons = board.coordinator.control.state.comparisons
    return found


def entries(home: Path, *releases: str) -> tuple[CatalogueEntry, ...]:
    catalogue = read_catalogue(Shelf(home), SystemClock())
    found = tuple(catalogue.entry(release) for release in releases)
    return tuple(entry for entry in found if entry is not None)


def wait_for(service: Comparisons, before: CatalogueEntry, after: CatalogueEntry) -> Comparison:
    for _ in range(int(PATIENCE_S / 0.02)):
        found = service.standing(before, after)
        if not found.going:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{before.id} and {after.id} are still {found.state}")


class Slow:
    """Measures one after the other once it is let; counts how many at once."""

    def __init__(self, document: Document) -> None:
        self.go_on, self.most = threading.Event(), 0
        self.order: list[str] = []
        self._document, self._now = document, 0

    def __call__(self, before: tuple[Path, str], after: tuple[Path, str], root: str) -> Document:
        self._now += 1
        self.most = max(self.most, self._now)
        assert self.go_on.wait(PATIENCE_S)
        self.order.append(before[1])
        self._now -= 1
        sides = {
            name: self._document[name] | {"manifest_digest": digest}
            for name, (_, digest) in (("before", before), ("after", after))
        }
        return self._document | sides


def open_again(home: Path) -> Board:
    """A coordinator started anew over `home`, which has its people already."""
    coordinator = build_coordinator(home, Config(CONSORTIUM, exports=False), SystemClock())
    coordinator.control.state.members.accounts._hasher = CHEAP_HASHER
    return Board(home, coordinator, None)  # type: ignore[arg-type]


def put(home: Path, made: Document) -> None:
    """As the service keeps it, for the releases that it is of."""
    pair = (made["before"]["manifest_digest"], made["after"]["manifest_digest"])
    path = Comparisons(home, SystemClock())._path(pair)
    write_json(path, {"digest": digest_of(made), "difference": made})


def other_format(kept: Document) -> str:
    kept["difference"]["format"] = "commonlens-release-difference/0"
    return json.dumps(kept | {"digest": digest_of(kept["difference"])})


def other_releases(kept: Document) -> str:
    kept["difference"]["after"]["manifest_digest"] = "sha256:" + "0" * 64
    return json.dumps(kept | {"digest": digest_of(kept["difference"])})


def other_number(kept: Document) -> str:
    kept["difference"]["behaviour"]["tells"][0]["after"]["value"] = 0.99
    return json.dumps(kept)


def no_number(kept: Document) -> str:
    kept["difference"]["behaviour"]["tells"][0]["after"]["value"] = float("nan")
    return json.dumps(kept)


def less(kept: Document) -> str:
    del kept["difference"]["spent"]
    return json.dumps(kept | {"digest": digest_of(kept["difference"])})


DAMAGES: Mapping[str, Callable[[Document], str]] = {
    "an empty file": lambda kept: "",
    "a half of it": lambda kept: json.dumps(kept)[:400],
    "a list": lambda kept: json.dumps([kept]),
    "an empty object": lambda kept: "{}",
    "another format": other_format,
    "of other releases": other_releases,
    "another number": other_number,
    "no number": no_number,
    "a key less": less,
}
"""What may have become of a file that was kept; none of them is one."""
