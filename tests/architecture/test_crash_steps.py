"""Every numbered step of the walk is one at which the crash tests kill whoever takes it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from tests.e2e import test_crash, test_crash_local

ROOT = Path(__file__).resolve().parents[2]
PULL_AND_FIT = {"14", "15"}
"""Killed in test_walk.py, by the member that pulls and fits."""
OF_MEMBERS = set(itertools.chain(*test_crash.STEPS_OF_MEMBERS.values())) | PULL_AND_FIT
OF_COORDINATOR = set(test_crash.STEPS_OF_COORDINATOR)
OF_PUBLISHING = set(test_crash.STEPS_OF_PUBLISHING)


def steps_in(source: str, call: str = "crash_point") -> set[str]:
    """The steps that `call` names in a file, or in a whole folder."""
    files = [ROOT / source] if source.endswith(".py") else sorted((ROOT / source).rglob("*.py"))
    found = (re.findall(call + r'\("([\d.]+)', file.read_text("utf-8")) for file in files)
    return set(itertools.chain(*found))


def test_everybody_is_killed_at_every_step_that_the_code_numbers() -> None:
    assert steps_in("participant") == OF_MEMBERS
    assert steps_in("coordinator") == OF_COORDINATOR
    # Without an object store nothing is done between 13.5 and 13.5.1; with one, tests/contracts/test_object_store.py.
    assert steps_in("coordinator/registry/publish.py", "after_step") - {"13.5.1"} == OF_PUBLISHING
    # Mode local has neither keys nor masks, and what comes after its rounds is the same.
    without_masks = {step for step in OF_COORDINATOR if "." not in step}
    assert set(test_crash_local.STEPS_OF_COORDINATOR) == without_masks
    of_members = set(itertools.chain(*test_crash_local.STEPS_OF_MEMBERS.values()))
    assert of_members == {step for step in OF_MEMBERS - PULL_AND_FIT - {"7"} if "." not in step}
    walk = (ROOT / "tests/e2e/test_walk.py").read_text("utf-8")
    assert all(f'("{step}", ' in walk for step in PULL_AND_FIT)


def test_every_step_of_the_page_is_one_of_them() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    walk = page.partition("\n## 3. ")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| (\d+) ", walk, re.MULTILINE)) | set(
        re.findall(r"(?<!clause )\b\d+\.\d\b", walk)
    )
    assert len(told) > 16 and "10.3" in told
    killed = OF_MEMBERS | OF_COORDINATOR | OF_PUBLISHING
    assert told - killed - {step.split(".")[0] for step in killed} == set()
