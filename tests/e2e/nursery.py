"""Processes that start warm: a parent imports what our commands import, once, and forks each of them on request.

What runs is the same code in a process of its own, which a test can kill like any other. The crash tests start
dozens of them, and importing torch each time would prove nothing; test_walk.py starts its own as an operator does.

As a program: reads one JSON line for each process to start, {"argv", "log", "environment"}, and writes one for each
that was started, {"started": pid}, or ended, {"ended": pid, "status": …}.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # as a program it is started by its path

from participant.allocator import SETTINGS

WARM = (
    "participant.engine.serve",
    "participant.training.opacus_engine",
    "dp_accounting",
    "coordinator.server",
    "pandas",  # pyarrow imports it where it is installed
)


class Nursery:
    """The parent, seen from a test."""

    def __init__(self) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | SETTINGS | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        )
        self._status: dict[int, int] = {}
        self._told = threading.Condition()
        self._started: list[int] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, argv: list[str], log: Path, environment: dict[str, str]) -> Child:
        """argv as for a process of its own: the first word is the path of one of our commands."""
        assert self._parent.stdin is not None
        line = {"argv": argv, "log": str(log), "environment": environment}
        self._parent.stdin.write(json.dumps(line) + "\n")
        self._parent.stdin.flush()
        with self._told:
            assert self._told.wait_for(lambda: bool(self._started), 60.0), "the nursery did not answer"
            return Child(self._started.pop(), self)

    def status(self, pid: int) -> int | None:
        """Its return code as `subprocess` has it, or None while it runs."""
        with self._told:
            return self._status.get(pid)

    def wait(self, pid: int, timeout_s: float | None) -> int:
        """Raises subprocess.TimeoutExpired."""
        with self._told:
            if not self._told.wait_for(lambda: pid in self._status, timeout_s):
                raise subprocess.TimeoutExpired(str(pid), timeout_s or 0.0)
            return self._status[pid]

    def end(self) -> None:
        """No more processes; those that run are ended by their tests."""
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        self._parent.wait(20.0)

    def _listen(self) -> None:
        assert self._parent.stdout is not None
        for text in self._parent.stdout:
            event: dict[str, int] = json.loads(text)
            with self._told:
                if "started" in event:
                    self._started.append(event["started"])
                else:
                    self._status[event["ended"]] = event["status"]
                self._told.notify_all()


class Child:
    """One process of a nursery, with what the tests use of subprocess.Popen."""

    def __init__(self, pid: int, nursery: Nursery) -> None:
        self.pid, self._nursery = pid, nursery

    @property
    def returncode(self) -> int | None:
        return self._nursery.status(self.pid)

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        return self._nursery.wait(self.pid, timeout)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def main() -> None:
    """The parent itself. It starts no thread, so that a fork of it is sound."""
    for name in WARM:
        __import__(name)
    gc.freeze()  # a child that looks for cycles in what was imported would get a copy of all of it
    reaped, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    watch = selectors.DefaultSelector()
    watch.register(sys.stdin.buffer.raw, selectors.EVENT_READ)  # type: ignore[attr-defined]
    watch.register(reaped, selectors.EVENT_READ)
    unread = b""
    while True:
        for key, _ in watch.select():
            piece = os.read(key.fd, 65536)
            if key.fd == reaped:
                _reap()
                continue
            if not piece:
                return
            *lines, unread = (unread + piece).split(b"\n")
            for line in lines:
                _tell(started=_fork(json.loads(line)))


def _fork(wanted: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(wanted["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for opened, number in ((null, 0), (log, 1), (log, 2)):
        os.dup2(opened, number)
    os.closerange(3, 256)
    os.environ.clear()
    os.environ.update(
        SETTINGS | wanted["environment"]
    )  # as the parent was started: a node need not start again
    sys.argv = wanted["argv"]
    status = 1
    try:
        from coordinator.cli import main as coordinator
        from participant.cli import main as participant

        (participant if sys.argv[0].endswith("participant") else coordinator)()
        status = 0
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _tell(ended=pid, status=os.waitstatus_to_exitcode(status))


def _tell(**event: int) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
