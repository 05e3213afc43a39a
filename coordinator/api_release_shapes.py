"""What routes about releases answer, where their own signature says only "JSON": see api_shapes.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.registry.audiences import Audience
from coordinator.registry.differences import Change
from coordinator.registry.downloads import Downloads
from coordinator.registry.library import OnShelf
from coordinator.registry.service import Checked, Withdrawal
from coordinator.runs.publish_jobs import PublishJob
from shared.domain.privacy import Unit


@dataclass(frozen=True)
class GuaranteeShape:
    """What a release guarantees one member at the plan's δ."""

    name: str
    epsilon: float | None
    epsilon_alone: float | None
    delta: float


@dataclass(frozen=True)
class Published:
    """A release that was just made."""

    release: str
    members: tuple[GuaranteeShape, ...]


@dataclass(frozen=True)
class Publishing:
    """What became of a run: its releases, which of them are its weights of now, the last one that was begun, and
    whether another can be begun now."""

    job: PublishJob | None
    releases: tuple[str, ...]
    released_as: tuple[str, ...]
    may_publish: bool


@dataclass(frozen=True)
class DownloadsOfReleases:
    """Release id → how often it was fetched."""

    downloads: Mapping[str, Downloads]


@dataclass(frozen=True)
class StandardExtractors:
    """What this software can put into a library without anybody's records, and what this one has of it."""

    extractors: tuple[OnShelf, ...]


@dataclass(frozen=True)
class ReleaseShape:
    """One release: what was proven of it here and when."""

    release: str
    yanked: bool
    withdrawal: Withdrawal | None
    downloads: Downloads
    checking: bool
    checked: Checked | None
    """Null while its proofs are being checked."""


@dataclass(frozen=True)
class AudienceShape(Audience):
    """Somebody who may want to know of a member's records, and the ε that bounds what it learns, if one does."""

    epsilon: float | None


@dataclass(frozen=True)
class PrivacyOfRelease:
    """Who can learn what about any one unit of one member; ε as the highest of any member, at this δ."""

    release: str
    unit: Unit
    delta: float
    audiences: tuple[AudienceShape, ...]
    promise: str
    not_promised: tuple[str, ...]
    believed: tuple[str, ...]
    """What no file can prove."""


@dataclass(frozen=True)
class Differences:
    """What is not as in the release `before`; null where there is none. And the notes of whoever published it."""

    release: str
    before: str | None
    notes: tuple[str, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Yanked:
    """A release that is not offered any more."""

    release: str
    yanked: bool


@dataclass(frozen=True)
class Channels:
    """Channel → the id of the release that it points to."""

    channels: Mapping[str, str]


@dataclass(frozen=True)
class ChannelMoved:
    """A channel, and the release that it points to now; empty for none."""

    channel: str
    release: str
