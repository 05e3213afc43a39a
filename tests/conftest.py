"""Fixtures that several folders of tests share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A coordinator's membership desk over SQLite."""
    from tests.desk import open_desk

    return open_desk(tmp_path / "coordinator")
