"""A machine on which a record's place decides how its numbers are rounded: one record moves a sum by far more than C,
and changes what is counted of others.

Weights that a coordinator may send make it so: what a record gives is what rounding leaves of terms that cancel
(tests/oracles/test_rounding_by_place.py). The program below plays it in a process of its own, in which MKL is told
to round alike, or is not.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, sys
import torch
if sys.argv[1] == "late":  # as in a notebook: MKL read its settings before ours were there
    torch.ones(16, 16) @ torch.ones(16, 16)
import participant
import numpy as np
from participant.training.dp_sgd import make_engine
from participant.training.places import check_places, check_places_in_validation
from participant.training.step import clipped_sum
from participant.training.validation import exact_counts
from shared.domain.errors import PlaceDecides
from shared.domain.extractor import ExtractorSpec
from shared.extractors.architectures import build
from shared.extractors.preprocess import to_input
from shared.privacy.mechanism import NoiseSource
from tests.plans import small_plan

CPU, C, PORTION = torch.device("cpu"), 0.5, 32
SPEC = ExtractorSpec("fixed-mlp", 1, 8, 8, 4, (0.5,), (0.25,), {"hidden": 25, "grid": 2})
pixels = np.random.default_rng(7).integers(1, 256, (2, 8, 8, 1), dtype=np.uint8)

class InTurn:
    def load(self, indices):
        return pixels[indices % 2], np.zeros(len(indices), np.int64)

extractor = build(SPEC, 1)
last = [one for one in extractor.modules() if isinstance(one, torch.nn.Linear)][-1]
seen = []
hook = last.register_forward_hook(lambda layer, given, out: seen.append(given[0].detach()))
with torch.no_grad():
    extractor(torch.from_numpy(to_input(pixels, SPEC)))
    hook.remove()
    basis, _ = torch.linalg.qr(seen[0].double().T)
    weight = torch.randn(last.weight.shape, generator=torch.Generator().manual_seed(2)).double()
    last.weight.copy_(1e8 * (weight - (weight @ basis) @ basis.T))  # nothing is left of both pictures but rounding
    last.bias.zero_()
torch.manual_seed(0)
engine = make_engine(extractor, torch.nn.Linear(4, 3), PORTION, CPU)
plan = small_plan(extractor=SPEC, clip_norm_l2=C)

def total(first, end):
    return np.concatenate(clipped_sum(engine, InTurn(), np.arange(first, end), plan, NoiseSource()))

moved = float(np.linalg.norm(total(0, 200) - total(1, 200))) / C

class From(InTurn):
    def __init__(self, first):
        self.held_out_indices = np.arange(first, 201)

head = torch.nn.Linear(4, 3, bias=False)  # the sign of what rounding left decides
torch.nn.init.zeros_(head.weight)
with torch.no_grad():
    head.weight[:2, 0] = torch.tensor([1.0, -1.0])
counts = [exact_counts(extractor, head, plan, From(first), CPU, PORTION) for first in (0, 1)]

def said(check, *of):
    try:
        check(SPEC, 3, PORTION, *of)
    except PlaceDecides as error:
        return error.message
    return ""

print(json.dumps({
    "moved": moved, "refused": said(check_places, 1, CPU),
    "counted": int(np.abs(counts[0] - counts[1]).sum()), "refused_to_count": said(check_places_in_validation, CPU),
}))
"""


@dataclass
class Played:
    moved: float
    """By how many C one record of 200 moved the sum."""
    refused: str
    """What the check before training said."""
    counted: int
    """By how much one held-out record of 201 moved the counts."""
    refused_to_count: str


def played(when: str, setting: str | None) -> Played:
    environment = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    if setting is not None:
        environment["MKL_CBWR"] = setting
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, when],
        env=environment | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)},
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Played(**json.loads(done.stdout))


@pytest.mark.parametrize("setting", ["", pytest.param(None, marks=pytest.mark.slow)])
def test_environment_cannot_turn_the_clip_off(setting: str | None) -> None:
    found = played("first", setting)
    assert found.moved <= 1.0 + 1e-5 and found.refused == ""
    assert found.counted == 1 and found.refused_to_count == ""


@pytest.mark.skipif(
    not torch.backends.mkl.is_available() or platform.machine() not in ("x86_64", "AMD64"),
    reason="torch multiplies without MKL here: there is no setting to come too late",
)
def test_node_does_not_train_where_the_setting_came_too_late() -> None:
    found = played("late", None)
    assert found.moved > 10.0 and found.counted > 10, "the attacks succeed on such a process"
    for refused, what in ((found.refused, "gradient"), (found.refused_to_count, "prediction")):
        assert f"a record's {what} depends on its place among the others" in refused
        assert "Nothing was charged" in refused
