"""`join` as a person types it: the pasted line and a terminal, or the line and a secret on standard input."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from participant.enrol import read_link
from tests.desk import Desk, served

PROGRAM = str(Path(sys.executable).parent / "commonlens-participant")


@pytest.fixture
def line(desk: Desk, tmp_path: Path) -> Iterator[list[str]]:
    """What a contributor pastes, for a folder of its own."""
    desk.clock.advance(120)  # it stands still: ahead, it stays within what the protocol allows
    with served(desk.app, desk.home) as url:
        home = str(tmp_path / "member")
        yield [PROGRAM, "join", url, "--ca-fingerprint", desk.fingerprint, "--home", home]


def test_the_pasted_line_alone_asks_a_person_for_size_and_secret(
    line: list[str], desk: Desk, tmp_path: Path
) -> None:
    said, code = typed(line, ("with .*: ", "4321"), ("secret: ", desk.secret()))
    assert code == 0, said
    [member] = desk.room.members.every()
    assert member.declared_size == read_link(tmp_path / "member").declared_size == 4300


def test_without_a_person_to_ask_the_option_is_needed_and_nothing_is_sent(
    line: list[str], desk: Desk
) -> None:
    secret = desk.secret()
    asked = subprocess.run(line, input=secret + "\n", capture_output=True, text=True, check=False)
    assert asked.returncode == 2 and "Give --declared-size" in asked.stderr
    given = [*line, "--declared-size", "77"]
    joined = subprocess.run(given, input=secret + "\n", capture_output=True, text=True, check=False)
    assert joined.returncode == 0, joined.stderr
    assert [member.declared_size for member in desk.room.members.every()] == [77]


def typed(command: list[str], *dialogue: tuple[str, str]) -> tuple[str, int]:
    """(all that was said, exit code) of a command at a terminal, where each prompt gets its answer."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    said = ""
    for prompt, answer in dialogue:
        seen = len(said)
        while not re.search(prompt, said[seen:]):  # its last blank comes when the terminal is set up for it
            more = read(ours)
            assert more, said
            said += more
        os.write(ours, answer.encode() + b"\n")
    while more := read(ours):
        said += more
    os.close(ours)
    return said, process.wait(60)


def read(terminal: int) -> str:
    """What was written since; nothing once the other side has left."""
    try:
        return os.read(terminal, 4096).decode(errors="replace")
    except OSError:
        return ""
