"""What a coordinator's workers would answer, laid where it looks before it starts one.

A worker loads torch for three seconds, which a test has loaded already. Real ones are asked in tests/e2e/test_walk.py,
the probe also in tests/browser/test_admin_walk.py and tests/unit/test_kept_probes.py.
"""

from __future__ import annotations

from pathlib import Path

from coordinator.workers.kept_probes import KeptProbes, _question
from coordinator.workers.probe import Probe
from coordinator.workers.redteam import PASSED_FILE
from shared.domain.extractor import ExtractorSpec
from shared.domain.files import write_json
from shared.domain.strict import build, to_plain
from shared.wire.enrolment import software_version

FORM = ExtractorSpec("fixed-mlp", 1, 28, 28, 64, (0.5,), (0.5,))
"""Of the plan form as it stands at first."""
TINY = ExtractorSpec("fixed-mlp", 1, 8, 8, 4, (0.5,), (0.5,), {"hidden": 6, "grid": 2})
"""What tests of the plan form type into it."""


def lay_probe(home: Path, *specs: ExtractorSpec, seed: int = 1) -> None:
    """Answers about extractors, with their starting weights, in a coordinator's home that has not asked yet."""
    from coordinator.workers.probe_worker import (
        probe,
    )  # here, so that who only asks for pages does not load torch

    starting = home / "starting"
    for spec in specs:
        answer = build(Probe, probe(spec, seed, starting), "probe")
        write_json(starting / f"{_question(spec, seed, None)}.probe.json", to_plain(answer))
        assert KeptProbes(starting).known(spec, seed, None) == answer


def pass_gate(home: Path, plan: str) -> None:
    """As the red team leaves it behind, which takes twelve seconds of a processor, once the plan passed."""
    folder = home / "redteam" / plan.removeprefix("sha256:")[:16]
    folder.mkdir(parents=True)
    write_json(folder / PASSED_FILE, {"plan_digest": plan, "version": software_version()})
