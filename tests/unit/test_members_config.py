"""coordinator.toml: what is written is read back; what does not fit is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.config import Config, check_config, config_text, read_config
from shared.domain.errors import InvalidConfig
from shared.release.licence import Licence


def write(home: Path, text: str) -> Path:
    (home / "coordinator.toml").write_text(text)
    return home


def test_what_init_writes_is_read_back(tmp_path: Path) -> None:
    config = Config('The "Eye" \\ Clinics', server_names=("lens.example.org", "10.0.0.7"), port=9000)
    found = read_config(write(tmp_path, config_text(config)))
    assert found.consortium == config.consortium and found.server_names == config.server_names
    assert found.url == config.url == "https://lens.example.org:9000"
    url = "postgresql://lens:p%40ss@db/lens"
    assert read_config(write(tmp_path, config_text(Config("x", database_url=url)))).database_url == url


def test_the_database_is_in_the_home_unless_said_otherwise(tmp_path: Path) -> None:
    assert Config("x").database(tmp_path) == f"sqlite:///{tmp_path / 'coordinator.db'}"
    assert Config("x", database_url="postgresql://h/d").database(tmp_path) == "postgresql://h/d"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("databse_url = ''", "unknown key 'databse_url'.*Did you mean 'database_url'"),
        ("port = '8443'", "port: expected a whole number, found '8443'"),
        ("port = 70000", "port: expected 1 to 65535, found 70000"),
        ("public_url = 'http://lens'", "public_url: expected an address that starts with https://"),
        ("server_names = []", "server_names: expected at least one name"),
        ("[limits]\nmax_body_bytes = 0", "limits.max_body_bytes: expected at least 1, found 0"),
        ("[limits]\nsession_lifetime_s = -1.0", "limits.session_lifetime_s: expected more than 0 seconds"),
        ("country = 'Germany'", "country: expected three capital letters, ISO 3166 alpha-3, found 'Germany'"),
        (
            "[licence]\nid = 'Apache 2'",
            "licence.id: expected an SPDX identifier such as Apache-2.0, or other",
        ),
        (
            "[licence]\nid = 'MIT'\nname = 'ours'",
            "licence.name: expected no name and no link beside the id MIT",
        ),
        ("[licence]\nname = 'Our Terms'", "licence.name: expected lower-case letters"),
        ("[licence]\nlink = 'https://x.example'", "licence.name: expected a name for the terms"),
        ("[licence]\nname = 'a'\nlink = 'http://x'", "licence.link: expected an address that starts with"),
        ("[licence]\nname = 'a'\nlink = 'https://x.example/`'", "licence.link: expected"),
        ("[licence]\nname = 'a\\nlicense: mit'", "licence"),
        ("[limits]\nmax_body = 1", "unknown key 'max_body'.*Did you mean 'max_body_bytes'"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, line: str, sentence: str) -> None:
    with pytest.raises(InvalidConfig, match=sentence):
        read_config(write(tmp_path, f"consortium = 'x'\n{line}\n"))


def test_licence_and_country_are_the_consortiums_to_say(tmp_path: Path) -> None:
    own = "country = 'FRA'\n[licence]\nid = 'other'\nname = 'ours-1.0'\nlink = 'https://lens.example/terms'\n"
    found = read_config(write(tmp_path, f"consortium = 'x'\n{own}"))
    assert (found.country, found.licence.name) == ("FRA", "ours-1.0")
    assert Config("x").licence == Licence("other") and Config("x").country == ""


@pytest.mark.parametrize("name", ["", "x" * 101, "a\nb"])
def test_a_consortium_has_a_printable_name(name: str) -> None:
    with pytest.raises(InvalidConfig, match="1 to 100 printable characters"):
        check_config(Config(name))
