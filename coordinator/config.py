"""`coordinator.toml`: what an operator may set. Unknown keys are refused with a suggestion."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from shared.domain.consortium import Role
from shared.domain.errors import InvalidConfig
from shared.domain.strict import read_toml
from shared.release.licence import OWN_TERMS, Licence, fault_of

CONFIG_FILE = "coordinator.toml"
DATABASE_FILE = "coordinator.db"
ADMIN_TOKEN_FILE = "admin.token"
"""Written by init, mode 0600: what the operator's own commands sign in with."""
COUNTRY = re.compile(r"[A-Z]{3}\Z")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Limits:
    """Bounds against floods and guessing. Sizes in bytes, times in seconds."""

    max_body_bytes: int = 1024 * 1024
    """Of a request to the control plane; weights go another way, with bounds of their own."""
    sign_in_attempts: int = 10
    """Failed sign-ins from one address, or for one name, within `attempts_window_s`."""
    enrolment_attempts: int = 10
    """Failed enrolments from one address within `attempts_window_s`."""
    attempts_window_s: float = 300.0
    session_lifetime_s: float = 12 * 3600.0
    invitation_lifetime_s: float = 3600.0


@dataclass(frozen=True)
class Oidc:
    """Signing in elsewhere, by OpenID Connect: authorization code with PKCE."""

    issuer: str = ""
    """The provider's address, exactly as its metadata names it. Empty: people sign in here, with a password."""
    client_id: str = ""
    """What the provider calls this coordinator. Its redirect address is public_url and /sign-in/oidc/return."""
    client_secret_file: str = ""
    """A file with the client's secret alone, in the coordinator's home or by its whole path. Empty: a public client."""
    label: str = "your organisation"
    """Who signs people in, as the sign-in page says it."""
    role_claim: str = "groups"
    """The claim of the ID token whose values give a role: one text, or a list of them."""
    roles: Mapping[str, Role] = field(default_factory=dict)
    """Value of the claim → admin or auditor; of several, admin counts. Whoever has none of them is not let in."""
    scopes: tuple[str, ...] = ("openid", "profile")
    """What is asked for; some providers need one more for the role claim."""
    ca_file: str = ""
    """A PEM file with the CA of a provider inside the organisation. Empty: the CAs that the web trusts."""


@dataclass(frozen=True)
class Storage:
    """Where the large files of releases are kept. Keys come from the environment and never stand in this file."""

    url: str = ""
    """`s3://bucket` or `s3://bucket/folder`. Empty: on this machine's disk, in each release's folder."""
    endpoint: str = ""
    """The store's address, without the bucket. Empty: Amazon's, in the region."""
    region: str = "us-east-1"
    """As the store calls it; many others than Amazon's take any."""
    ca_file: str = ""
    """A PEM file with the CA of a store inside the organisation. Empty: the CAs that the web trusts."""


@dataclass(frozen=True)
class Library:
    """The standard extractors: classical ones, random weights, public pretrained ones. None of them costs any ε."""

    fill: bool = True
    """Whether standard extractors that are missing are made after a start: one by one, beside everything else."""


@dataclass(frozen=True)
class Config:
    """One coordinator. A plan says how it trains; this file only says where it runs."""

    consortium: str
    host: str = "127.0.0.1"
    port: int = 8443
    public_url: str = ""
    """What members type; empty means https://<first server name>:<port>."""
    server_names: tuple[str, ...] = ("localhost", "127.0.0.1")
    """Host names and addresses in the server's certificate."""
    database_url: str = ""
    """Empty means SQLite in the coordinator's home."""
    public_releases: bool = False
    """Whether anybody may pull releases and read their pages, or only members and people with an account."""
    exports: bool = True
    """Whether releases hold ONNX files, a lens profile and measurements, which take a minute of one processor each."""
    country: str = ""
    """Where this machine stands, ISO 3166 alpha-3 such as FRA: for the CO₂ of a kilowatt-hour on the cards. Empty: the
    world's average."""
    limits: Limits = field(default_factory=Limits)
    oidc: Oidc = field(default_factory=Oidc)
    storage: Storage = field(default_factory=Storage)
    library: Library = field(default_factory=Library)
    licence: Licence = OWN_TERMS

    def database(self, home: Path) -> str:
        """The database's URL, with the default filled in."""
        return self.database_url or f"sqlite:///{(home / DATABASE_FILE).absolute()}"

    @property
    def url(self) -> str:
        """The address that members use, without a slash at its end."""
        return (self.public_url or f"https://{self.server_names[0]}:{self.port}").rstrip("/")


def read_config(home: Path) -> Config:
    """`coordinator.toml` in `home`. Raises InvalidConfig, naming the key, for anything that does not fit."""
    config = read_toml(home / CONFIG_FILE, Config)
    check_config(config)
    return config


def check_config(config: Config) -> None:
    """Raise InvalidConfig for values that no coordinator can run with."""
    limits = config.limits
    _require(
        0 < len(config.consortium) <= 100 and config.consortium.isprintable(),
        "consortium",
        "1 to 100 printable characters",
        config.consortium[:100],
    )
    _require(1 <= config.port <= 65535, "port", "1 to 65535", config.port)
    _require(bool(config.server_names), "server_names", "at least one name", "none")
    _require(
        not config.public_url or config.public_url.startswith("https://"),
        "public_url",
        "an address that starts with https://",
        config.public_url,
    )
    _require(
        not config.country or COUNTRY.match(config.country) is not None,
        "country",
        "three capital letters, ISO 3166 alpha-3",
        config.country[:20],
    )
    if (fault := fault_of(config.licence)) is not None:
        field_name, expected, found = fault
        _require(False, f"licence.{field_name}", expected, found)
    for name in ("max_body_bytes", "sign_in_attempts", "enrolment_attempts"):
        _require(getattr(limits, name) >= 1, f"limits.{name}", "at least 1", getattr(limits, name))
    for name in ("attempts_window_s", "session_lifetime_s", "invitation_lifetime_s"):
        _require(getattr(limits, name) > 0, f"limits.{name}", "more than 0 seconds", getattr(limits, name))
    if config.oidc != Oidc():
        _check_oidc(config.oidc)
    if config.storage != Storage():
        _check_storage(config.storage)


def _check_oidc(oidc: Oidc) -> None:
    parts = urlsplit(oidc.issuer)
    # The code and the secret travel to the issuer, so in the clear only inside this machine (tests, a local proxy).
    safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    plain = bool(parts.netloc) and not (parts.query or parts.fragment or parts.username)
    _require(safe and plain, "oidc.issuer", "an address that starts with https://", oidc.issuer)
    _require(bool(oidc.client_id), "oidc.client_id", "the name that the provider gave", oidc.client_id)
    _require(bool(oidc.role_claim), "oidc.role_claim", "the name of a claim", oidc.role_claim)
    people = bool(oidc.roles) and Role.MEMBER not in oidc.roles.values()
    found = {value: role.value for value, role in oidc.roles.items()}
    _require(people, "oidc.roles", "values that give admin or auditor", found)
    _require("openid" in oidc.scopes, "oidc.scopes", "openid among them", oidc.scopes)


def _check_storage(storage: Storage) -> None:
    parts = urlsplit(storage.url)
    plain = not (parts.query or parts.fragment or "@" in parts.netloc)
    _require(
        parts.scheme == "s3" and bool(parts.netloc) and plain,
        "storage.url",
        "s3://bucket or s3://bucket/folder, without keys",
        _without_keys(storage.url),
    )
    where = urlsplit(storage.endpoint)
    # Signed, but in the clear: only inside this machine.
    safe = where.scheme == "https" or (where.scheme == "http" and where.hostname in LOOPBACK)
    _require(
        not storage.endpoint
        or (safe and where.path in ("", "/") and not where.query and "@" not in where.netloc),
        "storage.endpoint",
        "an address that starts with https:// and ends with the host's name or port",
        _without_keys(storage.endpoint),
    )
    _require(bool(storage.region), "storage.region", "the store's region, such as us-east-1", storage.region)


def _without_keys(url: str) -> str:
    """What a message may show: whoever wrote keys into an address is not to find them in a log as well."""
    return f"…{url[url.rindex('@') :]}" if "@" in url else url.partition("?")[0]


def config_text(config: Config) -> str:
    """A `coordinator.toml` with the settings that a new coordinator needs."""
    names = ", ".join(_quoted(name) for name in config.server_names)
    database = f"database_url = {_quoted(config.database_url)}\n" if config.database_url else ""
    return (
        f"consortium = {_quoted(config.consortium)}\n"
        f"host = {_quoted(config.host)}\n"
        f"port = {config.port}\n"
        f"public_url = {_quoted(config.url)}\n"
        f"server_names = [{names}]\n"
        f"{database}"
        f"public_releases = {'true' if config.public_releases else 'false'}\n"
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _require(holds: bool, key: str, expected: str, found: object) -> None:
    if not holds:
        raise InvalidConfig(
            f"{CONFIG_FILE}.{key}: expected {expected}, found {found!r}. Nothing was started. Correct this value."
        )
