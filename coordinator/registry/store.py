"""Where the files of a release are: in its folder, or the large ones of them in an object store.

Whatever the coordinator itself reads (manifest, trust document, signature, card, certificate, pictures) always stays in
the folder. Files over LARGE_BYTES are moved out only once the store has given their bytes back; whoever reads takes the
file that is there, and else the object that the manifest names by its digest. So a folder whose files were half moved,
by a crash or before a change of the configuration, is read like any other.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from coordinator.config import CONFIG_FILE, Storage, read_config
from coordinator.registry.objects import Objects
from shared.domain.errors import Broken, InvalidConfig
from shared.domain.files import sync_folder
from shared.domain.release import MANIFEST_FILE, ReleaseFile
from shared.release import limits
from shared.release.envelope import read_document
from shared.release.manifest import parse_manifest

LARGE_BYTES: Final = 1024 * 1024
_READ_HERE: Final = frozenset({".json", ".md", ".svg"})
_WHOLE: Final = ".whole-"
"""Folders with this beginning hold a release while it is verified, and nothing else."""
log = logging.getLogger("commonlens.coordinator")
_Known = tuple[tuple[int, int, int], Objects | None]
_LOCK = threading.Lock()
_KNOWN: dict[Path, _Known] = {}


def is_large(name: str, promised: ReleaseFile) -> bool:
    """Whether a file goes into the object store, where there is one."""
    return promised.size_bytes > LARGE_BYTES and PurePosixPath(name).suffix not in _READ_HERE


def objects_of(home: Path) -> Objects | None:
    """The object store that coordinator.toml in `home` names; None where it names none.

    Read again when the file is another one; one that cannot be used (it is being edited) changes nothing until it can.
    Raises InvalidConfig where there was none before it.
    """
    try:
        seen = (home / CONFIG_FILE).stat()
    except FileNotFoundError:  # before `init` has ended
        return None
    stamp = (seen.st_ino, seen.st_mtime_ns, seen.st_size)
    with _LOCK:
        known = _KNOWN.get(home)
        if known is None or known[0] != stamp:
            known = (stamp, _opened(home, known))
            _KNOWN[home] = known
        return known[1]


def _opened(home: Path, known: _Known | None) -> Objects | None:
    try:
        storage = read_config(home).storage
        return None if storage == Storage() else Objects(storage, home)
    except InvalidConfig as error:
        if known is None:
            raise
        log.warning("%s The store stays the one that it was.", error.message)
        return known[1]


@dataclass(frozen=True)
class LargeFiles:
    """The large files of every release under one coordinator's home."""

    releases: Path
    objects: Objects | None

    def put_away(self, folder: Path) -> int:
        """Move a release's large files into the store, if there is one; how many were moved.

        Files go only when every one of them is in the store. May be cut off anywhere and run again. Raises what
        `Objects.keep` raises; the folder is then as it was.
        """
        if self.objects is None:
            return 0
        large = {name: file for name, file in _promised(folder).items() if is_large(name, file)}
        here = [name for name in large if (folder / name).is_file()]
        for name, promised in large.items():
            if name in here:
                self.objects.keep(folder / name, promised)
            else:
                self.objects.require(promised)
        for name in here:
            (folder / name).unlink()
            sync_folder((folder / name).parent)
        return len(here)

    def bring_back(self, folder: Path) -> int:
        """Put every file that is only in the store into the release's folder again; how many.

        The objects stay. Raises what `Objects.fetch` raises.
        """
        missing = self._elsewhere(folder)
        for name, promised in missing.items():
            self._objects_with(name).fetch(promised, folder / name)
        return len(missing)

    @contextmanager
    def whole(self, folder: Path) -> Iterator[Path]:
        """A folder with every file of the release: the release's own, or one beside it that is removed afterwards.

        Raises what `Objects.fetch` raises.
        """
        missing = self._elsewhere(folder)
        if self.objects is None or not missing:
            yield folder
            return
        with tempfile.TemporaryDirectory(dir=self.releases, prefix=_WHOLE) as place:
            complete = Path(place) / "release"
            shutil.copytree(folder, complete, copy_function=os.link)
            for name, promised in missing.items():
                self.objects.fetch(promised, complete / name)
            yield complete

    def beginning(self, path: Path, promised: ReleaseFile, count: int) -> bytes:
        """The first `count` bytes of a release's file, fewer where it has fewer. Raises as `Objects.read`, Broken."""
        try:
            with path.open("rb") as file:
                return file.read(count)
        except FileNotFoundError:
            return self._objects_with(path.name).read(promised, 0, min(count, promised.size_bytes))

    def tidy(self) -> None:
        """Remove what a crash left of `whole`; before any other work, because it may be in use later."""
        for place in self.releases.glob(f"{_WHOLE}*"):
            shutil.rmtree(place, ignore_errors=True)

    def _elsewhere(self, folder: Path) -> Mapping[str, ReleaseFile]:
        """The large files that are not in the folder."""
        return {
            name: promised
            for name, promised in _promised(folder).items()
            if is_large(name, promised) and not (folder / name).is_file()
        }

    def _objects_with(self, name: str) -> Objects:
        if self.objects is None:
            raise Broken(
                f"a release has lost its file {name}, and coordinator.toml names no store that could have it"
            )
        return self.objects


def _promised(folder: Path) -> Mapping[str, ReleaseFile]:
    return parse_manifest(read_document(folder / MANIFEST_FILE, limits.MANIFEST_BYTES)).claimed.files
