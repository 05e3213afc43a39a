"""Processes that start warm: a parent imports what our commands import, once, and forks each of them on request.

What runs is the same code in a process of its own, which a test can kill like any other. The crash tests start
dozens of them, and importing torch each time would prove nothing; test_walk.py starts its own as an operator does.

All workers of a test run share one parent: who needs it first starts it, and it ends when nobody is connected. It is
given a socket that listens. Each connection says with a JSON line what to start, {"argv", "log", "environment"}, and is
told of each of its processes when it was started, {"started": pid}, and when it ended, {"ended": pid, "status": …}.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # as a program it is started by its path

from participant.allocator import SETTINGS
from shared.domain.locking import held_lock

WARM = (
    "participant.engine.serve",
    "participant.training.opacus_engine",
    "dp_accounting",
    "coordinator.server",
    "pandas",  # pyarrow imports it where it is installed
)


class Nursery:
    """The parent, seen from a test."""

    def __init__(self, folder: Path) -> None:
        """The one whose door is in `folder`: a test run's own, the same for all its workers."""
        self._door = folder / "nursery"
        self._parent: subprocess.Popen[bytes] | None = None
        with held_lock(folder / "nursery.lock"):
            self._line = self._join() or self._begin()
        self._status: dict[int, int] = {}
        self._told = threading.Condition()
        self._started: list[int] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, argv: list[str], log: Path, environment: dict[str, str]) -> Child:
        """argv as for a process of its own: the first word is the path of one of our commands."""
        line = {"argv": argv, "log": str(log), "environment": environment}
        self._line.sendall(json.dumps(line).encode() + b"\n")
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
        """No more processes; those that run are ended by their tests. The last to leave ends the parent."""
        self._line.shutdown(socket.SHUT_RDWR)
        if self._parent is not None:
            with suppress(subprocess.TimeoutExpired):  # others may be connected
                self._parent.wait(2.0)

    def _join(self) -> socket.socket | None:
        line = socket.socket(socket.AF_UNIX)
        try:
            line.connect(str(self._door))
        except (FileNotFoundError, ConnectionRefusedError):
            line.close()
            return None
        return line

    def _begin(self) -> socket.socket:
        """Start a parent and connect to it: that waits for nothing that it imports."""
        self._door.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self._door))
            listening.listen()
            self._parent = subprocess.Popen(
                [sys.executable, __file__, str(self._door), str(listening.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[listening.fileno()],
                env=os.environ | SETTINGS | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            )
            line = self._join()
        assert line is not None
        return line

    def _listen(self) -> None:
        with self._line, self._line.makefile() as events:
            for text in events:
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


class _Parent:
    """The parent itself. It starts no thread, so that a fork of it is sound."""

    def __init__(self, door: Path, listening: socket.socket) -> None:
        self._door, self._listening = door, listening
        self._unread: dict[socket.socket, bytes] = {}
        """Who is connected, and the beginning of a line that has not come whole."""
        self._asked_by: dict[int, socket.socket] = {}
        """Process → who is told of its end."""
        self._watch = selectors.DefaultSelector()

    def run(self) -> None:
        """Until nobody is connected any more."""
        reaped, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._listening.setblocking(False)
        self._watch.register(reaped, selectors.EVENT_READ)
        self._watch.register(self._listening, selectors.EVENT_READ)
        self._take_in()
        while self._unread or self._somebody_came_at_the_last_moment():
            for key, _ in self._watch.select():
                if key.fileobj is self._listening:
                    self._take_in()
                elif key.fileobj == reaped:
                    os.read(reaped, 65536)
                    self._reap()
                else:
                    self._hear(key.fileobj)

    def _take_in(self) -> None:
        with suppress(BlockingIOError):
            while True:
                line, _ = self._listening.accept()
                line.setblocking(True)
                self._unread[line] = b""
                self._watch.register(line, selectors.EVENT_READ)

    def _somebody_came_at_the_last_moment(self) -> bool:
        """Nobody finds the door after this: who is not among those that are let in here starts a parent of its own."""
        self._door.unlink(missing_ok=True)
        self._take_in()
        return bool(self._unread)

    def _hear(self, line: Any) -> None:
        try:
            piece = line.recv(65536)
        except ConnectionError:
            piece = b""
        if not piece:
            self._watch.unregister(line)
            del self._unread[line]
            line.close()
            return
        *whole, self._unread[line] = (self._unread[line] + piece).split(b"\n")
        for text in whole:
            pid = _fork(json.loads(text))
            self._asked_by[pid] = line
            _tell(line, started=pid)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            _tell(self._asked_by.pop(pid), ended=pid, status=os.waitstatus_to_exitcode(status))


def main() -> None:
    """Import everything, then be the parent."""
    for name in WARM:
        __import__(name)
    gc.freeze()  # a child that looks for cycles in what was imported would get a copy of all of it
    _Parent(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))).run()


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


def _tell(line: socket.socket, **event: int) -> None:
    with suppress(OSError):  # who asked may have left
        line.sendall(json.dumps(event).encode() + b"\n")


if __name__ == "__main__":
    main()
