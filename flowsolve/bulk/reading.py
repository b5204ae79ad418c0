"""What is in a folder of samples: read, and made again to see that it is right."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..checked import Count, OneSeed, checked
from .folder import Folder
from .samples import Samples
from .settings import solving
from .shards import Factory, Job, Maker
from .tables import Table


@checked
def read(folder: os.PathLike[str] | str, *, partial: bool = False) -> Iterator[Samples]:
    """The samples in a folder, a shard at a time, in their order.

    Args:
        folder: what :func:`flowsolve.generate` filled.
        partial: read what is there of a folder that is not full.

    Returns:
        :class:`~flowsolve.bulk.Samples`, shard after shard: ``first``, the number of the first
        sample, ``x`` (n, *shape) on the CPU, and ``conditions``, what each was told.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it is not full, and, when it comes to it, for a shard that is damaged.

    Examples:
        >>> model = flowsolve.exact.Dirac(flowsolve.VP(), [1.0])
        >>> _ = flowsolve.generate(model, 3, "points", nfe=1)
        >>> for part in flowsolve.bulk.read("points"):
        ...     print(part.first, part.x.shape)
        0 torch.Size([3, 1])
    """
    found = Folder(Path(folder))
    records = found.records()
    if len(records) < found.shards and not partial:
        raise ValueError(
            f"folder={os.fspath(folder)!r}: {found.shards - len(records)} of {found.shards} shards "
            "are missing; expected a full one (the same call of generate goes on), or partial=True"
        )
    return _read(found, records)


def _read(folder: Folder, records: dict[int, dict[str, Any]]) -> Iterator[Samples]:
    for k in sorted(records):
        damage = folder.damage(k, records[k])
        if damage is not None:
            raise ValueError(
                f"folder={str(folder.path)!r}: {damage}; the same call of generate makes it again"
            )
        yield shard_of(folder, k, records[k])


def shard_of(folder: Folder, k: int, record: dict[str, Any]) -> Samples:
    """Shard k of a folder."""
    rows = folder.rows(k)
    first = folder.first + rows.start
    return folder.format.read(folder.path, [*record["files"]], rows.start, first, len(rows))


class Verified(NamedTuple):
    """What was found in a folder.

    Attributes:
        shards: how many there are to be.
        missing: the numbers of those that are not there.
        damaged: what is wrong, by the number of the shard.
        samples: how many samples were made again.
        largest: the largest difference of an entry between them and what is in the folder: 0 where
            the device and versions are those that made it.
        scale: the root mean square of an entry, to compare with.

    Examples:
        >>> model = flowsolve.exact.Dirac(flowsolve.VP(), [1.0])
        >>> _ = flowsolve.generate(model, 4, "pairs", nfe=1, shard=2)
        >>> flowsolve.bulk.verify("pairs", model).whole
        True
    """

    shards: int
    missing: list[int]
    damaged: dict[int, str]
    samples: int
    largest: float
    scale: float

    @property
    def whole(self) -> bool:
        """Whether all shards are there, and none is damaged."""
        return not self.missing and not self.damaged


@checked
def verify(
    folder: os.PathLike[str] | str, model: Factory, *, batches: Count = 4, seed: OneSeed = 0
) -> Verified:
    """Compare the checksums of all shards, and make random batches again.

    Args:
        folder: what :func:`flowsolve.generate` filled, or began to.
        model: that it was made with, or a function that returns it.
        batches: how many to make again, from as many shards as there are.
        seed: which.

    Returns:
        What was found.

    Raises:
        FileNotFoundError: if there is no such folder.

    Examples:
        >>> model = flowsolve.exact.Dirac(flowsolve.VP(), [1.0])
        >>> _ = flowsolve.generate(model, 3, "points", nfe=1)
        >>> flowsolve.bulk.verify("points", model)[:5]
        (1, [], {}, 3, 0.0)
    """
    found = Folder(Path(folder))
    records = found.records()
    damaged = {k: d for k, row in records.items() if (d := found.damage(k, row)) is not None}
    good, draw = sorted(records.keys() - damaged.keys()), random.Random(seed)
    picked = draw.sample(good, min(batches, len(good)))
    samples, largest, squares = 0, 0.0, []
    for k in picked:
        kept = shard_of(found, k, records[k])
        size = found.manifest["batch_size"]
        i = size * draw.randrange(-(-len(kept.x) // size))
        numbers = range(kept.first + i, kept.first + min(i + size, len(kept.x)))
        told = {n: v if isinstance(v, list) else v.numpy() for n, v in kept.conditions.items()}
        table = Table(told, kept.first) if told else None
        job = Job(str(found.path), "folder", model, table, solving(found))
        again = torch.cat([part.cpu() for part in Maker(job).batches(numbers)])
        was = kept.x[i : i + len(again)]
        largest = max(largest, float((found.format.kept(again) - was).abs().max()))
        squares.append(float(was.double().square().mean()))
        samples += len(again)
    missing = sorted({*range(found.shards)} - records.keys())
    scale = (sum(squares) / len(squares)) ** 0.5 if squares else 0.0
    return Verified(found.shards, missing, damaged, samples, largest, scale)
