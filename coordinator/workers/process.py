"""Ask a worker: a Python process of its own that may import what the control plane never does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from shared.domain.canonical import canonical_bytes
from shared.domain.errors import Broken
from shared.wire.problems import CLASS_OF_CODE


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
    answer with `error` and `message`), and Broken when it crashed or took longer than `longest_s`.
    """
    name = f"The {module.rpartition('.')[2].removesuffix('_worker')} worker"
    try:
        done = subprocess.run(
            [sys.executable, "-m", module],
            input=canonical_bytes(question),
            env=environment,
            capture_output=True,
            timeout=longest_s,
            check=False,
        )
        answer = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else None
    except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        raise Broken(f"{name} gave no answer. {not_done}") from error
    if done.returncode != 0 or not isinstance(answer, dict):
        raise Broken(f"{name} ended with status {done.returncode}. {not_done}")
    if "error" in answer:
        raise CLASS_OF_CODE.get(answer["error"], Broken)(answer["message"])
    return answer
