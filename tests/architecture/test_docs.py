"""The pages are complete and true: what is generated is fresh, what is named exists, what exists is named."""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path

import click
import pytest

from shared.domain.errors import every_error
from shared.extractors.architectures import ARCHITECTURES
from tools.docs_architectures import common_options, options_of, sentence_of
from tools.docs_commands import APPS, leaves, load
from tools.docs_configuration import FILES, settings
from tools.docs_configuration import load as load_config
from tools.write_docs import PAGES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PACKAGES = ("shared", "coordinator", "participant")
PAGES_WITH_LINKS = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
PAGES_WITH_CALLS = [
    *PAGES_WITH_LINKS,
    *sorted((ROOT / "deploy").rglob("*.service")),
    *sorted((ROOT / "deploy").glob("*.yaml")),
]
CALL = re.compile(
    r"(?:^|(?<!-u)[\s`/])(commonlens(?:-coordinator|-participant)?) ([a-z][^`\n#|]*)", re.MULTILINE
)
"""A program and the words after it, wherever a page or a unit shows them."""
LINK = re.compile(r"(?:!?\[[^\]]*\]\(|(?:src|srcset|href)=\")([^)\"\s]+)")
TREE_LINE = re.compile(r"^(?P<indent>(?: {2})*)(?P<name>[\w.\-]+/?)\s{2,}(?P<purpose>\S.*)$")


@pytest.mark.parametrize("page", sorted(PAGES))
def test_generated_page_is_what_the_code_says_now(page: str) -> None:
    assert (ROOT / page).read_text("utf-8") == PAGES[page](), "run `make docs`"


def test_every_error_has_a_code_of_its_own_and_stands_in_the_page() -> None:
    page, codes = (DOCS / "errors.md").read_text("utf-8"), [error.code for error in every_error()]
    assert len(set(codes)) == len(codes) and all(codes)
    assert [code for code in codes if f"`{code}`" not in page] == []


def test_every_error_says_what_it_means() -> None:
    assert [error.__name__ for error in every_error() if not (error.__doc__ or "").strip()] == []


@pytest.mark.parametrize("program", sorted(APPS))
def test_every_command_and_option_is_documented(program: str) -> None:
    page = (DOCS / "commands.md").read_text("utf-8")
    missing = []
    for path, command in leaves(load(APPS[program][0]), program):
        missing += [path] if f"### `{path}" not in page or not command.help else []
        for parameter in command.params:
            if parameter.name == "help" or getattr(parameter, "hidden", False):
                continue
            silent = parameter.param_type_name == "option" and not getattr(parameter, "help", None)
            absent = not all(f"`{name}`" in page for name in parameter.opts if name.startswith("-"))
            missing += [f"{path} {parameter.name}"] if silent or absent else []
    assert missing == []


@pytest.mark.parametrize("page", PAGES_WITH_CALLS, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_text_can_be_typed(page: Path) -> None:
    wrong = [
        f"{call}: {problem}"
        for call in CALL.findall(page.read_text("utf-8"))
        if (problem := _untypable(*call))
    ]
    assert wrong == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.name))
def test_every_setting_has_a_sentence(file: object) -> None:
    assert [row[0] for row in settings(load_config(file)) if not row[3]] == []  # type: ignore[arg-type]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_option_of_an_architecture_stands_in_the_page_with_its_sentence(architecture: str) -> None:
    page = (DOCS / "configuration.md").read_text("utf-8")
    section = page.partition(f"\n### {architecture}\n")[2].partition("\n### ")[0]
    assert section.strip() and not section.strip().startswith(("|", "No options")), "no sentence"
    for option in options_of(architecture):
        assert f"| `{option.name}` |" in section and sentence_of(architecture, option)


def test_the_scope_stands_in_the_page_with_all_its_values() -> None:
    page = (DOCS / "configuration.md").read_text("utf-8")
    assert [option.name for option in common_options()] == ["scope", "lora_rank"]
    for name in ("all", "last_block", "film", "lora"):
        assert f'`"{name}"`' in page


def test_configuration_shows_values_and_never_the_name_of_a_constant() -> None:
    page = (DOCS / "configuration.md").read_text("utf-8")
    assert re.findall(r"\b(?:SCHEDULES|AUGMENTATIONS|SCOPES|ARCHITECTURES)\b", page) == []
    assert '`"cosine"`' in page and "`shift2`" in page


def test_every_dependency_has_its_sentence_and_no_other_has_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(d for extra in project["optional-dependencies"].values() for d in extra),
    ]
    declared = {re.split(r"[\[<>=!~ ]", requirement)[0].lower() for requirement in wanted}
    page = (DOCS / "dependencies.md").read_text("utf-8")
    assert {name.lower() for name in re.findall(r"^\| `([\w.-]+)` \|", page, re.MULTILINE)} == declared


def test_odds_in_the_privacy_page_are_computed() -> None:
    rows = re.findall(
        r"^\| ([\d.]+)(?: \([^)]*\))? \| ([\d.]+) % \|", (DOCS / "privacy.md").read_text("utf-8"), re.M
    )
    assert len(rows) >= 6
    for epsilon, percent in rows:
        growth, delta = math.exp(float(epsilon)), 0.0 if epsilon == "0" else 1e-5
        decimals = len(percent.partition(".")[2])
        assert f"{100 * (growth + delta) / (growth + 1):.{decimals}f}" == percent


@pytest.mark.parametrize("page", PAGES_WITH_LINKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = [link.partition("#") for link in LINK.findall(page.read_text("utf-8"))]
    local = [
        (path, anchor) for path, _, anchor in targets if "://" not in path and not path.startswith("mailto:")
    ]
    assert [path for path, _ in local if path and not (page.parent / path).exists()] == []
    broken = [
        f"{path}#{anchor}"
        for path, anchor in local
        if anchor and anchor not in _anchors(page.parent / path if path else page)
    ]
    assert broken == []


def test_readme_tree_names_only_what_exists_and_every_package_folder() -> None:
    named = _tree_of_readme()
    assert [name for name in named if not (ROOT / name).exists()] == []
    folders = {
        str(init.parent.relative_to(ROOT))
        for package in PACKAGES
        for init in (ROOT / package).rglob("__init__.py")
    }
    assert sorted(folders - set(named) - {"coordinator/storage/migrations", _VERSIONS}) == []


def test_architecture_page_names_every_package_folder_and_every_folder_of_tests() -> None:
    page = (DOCS / "architecture.md").read_text("utf-8")
    rooms = [init.parent for package in PACKAGES for init in (ROOT / package).glob("*/__init__.py")]
    assert [
        str(room) for room in rooms if f"`{room.name}/`" not in page and f"/{room.name}/`" not in page
    ] == []
    drawn = re.findall(r"^  (\w+)/ ", page.partition("\ntests/\n")[2].partition("```")[0], re.MULTILINE)
    folders = {test.parent.name for test in (ROOT / "tests").glob("*/*.py")}
    assert set(drawn) == folders


def test_architecture_page_names_every_file_of_shared_that_speaks_http() -> None:
    line = next(
        line
        for line in (DOCS / "architecture.md").read_text("utf-8").splitlines()
        if line.startswith("- HTTP clients: inside `shared` only ")
    )
    speaks = {
        str(path.relative_to(ROOT / "shared"))
        for path in (ROOT / "shared").rglob("*.py")
        if re.search(r"^(?:import|from) httpx\b", path.read_text("utf-8"), re.MULTILINE)
    }
    assert set(re.findall(r"`([\w/]+\.py)`", line)) == speaks


def test_setting_of_a_table_that_may_be_left_out_is_not_called_required_everywhere() -> None:
    page = (DOCS / "configuration.md").read_text("utf-8")
    assert '| `server.name` | text | `"fedavg"`; required in a table `[server]` |' in page


def _untypable(program: str, words: str) -> str:
    command: click.Command = load(APPS[program][0])
    options = {name for parameter in command.params for name in parameter.opts}
    rest = words.split()
    while (children := getattr(command, "commands", None)) is not None and rest:
        word = rest.pop(0)
        if word not in children:
            return f"no command {word}"
        command = children[word]
        options |= {name for parameter in command.params for name in parameter.opts}
    unknown = [word.partition("=")[0] for word in rest if word.startswith("--")]
    return " ".join(f"no option {word}" for word in unknown if word not in options)


_VERSIONS = "coordinator/storage/migrations/versions"


def _tree_of_readme() -> list[str]:
    text = (ROOT / "README.md").read_text("utf-8").partition("<!-- tree:begin -->")[2]
    block = text.partition("<!-- tree:end -->")[0]
    names: list[str] = []
    stack: list[str] = []
    for line in block.splitlines():
        match = TREE_LINE.match(line)
        if match is None:
            continue
        depth = len(match["indent"]) // 2
        stack = [*stack[:depth], match["name"].rstrip("/")]
        names.append("/".join(stack))
    assert names
    return names


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
