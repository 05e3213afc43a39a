"""Ask a worker: a Python process of its own that may import what the control plane never does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from shared.domain.canonical import canonical_bytes
from shared.domain.errors import Broken, Conflict, TookTooLong
from shared.wire.problems import CLASS_OF_CODE

_PASSED_ON = (
    "PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "SYSTEMROOT",
    "LANG",
    "LC_ALL",
    "COVERAGE_PROCESS_START",
)
"""What Python needs to start. Nothing else of the coordinator's environment, which holds secrets, is passed on."""
_ENDED_BY: Final = {
    -signal.SIGTERM: "as when the coordinator is stopped",
    -signal.SIGINT: "as when the coordinator is stopped",
    -signal.SIGHUP: "as when the coordinator's terminal is closed",
    -signal.SIGKILL: "as when the machine has too little memory",
}
"""Exit status → why somebody ended it: no fault of the worker's. A stop by hand reaches workers before the coordinator
has begun to stop."""
_STANDING_BACK = 16
_running: set[subprocess.Popen[bytes]] = set()


def patience_s(longest_s: float, niceness: int) -> float:
    """How long a worker may take: far longer where it stands back for others, who have the machine first."""
    return longest_s * _STANDING_BACK if niceness else longest_s


@contextmanager
def surroundings() -> Iterator[dict[str, str]]:
    """All that a worker sees which runs models: one thread, and a home and scratch of its own.

    They are removed here, whatever becomes of the worker.
    """
    with tempfile.TemporaryDirectory(prefix="commonlens-worker-") as scratch:
        kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        yield kept | {"HOME": scratch, "TMPDIR": scratch, "OMP_NUM_THREADS": "1"}


def ask_worker(
    module: str,
    question: dict[str, Any],
    longest_s: float,
    not_done: str,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run `python -m module` with `question` as JSON on its stdin; the last line of its stdout, as JSON.

    `not_done` ends the sentence of an error, such as "Nothing was proposed."; `environment` is all that the worker
    sees, where it is not to see the coordinator's own. Raises what the worker refused (an
    answer with `error` and `message`), TookTooLong when it was not done after `longest_s`, Conflict when somebody ended
    it, and Broken when it crashed.
    """
    name = f"The {module.rpartition('.')[2].removesuffix('_worker')} worker"
    try:
        status, said = _run(module, canonical_bytes(question), longest_s, environment)
        answer = json.loads(said.splitlines()[-1]) if said.strip() else None
    except subprocess.TimeoutExpired as error:
        raise TookTooLong(
            f"{name} may take {longest_s:.0f} s, and was not done by then. {not_done} Try again when this machine has "
            "less to do."
        ) from error
    except json.JSONDecodeError as error:
        raise Broken(f"{name} gave no answer. {not_done}") from error
    if status in _ENDED_BY:
        raise Conflict(
            f"{name} was ended by the signal {signal.Signals(-status).name} before it was done, {_ENDED_BY[status]}. "
            f"{not_done} Ask again."
        )
    if status != 0 or not isinstance(answer, dict):
        raise Broken(f"{name} ended with status {status}. {not_done}")
    if "error" in answer:
        raise CLASS_OF_CODE.get(answer["error"], Broken)(answer["message"])
    return answer


def end_workers() -> None:
    """Kill those that run, so that none of them outlives the coordinator; what they did is then begun anew."""
    for process in list(_running):
        process.kill()


def _run(
    module: str, question: bytes, longest_s: float, environment: Mapping[str, str] | None
) -> tuple[int, bytes]:
    """Exit status and stdout. Raises TimeoutExpired, once it is killed."""
    command, pipe = [sys.executable, "-m", module], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as process:
        _running.add(process)
        try:
            said, _ = process.communicate(question, timeout=longest_s)
        finally:
            _running.discard(process)
            process.kill()
        return process.returncode, said
