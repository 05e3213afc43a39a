"""What the operator's commands share: the home folder, and a client signed in with its admin token."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coordinator.config import Config, read_config
from coordinator.members.accounts import ADMIN_TOKEN_FILE
from coordinator.members.authority import AuthorityFiles
from shared.domain.errors import NotFound
from shared.wire.client import ControlClient


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
            raise NotFound(
                f"There is no coordinator in {self.home}. Nothing was done. Run `commonlens-coordinator init` "
                "there, or name its folder with --home."
            ) from error
        config = self.config
        # On its own machine the operator reaches the server whatever name members use.
        local = config.server_names[0] if config.host in ("0.0.0.0", "::") else config.host  # noqa: S104
        return ControlClient(f"https://{local}:{config.port}", AuthorityFiles(self.home).ca_pem(), token)
