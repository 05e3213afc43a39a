"""Run the whole demo: `python -m demo [FOLDER]`."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from demo import stages
from demo.processes import CommandFailed, Processes
from demo.report import folder_note, print_report, write_report
from shared.console import terminal

Stage = tuple[str, Callable[[stages.Consortium, stages.Tell], None], float]
BEFORE: tuple[Stage, ...] = (
    ("coordinator", stages.initialise, 6.0),
    ("joining", stages.invite_and_join, 9.0),
    ("data", stages.add_data, 9.0),
    ("plan and consents", stages.agree, 16.0),
)
ROUNDS_S = 44.0
AFTER: tuple[Stage, ...] = (
    ("red team and release", stages.publish, 48.0),
    ("heads and comparison", stages.fit_and_compare, 42.0),
    ("library", stages.look_into_library, 1.0),
)
"""Name, what it does, and about how many seconds it takes on two quiet cores: for the time left."""
MARK = ".commonlens-demo"
"""In a folder that a demo made: only such a folder is emptied for the next one."""


def main(arguments: list[str] | None = None) -> int:
    """The demo; exit code 1 when a command failed, with that command's own words, and 2 for a folder of others."""
    parser = argparse.ArgumentParser(
        prog="python -m demo", description="Run a whole consortium on this machine."
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("demo-out"), help="where it leaves all it made"
    )
    root: Path = parser.parse_args(arguments).folder.absolute()
    console = terminal()
    if not emptied(root):
        console.print(
            f"{root} holds something that no demo made. Nothing was deleted or started. Name another folder, "
            "python -m demo FOLDER, or remove this one yourself.",
        )
        return 2
    console.print(
        "A real consortium on this machine: a coordinator, four contributing organisations and one that joins "
        "only to use. The organisations are made by label out of 5,000 public digits; everything else is as in "
        "production.\n"
    )
    demo = stages.Consortium(root, Processes(root / "logs"))
    started = time.monotonic()
    try:
        _walk(demo, console)
        report = write_report(demo)
    except CommandFailed as error:
        console.print("A command failed:", style="bold red", end=" ")
        console.print(error)
        return 1
    finally:
        demo.processes.close()
    console.print()
    print_report(report, console)
    console.print(folder_note(root))
    console.print(f"Done in {time.monotonic() - started:.0f} s.")
    return 0


def emptied(root: Path) -> bool:
    """Make `root` a demo's folder without anything in it; False, and nothing changed, where it holds other things."""
    if root.exists() and not (root / MARK).is_file():
        if not root.is_dir() or any(root.iterdir()):
            return False
    else:
        shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    (root / MARK).write_text("Made by the demo, which deletes this folder when it is run again.\n")
    return True


class _TimeLeft(ProgressColumn):
    """Counts down with the clock between two steps, whose pace says when the end is."""

    def render(self, task: Task) -> Text:
        return Text(f"about {max(0.0, task.fields['end'] - time.monotonic()):.0f} s left")


def _walk(demo: stages.Consortium, console: Console) -> None:
    total_s = sum(seconds for _, _, seconds in (*BEFORE, *AFTER)) + ROUNDS_S
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TimeElapsedColumn(),
        _TimeLeft(),
        console=console,
    ) as progress:
        started, planned_s = time.monotonic(), 0.0
        task = progress.add_task("", total=total_s, end=started + total_s)

        def show(what: str, done_s: float) -> None:
            # The machine's own pace so far, once there is enough of it to judge by.
            pace = (time.monotonic() - started) / done_s if done_s > 5 else 1.0
            end = time.monotonic() + (total_s - done_s) * pace
            progress.update(task, description=f"{what:<42}", completed=done_s, end=end)

        def on_round(number: int, rounds: int, epsilon: float, alone: float) -> None:
            show(
                f"round {number}/{rounds}  ε {epsilon:.1f} spent, alone {alone:.1f}",
                planned_s + ROUNDS_S * number / rounds,
            )

        def run(stage: Stage) -> None:
            nonlocal planned_s
            name, action, seconds = stage
            show(name, planned_s)
            action(demo, lambda said: progress.console.print(f"✓ {said}"))
            planned_s += seconds

        for stage in BEFORE:
            run(stage)
        stages.train(demo, on_round)
        planned_s += ROUNDS_S
        progress.console.print("✓ all rounds closed")
        for stage in AFTER:
            run(stage)
        show("done", total_s)


if __name__ == "__main__":
    sys.exit(main())
