"""What the operator's commands share: the home folder, and a client signed in with its admin token."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coordinator.config import ADMIN_TOKEN_FILE, CONFIG_FILE, Config, read_config
from coordinator.members.authority import AuthorityFiles
from shared.domain.errors import NotFound
from shared.wire.client import ControlClient

PATIENCE_S = 960.0
"""For what starts a process of its own, a probe or the red team: longer than that process may take."""


@dataclass(frozen=True)
class Operator:
    """The person at the coordinator's machine."""

    home: Path

    @property
    def config(self) -> Config:
        """coordinator.toml. Raises InvalidConfig."""
        return read_config(self.home)

    def client(self) -> ControlClient:
        """A client of the running coordinator, as admin. Raises NotFound before `init`."""
        try:
            token = (self.home / ADMIN_TOKEN_FILE).read_text(encoding="ascii").strip()
        except FileNotFoundError as error:
            if (self.home / CONFIG_FILE).exists():
                raise NotFound(
                    f"There is no {ADMIN_TOKEN_FILE} in {self.home.absolute()}. Nothing was done. Run "
                    "`commonlens-coordinator account token admin`, which makes a new one."
                ) from error
            raise NotFound(
                f"There is no coordinator in {self.home.absolute()}. Nothing was done. Run "
                "`commonlens-coordinator init` there, or name its folder with --home."
            ) from error
        return ControlClient(self._own_address(), AuthorityFiles(self.home).ca_pem(), token)

    def _own_address(self) -> str:
        """How to reach the server from its own machine, under a name that its certificate has."""
        config = self.config
        here = ("localhost", "127.0.0.1", "::1")
        everywhere = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
        if config.host in everywhere or config.host in here:
            name = next((n for n in config.server_names if n in here), config.server_names[0])
        else:
            name = config.host if config.host in config.server_names else config.server_names[0]
        return f"https://{f'[{name}]' if ':' in name else name}:{config.port}"
