"""The export worker's own process: `python -m coordinator.workers.export_worker`, JSON in, JSON out.

Reads FOLDER/model.safetensors and writes beside it what other programs read: config.json,
preprocessor_config.json, tensors and tokenizers as other programs name them, model.onnx, model-int8.onnx, lens.json and
lens.svg for pictures, and last measured.json.
The last line on stdout is JSON: `sections` for the card, or the error.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import nn

from coordinator.workers.export_energy import energy_of
from coordinator.workers.export_int8 import Quantised, to_int8
from coordinator.workers.export_onnx import opset_of, to_onnx
from shared.domain.canonical import digest_of_file
from shared.domain.errors import Broken, CommonlensError
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.files import write_atomically, write_json
from shared.domain.release import (
    LENS_FILE,
    LENS_PICTURE_FILE,
    MEASURED_FILE,
    ONNX_FILE,
    ONNX_INT8_FILE,
    WEIGHTS_FILE,
)
from shared.domain.strict import to_plain
from shared.exports.card_sections import card_sections
from shared.exports.comparison import parity
from shared.exports.configuration import configuration
from shared.exports.measured import Energy, Measured, Parity, PublicSet, Speed
from shared.exports.onnx_file import OnnxFile
from shared.exports.public_records import MOST_HELD_OUT, PublicRecords, public_records
from shared.exports.speed import (
    BATCHES,
    THREADS,
    Run,
    example_of,
    processor_name,
    records_per_s,
    run_for,
)
from shared.exports.timm_file import TIMM_FILE
from shared.exports.transformers_file import TRANSFORMERS_FILE
from shared.extractors import architectures
from shared.extractors.files import Weights, read_weights
from shared.lens.card_section import HEADING, NOT_OF_TEXTS, lens_section
from shared.lens.picture import draw
from shared.lens.profile import measure
from shared.lens.profile_shape import plain_profile

_PUBLIC = 0o644
_HELD_OUT_S = 5.0
"""Of embedding held-out records in fp32."""
_WIDER_S = 60.0
"""Of embedding more of them, fp32 and int8 together, where those cannot tell what int8 loses."""
_FIRST_LOOK = 256
"""Held-out records of each label, before more are asked."""
_TRIED_S = 0.1


def main() -> None:
    """Read one question from stdin, write one line of JSON to stdout."""
    question = json.loads(sys.stdin.read())
    os.nice(question["niceness"])
    torch.set_num_threads(THREADS)
    try:
        sections = export_all(Path(question["folder"]), question["country"], question["name"])
        answer: dict[str, Any] = {"sections": sections}
    except CommonlensError as error:
        answer = {"error": error.code, "message": error.message}
    print(json.dumps(answer))


def export_all(folder: Path, country: str = "", name: str = "") -> dict[str, str]:
    """Everything that a release has beside its weights; what the card says of it. Raises as `export`."""
    spec = read_weights(folder / WEIGHTS_FILE).spec
    measured = export(folder, country)
    seen = {HEADING: NOT_OF_TEXTS}
    if spec.kind is RecordKind.IMAGE:
        session = OnnxFile(folder / ONNX_FILE)
        profile = measure(lambda x: session.embed(x, spec), spec.channels, spec.height, spec.width)
        write_json(folder / LENS_FILE, plain_profile(profile), _PUBLIC)
        picture = draw([(name or spec.architecture, profile)])
        write_atomically(folder / LENS_PICTURE_FILE, picture.encode("utf-8"), _PUBLIC)
        seen = lens_section(profile)
    return seen | card_sections(measured)


def export(folder: Path, country: str = "") -> Measured:
    """What measured.json says. Raises InvalidWeights, InvalidConfig, DigestMismatch, OutOfSpace; Broken, and
    writes nothing, where torch cannot write ONNX or it is further from torch than Parity.bound.
    """
    weights = read_weights(folder / WEIGHTS_FILE)
    spec = weights.spec
    module = architectures.load(spec, weights)
    model = to_onnx(module, spec)
    with tempfile.TemporaryDirectory(prefix="commonlens-export-") as scratch:
        fp32 = Path(scratch) / ONNX_FILE
        fp32.write_bytes(model.SerializeToString(deterministic=True))
        session = OnnxFile(fp32)
        rate = _records_per_s(session, spec)
        public = _public_records(spec, rate, _HELD_OUT_S, _FIRST_LOOK)
        found = parity(module, session, public, spec)
        check_parity(found, spec)
        # Embedded twice, fp32 and int8, so half as many for a second.
        wider = functools.partial(_public_records, spec, rate, _WIDER_S / 2, MOST_HELD_OUT)
        int8, missing = to_int8(fp32, spec, public, Path(scratch), wider)
        if int8 is not None and int8.public is not public:
            public = int8.public
            found = parity(module, session, public, spec)
            check_parity(found, spec)
        write_atomically(folder / ONNX_FILE, fp32.read_bytes(), _PUBLIC)
    _write_or_remove(folder / ONNX_INT8_FILE, int8)
    write_configuration(folder, weights)
    speed, energy = _speed_and_energy(module, session, int8, spec, country)
    measured = Measured(
        weights_digest=digest_of_file(folder / WEIGHTS_FILE),
        opset=opset_of(model),
        versions={
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        public=_about(public),
        parity=found,
        int8=int8.measured if int8 else None,
        int8_missing=missing,
        sizes_bytes=sizes_bytes(folder),
        processor=processor_name(),
        threads=THREADS,
        speed=speed,
        energy=energy,
    )
    write_json(folder / MEASURED_FILE, to_plain(measured), _PUBLIC)
    return measured


def sizes_bytes(folder: Path) -> dict[str, int]:
    """Of every file with the network in it, for whichever program."""
    names = (WEIGHTS_FILE, ONNX_FILE, ONNX_INT8_FILE, TIMM_FILE, TRANSFORMERS_FILE)
    return {name: (folder / name).stat().st_size for name in names if (folder / name).is_file()}


def write_configuration(folder: Path, weights: Weights) -> None:
    """What other programs read beside the tensors."""
    for name, data in configuration(weights).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, data, _PUBLIC)


def check_parity(found: Parity, spec: ExtractorSpec) -> None:
    """Raise Broken unless ONNX is as close to torch as `found.bound` says."""
    if not found.largest_difference <= found.bound:
        raise Broken(
            f"ONNX may differ from torch by {found.bound:g} in an embedding, and that of {spec.architecture!r} "
            f"differs by {found.largest_difference:g}. Nothing was exported. Report it with the extractor's options."
        )


def _write_or_remove(path: Path, int8: Quantised | None) -> None:
    if int8 is None:
        path.unlink(missing_ok=True)  # of an export before this one
    else:
        write_atomically(path, int8.model, _PUBLIC)


def _records_per_s(session: OnnxFile, spec: ExtractorSpec) -> float:
    batch = example_of(spec, max(BATCHES))
    session.run(batch)
    done, seconds = run_for(session.run, batch, _TRIED_S)
    return done / seconds


def _public_records(spec: ExtractorSpec, rate: float, seconds: float, most: int) -> PublicRecords:
    """As many held out as are embedded in `seconds`, `most` of each label: of a fast extractor a small loss shows."""
    return public_records(spec, held_out=int(seconds * rate), most_of_each=most)


def _about(public: PublicRecords) -> PublicSet:
    return PublicSet(
        set_name=public.set_name,
        digest=public.digest,
        learned=len(public.learned),
        held_out=len(public.held_out),
        labels=public.labels,
    )


def _speed_and_energy(
    module: nn.Module, fp32: OnnxFile, int8: Quantised | None, spec: ExtractorSpec, country: str
) -> tuple[tuple[Speed, ...], Energy]:
    programs: dict[str, Run] = {
        "torch eager": lambda records: module(torch.from_numpy(records)),
        "onnx fp32": fp32.run,
    }
    if int8 is not None:
        programs["onnx int8"] = OnnxFile(int8.model).run
    with torch.inference_mode():
        speed = tuple(
            Speed(program, batch, records_per_s(run, example_of(spec, batch)))
            for program, run in programs.items()
            for batch in BATCHES
        )
    records = example_of(spec, max(BATCHES))
    return speed, energy_of(lambda: run_for(fp32.run, records)[0], country)


if __name__ == "__main__":
    main()
