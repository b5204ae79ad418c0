"""A folder of samples: what it is to hold, and which parts of it are there.

    samples/manifest.json           what was asked for, and the plan that makes it
    samples/000000.safetensors      shard 0
    samples/done/000000.json        says that shard 0 is whole, with the checksums of its files

A shard's record is written after the shard, and each file appears complete or not at all. So
whatever is killed when, a record means a whole shard.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import refused
from ..output import alone, write
from .formats import FORMATS
from .samples import Format

MANIFEST, DONE = "manifest.json", "done"
HEAD = {"format": "flowsolve samples", "version": 1}
#: How long to wait for another process that writes the manifest, in seconds.
PATIENCE = 60.0


class Part(NamedTuple):
    """The shards of one process: number rank, rank + world, rank + 2 world, ..."""

    rank: int
    world: int

    def of(self, shards: int) -> range:
        return range(self.rank, shards, self.world)


class Folder:
    """A folder that has a manifest.

    Args:
        path: where it is.
        name: how the caller knows it, for messages.

    Raises:
        FileNotFoundError: if there is no manifest.
        ValueError: if it cannot be read.
    """

    def __init__(self, path: Path, name: str = "folder") -> None:
        self.path, self.name = path, name
        try:
            text = (path / MANIFEST).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(
                f"{name}={str(path)!r}: there is no {MANIFEST} in it; expected a folder that "
                "flowsolve.generate filled"
            ) from None
        try:
            self.manifest: dict[str, Any] = json.loads(text)
            if any(self.manifest.get(key) != value for key, value in HEAD.items()):
                raise ValueError(f"expected {json.dumps(HEAD)} in it")
            self.n, self.first, self.shard = (self.manifest[k] for k in ("n", "first", "shard"))
            self.format: Format = FORMATS[self.manifest["files"]]
        except (AttributeError, KeyError, ValueError) as error:
            raise ValueError(f"{str(path / MANIFEST)!r} cannot be read: {error}") from None

    @property
    def shards(self) -> int:
        """How many there are to be."""
        return -(-self.n // self.shard)

    def rows(self, k: int) -> range:
        """Which of the n samples shard k has."""
        return range(k * self.shard, min((k + 1) * self.shard, self.n))

    def records(self) -> dict[int, dict[str, Any]]:
        """The records of the shards that are there, by their numbers."""
        found = {}
        for k in self.done():
            with contextlib.suppress(OSError, ValueError):
                record = json.loads((self.path / DONE / f"{k:06d}.json").read_bytes())
                if isinstance(record, dict) and isinstance(record.get("files"), dict):
                    found[k] = record  # as we write them
        return found

    def done(self) -> list[int]:
        """The numbers of the shards that are there."""
        place = self.path / DONE
        names = (p.name for p in place.iterdir()) if place.is_dir() else ()
        found = (re.fullmatch(r"(\d{6,})\.json", name) for name in names)
        return sorted(k for each in found if each and (k := int(each[1])) < self.shards)

    def samples(self, shards: list[int]) -> int:
        """How many samples these shards have."""
        return sum(len(self.rows(k)) for k in shards)

    def commit(self, k: int, files: list[str], made: Mapping[str, str]) -> None:
        """Say that shard k is whole, in its files."""
        row = {"files": {name: digest(self.path / name) for name in files}, **made}
        place = self.path / DONE
        place.mkdir(exist_ok=True)
        write(place / f"{k:06d}.json", partial(_say, row))

    def forget(self, k: int) -> None:
        """Of shard k nothing is there any more."""
        (self.path / DONE / f"{k:06d}.json").unlink(missing_ok=True)

    def damage(self, k: int, record: Mapping[str, Any]) -> str | None:
        """What is wrong with shard k, None if its files are what was written."""
        for name, said in record["files"].items():
            try:
                found = digest(self.path / name)
            except OSError as error:
                return f"{name}: {error.strerror}"
            if found != said:
                return f"{name} is damaged: its checksum is not the one that was written"
        return None

    @contextlib.contextmanager
    def alone(self, part: Part) -> Iterator[None]:
        """The only process that makes this part of the folder, and no process makes parts of
        another division of it.

        Raises:
            BlockingIOError: if another one is at it, naming it.
        """
        with self._locked(f"part-{part.rank}-of-{part.world}"):
            for lock in self.path.glob(".part-*-of-*.lock"):
                if not lock.name.endswith(f"-of-{part.world}.lock"):
                    self._left(lock.name[1:].removesuffix(".lock"))
            self._tidy(part)
            yield

    def _left(self, name: str) -> None:
        """See that nobody is at this part any more. Others of our own run look as well, each for a
        moment; who is at work stays."""
        for wait in (0.01, 0.1, 0.5, 1.0, None):
            try:
                with self._locked(name):
                    return
            except BlockingIOError:
                if wait is None:
                    raise
                time.sleep(wait * (0.5 + random.random()))

    def _tidy(self, part: Part) -> None:
        """Remove what processes that were killed left of the part's shards."""
        for place in (self.path, self.path / DONE):
            for each in place.iterdir() if place.is_dir() else ():
                found = re.fullmatch(r"\.(\d{6,})\..*\.tmp", each.name)
                if found and int(found[1]) in part.of(self.shards):
                    each.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(alone(self.path / name))
            except BlockingIOError as error:
                who = (error.strerror or "").partition(" is ")[0]
                raise BlockingIOError(
                    error.errno,
                    f"{self.name}={str(self.path)!r}: {who} is filling it; expected one run at a "
                    "time",
                ) from None
            yield


def begun(
    path: Path, name: str, settings: Mapping[str, Any], prepare: Callable[[], None]
) -> Folder:
    """The folder at ``path``, which has a manifest: the one that it had, or a new one of these
    settings, after ``prepare``. Raises ValueError if none can be made there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # a null character is a ValueError
        reason = getattr(error, "strerror", error)
        raise ValueError(refused(name, str(path), f"a folder ({reason})")) from None
    until = time.monotonic() + PATIENCE
    while not (path / MANIFEST).exists():
        try:
            with alone(path / MANIFEST):
                if not (path / MANIFEST).exists():
                    _empty(path, name)
                    prepare()
                    write(path / MANIFEST, partial(_say, {**HEAD, **settings}))
        except BlockingIOError:  # another process of the same run, most likely
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        except OSError as error:
            reason = error.strerror or error
            raise ValueError(f"{name}={str(path)!r} cannot be written: {reason}") from None
    return Folder(path, name)


def _empty(path: Path, name: str) -> None:
    """Raise ValueError for a folder that has something else in it."""
    found = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
    found = [each for each in found if each != "samples.zarr"]
    if found:
        raise ValueError(
            f"{name}={str(path)!r} has other files ({', '.join(found[:3])}); expected an empty "
            "folder, or one that this run began"
        )


def digest(path: Path) -> str:
    """A file's checksum."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            found.update(piece)
    return f"sha256:{found.hexdigest()}"


def _say(value: Any, file: Any) -> None:
    file.write((json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())
