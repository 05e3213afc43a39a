"""participant.toml: what changes speed alone is still checked before a round needs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from participant.training.runtime import MICRO_BATCH, RuntimeOptions, read_options
from shared.domain.errors import InvalidConfig


def test_what_is_left_out_is_the_default(tmp_path: Path) -> None:
    assert read_options(tmp_path / "participant.toml") == RuntimeOptions()
    (tmp_path / "participant.toml").write_text("threads = 2\n")
    assert read_options(tmp_path / "participant.toml") == RuntimeOptions("auto", MICRO_BATCH, 2)


@pytest.mark.parametrize(
    "line", ["micro_batch = 0", "micro_batch = -64", "threads = -1", "micro_batches = 64"]
)
def test_a_number_that_means_nothing_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "participant.toml").write_text(f"{line}\n")
    with pytest.raises(InvalidConfig, match=line.split(" ")[0]):
        read_options(tmp_path / "participant.toml")
