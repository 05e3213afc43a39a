"""The one place where an error becomes a text on stderr and an exit code, for all three commands.

0 done · 1 refused, conflict or abandoned · 2 usage or invalid input · 3 not trusted · 4 unreachable ·
5 broken · 130 interrupted. The text is for people; the code in brackets is in docs/errors.md.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import math
import os
import sys
import traceback
from typing import Any, Final, NoReturn

import click
import typer
from rich.console import Console
from rich.text import Text

from shared.domain.errors import Broken, CommonlensError, OutOfSpace
from shared.domain.printable import UNPRINTABLE

DEBUG_VARIABLE: Final = "COMMONLENS_DEBUG"
INTERRUPTED: Final = 130
_TITLES: Final = {
    "refused": "Refused",
    "invalid": "Invalid",
    "conflict": "Not now",
    "not-trusted": "Not trusted",
    "abandoned": "Abandoned",
    "broken": "Broken",
}


def run(app: typer.Typer) -> NoReturn:
    """Run the command line of this process and leave with its exit code."""
    look_for_cycles_seldom()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show ε or ✓ gets a question mark, never a crash.
            stream.reconfigure(errors="replace")
    sys.exit(run_arguments(app, None))


def look_for_cycles_seldom() -> None:
    """For a process that is about to import torch or a web server.

    What they make, some hundred thousand objects, stays for good; looking for cycles in it at Python's usual pace took
    a fifth of every start.
    """
    gc.set_threshold(20_000, 50, 100)


def run_arguments(app: typer.Typer, arguments: list[str] | None) -> int:
    """Run `arguments` (those of the process where None); tell any error on stderr; give the exit code."""
    command = typer.main.get_command(app)
    try:
        result = command.main(args=arguments, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _tell("Interrupted", "stopped here. Run the command again to go on.", "")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe went away; Python must not complain about it a second time at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return tell_error(error)
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


class Between(click.ParamType):
    """A number of an option, from `low` to `high`: not one of click's own ranges lets NaN pass as one."""

    name = "number"

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """`value` as a float. Raises click's BadParameter."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not self._low <= number <= self._high:
            self.fail(
                f"{value!r} is not a number from {self._low:g} to {self._high:g}. Nothing was done.",
                param,
                ctx,
            )
        return number


def terminal(**options: Any) -> Console:
    """What commands print to. Names and paths that somebody chose are text there: never markup, never an emoji."""
    return Console(markup=False, emoji=False, **options)


def tell_error(error: Exception) -> int:
    """Write `error` on stderr and give its exit code. What nobody expected becomes Broken, without detail."""
    known = error if isinstance(error, CommonlensError) else _no_space(error) or _broken(error)
    family = known.code.partition(".")[0]
    _tell(_TITLES.get(family, "Broken"), known.message, known.code)
    if isinstance(known, Broken) and os.environ.get(DEBUG_VARIABLE) == "1":
        traceback.print_exception(error, file=sys.stderr)
    return known.exit_code


def plain(text: str) -> str:
    """`text` from another party without characters that a terminal would obey."""
    return UNPRINTABLE.sub("\ufffd", text)


def one_line(text: str) -> str:
    """A name from another party, `plain` and without line breaks: it must not look like lines of ours."""
    return " ".join(plain(text).split())


def _no_space(error: Exception) -> OutOfSpace | None:
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    return OutOfSpace(
        f"The disk that holds {error.filename or 'what this command prints or writes'} is full. What it was writing is "
        "not whole. Free some space and run the command again."
    )


def _broken(error: Exception) -> Broken:
    what = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        what = f"{what}, {error.strerror}" + (f": {error.filename}" if error.filename else "")
    return Broken(
        f"Something went wrong that should not ({what}). Set {DEBUG_VARIABLE}=1 to see where it happened."
    )


def _tell(title: str, message: str, code: str) -> None:
    console = terminal(stderr=True, highlight=False, soft_wrap=True)
    line = Text(f"{title}: ", style="bold red")
    line.append(plain(message), style="not bold default")
    if code:
        line.append(f"  [{code}]", style="dim")
    console.print(line)
