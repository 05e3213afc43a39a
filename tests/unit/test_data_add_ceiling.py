"""`data add --epsilon`: a ceiling that is none is refused before anything, and one that is not written is said so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from participant.cli import app
from participant.home import Home
from participant.policy import read_policy
from shared.console import run_arguments


def add(home: Path, name: str, epsilon: str) -> int:
    """One `data add` of four pictures that no other name has."""
    for number in range(4):
        path = home.parent / name / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng([number, *name.encode()])
        Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(path)
    arguments = ["data", "add", str(home.parent / name), "--name", name, "--epsilon", epsilon]
    return run_arguments(app, [*arguments, "--home", str(home)])


@pytest.mark.parametrize("epsilon", ["0", "-3", "nan", "inf"])
def test_a_ceiling_that_is_none_is_refused_and_nothing_is_added(
    tmp_path: Path, epsilon: str, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "member"
    assert add(home, "first", epsilon) == 2
    assert "A ceiling of ε must be a number above 0" in " ".join(capsys.readouterr().err.split())
    assert not Home(home).policy.exists() and not (home / "data" / "first").exists()


def test_a_second_ceiling_is_not_written_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "member"
    assert add(home, "first", "8") == 0
    assert "was not written" not in capsys.readouterr().out
    assert add(home, "second", "2") == 0
    assert "policy.toml was there already and stays as it is: ε 2 was not written" in capsys.readouterr().out
    policy = read_policy(Home(home).policy)
    assert (policy.data_set, policy.epsilon) == ("first", 8.0)
