"""Lines to copy into each tool that gets or uses a release. Nothing that a person wrote goes into them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import Request

from coordinator.config import Config
from coordinator.members.access import room_of
from coordinator.registry.hub_shelf import namespace
from shared.domain.extractor import RecordKind
from shared.domain.release import WEIGHTS_FILE, AnyManifest, CatalogueEntry, Manifest
from shared.exports.sentence_files import TOKENIZER_FILE
from shared.exports.timm_file import TIMM_FILE
from shared.release.trust import Trust


@dataclass(frozen=True)
class Snippet:
    """Lines to copy into one tool."""

    key: str
    tool: str
    does: str
    text: str


def snippets(
    request: Request, entry: CatalogueEntry, manifest: AnyManifest, trust: Trust
) -> tuple[Snippet, ...]:
    """For each tool the lines that get or use this very release."""
    config: Config = room_of(request).config
    fingerprint = room_of(request).authority.fingerprint()
    root = _root(trust)
    token = (
        "" if config.public_releases else "export COMMONLENS_TOKEN=…    # from Account, or your operator\n"
    )
    sent = "" if config.public_releases else ' -H "Authorization: Bearer $COMMONLENS_TOKEN"'
    pull = f"commonlens pull {config.url} {entry.id} --ca-fingerprint {fingerprint} --to ."
    address = f"{config.url}/api/v1/releases/{entry.extractor_name}/{entry.number}/files/{WEIGHTS_FILE}"
    weights = manifest.files[WEIGHTS_FILE].digest.removeprefix("sha256:")
    explain = " --explain" if isinstance(manifest, Manifest) else ""
    curl = token + _curl(config.url, fingerprint, f"{sent} {address}", weights)
    hub = _hub(config, fingerprint, entry, trust)
    given, what = ("*.txt", "texts, one a line,") if _reads_texts(manifest) else ("*.png", "images")
    return (
        Snippet(
            "pull", "commonlens pull", "Downloads, checks every proof, and only then shows it.", token + pull
        ),
        Snippet(
            "verify",
            "commonlens verify",
            "Checks every proof offline, and says what each number means.",
            f"commonlens verify {entry.id} --root {root}{explain}",
        ),
        Snippet(
            "embed",
            "commonlens embed",
            f"Turns {what} into embeddings on your machine, after checking the proofs.",
            f"commonlens embed {entry.id} {given} --root {root} --out embeddings.npy",
        ),
        Snippet(
            "member",
            "a member's node",
            "Pulls with the member's own token and pinned root, ready for a head.",
            f"commonlens-participant head pull {entry.id}",
        ),
        Snippet("hf", "hf download", "Hugging Face's own command, unmodified; every file.", hub),
        Snippet(
            "openssf",
            "model_signing",
            "OpenSSF's own tool checks every file, offline.",
            _openssf(entry),
        ),
        *_libraries(f"{namespace(trust.consortium)}/{entry.extractor_name}", entry, manifest),
        Snippet("python", "Python", "Reads the tensors, without this software.", _python(entry)),
        Snippet("curl", "curl", "One file, under the consortium's own CA.", curl),
        Snippet(
            "join",
            "join the consortium",
            "Asks for the one-time secret of an invitation.",
            f"commonlens-participant join {config.url} --ca-fingerprint {fingerprint}",
        ),
    )


def diff_line(before: CatalogueEntry, after: CatalogueEntry, trust: Trust) -> str:
    """What measures, once both were pulled, how they differ."""
    return f"commonlens diff {before.id} {after.id} --root {_root(trust)}"


def _reads_texts(manifest: AnyManifest) -> bool:
    trained = manifest.plan.get("extractor", {}) if isinstance(manifest, Manifest) else {}
    return trained.get("kind") == RecordKind.TEXT.value or TOKENIZER_FILE in manifest.files


def _libraries(repository: str, entry: CatalogueEntry, manifest: AnyManifest) -> Iterator[Snippet]:
    """Those that load this very release by its name, with HF_ENDPOINT and SSL_CERT_FILE as for `hf download`."""
    where = "# set HF_ENDPOINT and SSL_CERT_FILE as for hf download, before Python starts\n"
    if TOKENIZER_FILE in manifest.files:
        yield Snippet(
            "sentences",
            "sentence-transformers",
            "Loads it by its name, without this software.",
            f"{where}from sentence_transformers import SentenceTransformer\n\n"
            f'model = SentenceTransformer("{repository}", revision="v{entry.number}")\n'
            'numbers = model.encode(["a sentence"])',
        )
    if TIMM_FILE in manifest.files:
        yield Snippet(
            "timm",
            "timm",
            "Makes the network from its name, without this software.",
            f"{where}import timm\n\n"
            f'model = timm.create_model("hf-hub:{repository}@v{entry.number}", pretrained=True, num_classes=0)',
        )


def _root(trust: Trust) -> str:
    return trust.root.keys[0] if len(trust.root.keys) == 1 else trust.root.fingerprint


def _python(entry: CatalogueEntry) -> str:
    return (
        "from safetensors.numpy import load_file    # pip install safetensors numpy\n"
        f'tensors = load_file("{entry.id}/{WEIGHTS_FILE}")'
    )


def _curl(url: str, fingerprint: str, file: str, weights: str) -> str:
    return (
        f"{_ca(url, fingerprint)}"
        f"curl -fO --cacert ca.pem{file}\n"
        f'echo "{weights}  {WEIGHTS_FILE}" | sha256sum -c'
    )


def _hub(config: Config, fingerprint: str, entry: CatalogueEntry, trust: Trust) -> str:
    token = "" if config.public_releases else "export HF_TOKEN=…    # from Account, or your operator\n"
    repository = f"{namespace(trust.consortium)}/{entry.extractor_name}"
    return (
        f"{_ca(config.url, fingerprint)}"
        f"export HF_ENDPOINT={config.url} SSL_CERT_FILE=$PWD/ca.pem\n{token}"
        f"hf download {repository} --revision v{entry.number} --local-dir {entry.id}"
    )


def _openssf(entry: CatalogueEntry) -> str:
    key = 'json.load(open("trust.json"))["signed"]["openssf_key"]'
    return (
        f"cd {entry.id}\n"
        f"python3 -c 'import json; print({key}, end=\"\")' > ../key.pem\n"
        "model_signing verify key --public_key ../key.pem --signature model.sig --ignore-paths .cache/huggingface ."
    )


def _ca(url: str, fingerprint: str) -> str:
    """Fetch the CA's certificate, and say what its fingerprint has to be."""
    colons = ":".join(re.findall("..", fingerprint.removeprefix("sha256:").upper()))
    return (
        f"curl -fsk {url}/api/v1/trust | python3 -c "
        "'import json, sys; print(json.load(sys.stdin)[\"ca_pem\"])' > ca.pem\n"
        "openssl x509 -in ca.pem -noout -fingerprint -sha256    # go on only if it is\n"
        f"# {colons}\n"
    )
