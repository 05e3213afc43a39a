"""The deployment files are valid where a validator can say so, and keep their own promises everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.check_deploy import CHECKS, Absent

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
CONTAINERS = sorted(DEPLOY.glob("*.Containerfile"))
HARDENING = ("NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=\n", "UMask=0077", "User=")


@pytest.mark.parametrize("what", sorted(CHECKS))
def test_validator_accepts(what: str) -> None:
    try:
        problems = CHECKS[what]()
    except Absent as absent:
        pytest.skip(str(absent))
    assert problems == ""


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_unit_is_hardened(unit: Path) -> None:
    text = unit.read_text("utf-8")
    assert [line for line in HARDENING if line not in text] == []


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda path: path.name)
def test_container_installs_from_the_lock_and_runs_as_nobody_special(container: Path) -> None:
    text = container.read_text("utf-8")
    installs = re.findall(r"pip install .*", text)
    assert installs and all("--constraint requirements.lock" in line for line in installs)
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE) == ["10001:10001"]


def test_member_opens_no_port() -> None:
    assert "ports:" not in (DEPLOY / "compose.member.yaml").read_text("utf-8")
    assert "EXPOSE" not in (DEPLOY / "member.Containerfile").read_text("utf-8")
