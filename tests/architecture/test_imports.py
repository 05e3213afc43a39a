"""The floors hold: contracts, what a process really loads, and that our import names are ours alone."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("shared", "coordinator", "participant")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MOST_LINES = 400


def test_every_import_contract_is_kept() -> None:
    result = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("module", ["coordinator.app", "coordinator.cli"])
def test_coordinator_starts_without_what_only_its_workers_need(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        "heavy = {'torch', 'opacus', 'onnxruntime', 'scipy', 'skimage', 'sklearn'}\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules} & heavy))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""


@pytest.mark.parametrize("module", ["coordinator.app", "participant.engine.client_app"])
def test_flower_sends_no_telemetry_and_asks_for_no_update_whatever_comes_first(module: str) -> None:
    """Both processes begin with a module that is not the one which makes the connection."""
    code = (
        f"import os, {module}\n"
        "from flwr.supercore import telemetry, update_check\n"
        "print(telemetry.FLWR_TELEMETRY_ENABLED, os.environ[update_check.FLWR_DISABLE_UPDATE_CHECK])"
    )
    asked_for = {"FLWR_TELEMETRY_ENABLED": "1", "FLWR_DISABLE_UPDATE_CHECK": "0"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | asked_for,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["0", "1"]


def test_no_other_installed_distribution_provides_our_import_names() -> None:
    providers = importlib.metadata.packages_distributions()
    assert {name: set(providers.get(name, ["commonlens"])) for name in PACKAGES} == {
        name: {"commonlens"} for name in PACKAGES
    }


def test_domain_imports_the_standard_library_only() -> None:
    foreign = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / "shared" / "domain").rglob("*.py")
        for name in _imported_names(path)
        if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith("shared.domain")
    }
    assert foreign == set()


def test_no_file_is_longer_than_400_lines() -> None:
    files = [*SOURCES, *(ROOT / "tests").rglob("*.py")]
    lines = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in files}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_no_function_is_longer_than_60_lines() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in SOURCES
        if "migrations" not in path.parts  # lists of columns, not code to follow
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (node.end_lineno or node.lineno) - node.lineno >= 60
    }
    assert long == set()


def test_every_source_file_says_its_purpose() -> None:
    silent = [
        str(p.relative_to(ROOT)) for p in SOURCES if not ast.get_docstring(ast.parse(p.read_text("utf-8")))
    ]
    assert silent == []


def _imported_names(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return names
