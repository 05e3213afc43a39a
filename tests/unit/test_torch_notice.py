"""The notice before an install asks pip, and so is right wherever pip was told to look."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tools.torch_notice import LOCK, pinned_torch, takes_cuda_build

CUDA = "Requires-Dist: nvidia-nccl-cu13==2.29.7; platform_system == 'Linux'\n"


def wheel(folder: Path, version: str, needs: str = "") -> None:
    """A wheel with nothing in it but its description."""
    info = f"torch-{version}.dist-info"
    with zipfile.ZipFile(folder / f"torch-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n{needs}"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place that pip looks in."""
    for name, value in (("CONFIG_FILE", "/dev/null"), ("NO_INDEX", "1"), ("FIND_LINKS", str(tmp_path))):
        monkeypatch.setenv(f"PIP_{name}", value)
    return tmp_path


def test_a_further_place_without_a_cpu_build_does_not_silence_it(folder: Path) -> None:
    wheel(folder, "2.13.0", CUDA)
    assert takes_cuda_build("torch==2.13.0")
    wheel(folder, "2.13.0+cpu")
    assert not takes_cuda_build("torch==2.13.0")


def test_where_pip_finds_nothing_the_install_is_left_to_say_so(folder: Path) -> None:
    assert not takes_cuda_build("torch==2.13.0")


def test_the_lock_pins_torch_in_the_way_that_is_asked_for() -> None:
    assert pinned_torch(LOCK.read_text(encoding="utf-8")).startswith("torch==")
