"""transformers and sentence-transformers, as they are, load a consortium's byte-transformer from the hub alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coordinator.registry.build import KeepRequest
from coordinator.registry.publish import publish
from coordinator.registry.shelf import Shelf
from coordinator.workers.export_worker import write_configuration
from shared.domain.clock import SystemClock
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.release import WEIGHTS_FILE, Source, SourceKind
from shared.embedding import Given, by_torch, embed_given_by
from shared.exports.public_texts import LANGUAGES
from shared.exports.transformers_file import TRANSFORMERS_FILE
from shared.extractors.architectures import starting_weights
from shared.extractors.files import read_weights, write_weights
from shared.verification import verify_extractor
from tests.hub_client_kit import api, run, serving, stranger
from tests.hub_kit import SPACE, Hub
from tests.release_kit import Kit, make_kit
from tests.texts import names

__all__ = ["stranger"]
SPEC = ExtractorSpec(
    "byte-transformer", 1, 1, 32, 6, options={"width": 12, "depth": 2, "heads": 3}, kind=RecordKind.TEXT
)
LORA = replace(SPEC, options={**SPEC.options, "scope": "lora", "lora_rank": 2})
TEXTS = (
    "x",
    "Ārija",
    "cafe\u0301 \u1112\u1161\u11ab",
    "\t  Kuzey dilleri \n",
    "<pad> [PAD] </s> \\0",
    "a" * 31 + "é and more",
    "北方の言語" * 9,
    "🙂👍🏽" * 9,
    "one word after another " * 200,
)
READS_TEXTS = """
import json, sys
import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer
from sentence_transformers import SentenceTransformer
texts = json.loads(sys.argv[1])
for repo in sys.argv[2:]:
    model, told = AutoModel.from_pretrained(repo, output_loading_info=True)
    assert not any(told.values()), told
    tokenizer = AutoTokenizer.from_pretrained(repo)
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    assert [tokenizer.decode(tokenizer(text)["input_ids"]) for text in texts[:2]] == texts[:2]
    with torch.no_grad():
        made = model.eval()(**tokens)
    assert not made.pooler_output.any()
    whole = SentenceTransformer(repo, device="cpu")
    mask = tokens["attention_mask"][..., None]
    mean = (made.last_hidden_state * mask).sum(1) / mask.sum(1)
    found = whole.encode(texts)
    assert np.abs(whole[2].linear(mean).detach().numpy() - found).max() < 1e-5
    assert whole.max_seq_length == tokenizer.model_max_length == 32
    np.save(repo.partition("/")[2] + ".npy", found)
"""


def exported(folder: Path, _release: str) -> Mapping[str, str]:
    write_configuration(folder, read_weights(folder / WEIGHTS_FILE))
    return {}


def drawn(path: Path, spec: ExtractorSpec) -> Path:
    """Weights as if something had been learned: with those of the start, many mistakes would not show."""
    tensors, layout = starting_weights(spec, seed=1)
    generator = np.random.default_rng(5)
    moved = {
        slot.name: tensors[slot.name]
        + np.float32(0.2 * slot.trainable) * generator.normal(size=slot.shape).astype(np.float32)
        for slot in layout.slots
    }
    write_weights(path, moved, spec, layout)
    return path


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """`names` that the consortium trained, and `changed`, which has low-rank changes."""
    folder = tmp_path_factory.mktemp("texts")
    made = make_kit(folder, SPEC, drawn(folder / "start.safetensors", SPEC), SystemClock().now())
    made.plan = replace(made.plan, extractor_name="names")
    publish(made.home, made.request(), made.clock, export=exported)
    source = Source(SourceKind.RANDOM, "For a test.", "Apache-2.0", "a seed")
    changed = KeepRequest("changed", source, drawn(folder / "changed.safetensors", LORA))
    publish(made.home, changed, made.clock, export=exported)
    return made


@pytest.fixture(scope="module")
def hub(kit: Kit) -> Iterator[Hub]:
    with serving(kit) as hub:
        yield hub


@pytest.mark.slow  # importing the two programs takes seven seconds of a processor
def test_both_programs_load_it_by_its_name_and_give_our_numbers(kit: Kit, hub: Hub, tmp_path: Path) -> None:
    """Names in nine languages, and what is longer than it reads."""
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed here")
    texts = [*TEXTS, *(name for name, _ in names(LANGUAGES, most=8))]
    repositories = (f"{SPACE}/names", f"{SPACE}/changed")
    done = run(hub, tmp_path, sys.executable, "-c", READS_TEXTS, json.dumps(texts), *repositories)
    assert done.returncode == 0, done.stderr[-2000:]
    fetched = {asked.path.partition("/resolve/")[2].partition("/")[2] for asked in hub.asked}
    assert TRANSFORMERS_FILE in fetched and WEIGHTS_FILE not in fetched
    for name in ("names", "changed"):
        release = verify_extractor(Shelf(kit.home).folder(name, 1), pinned_root=kit.root, clock=kit.clock)
        given = [Given(text, text, text.encode()) for text in texts]
        (ours,) = embed_given_by([by_torch(release, "cpu")], given, release.spec)
        theirs = np.load(tmp_path / f"{name}.npy")
        assert len(texts) == len(TEXTS) + 8 * 9 and ours.std() > 0.01
        np.testing.assert_allclose(theirs, ours, atol=1e-5 * float(np.abs(ours).max()))


def test_the_hub_tells_who_loads_it_and_still_knows_it_by_our_name(hub: Hub) -> None:
    told = api(hub).model_info(f"{SPACE}/names")
    assert {"text", "byte-transformer", "sentence-transformers", "trained"} <= set(told.tags)
    assert told.config["model_type"] == "esm" and told.config["architecture"] == "byte-transformer"
