"""Write the pages that are generated from the code: `make docs`.

docs/errors.md        from the error tree's docstrings
docs/commands.md      from the three Typer apps
docs/configuration.md from the dataclasses that files are read into
docs/api.md           from the routes of the coordinator's API

tests/architecture/test_docs.py fails while a page differs from what stands here, so an error code, a
command, an option or a setting cannot be added without its sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tools.docs_api import api_page
from tools.docs_commands import commands_page
from tools.docs_configuration import configuration_page
from tools.docs_errors import errors_page

ROOT = Path(__file__).resolve().parent.parent
PAGES: Mapping[str, Callable[[], str]] = {
    "docs/errors.md": errors_page,
    "docs/commands.md": commands_page,
    "docs/configuration.md": configuration_page,
    "docs/api.md": api_page,
}


def main() -> None:
    """Write every page whose text changed, and say which."""
    for name, page in PAGES.items():
        path, text = ROOT / name, page()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{name} is written\n")


if __name__ == "__main__":
    main()
