"""What is not in a release what it was in an earlier one: both ε, the plan's terms, its members, the digests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.registry.claims import Claimed
from coordinator.registry.service import ReleaseService
from shared.domain.plan import Plan, PlanMember
from shared.domain.release import WEIGHTS_FILE, AnyManifest, CatalogueEntry
from shared.domain.strict import to_plain
from shared.release.promise import epsilon_text

MOST_CHARACTERS = 160
_NOT_TERMS = ("members", "format", "consortium", "extractor_name")


@dataclass(frozen=True)
class Change:
    """One thing that is not what it was in the release before."""

    what: str
    before: str
    after: str
    private: bool = False


def before(service: ReleaseService, manifest: AnyManifest) -> CatalogueEntry | None:
    """The release that the manifest names as the one before; None for the first of its name."""
    digest = manifest.previous
    return next((e for e in service.catalogue().releases if e.manifest_digest == digest), None)


def changes(old: Claimed, new: Claimed) -> tuple[Change, ...]:
    """What differs: both ε, the plan's terms, who contributes, the digests."""
    return (
        *_epsilons(old, new),
        *_members(old, new),
        *_terms(old.plan, new.plan),
        *_files(old, new),
    )


def _epsilons(old: Claimed, new: Claimed) -> Iterator[Change]:
    for what, was, now in (
        ("highest ε", old.epsilon, new.epsilon),
        ("highest ε alone", old.epsilon_alone, new.epsilon_alone),
    ):
        if epsilon_text(was) != epsilon_text(now):
            yield Change(what, epsilon_text(was), epsilon_text(now), private=True)


def _members(old: Claimed, new: Claimed) -> Iterator[Change]:
    """By the names that the certificates give; who took part in neither run is listed by its id."""
    was, now = ({m.member_id: _seat(m, one.names) for m in one.plan.members} for one in (old, new))
    for member_id in (*was, *(i for i in now if i not in was)):
        one, other = was.get(member_id, "not a member"), now.get(member_id, "not a member")
        if one != other:
            name = new.names.get(member_id) or old.names.get(member_id, member_id)
            yield Change(f"member {name}", one, other)


def _seat(member: PlanMember, names: Mapping[str, str]) -> str:
    return f"{names.get(member.member_id, 'took no part')}, declared size {member.declared_size:,}"


def _terms(old: Plan, new: Plan) -> Iterator[Change]:
    was, now = dict(_flat(to_plain(old))), dict(_flat(to_plain(new)))
    for key in dict.fromkeys((*was, *now)):
        if key.split(".")[0] not in _NOT_TERMS and was.get(key) != now.get(key):
            yield Change(key, was.get(key, "–"), now.get(key, "–"), key.startswith("privacy."))


def _files(old: Claimed, new: Claimed) -> Iterator[Change]:
    pairs = {
        "weights": [claimed.manifest.files[WEIGHTS_FILE].digest for claimed in (old, new)],
        "checkpoint": [claimed.manifest.checkpoint_digest for claimed in (old, new)],
        "plan": [claimed.manifest.plan_digest for claimed in (old, new)],
        "run": [claimed.manifest.run_id for claimed in (old, new)],
    }
    for what, (was, now) in pairs.items():
        if was != now:
            yield Change(what, was, now)


def _flat(value: Any, under: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{under}.{key}" if under else str(key))
        return
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    yield under, text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
